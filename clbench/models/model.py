"""What every network of clbench is: ``features`` and a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.errors import BadInput
from clbench.models.head import Head, HeadKind, HeadMode
from clbench.stream import Inputs, Query, StreamSpec


class Model(nn.Module, ABC):
    """A network with features (B, ``n_features``) and a head; subclasses build the body in ``__init__``."""

    head: Head

    def attach_head(self, n_features: int, spec: StreamSpec, head: HeadKind, head_mode: HeadMode) -> None:
        """Give the network its head; the last thing a subclass's ``__init__`` does."""
        self.n_features = n_features
        self.head = Head(n_features, spec, head, head_mode)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the inputs that ``features`` reads; the stream hands out no others."""
        return ("image",)

    @abstractmethod
    def features(self, inputs: Inputs) -> Tensor:
        """Features (B, ``n_features``) of a batch."""

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits of all head rows (B, rows)."""
        logits: Tensor = self.head(self.features(inputs))
        return logits

    def scores(self, inputs: Inputs, query: Query, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits of the asked classes (B, len(query.classes)); minus infinity where the head has no row yet.

        ``weights``: a saved ``state_dict`` of this network to answer with, instead of its present one.
        """
        logits = self(inputs) if weights is None else functional_call(self, dict(weights), (inputs,))
        n_rows = logits.shape[1]
        rows = [row if row < n_rows else -1 for row in self.head.rows(query.classes, query.task_label)]
        padded = torch.cat([logits, logits.new_full((len(logits), 1), -torch.inf)], dim=1)
        return padded[:, rows]

    def restart(self, initial: Mapping[str, Tensor]) -> None:
        """Put the initial weights of the body back and draw all rows of the head anew."""
        state = self.state_dict()
        self.load_state_dict({k: state[k] if k.startswith("head.") else initial[k] for k in state})
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
