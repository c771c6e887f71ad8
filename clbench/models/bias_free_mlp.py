"""The fully connected networks of the supermask and gradient-projection papers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from clbench.errors import BadInput
from clbench.models.head import HeadKind, HeadMode
from clbench.models.model import Model, vector_input
from clbench.stream import Inputs, StreamSpec


class BiasFreeMLP(Model):
    """Hidden layers of ``widths`` ReLU units without biases, on a backbone's features, else on the flattened input.

    ``spare``: rows of the head that stand for no class.

    Source: 100-100: Saha et al., Gradient Projection Memory, ICLR 2021 (PMNIST); 300-100: Yadav and Bansal, Exclusive
    Supermask Subnetwork Training, Findings of ACL 2023 (SplitMNIST).
    """

    def __init__(
        self,
        spec: StreamSpec,
        widths: Sequence[int] = (100, 100),
        head: HeadKind = "linear",
        head_mode: HeadMode = "sliced",
        targets: Mapping[str, Any] | None = None,
        spare: int = 0,
    ) -> None:
        super().__init__()
        self.input_name = vector_input(spec)
        sizes = [math.prod(spec.inputs[self.input_name]), *checked_widths("widths", widths)]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after, bias=False), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.attach_head(sizes[-1], spec, head, head_mode, targets, bias=False, spare=spare)

    @property
    def reads(self) -> tuple[str, ...]:
        """The features where there are any, else the raw input."""
        return (self.input_name,)

    def features(self, inputs: Inputs) -> Tensor:
        """Activations of the last hidden layer (B, the last of ``widths``)."""
        hidden: Tensor = self.body(inputs[self.input_name])
        return hidden


def checked_widths(name: str, widths: object) -> list[int]:
    """Numbers of units by layer; ``BadInput`` where they are no list of positive whole numbers."""
    given = list(widths) if isinstance(widths, (list, tuple)) else []
    if not given or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in given):
        raise BadInput(f"{name} must be a list of positive whole numbers, one for each layer; got {widths!r}")
    return given
