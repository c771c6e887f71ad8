"""What every network of clbench is: ``features`` and a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.errors import BadInput
from clbench.models.frozen import Targets
from clbench.models.head import Head, HeadKind, HeadMode
from clbench.stream import Inputs, Query, StreamSpec


class Model(nn.Module, ABC):
    """A network with features (B, ``n_features``) and a head; subclasses build the body in ``__init__``."""

    head: Head

    def attach_head(
        self,
        n_features: int,
        spec: StreamSpec,
        head: HeadKind,
        head_mode: HeadMode,
        targets: Mapping[str, Any] | None = None,
        bias: bool = True,
        spare: int = 0,
    ) -> None:
        """Give the network its head; the last thing a subclass's ``__init__`` does.

        ``targets``: options of :class:`clbench.models.frozen.Targets`, by name. ``bias``, ``spare``: as in ``Head``.
        """
        self.n_features = n_features
        self.head = Head(n_features, spec, head, head_mode, Targets.of(targets), bias, spare)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the inputs that ``features`` reads; the stream hands out no others."""
        return ("image",)

    @abstractmethod
    def features(self, inputs: Inputs) -> Tensor:
        """Features (B, ``n_features``) of a batch."""

    def forward(self, inputs: Inputs, more: Tensor | None = None) -> Tensor:
        """Logits of all head rows (B, rows), and of ``more`` rows (n, size of the head) after them."""
        logits: Tensor = self.head(self.features(inputs), more)
        return logits

    def scores(self, inputs: Inputs, query: Query, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits of the asked classes (B, len(query.classes)).

        A class without a row yet is scored by its name where the head is a language head, else minus infinity.
        ``weights``: parameters and buffers by name to answer with instead of the present ones, all or some.
        """
        n_rows = len((weights or {}).get("head.weight", self.head.weight))
        rows = [row if row < n_rows else -1 for row in self.head.rows(query.classes, query.task_label)]
        missing = [k for k, row in enumerate(rows) if row < 0]
        more = self.head.unseen(query.class_names, missing)
        logits = self(inputs, more) if weights is None else functional_call(self, dict(weights), (inputs, more))
        if more is not None:
            rows = [n_rows + missing.index(k) if row < 0 else row for k, row in enumerate(rows)]
        padded = torch.cat([logits, logits.new_full((len(logits), 1), -torch.inf)], dim=1)
        return padded[:, rows]

    def restart(self, initial: Mapping[str, Tensor]) -> None:
        """Put the initial weights of body and projector back and draw all rows of the head anew."""
        state = self.state_dict()
        rows = {k for k in state if k.startswith("head.") and not k.startswith("head.projector.")}
        self.load_state_dict({k: state[k] if k in rows else initial[k] for k in state})
        self.head.redraw()


def image_shape(spec: StreamSpec) -> tuple[int, int, int]:
    """(C, H, W) of the images of a stream; ``BadInput`` when it has none."""
    shape = spec.inputs.get("image")
    if shape is None or len(shape) != 3:
        raise BadInput(f"this model needs images (C, H, W); the scenario gives {dict(spec.inputs)}")
    return shape[0], shape[1], shape[2]


def vector_input(spec: StreamSpec) -> str:
    """The input that a model of plain vectors reads: the backbone's features, else the pixels."""
    if "features" in spec.inputs:
        return "features"
    if spec.modality == "text":
        raise BadInput("text has to be turned into features: give backbone=tfidf or backbone=minilm")
    return next(iter(spec.inputs))
