"""The loop: train on each task, close it, score all probes; with a checkpoint after every task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from clbench.costs import Meter
from clbench.errors import NonFiniteLoss, UnsupportedProtocol
from clbench.evaluate import IMPOSSIBLE, Row, evaluate
from clbench.features import with_branches
from clbench.matrix import ScoreMatrix
from clbench.models import Model
from clbench.probing import Curves, Prober, Probing
from clbench.seeds import Seeds
from clbench.state import State, state_bytes
from clbench.strategy import Branch, Strategy
from clbench.stream import Batch, Feed, StreamSpec, TaskStream, TaskView

CALIBRATION = (  # fields of a row that become matrices: name, unit and the worst value there is
    ("nll", "negative_log_likelihood", "nats", -math.log(IMPOSSIBLE)),
    ("brier", "brier_score", "squared probability", 2.0),
    ("ece", "expected_calibration_error", "fraction", 1.0),
)


class Watcher(Protocol):
    """Who looks on while a run goes; every method may do nothing."""

    def started(self, n_tasks: int) -> None:
        """Called once, before the untrained model is scored."""

    def stepped(self, task: int, phase: str, batch: Batch) -> None:
        """Called before each mini-batch is handed out."""

    def finished_task(self, task: int, row: Row, seconds: float) -> None:
        """Called after each row of the matrix is filled; task 0 is the untrained model."""


@dataclass
class Progress:
    """All that a run has produced so far; with the strategy's state it is enough to go on.

    Lists have one entry per row of the score matrix (0..T) or per task (1..T).
    """

    rows: list[Row | None] = field(default_factory=list)
    counts: list[dict[str, int]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    curves: Curves = field(default_factory=Curves)

    @property
    def tasks_done(self) -> int:
        """Number of tasks trained and scored."""
        return len(self.rows) - 1

    def add(self, row: Row | None, counts: dict[str, int], costs: dict[str, Any]) -> None:
        """Note what one more task gave and cost."""
        self.rows.append(row)
        self.counts.append(counts)
        self.costs.append(costs)


@dataclass(frozen=True)
class Extras:
    """What is measured on demand, since it takes time: probes during training, and floating-point operations."""

    probing: Probing | None = None
    flops: bool = False

    @classmethod
    def of(cls, curves: Mapping[str, Any], costs: Sequence[Mapping[str, Any]]) -> Extras:
        """What a finished run was measured with."""
        probing = Probing(curves["every"], curves["samples"]) if curves else None
        return cls(probing, bool(costs) and all(cost.get("train_flops") is not None for cost in costs))

    def beside(self, other: Extras) -> Extras:
        """These and those together; where both probe, as these do."""
        return Extras(self.probing or other.probing, self.flops or other.flops)

    def are_in(self, curves: Mapping[str, Any], costs: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a finished run was measured with all of these."""
        return self.beside(had := Extras.of(curves, costs)) == had


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run: matrices by name, kept predictions, counts and costs, curves of the probes if asked for."""

    matrices: dict[str, ScoreMatrix]
    kept: dict[str, NDArray[Any]]
    counts: list[dict[str, int]]
    costs: list[dict[str, Any]]
    curves: dict[str, Any]

    @property
    def accuracy(self) -> ScoreMatrix:
        """The matrix of fractions correct."""
        return self.matrices["accuracy"]

    @property
    def task_masked(self) -> ScoreMatrix:
        """The same among each task's own classes."""
        return self.matrices["task_masked_accuracy"]

    @property
    def task_inference(self) -> ScoreMatrix | None:
        """How often a sample is taken for its own task; None where the strategy infers no task."""
        return self.matrices.get("task_inference_accuracy")


class Stage:
    """A stream and its probes on the device, with the features of the strategy's frozen branches among their inputs."""

    def __init__(self, stream: TaskStream, device: torch.device) -> None:
        self.stream = stream
        self.probes = [task.test.on(device, limit_bytes=1 << 28) for task in stream.tasks]
        self._plain, self._device = stream.tasks, device
        self._known: set[str] = set()

    def add(self, branches: Mapping[str, Branch], done: int) -> None:
        """Hand out the features of these branches from now on, those known already as they are.

        ``done``: tasks trained so far; what was worked out for training on them is let go.
        """
        new = {name: branch for name, branch in branches.items() if name not in self._known}
        if new:
            tasks = (
                plain if plain.index <= done else replace(t, train=with_branches(t.train, new, self._device))
                for plain, t in zip(self._plain, self.stream.tasks, strict=True)
            )
            self.stream = replace(self.stream, tasks=tuple(tasks))
            self.probes = [with_branches(probe, new, self._device) for probe in self.probes]
            self._known |= set(new)

    def score(self, strategy: Strategy, row: int) -> Row | None:
        """All probes after ``row`` tasks; None between the first and the last, where a strategy has only those."""
        self.add(strategy.branches(), row)
        if strategy.measured_rows == "last" and row not in (0, len(self.stream)):
            return None
        return evaluate(strategy, self.stream.spec.protocol, self.stream.tasks, row, self._device, self.probes)


