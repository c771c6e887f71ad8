"""Scaled gradient projection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from clbench.capture import Unit
from clbench.errors import BadInput
from clbench.models import Model
from clbench.projection import ProjectedSGD, energy_along, projected
from clbench.stream import StreamSpec


@dataclass(kw_only=True)
class SGP(ProjectedSGD):
    """Take out of an update, direction by direction, only as much as the direction matters to old tasks.

    Each column of a layer's basis has an importance in [0, 1] that later tasks can only raise, and an update dW
    becomes dW - dW M diag(importance) MT. ``alpha``: how fast importance rises with a direction's singular value.

    Source: Saha and Roy, Continual Learning with Scaled Gradient Projection, AAAI 2023, and its public code.
    Differs: as ``GPM`` does.
    """

    alpha: float = 10.0

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Start without directions."""
        super().setup(model, spec, rng)
        if self.alpha < 0:
            raise BadInput(f"SGP needs alpha >= 0; got {self.alpha}")
        self.importances_ = {name: basis.new_zeros(0) for name, basis in self.bases_.items()}  # (r,) by unit

    def remember(self, unit: Unit, gram: Tensor, share: float) -> None:
        """Enlarge the basis, and raise the importance of its directions by what they matter to this task."""
        super().remember(unit, gram, share)
        # Along old columns the singular value of M MT R, along new ones that of the residual: both are |mT R|.
        values = energy_along(gram, self.bases_[unit.name]).clamp(min=0).sqrt()
        before = self.importances_[unit.name]
        known = nn.functional.pad(before, (0, len(values) - len(before)))
        self.importances_[unit.name] = (known + self.importance(values).to(known)).clamp(0, 1)

    def importance(self, values: Tensor) -> Tensor:
        """Importances in [0, 1] of singular values (r,): 1 for the largest."""
        if not len(values) or not bool(values.max() > 0):
            return torch.zeros_like(values)
        return (self.alpha + 1) * values / (self.alpha * values + values.max())

    def project(self, unit: Unit, update: Tensor) -> Tensor:
        """The update without the important share of its part along each direction."""
        return projected(update, self.bases_[unit.name], self.importances_[unit.name])
