"""Experience replay with asymmetric cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.strategies.replay import Replay
from clbench.stream import Batch


@dataclass(kw_only=True)
class ERACE(Replay):
    """Replay in which new samples compete only with the classes of their own batch.

    Source: Caccia et al., New Insights on Reducing Abrupt Representation Change in Online Continual Learning,
    ICLR 2022, Eq. 6 (ER-ACE).
    Differs: as ``Replay``.
    """

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy over the batch's own classes, plus cross-entropy on memory over all that compete."""
        over = torch.zeros_like(self.allowed_[self.label_])
        over[self.row_of_[self.label_, batch.y]] = True
        loss = self.cross_entropy(self.model_(batch.inputs), batch.y, over=over)
        if len(self.buffer_):
            old = batch.augmented(self.buffer_.sample(len(batch.y), self.rng_), self.rng_)
            inputs = {name: old[name] for name in batch.inputs}
            loss = loss + self.cross_entropy(self.model_(inputs), old["y"], old["label"])
        return loss