def prepare(
    strategy: Strategy,
    make_model: Callable[[StreamSpec], Model],
    stream: TaskStream,
    seeds: Seeds,
    device: torch.device,
) -> TaskStream:
    """Make the model, set the strategy up, and return the stream with those inputs only that it reads.

    Raises ``UnsupportedProtocol`` when the two do not fit.
    """
    protocol = stream.spec.protocol
    if protocol not in strategy.protocols:
        because = f"\n  {strategy.protocols_because}" if strategy.protocols_because else ""
        raise UnsupportedProtocol(
            f"strategy {type(strategy).__name__} does not support {protocol}; it declares: "
            f"{', '.join(sorted(strategy.protocols))}{because}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seeds.integer("init", "model"))
        model = make_model(stream.spec).to(device)
        read = stream.reading(strategy.reads(model))
        strategy.setup(model, read.spec, seeds.generator("strategy", "setup"))
    return read


def run(
    strategy: Strategy,
    stream: TaskStream,
    seeds: Seeds,
    device: torch.device,
    *,
    watcher: Watcher | None = None,
    progress: Progress | None = None,
    checkpoint: Callable[[Progress, State], None] | None = None,
    extras: Extras | None = None,
) -> RunResult:
    """Run a prepared strategy over a stream, from ``progress`` on; ``checkpoint`` gets what to save after each task."""
    progress, extras = progress or Progress(), extras or Extras()
    stage = Stage(stream, device)
    prober = Prober(extras.probing, strategy, stream, seeds, progress.curves) if extras.probing else None

    if watcher:
        watcher.started(len(stream))
    with torch.random.fork_rng():
        stage.add(strategy.branches(), progress.tasks_done)
        if not progress.rows:
            progress.rows.append(stage.score(strategy, 0))
        for task in stream.tasks[progress.tasks_done :]:
            if prober:
                prober.start_task(stage.probes, device)
            meter = Meter(device, extras.flops)
            with meter.measure("train"):
                counts = train_one(strategy, stage.stream, task.index, seeds, device, watcher, prober)
            meter.leave_out("train", prober.seconds if prober else 0.0)
            with meter.measure("evaluate"):
                row = stage.score(strategy, task.index)
            state = strategy.state_dict()
            progress.add(row, counts | _sizes(strategy, state), meter.costs())
            if checkpoint:
                checkpoint(progress, state)
            if watcher and row is not None:
                watcher.finished_task(task.index, row, meter.seconds)
    return _result(progress, stream, extras.probing)


def train_one(
    strategy: Strategy,
    stream: TaskStream,
    index: int,
    seeds: Seeds,
    device: torch.device,
    watcher: Watcher | None = None,
    prober: Prober | None = None,
) -> dict[str, int]:
    """Let the strategy train on task ``index`` (1-based) alone; returns its steps and samples."""
    counts = {"steps": 0, "samples": 0}

    def watch(phase: str, batch: Batch) -> None:
        if prober:
            prober.stepped(index, counts["steps"])
        counts["steps"] += 1
        counts["samples"] += len(batch.y)
        if watcher:
            watcher.stepped(index, phase, batch)

    def generator(name: str, *keys: int | str) -> np.random.Generator:
        return seeds.generator(name, index, *keys)

    task = stream.tasks[index - 1]
    last = index == len(stream) if strategy.reference else None
    view = TaskView(task, stream.spec.protocol, Feed(generator, device, stream.augment, watch), last)
    torch.manual_seed(seeds.integer("init", "task", index))  # what a model draws itself, from task to task
    try:
        strategy.train_task(view)
    except NonFiniteLoss as error:
        raise NonFiniteLoss(f"task {index} ('{task.name}'): {error}") from error
    finally:
        view.close()
    if prober:
        prober.score(index, counts["steps"])
    return counts


def _sizes(strategy: Strategy, state: State) -> dict[str, int]:
    model = getattr(strategy, "model_", None)
    parameters = sum(p.numel() for p in model.parameters()) if isinstance(model, torch.nn.Module) else 0
    return {
        "state_bytes": state_bytes(state),
        "stored_samples": int(strategy.stored_samples()),
        "parameters": parameters,
    }


def _result(progress: Progress, stream: TaskStream, probing: Probing | None) -> RunResult:
    n_tasks, n_samples = len(stream), sum(len(t.test) for t in stream.tasks)

    def stack(name: str, missing: float, width: int) -> NDArray[Any]:
        rows = [np.full(width, missing) if row is None else getattr(row, name) for row in progress.rows]
        return np.stack(rows)

    kept = {
        "predicted": stack("predicted", -1, n_samples).astype(np.int32),
        "inferred": stack("inferred", 0, n_samples).astype(np.int32),
        **{k: stack(k, np.nan, n_samples).astype(np.float32) for k in ("confidence", "truth", "squares")},
        "probe": np.repeat(np.arange(1, n_tasks + 1), [len(t.test) for t in stream.tasks]).astype(np.int32),
        "y": torch.cat([t.test.labels for t in stream.tasks]).numpy().astype(np.int32),
    }
    matrices = [
        ScoreMatrix(stack("accuracy", np.nan, n_tasks)),
        ScoreMatrix(stack("task_masked", np.nan, n_tasks), name="task_masked_accuracy"),
        *(
            ScoreMatrix(stack(field, np.nan, n_tasks), name, unit, higher_is_better=False, bounds=(0.0, high))
            for field, name, unit, high in CALIBRATION
        ),
    ]
    if not np.isnan(inference := stack("inference", np.nan, n_tasks)).all():  # the strategy infers tasks
        matrices.append(ScoreMatrix(inference, name="task_inference_accuracy"))
    curves = progress.curves.to_json(probing)
    return RunResult({m.name: m for m in matrices}, kept, progress.counts, progress.costs, curves)
