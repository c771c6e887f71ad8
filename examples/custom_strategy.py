"""A strategy of your own; in its folder: clbench run scenario=... strategy._target_=custom_strategy.Anchored."""

from dataclasses import dataclass

from torch import Tensor

from clbench.strategy import SGDStrategy
from clbench.stream import Batch, TaskView


@dataclass(kw_only=True)
class Anchored(SGDStrategy):
    """Pull the weights of the body back towards where they were when the last task ended.

    Source: the L2 baseline of Kirkpatrick et al., PNAS 2017, Fig. 2A.
    Differs: the anchor moves to the newest weights after every task; the head is left free.
    """

    alpha: float = 0.1

    def loss(self, batch: Batch) -> Tensor:
        pulls = [(p - self.anchor_[name]).square().sum() for name, p in self.body() if hasattr(self, "anchor_")]
        return super().loss(batch) + self.alpha * sum(pulls)

    def after_task(self, task: TaskView) -> None:
        self.anchor_ = {name: p.detach().clone() for name, p in self.body()}  # `_`: saved with the state

    def body(self) -> list[tuple[str, Tensor]]:
        return [(name, p) for name, p in self.model_.named_parameters() if not name.startswith("head.")]
