"""TensorBoard: one folder of events a run. Parameters are in its HPARAMS tab, tags under TEXT."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from clbench.store import safe_name
from clbench.trackers.trace import Trace


def write(traces: Sequence[Trace], out: Path) -> str:
    """Write each run anew to ``out/SCENARIO/RUN-ID``; scalars are 32-bit floats, as in all of TensorBoard."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.summary_v2 import text_pb

    for trace in traces:
        folder = out / safe_name(trace.scenario) / f"{safe_name(trace.name)}-{trace.id}"
        shutil.rmtree(folder, ignore_errors=True)
        summaries = [(0, hparams_pb(trace.parameters, trial_id=trace.id))]
        summaries += [(0, text_pb(name, text)) for name, text in trace.tags.items()]
        points = [(0, {f"metrics/{id}": x for id, x in trace.metrics.items()})]
        points += [*enumerate(trace.rows), *enumerate(trace.evaluations)]
        for step, point in points:
            values = [Summary.Value(tag=name, simple_value=x) for name, x in point.items()]
            summaries.append((step, Summary(value=values)))
        _write(folder, summaries)
    return f"tensorboard --logdir {out}"


def _write(folder: Path, summaries: Sequence[tuple[int, object]]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for step, summary in summaries:
        writer.add_event(Event(step=step, summary=summary))
    writer.close()
