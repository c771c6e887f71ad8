"""NCM: the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.prototypes import candidates, frozen_features
from clbench.strategies.simplecil import SimpleCIL
from clbench.stream import Inputs, Query


@dataclass(kw_only=True)
class NCM(SimpleCIL):
    """Answer the class whose mean feature is nearest in Euclidean distance; nothing is trained.

    ``normalise``: scale every feature to length 1 before it is averaged or compared; means are not scaled again.

    Source: Mensink, Verbeek, Perronnin and Csurka, Distance-based image classification, TPAMI 2013, section 3;
    on frozen pretrained features Janson et al., A simple baseline that questions the use of pretrained models in
    continual learning, 2022.
    Differs: no metric is learnt.
    """

    normalise: bool = False

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Minus the squared Euclidean distance to the class mean."""
        features = self._features(inputs)
        distances = torch.cdist(features, self.means_.means().to(features.device)).square()
        return candidates(-distances, self.means_.seen, query.classes)

    def _features(self, inputs: Inputs) -> Tensor:
        features = frozen_features(self.model_, inputs).double()
        return F.normalize(features, dim=1) if self.normalise else features
