"""The classification head and its modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clbench.errors import BadInput
from clbench.stream import StreamSpec

HeadKind = Literal["linear", "cosine"]
HeadMode = Literal["sliced", "shared", "per_task", "growing"]
KINDS: tuple[HeadKind, ...] = ("linear", "cosine")
SCALE = 10.0  # of the cosine head, to begin with
MODES: tuple[HeadMode, ...] = ("sliced", "shared", "per_task", "growing")


class Head(nn.Module):
    """One weight row per answer; the mode says what a row stands for.

    ``sliced``: a class, all rows there from the start (needs a known label space). ``growing``: a class, rows
    added when it arrives. ``per_task``: a class of one task (needs task labels). ``shared``: the position of a
    class among its task's sorted classes (needs task labels, or one set of classes throughout).
    ``kind``: ``linear``, or ``cosine`` (normalised features and rows, one learnt scale, no bias).
    """

    keys: Tensor  # (rows, 2): task label or -1, and class (shared: position)

    def __init__(self, n_features: int, spec: StreamSpec, kind: HeadKind = "linear", mode: HeadMode = "sliced") -> None:
        super().__init__()
        if kind not in KINDS or mode not in MODES:
            raise BadInput(f"a head is one of {KINDS} with a mode of {MODES}; got head={kind}, head_mode={mode}")
        task_labels = spec.protocol == "task-incremental"
        if mode == "sliced" and spec.n_classes is None:
            raise BadInput("head_mode=sliced needs a known label space; use head_mode=growing for an open one")
        if mode == "per_task" and not task_labels:
            raise BadInput(f"head_mode=per_task needs task labels, which {spec.protocol} does not give; use sliced")
        if mode == "shared" and spec.protocol == "class-incremental":
            raise BadInput("head_mode=shared cannot tell classes of different tasks apart; use sliced or growing")
        self.kind, self.mode, self.n_features = kind, mode, n_features
        self.weight = nn.Parameter(torch.empty(0, n_features))
        self.bias = nn.Parameter(torch.empty(0)) if kind == "linear" else None
        self.scale = nn.Parameter(torch.tensor(SCALE)) if kind == "cosine" else None
        self.register_buffer("keys", torch.empty(0, 2, dtype=torch.int64))
        self._shared: list[int] | None = None
        self._row: dict[tuple[int, int], int] = {}
        if mode == "sliced":
            self._grow([(-1, c) for c in range(spec.n_classes or 0)])

    def observe(self, classes: Sequence[int], task_label: int | None) -> None:
        """Make rows for the classes of a task that is about to be trained.

        Raises ``BadInput`` when a shared head without task labels is given other classes than before.
        """
        if self.mode == "shared" and task_label is None:
            if self._shared not in (None, sorted(classes)):
                raise BadInput("head_mode=shared without task labels needs the same classes in every task; use sliced")
            self._shared = sorted(classes)
        self._grow([k for k in self._keys(classes, task_label) if k not in self._row])

    @torch.no_grad()
    def redraw(self) -> None:
        """Draw the weights of all rows anew."""
        fresh = nn.Linear(self.n_features, len(self.weight), bias=self.bias is not None, device=self.weight.device)
        self.weight.copy_(fresh.weight)
        if self.bias is not None:
            self.bias.copy_(fresh.bias)
        if self.scale is not None:
            self.scale.fill_(SCALE)

    def rows(self, classes: Sequence[int], task_label: int | None) -> list[int]:
        """The weight row of each class, -1 where there is none yet."""
        return [self._row.get(k, -1) for k in self._keys(classes, task_label)]

    def forward(self, features: Tensor) -> Tensor:
        """Logits of all rows: (B, D) to (B, rows)."""
        if self.scale is not None:
            return self.scale * F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
        return F.linear(features, self.weight, self.bias)

    def _keys(self, classes: Sequence[int], task_label: int | None) -> list[tuple[int, int]]:
        if self.mode == "shared":
            position = {c: k for k, c in enumerate(sorted(classes))}
            return [(-1, position[c]) for c in classes]
        label = task_label if self.mode == "per_task" and task_label is not None else -1
        return [(label, c) for c in classes]

    def _grow(self, keys: list[tuple[int, int]]) -> None:
        if not keys:
            return
        device = self.weight.device
        fresh = nn.Linear(self.n_features, len(keys), bias=self.bias is not None, device=device)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), fresh.weight.detach()]))
        if self.bias is not None:
            self.bias = nn.Parameter(torch.cat([self.bias.detach(), fresh.bias.detach()]))
        self.keys = torch.cat([self.keys, torch.tensor(keys, device=device)])
        self._row.update({key: len(self._row) + k for k, key in enumerate(keys)})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        keys = state_dict.get(prefix + "keys")
        if keys is not None and len(keys) != len(self.keys):  # rows that were added while training
            device = self.weight.device
            self.weight = nn.Parameter(torch.empty(len(keys), self.n_features, device=device))
            if self.bias is not None:
                self.bias = nn.Parameter(torch.empty(len(keys), device=device))
            self.keys = torch.empty(len(keys), 2, dtype=torch.int64, device=device)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if keys is not None:
            self._row = {(int(task), int(label)): row for row, (task, label) in enumerate(keys.tolist())}
