"""Cheap probes during training: every few steps all tasks are scored on a small fixed part of their test halves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from clbench.errors import BadInput
from clbench.evaluate import evaluate
from clbench.seeds import Seeds
from clbench.split import Split
from clbench.strategy import Strategy
from clbench.stream import TaskStream


@dataclass(frozen=True)
class Probing:
    """How often and on how much: before every ``every``-th batch, on at most ``samples`` test samples of each task.

    Raises ``BadInput`` unless both are whole numbers from 1 on.
    """

    every: int
    samples: int

    def __post_init__(self) -> None:
        for name, value in (("probe_every", self.every), ("probe_samples", self.samples)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BadInput(f"{name} must be a whole number from 1 on; got {value!r}")


@dataclass
class Curves:
    """Accuracy of every task at every evaluation during training, in the order of the evaluations.

    ``task``, ``step`` (N,): the task in training (1, 2, ...) and the batches it has seen; ``accuracy`` (N, T). The
    first evaluation of a task comes before its first batch, the last one when its training is over.
    """

    task: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    accuracy: list[list[float]] = field(default_factory=list)

    def add(self, task: int, step: int, accuracy: Sequence[float]) -> None:
        """Note one evaluation."""
        self.task.append(task)
        self.step.append(step)
        self.accuracy.append([float(value) for value in accuracy])

    def to_json(self, probing: Probing | None) -> dict[str, Any]:
        """Plain data for a record, the accuracies by task; empty where nothing was probed."""
        if probing is None or not self.task:
            return {}
        by_task = [list(column) for column in zip(*self.accuracy, strict=True)]
        setting = {"every": probing.every, "samples": probing.samples}
        return {**setting, "task": self.task, "step": self.step, "accuracy": by_task}


class Prober:
    """Scores a strategy in the middle of its training, and knows how long that took."""

    def __init__(self, probing: Probing, strategy: Strategy, stream: TaskStream, seeds: Seeds, curves: Curves) -> None:
        self._probing, self._strategy, self._curves = probing, strategy, curves
        self._stream = stream
        self._rows = []
        for task in stream.tasks:  # the same samples for every strategy of this split seed
            chosen = seeds.generator("split", "probe", task.index).permutation(len(task.test))[: probing.samples]
            self._rows.append(torch.from_numpy(np.sort(chosen)))
        self._probes: list[Split] = []
        self.seconds = 0.0

    def start_task(self, probes: Sequence[Split], device: torch.device) -> None:
        """Take the probes as they are handed out while this task trains."""
        self._device, self.seconds = device, 0.0
        self._probes = [
            Split({name: values[rows] for name, values in probe.inputs.items()}, probe.labels[rows], probe.index[rows])
            for probe, rows in zip(probes, self._rows, strict=True)
        ]

    def stepped(self, task: int, steps: int) -> None:
        """Score all tasks where it is time to; ``steps``: batches that the task has been trained on."""
        if steps % self._probing.every == 0:
            self.score(task, steps)

    def score(self, task: int, steps: int) -> None:
        """Score all tasks now."""
        begin = time.perf_counter()
        protocol, tasks = self._stream.spec.protocol, self._stream.tasks
        row = evaluate(self._strategy, protocol, tasks, task, self._device, self._probes)
        self._curves.add(task, steps, row.accuracy.tolist())
        self.seconds += time.perf_counter() - begin
