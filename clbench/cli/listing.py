"""``clbench list``: what there is, without importing any of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from clbench.places import cards, first_sentence, names, read_yaml


def show_list(kind: str) -> int:
    """Print a table of one kind of thing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    columns, rows = _TABLES[kind]
    console = Console(width=None if Console().is_terminal else 160)
    found = list(rows())
    name = Column(columns[0], min_width=max((len(row[0]) for row in found), default=0))  # to be copied as it is
    table = Table(name, *columns[1:], box=None, pad_edge=False, header_style="bold")
    for row in found:
        table.add_row(*map(escape, row))  # R[j,j] is no style
    console.print(table)
    return 0


def _scenarios() -> Iterator[tuple[str, ...]]:
    for name, card in cards().items():
        yield name, str(card["protocol"]), str(card["n_tasks"]), str(card["summary"])


def _strategies() -> Iterator[tuple[str, ...]]:
    for name, path in names("strategy").items():
        yield name, first_sentence(read_yaml(path)["_target_"])


def _models() -> Iterator[tuple[str, ...]]:
    for name, path in names("model").items():
        yield name, first_sentence(read_yaml(path)["_target_"])


def _backbones() -> Iterator[tuple[str, ...]]:
    for name, path in names("backbone").items():
        comment = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        yield name, " ".join(line.lstrip("# ") for line in comment), str(read_yaml(path).get("licence", ""))


def _metrics() -> Iterator[tuple[str, ...]]:
    from clbench.metrics import METRICS

    for metric in METRICS.values():
        source = f"{metric.source}; differs: {metric.differs}" if metric.differs else metric.source
        low, high = (f"{bound:g}".replace("inf", "∞") for bound in metric.bounds)
        better = "higher" if metric.higher_is_better else "lower"
        yield metric.id, better, metric.unit, f"{low} to {high}", metric.formula, source


def _datasets() -> Iterator[tuple[str, ...]]:
    for name in ("digits", "mnist5k", "emoji", "elpv", "clinc150", "folder", "csv", "several"):
        yield name, first_sentence(f"clbench.data.sources.{name}")


def _studies() -> Iterator[tuple[str, ...]]:
    for name, path in names("study").items():
        study = read_yaml(path)
        yield name, f"{study['cpu_minutes']} CPU min", " ".join(str(study["purpose"]).split())


_TABLES = {
    "scenarios": (("scenario", "protocol", "tasks", "summary"), _scenarios),
    "strategies": (("strategy", "what it does"), _strategies),
    "models": (("model", "what it is"), _models),
    "backbones": (("backbone", "what it is", "licence of the weights"), _backbones),
    "metrics": (("metric", "better", "unit", "bounds", "formula", "source"), _metrics),
    "datasets": (("source", "what it is"), _datasets),
    "studies": (("study", "takes", "purpose"), _studies),
}
