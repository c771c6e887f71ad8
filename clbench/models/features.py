"""A head on features as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from clbench.models.head import HeadKind, HeadMode
from clbench.models.model import Model, vector_input
from clbench.stream import Inputs, StreamSpec


class Features(Model):
    """A frozen backbone's features (without one: the flattened pixels) straight to the head; nothing else is trained.

    Source: the linear probe of Alain and Bengio, Understanding intermediate layers using linear classifier probes,
    ICLR workshop 2017.
    """

    def __init__(
        self,
        spec: StreamSpec,
        head: HeadKind = "linear",
        head_mode: HeadMode = "sliced",
        targets: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.input_name = vector_input(spec)
        self.attach_head(math.prod(spec.inputs[self.input_name]), spec, head, head_mode, targets)

    @property
    def reads(self) -> tuple[str, ...]:
        """The features where there are any, else the raw input."""
        return (self.input_name,)

    def features(self, inputs: Inputs) -> Tensor:
        """The features (B, D) themselves."""
        return inputs[self.input_name].flatten(1)
