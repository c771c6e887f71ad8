"""Dark experience replay, DER++."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.buffer import Buffer
from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, StreamSpec, TaskView


@dataclass(kw_only=True)
class DERpp(SGDStrategy):
    """Replay stored samples with the logits they had, and other stored samples with their labels.

    ``memory``: samples kept. ``alpha``: weight of the logit-matching term. ``beta``: weight of the label term.

    Source: Buzzega et al., Dark Experience for General Continual Learning, NeurIPS 2020, Eq. 6.
    Differs: logits of head rows that did not exist when a sample was stored are left out of the matching.
    """

    memory: int = 200
    alpha: float = 0.3
    beta: float = 0.5

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start with an empty memory."""
        super().setup(model, spec, rng)
        self.buffer_ = Buffer(self.memory, "reservoir")

    def before_task(self, task: TaskView) -> None:
        """Widen the stored logits to the rows the head has now."""
        if len(self.buffer_):
            stored = self.buffer_.rows["logits"]
            grown = self.allowed_.shape[1] - stored.shape[1]
            self.buffer_.rows["logits"] = F.pad(stored, (0, grown), value=torch.nan)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the batch, squared distance to old logits, cross-entropy on memory."""
        logits = self.model_(batch.inputs)
        self._logits = logits.detach()
        loss = self.cross_entropy(logits, batch.y)
        if len(self.buffer_):
            size = len(batch.y)
            dark = batch.augmented(self.buffer_.sample(size, self.rng_), self.rng_)
            plain = batch.augmented(self.buffer_.sample(size, self.rng_), self.rng_)
            both = {name: torch.cat([dark[name], plain[name]]) for name in batch.inputs}
            now_dark, now_plain = self.model_(both).tensor_split([len(dark["y"])])
            gap = (now_dark - dark["logits"]).nan_to_num(0.0, posinf=torch.inf, neginf=-torch.inf)
            loss = loss + self.alpha * gap.square().mean()
            loss = loss + self.beta * self.cross_entropy(now_plain, plain["y"], plain["label"])
        return loss

    def after_step(self, batch: Batch) -> None:
        """Offer the batch with its logits to the memory."""
        labels = torch.full_like(batch.y, self.label_)
        self.buffer_.add({**batch.raw, "y": batch.y, "label": labels, "logits": self._logits}, self.rng_)

    def after_task(self, task: TaskView) -> None:
        """Forget the last batch's logits."""
        del self._logits

    def stored_samples(self) -> int:
        """Samples in the memory."""
        return len(self.buffer_)
