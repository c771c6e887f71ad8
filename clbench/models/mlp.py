"""Multi-layer perceptron."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from clbench.models.head import HeadKind, HeadMode
from clbench.models.model import Model, vector_input
from clbench.stream import Inputs, StreamSpec


class MLP(Model):
    """``depth`` hidden layers of ``width`` ReLU units on a backbone's features, else on the flattened input.

    Source: the network of most Split and Permuted MNIST papers, e.g. Lopez-Paz and Ranzato, NeurIPS 2017.
    """

    def __init__(
        self,
        spec: StreamSpec,
        width: int = 256,
        depth: int = 2,
        head: HeadKind = "linear",
        head_mode: HeadMode = "sliced",
        targets: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.input_name = vector_input(spec)
        shape = spec.inputs[self.input_name]
        sizes = [math.prod(shape)] + [width] * depth
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.attach_head(sizes[-1], spec, head, head_mode, targets)

    @property
    def reads(self) -> tuple[str, ...]:
        """The features where there are any, else the raw input."""
        return (self.input_name,)

    def features(self, inputs: Inputs) -> Tensor:
        """Activations of the last hidden layer (B, width)."""
        hidden: Tensor = self.body(inputs[self.input_name])
        return hidden
