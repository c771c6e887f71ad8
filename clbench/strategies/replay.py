"""Experience replay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clbench.buffer import Buffer, Policy
from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, StreamSpec


@dataclass(kw_only=True)
class Replay(SGDStrategy):
    """Train on each batch together with as many stored samples, drawn at random.

    ``memory``: samples kept. ``policy``: ``reservoir`` (every sample seen equally likely to be stored) or
    ``balanced`` (every class an equal share).

    Source: Chaudhry et al., On Tiny Episodic Memories in Continual Learning, 2019 (ER, reservoir).
    Differs: samples are offered to the memory in the first epoch only, so that the reservoir stays uniform
    over samples when there are several epochs.
    """

    memory: int = 200
    policy: Policy = "reservoir"

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start with an empty memory."""
        super().setup(model, spec, rng)
        self.buffer_ = Buffer(self.memory, self.policy)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the batch and on memory, in one forward pass."""
        labels = torch.full_like(batch.y, self.label_)
        if not len(self.buffer_):
            return self.cross_entropy(self.model_(batch.inputs), batch.y, labels)
        old = batch.augmented(self.buffer_.sample(len(batch.y), self.rng_), self.rng_)
        inputs = {name: torch.cat([x, old[name]]) for name, x in batch.inputs.items()}
        y, labels = torch.cat([batch.y, old["y"]]), torch.cat([labels, old["label"]])
        return self.cross_entropy(self.model_(inputs), y, labels)

    def after_step(self, batch: Batch) -> None:
        """Offer the batch's raw samples to the memory, once each."""
        if batch.epoch == 1:
            labels = torch.full_like(batch.y, self.label_)
            self.buffer_.add({**batch.raw, "y": batch.y, "label": labels}, self.rng_)

    def stored_samples(self) -> int:
        """Samples in the memory."""
        return len(self.buffer_)
