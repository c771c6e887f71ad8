"""Reference: train on all tasks at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from clbench.strategies.cumulative import Cumulative, joined
from clbench.stream import TaskView


@dataclass(kw_only=True)
class Joint(Cumulative):
    """Declared oracle: collect all tasks, then train once on everything; only the last row is measured.

    Source: the upper reference of the field, e.g. Li and Hoiem, Learning without Forgetting, ECCV 2016 ("joint").
    Differs: not at all.
    """

    measured_rows: ClassVar[Literal["all", "last"]] = "last"

    def train_task(self, task: TaskView) -> None:
        """Keep the task's samples; train when the stream is complete."""
        self.observe(task)
        self.samples_ = joined(self.samples_, task.samples())
        if task.last:
            self.optimise(task, samples=self.samples_)
