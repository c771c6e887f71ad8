"""Weights & Biases, offline: a folder a run that ``wandb sync`` sends, when and where its owner wants."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clbench.trackers.trace import AFTER_TASK, EVALUATION, Trace

PROJECT = "clbench"
LONGEST = 64  # characters of a tag


def write(traces: Sequence[Trace], out: Path) -> str:
    """Write each run anew to ``out/wandb/offline-run-TIME-ID``; nothing is sent."""
    import wandb

    quiet: dict[str, Any] = {"silent": True, "console": "off", "disable_git": True, "save_code": False}
    quiet |= {"x_disable_stats": True, "x_disable_meta": True, "x_disable_machine_info": True}
    settings = wandb.Settings(mode="offline", **quiet)
    for trace in traces:
        for old in (out / "wandb").glob(f"offline-run-*-{trace.id}"):
            shutil.rmtree(old)
        run = wandb.init(
            project=PROJECT,
            dir=str(out),
            id=trace.id,
            name=trace.name,
            group=trace.scenario,
            config={**trace.parameters, **trace.tags},
            tags=[
                f"{trace.tags[f'clbench.{n}']}"[:LONGEST]
                for n in ("status", "protocol")
                if f"clbench.{n}" in trace.tags
            ],
            settings=settings,
            reinit="create_new",
        )
        _log(run, trace)
        run.finish(exit_code=0 if trace.ok else 1)
    wandb.teardown()
    return f"wandb sync {out}/wandb/offline-run-*"


def _log(run: Any, trace: Trace) -> None:
    """The two series count for themselves, each over its own axis; metrics are the run's summary."""
    for axis, points in ((AFTER_TASK, trace.rows), (EVALUATION, trace.evaluations)):
        run.define_metric(axis, hidden=True)
        for name in sorted({name for point in points for name in point}):
            run.define_metric(name, step_metric=axis)
        for count, point in enumerate(points):
            run.log({axis: count, **point})
    run.summary.update(trace.metrics)
