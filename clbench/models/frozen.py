"""Rows of a head that are given, not learnt: from the names of the classes, or drawn at random."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.errors import BadInput
from clbench.plugins import construct
from clbench.stream import StreamSpec
from clbench.targets import check_names, semantic_rows

ALIKE, SAME = 0.999, 1 - 1e-6  # cosines of rows that can hardly, and cannot, be told apart


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What the rows of a head are, as far as it is not its kind that says so.

    ``dim``: size of the rows; None for the model's features'. Where the two differ, ``match`` says what is done:
    ``projector`` (a trained linear map of the features, without bias) or ``map`` (a fixed orthonormal map of the
    targets, the same for all classes). ``encoder``: a text encoder of ``conf/backbone``; None where the rows come with
    a checkpoint. ``template``: what it is given, ``{}`` being the name. ``centre``: subtract the mean row, then
    normalise again; needs all names from the start.
    """

    dim: int | None = None
    match: Literal["projector", "map"] = "projector"
    encoder: str | None = "minilm"
    template: str = "{}"
    centre: bool = False

    def __post_init__(self) -> None:
        if self.dim is not None and (not isinstance(self.dim, int) or self.dim < 1):
            raise BadInput(f"targets.dim is a whole number from 1 on, or null for the size of features; got {self.dim}")
        if self.template.count("{}") != 1:
            raise BadInput(f"targets.template has one {{}} where the name goes; got '{self.template}'")

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Targets:
        """From the options of a model, checked by name."""
        made: Targets = construct(cls, options or {}, "targets of the model's head")
        return made


class NamedRows:
    """Semantic rows of classes; ``permuted``: each class has the row of another one, drawn at random.

    Source: Ni et al., Enhancing Visual Continual Learning with Language-Guided Supervision, CVPR 2024 (frozen semantic
    targets).
    Differs: encoder, template, cosine logits with a learnt scale, and projector are choices of ours, the paper's text
    not being at hand; the permuted rows are a control of ours.
    """

    def __init__(self, spec: StreamSpec, targets: Targets, n_features: int, permuted: bool) -> None:
        self.names = spec.class_names
        self._targets, self._size = targets, targets.dim or n_features
        self._map: Tensor | None = None
        self._mean: Tensor | None = None
        self._stand_in: dict[str, str] = {}
        if targets.match == "map" and self._size != n_features:
            self._map = orthonormal_map(self._size, n_features)
        if self.names is None and (permuted or targets.centre):
            what = "language_permuted" if permuted else "targets.centre"
            raise BadInput(f"{what} needs the names of all classes from the start: a scenario with a known label space")
        if self.names is not None:
            check_names(self.names)
        if self.names and permuted:
            order = torch.randperm(len(self.names)).tolist()  # one cycle: no class keeps its own row
            following = [*order[1:], *order[:1]]
            self._stand_in = {self.names[a]: self.names[b] for a, b in zip(order, following, strict=True)}
        if self.names and targets.centre:
            self._mean = self._semantic(self.names).mean(0)

    @property
    def can_make(self) -> bool:
        """Whether rows of names that were not there at the start can be made."""
        return self._targets.encoder is not None and not self._stand_in  # a permutation is not saved

    def make(self, names: Sequence[str]) -> Tensor:
        """Unit rows (n, size of the head) of these classes."""
        rows = self._before_map(names)
        return rows if self._map is None else F.normalize(rows @ self._map, dim=1)

    def gram_error(self, names: Sequence[str]) -> float:
        """The largest change of a cosine between two of these rows that the map has made."""
        if self._map is None:
            return 0.0
        before, after = self._before_map(names), self.make(names)
        return float((before @ before.T - after @ after.T).abs().max())

    def _before_map(self, names: Sequence[str]) -> Tensor:
        rows = self._semantic([self._stand_in.get(name, name) for name in names])
        return rows if self._mean is None else F.normalize(rows - self._mean, dim=1)

    def _semantic(self, names: Sequence[str]) -> Tensor:
        if self._targets.encoder is None:
            return torch.full((len(names), self._size), torch.nan)
        rows = semantic_rows(names, self._targets.encoder, self._targets.template)
        if rows.shape[1] != self._size:
            raise BadInput(
                f"the targets of encoder {self._targets.encoder} have {rows.shape[1]} numbers, the head's rows "
                f"{self._size}; set model.targets.dim={rows.shape[1]}"
            )
        return rows


def random_rows(n: int, old: Tensor) -> Tensor:
    """``n`` random unit rows (n, d), orthogonal to each other and to ``old`` (m, d) as long as m + n <= d."""
    m, d = old.shape
    room = max(0, min(n, d - m))
    fresh = torch.randn(n, d)
    basis, _ = torch.linalg.qr(torch.cat([old[:d].cpu(), fresh[:room]]).T)
    return torch.cat([basis.T[m : m + room], F.normalize(fresh[room:], dim=1)])


def orthonormal_map(before: int, after: int) -> Tensor:
    """A fixed random map (before, after): orthonormal rows, or columns where ``after`` is smaller (Johnson and
    Lindenstrauss: cosines change by about 1 / sqrt(after)); depends on nothing but the two sizes.
    """
    gaussian = torch.randn(max(before, after), min(before, after), generator=torch.Generator().manual_seed(0))
    basis, _ = torch.linalg.qr(gaussian.double())
    made: Tensor = basis.T if before < after else basis
    return made.float()


def check_apart(rows: Tensor, names: Sequence[str], others: Tensor) -> None:
    """Raise ``BadInput`` for a row that another class has too, warn of rows that are nearly one another's.

    ``rows`` (n, d) with their ``names``; ``others`` (m, d): the rows of other classes, m may be 0.
    """
    cosines = (rows @ torch.cat([rows, others]).T).triu(diagonal=1)  # each pair once
    for row, other in (cosines > ALIKE).nonzero().tolist():
        pair = f"'{names[row]}' and " + (f"'{names[other]}'" if other < len(rows) else "a class before it")
        if cosines[row, other] > SAME:
            raise BadInput(f"{pair} have the same target: no head could tell them apart; rename one of them")
        warnings.warn(f"{pair} have nearly the same target (cosine above {ALIKE})", UserWarning, stacklevel=2)
