"""What classifiers in closed form share: sums of features by class, and scores of the asked classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.backbones.backbone import extract
from clbench.models import Model
from clbench.state import State
from clbench.strategy import Branch
from clbench.stream import Inputs, TaskView

BATCH = 512  # samples of one forward pass


class ClassMeans:
    """Sums and counts of features by class, in float64, so that order and batches do not matter beyond rounding.

    ``sums`` (C, ``n_features``) and ``counts`` (C,) of the classes 0..C-1, C one more than the largest class so far.
    Kept as an attribute that ends in ``_`` it is saved and loaded like any state.
    """

    def __init__(self, n_features: int) -> None:
        self.sums = torch.zeros(0, n_features, dtype=torch.float64)
        self.counts = torch.zeros(0, dtype=torch.float64)

    @torch.no_grad()
    def add(self, features: Tensor, y: Tensor) -> None:
        """Add samples: features (B, ``n_features``) and their classes (B,), B at least 1."""
        new = max(0, int(y.max()) + 1 - len(self.counts))
        sums = F.pad(self.sums.to(features.device), (0, 0, 0, new))
        counts = F.pad(self.counts.to(features.device), (0, new))
        self.sums = sums.index_add(0, y, features.double())
        self.counts = counts.index_add(0, y, torch.ones_like(y, dtype=torch.float64))

    @property
    def seen(self) -> Tensor:
        """Which classes have a sample (C,)."""
        return self.counts > 0

    def means(self) -> Tensor:
        """Means (C, ``n_features``) in float64; a row of zeros where a class has no sample."""
        return self.sums / self.counts.clamp(min=1)[:, None]

    def state_dict(self) -> State:
        """Sums and counts."""
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: State) -> None:
        """Put saved sums and counts back."""
        self.sums, self.counts = state["sums"], state["counts"]


def candidates(scores: Tensor, seen: Tensor, classes: Sequence[int]) -> Tensor:
    """Scores of the asked classes (B, len(classes)) out of those of classes 0..C-1 (B, C).

    Minus infinity where ``seen`` (C,) is false or the class is C or larger: what was never seen is never answered.
    """
    closed = scores.masked_fill(~seen.to(scores.device), -torch.inf)
    padded = torch.cat([closed, closed.new_full((len(closed), 1), -torch.inf)], dim=1)
    return padded[:, [c if c < len(seen) else -1 for c in classes]]


def frozen_features(model: Model, inputs: Inputs, features: Branch | None = None) -> Tensor:
    """Features (B, D) of a network in evaluation mode, without gradients, in batches of the size that is fastest.

    ``features``: what to run instead of ``model.features``.
    """
    model.eval()
    read = {name: inputs[name] for name in model.reads}
    return extract(features or model.features, read, next(iter(read.values())).device)


def one_pass(task: TaskView, features: Branch) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a task without augmentation: features (B, D) and classes (B,), batch by batch."""
    for batch in task.batches(BATCH, phase="prototypes"):
        yield features(batch.raw), batch.y
