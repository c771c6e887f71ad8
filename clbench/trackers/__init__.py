"""Trackers of other people, each an extra: what they get of a run is what its record has."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from clbench.errors import BadInput, ClbenchError, RecordError, unknown
from clbench.record import Record
from clbench.trackers.trace import trace

TRACKERS: Mapping[str, tuple[str, ...]] = MappingProxyType(  # the packages each needs; the extra has its name
    {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}
)


def check_tracker(name: str) -> None:
    """Raise ``BadInput`` for a tracker that clbench does not know or that is not installed."""
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    missing = [package for package in TRACKERS[name] if importlib.util.find_spec(package) is None]
    if missing:
        raise BadInput(
            f"tracker '{name}' needs {', '.join(missing)}, which is not installed\n"
            f"  it is an extra: pip install 'clbench[{name}]'"
        )


def track(name: str, records: Iterable[Record], out: Path) -> str:
    """Hand records to a tracker, in a folder; one that is there already is replaced. Returns how to look at them.

    Raises ``BadInput`` when the tracker is not there and ``RecordError`` when it cannot write.
    """
    check_tracker(name)
    try:
        out.mkdir(parents=True, exist_ok=True)
        shown: str = import_module(f"clbench.trackers.{name}").write([trace(record) for record in records], out)
    except ClbenchError:
        raise
    except Exception as error:  # a tracker has errors of its own; the records are safe whatever it says
        raise RecordError(f"{name} could not write to '{out}': {type(error).__name__}: {error}") from error
    return shown
