"""MLflow: a local SQLite file, one experiment a scenario, one run a record."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clbench.trackers.trace import Trace

DATABASE = "mlflow.db"
LONGEST = 6000  # characters of a parameter or tag that MLflow takes
AT_ONCE = 1000  # metrics that MLflow takes at once; parameters and tags are fewer: 100


def write(traces: Sequence[Trace], out: Path) -> str:
    """Write each run anew to ``out/mlflow.db``; a record's earlier run there is marked deleted."""
    uri = f"sqlite:///{(out / DATABASE).resolve()}"
    client = _client(uri)
    for trace in traces:
        found = client.get_experiment_by_name(trace.scenario)
        artifacts = (out / "artifacts").resolve().as_uri()
        place = found.experiment_id if found else client.create_experiment(trace.scenario, artifacts)
        for old in client.search_runs([place], f"tags.`clbench.id` = '{trace.id}'"):
            client.delete_run(old.info.run_id)
        _log(client, client.create_run(place, run_name=trace.name).info.run_id, trace)
    return f"mlflow ui --backend-store-uri {uri} (the page is in the package mlflow, the rest in mlflow-skinny)"


def allowed(name: str) -> str:
    """A name as MLflow takes it: brackets and the like become underscores.

    >>> allowed("windowed_forgetting.delange2023[w=10]")
    'windowed_forgetting.delange2023_w_10_'
    """
    return re.sub(r"[^\w\-. /:]", "_", name)


def _client(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report its use; read when it is imported
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells each table that it makes
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def _log(client: Any, run: str, trace: Trace) -> None:
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(allowed(name), x, 0, step) for step, name, x in _points(trace)]
    params = [Param(allowed(name), _cut(x)) for name, x in trace.parameters.items()]
    client.log_batch(run, tags=[RunTag(name, _cut(text)) for name, text in trace.tags.items()])
    for start in range(0, len(params), AT_ONCE // 10):
        client.log_batch(run, params=params[start : start + AT_ONCE // 10])
    for start in range(0, len(metrics), AT_ONCE):
        client.log_batch(run, metrics=metrics[start : start + AT_ONCE])
    client.set_terminated(run, "FINISHED" if trace.ok else "FAILED")


def _points(trace: Trace) -> Iterator[tuple[int, str, float]]:
    for step, point in [(0, trace.metrics), *enumerate(trace.rows), *enumerate(trace.evaluations)]:
        yield from ((step, name, x) for name, x in point.items())


def _cut(content: object) -> str:
    text = str(content)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
