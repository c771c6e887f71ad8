"""The classification head and its modes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clbench.errors import BadInput
from clbench.models.frozen import NamedRows, Targets, check_apart, random_rows
from clbench.stream import StreamSpec

HeadKind = Literal["linear", "cosine", "language", "language_permuted", "random_frozen"]
HeadMode = Literal["sliced", "shared", "per_task", "growing"]
KINDS: tuple[HeadKind, ...] = get_args(HeadKind)
MODES: tuple[HeadMode, ...] = get_args(HeadMode)
NAMED = ("language", "language_permuted")  # their rows are made of the names of classes
FROZEN = (*NAMED, "random_frozen")
SPARE = -2  # the task label of rows that stand for no class
SCALE = 10.0  # of cosine logits, to begin with
_log = logging.getLogger(__name__)


class Head(nn.Module):
    """One weight row per answer; the mode says what a row stands for, the kind what it is.

    ``sliced``: a class, all rows there from the start (needs a known label space). ``growing``: a class, rows
    added when it arrives. ``per_task``: a class of one task (needs task labels). ``shared``: the position of a
    class among its task's sorted classes (needs task labels, or one set of classes throughout).

    ``linear``: trained rows with a bias. All others give cosine logits: normalised features and rows, one learnt
    scale, no bias. ``cosine``: trained rows. Frozen ones, in no optimiser: ``language`` (the text encoder's vector of
    the class name), ``language_permuted`` (that of another class), ``random_frozen`` (random, orthogonal). ``targets``
    says more of them, and of the projector (features to rows) that goes before any kind of rows. ``bias``: whether
    linear rows have one. ``spare``: linear rows that stand for no class, there from the start.
    """

    keys: Tensor  # (rows, 2): task label or -1, and class (shared: position)
    weight: Tensor  # (rows, size): a parameter, or a buffer where it is frozen

    def __init__(
        self,
        n_features: int,
        spec: StreamSpec,
        kind: HeadKind = "linear",
        mode: HeadMode = "sliced",
        targets: Targets | None = None,
        bias: bool = True,
        spare: int = 0,
    ) -> None:
        super().__init__()
        _check(kind, mode, spec, spare)
        targets = targets or Targets()
        self.kind, self.mode, self.n_features, self.size = kind, mode, n_features, n_features
        self.projector: nn.Linear | None = None
        if targets.match == "projector" and targets.dim not in (None, n_features):
            self.size = targets.dim or n_features
            self.projector = nn.Linear(n_features, self.size, bias=False)
        self._named = NamedRows(spec, targets, n_features, kind == "language_permuted") if kind in NAMED else None
        if kind in FROZEN:
            self.register_buffer("weight", torch.empty(0, self.size))
        else:
            self.weight = nn.Parameter(torch.empty(0, self.size))
        self.bias = nn.Parameter(torch.empty(0)) if kind == "linear" and bias else None
        self.scale = nn.Parameter(torch.tensor(SCALE)) if kind != "linear" else None
        self.register_buffer("keys", torch.empty(0, 2, dtype=torch.int64))
        self._shared: list[int] | None = None
        self._row: dict[tuple[int, int], int] = {}
        if mode == "sliced":
            self._grow([(-1, c) for c in range(spec.n_classes or 0)], spec.class_names)
        self._grow([(SPARE, k) for k in range(spare)], None)

    def observe(self, classes: Sequence[int], task_label: int | None, names: Sequence[str] | None = None) -> None:
        """Make rows for the classes of a task that is about to be trained; ``names`` of these classes, in their order.

        Raises ``BadInput`` when a shared head without task labels is given other classes than before.
        """
        if self.mode == "shared" and task_label is None:
            if self._shared not in (None, sorted(classes)):
                raise BadInput("head_mode=shared without task labels needs the same classes in every task; use sliced")
            self._shared = sorted(classes)
        keys = self._keys(classes, task_label)
        new = [k for k, key in enumerate(keys) if key not in self._row]
        self._grow([keys[k] for k in new], None if names is None else [names[k] for k in new])

    @torch.no_grad()
    def redraw(self) -> None:
        """Draw the weights of all rows anew; frozen rows stay as they are."""
        if self.kind not in FROZEN:
            fresh = nn.Linear(self.size, len(self.weight), bias=self.bias is not None, device=self.weight.device)
            self.weight.copy_(fresh.weight)
            if self.bias is not None:
                self.bias.copy_(fresh.bias)
        if self.scale is not None:
            self.scale.fill_(SCALE)

    def rows(self, classes: Sequence[int], task_label: int | None) -> list[int]:
        """The weight row of each class, -1 where there is none yet."""
        return [self._row.get(k, -1) for k in self._keys(classes, task_label)]

    def unseen(self, names: Sequence[str], missing: Sequence[int]) -> Tensor | None:
        """Rows (n, size) for the ``missing`` ones of the named classes, where names alone make them: zero-shot."""
        if not missing or self._named is None or not self._named.can_make:
            return None
        return self._named.make([names[k] for k in missing]).to(self.weight)

    def forward(self, features: Tensor, more: Tensor | None = None) -> Tensor:
        """Logits of all rows, and of ``more`` rows (n, size) after them: (B, D) to (B, rows + n)."""
        weight = self.weight if more is None else torch.cat([self.weight, more])
        if self.projector is not None:
            features = self.projector(features)
        if self.scale is not None:
            return self.scale * F.linear(F.normalize(features, dim=1), F.normalize(weight, dim=1))
        return F.linear(features, weight, self.bias)

    def _keys(self, classes: Sequence[int], task_label: int | None) -> list[tuple[int, int]]:
        if self.mode == "shared":
            position = {c: k for k, c in enumerate(sorted(classes))}
            return [(-1, position[c]) for c in classes]
        label = task_label if self.mode == "per_task" and task_label is not None else -1
        return [(label, c) for c in classes]

    def _grow(self, keys: list[tuple[int, int]], names: Sequence[str] | None) -> None:
        if not keys:
            return
        device = self.weight.device
        if self.kind in FROZEN:
            self.weight = torch.cat([self.weight, self._frozen_rows(keys, names).to(device)])
        else:
            fresh = nn.Linear(self.size, len(keys), bias=self.bias is not None, device=device)
            self.weight = nn.Parameter(torch.cat([self.weight.detach(), fresh.weight.detach()]))
            if self.bias is not None:
                self.bias = nn.Parameter(torch.cat([self.bias.detach(), fresh.bias.detach()]))
        self.keys = torch.cat([self.keys, torch.tensor(keys, device=device)])
        self._row.update({key: len(self._row) + k for k, key in enumerate(keys)})

    def _frozen_rows(self, keys: list[tuple[int, int]], names: Sequence[str] | None) -> Tensor:
        if self._named is None:
            return random_rows(len(keys), self.weight)
        if names is None and self._named.names is not None:
            names = [self._named.names[c] for _, c in keys]
        if names is None:
            raise BadInput(f"head={self.kind} needs the names of classes, which this stream does not give")
        rows = self._named.make(names)
        others = ~torch.isin(self.keys[:, 1], torch.tensor([c for _, c in keys], device=self.keys.device))
        check_apart(rows, names, self.weight[others].cpu())
        if (error := self._named.gram_error(names)) > 0:
            _log.info("head=%s: the map of the targets changes cosines by at most %.2g", self.kind, error)
        return rows

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        keys = state_dict.get(prefix + "keys")
        if keys is not None and len(keys) != len(self.keys):  # rows that were added while training
            device = self.weight.device
            weight = torch.empty(len(keys), self.size, device=device)
            self.weight = weight if self.kind in FROZEN else nn.Parameter(weight)
            if self.bias is not None:
                self.bias = nn.Parameter(torch.empty(len(keys), device=device))
            self.keys = torch.empty(len(keys), 2, dtype=torch.int64, device=device)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if keys is not None:
            self._row = {(int(task), int(label)): row for row, (task, label) in enumerate(keys.tolist())}


def _check(kind: str, mode: str, spec: StreamSpec, spare: int) -> None:
    """``BadInput`` for a kind and mode that do not go with each other or with the stream."""
    if kind not in KINDS or mode not in MODES:
        raise BadInput(f"a head is one of {KINDS} with a mode of {MODES}; got head={kind}, head_mode={mode}")
    if mode == "sliced" and spec.n_classes is None:
        raise BadInput("head_mode=sliced needs a known label space; use head_mode=growing for an open one")
    if mode == "per_task" and spec.protocol != "task-incremental":
        raise BadInput(f"head_mode=per_task needs task labels, which {spec.protocol} does not give; use sliced")
    if mode == "shared" and spec.protocol == "class-incremental":
        raise BadInput("head_mode=shared cannot tell classes of different tasks apart; use sliced or growing")
    if mode == "shared" and kind in NAMED:
        raise BadInput(f"head={kind} needs a name for every row, and a row of head_mode=shared has none; use sliced")
    if spare < 0 or (spare and (kind != "linear" or mode not in ("sliced", "shared"))):
        raise BadInput(f"spare rows belong to head=linear with head_mode=sliced or shared; got {kind}, {mode}")
