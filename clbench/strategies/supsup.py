"""Supermasks in superposition."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from clbench.errors import BadInput
from clbench.isolation import Held, grown, own_head, with_rows
from clbench.masks import (
    TaskParts,
    draw_scores,
    drop_biases,
    maskable,
    pack,
    signed_constant,
    straight_through,
    top_share,
    unpack,
)
from clbench.models import Model
from clbench.strategy import SGDStrategy, Trainer
from clbench.stream import Batch, Inputs, Query, StreamSpec, TaskView
from clbench.superposition import infer

FAR = 1e4  # a log-probability below all others, and near enough to keep three digits behind the point
_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class SupSup(SGDStrategy):
    """A fixed random network with a learnt mask per task; without task labels the mask is inferred from the outputs.

    ``select``: a mask keeps the ``top`` absolute scores of a layer, or all scores from the ``threshold`` 0 on;
    ``protocol``: ``top`` under task-incremental, else ``threshold``, as in the authors' code. ``density``: the share
    that ``top`` keeps; ``er``: the budget S from which each layer gets its density instead. ``transfer``: scores start
    at the mean of the earlier tasks' ones, rescaled. Where tasks are inferred: ``images`` are taken together;
    ``infer``: from one superposition of all masks, or halving them time after time; ``objective``: the ``entropy`` of
    the outputs, or their logsumexp ``g``, whose gradient comes from superfluous outputs only: those of no class learnt,
    to begin with the model's ``spare`` ones. Without any entropy stands in, which is logged.

    Source: Wortsman et al., Supermasks in Superposition, NeurIPS 2020, sections 3.1-3.5, scenarios GG, GNs and GNu.
    Differs: scores are drawn when a task begins, since the number of tasks is not known; masks of learnt tasks alone
    are superposed, and halving keeps exactly half, so that it ends on ties too; inference in evaluation mode; under
    GNu every class has outputs of its own; Adam at a constant rate, where the authors take RMSprop under GN and lower
    Adam's rate by a cosine under GG; no Hopfield network of masks. Networks with batch norm, of which the paper infers
    no task, are refused.
    """

    density: float = 0.1
    select: Literal["protocol", "top", "threshold"] = "protocol"
    er: float | None = None
    infer: Literal["one_shot", "binary"] = "one_shot"
    objective: Literal["entropy", "g"] = "g"
    images: int = 1
    transfer: bool = False
    trainer: Trainer = field(default_factory=lambda: Trainer(optimizer="adam", lr=0.01, momentum=0.0))

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1 or (self.er is not None and not 0 < self.er < math.inf) or self.images < 1:
            raise BadInput(f"expected 0 < density <= 1, a finite er > 0 or none, and images >= 1; got {self}")

    @property
    def group_size(self) -> int:
        """``images`` where tasks are inferred."""
        spec: StreamSpec | None = getattr(self, "spec", None)
        return 1 if spec is not None and spec.protocol == "task-incremental" else self.images

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Fix the weights: signed constants without biases; ``BadInput`` where tasks cannot be inferred from them."""
        super().setup(model, spec, rng)
        self._inferred = spec.protocol != "task-incremental"
        self._top = self.select == "top" or (self.select == "protocol" and not self._inferred)
        if self._inferred:
            _check_superposable(model, self.logits_over)
        self.fix_weights()
        self.masks_: dict[int, dict[str, Tensor]] = {}  # by task and weight, as bits
        self.classes_: dict[int, Tensor] = {}
        self.n_rows_: dict[int, int] = {}  # of the head, which may have grown since
        self.mean_: dict[str, Tensor] = {}  # of the scores of all tasks, for transfer
        self.own_ = TaskParts(model)

    @torch.no_grad()
    def fix_weights(self) -> None:
        """Signed constants and no biases, in new head rows too; nothing but rows that are not masked is trained."""
        drop_biases(self.model_)
        base = maskable(self.model_)
        for name, parameter in self.model_.named_parameters():
            parameter.requires_grad_(name not in base and name in ("head.weight", "head.scale"))
            if name in base:
                parameter.copy_(signed_constant(parameter))

    def train_task(self, task: TaskView) -> None:
        """Train the task's scores, and its own rows and scale of a head that is not masked; keep the mask."""
        self.observe(task)
        self.fix_weights()
        self._task = task.label or len(self.masks_) + 1
        self.own_.begin(self._task)
        base, rows = maskable(self.model_), self.model_.head.rows(task.classes, task.label)
        dense = own_head(self.model_, rows)
        self._held = Held(dense)
        self._scores = {name: self.new_scores(name, weight) for name, weight in base.items()}
        self.optimise(task, parameters=[*self._scores.values(), *(p for p, _ in dense)])
        self.own_.end(self._task, rows)
        self.keep(self._task, self._scores)
        self.classes_[self._task] = torch.tensor(task.classes)
        if self._inferred and len(self.masks_) == 1 and self.objective == "g" and self.superfluous() is None:
            _log.warning("objective=g has no superfluous outputs to go by, so entropy decides: try model.spare=90")
        if self.transfer:
            ends = {name: s.detach() for name, s in self._scores.items()}
            old = {name: grown(self.mean_.get(name, s), s) for name, s in ends.items()}
            self.mean_ = {name: s + (old[name] - s) * (1 - 1 / len(self.masks_)) for name, s in ends.items()}
        del self._scores, self._held

    def new_scores(self, name: str, weight: Tensor) -> Tensor:
        """Scores to begin a task with: random, or with ``transfer`` as large but in the direction of the mean."""
        scores = draw_scores(weight)
        if name in self.mean_:
            mean = self.mean_[name]
            scores = grown(mean * (scores[: len(mean)].norm() / mean.norm()), scores)
        return scores.requires_grad_()

    def choose(self, scores: Tensor) -> Tensor:
        """The mask that the scores of a weight stand for."""
        if not self._top:
            return scores.detach() >= 0
        if self.er is None:
            return top_share(scores, self.density)
        return top_share(scores, min(0.5, self.er * sum(scores.shape[:2]) / scores.numel()))

    def keep(self, task: int, scores: Mapping[str, Tensor]) -> None:
        """Keep the mask of these scores for a task, as bits."""
        self.masks_[task] = {name: pack(self.choose(s)) for name, s in scores.items()}
        self.n_rows_[task] = len(self.model_.head.weight)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy under the present mask; over all outputs, superfluous ones too, where tasks are inferred."""
        return self.masked_loss(batch, self._scores, self.own_.of(self._task))

    def masked_loss(self, batch: Batch, scores: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Tensor:
        """The loss under the mask of these scores, with what else of the network is a task's own."""
        base, weights = maskable(self.model_), dict(own)
        for name, s in scores.items():
            weights[name] = base[name] * straight_through(self.choose(s), s.abs() if self._top else s)
        logits = functional_call(self.model_, weights, (batch.inputs,))
        if self._inferred:
            return F.cross_entropy(logits, self.row_of_[self.label_, batch.y])
        return self.cross_entropy(logits, batch.y)

    def after_step(self, batch: Batch) -> None:
        """Put head rows of other tasks back."""
        self._held.put_back()

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores under the mask of the labelled or the inferred task; of the whole network for a task not learnt."""
        return self.answer(inputs, query)[0]

    @torch.no_grad()
    def answer(self, inputs: Inputs, query: Query) -> tuple[Tensor, Tensor | None]:
        """Those scores and the inferred tasks; under class-incremental the inferred task's classes come first.

        Source: section 3.2, scenarios GG, GNs and GNu.
        """
        self.model_.eval()
        if not self._inferred or not self.masks_:
            return self.model_.scores(inputs, query, self.network(query.task_label or 0)), None
        inputs = {name: inputs[name] for name in self.model_.reads}
        tasks = self.inferred_masks(inputs)
        if self.spec.protocol == "class-incremental":
            return self.own_scores(inputs, query, tasks), tasks
        scores = torch.empty(len(tasks), len(query.classes), device=tasks.device)
        for task in torch.unique(tasks).tolist():
            rows = (tasks == task).nonzero()[:, 0]
            part = {name: values[rows] for name, values in inputs.items()}
            scores[rows] = self.model_.scores(part, query, self.network(task))
        return scores, tasks

    def own_scores(self, inputs: Inputs, query: Query, tasks: Tensor) -> Tensor:
        """Log-probabilities (B, len(query.classes)) of classes among all outputs, each under the mask of its task.

        ``FAR`` less where another task was inferred, so that tasks told are answered as under task-incremental; minus
        infinity for classes of no task learnt. A class of several tasks has the highest of its scores.
        """
        scores = torch.full((len(tasks), len(query.classes)), -torch.inf, device=tasks.device)
        for task, classes in self.classes_.items():
            its = [k for k, c in enumerate(query.classes) if c in classes.tolist()]
            rows = self.model_.head.rows([query.classes[k] for k in its], None)
            logits: Tensor = functional_call(self.model_, self.network(task) or {}, (inputs,))
            under = logits.log_softmax(1)[:, rows] - FAR * (tasks != task)[:, None]
            scores[:, its] = torch.maximum(scores[:, its], under)  # tasks may have classes in common
        return scores

    def mask(self, task: int) -> dict[str, Tensor]:
        """The mask of a learnt task, bool by weight."""
        base = maskable(self.model_)
        return {name: unpack(bits, base[name].shape) for name, bits in self.masks_[task].items()}

    def network(self, task: int) -> dict[str, Tensor] | None:
        """What a learnt task's own network has other than the whole one."""
        if task not in self.masks_:
            return None
        base = maskable(self.model_)
        weights = {name: base[name] * mask for name, mask in self.mask(task).items()}
        return with_rows(self.model_, {**weights, **self.own_.of(task)}, self.n_rows_[task])

    def inferred_masks(self, inputs: Inputs) -> Tensor:
        """The key (B,) in ``masks_`` of each sample's mask.

        Source: section 3.3.
        """
        learnt = sorted(self.masks_)
        masks = [self.mask(task) for task in learnt]
        which = infer(self.model_, inputs, masks, self.superfluous(), self.images, self.infer == "binary")
        return torch.tensor(learnt, device=which.device)[which]

    def superfluous(self) -> Tensor | None:
        """The outputs (rows,) that stand for no class learnt; None where entropy is the objective."""
        if self.objective == "entropy":
            return None
        head = self.model_.head
        free = torch.ones(len(head.weight), dtype=torch.bool, device=head.weight.device)
        for classes in self.classes_.values():
            free[head.rows(classes.tolist(), None)] = False
        return free if bool(free.any()) else None


def _check_superposable(model: Model, logits_over: str) -> None:
    """``BadInput`` where the outputs of superposed masks cannot tell their tasks."""
    head = model.head
    if "head.weight" not in maskable(model):
        raise BadInput(
            "tasks are inferred from outputs that all masks share: without task labels SupSup takes head=linear with "
            f"head_mode=sliced or shared; got head={head.kind}, head_mode={head.mode}"
        )
    if any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise BadInput(
            "tasks are inferred from superposed masks, which have no batch-norm statistics in common: without task "
            "labels SupSup takes a network without batch norm, e.g. model=lenet_300_100"
        )
    if logits_over != "protocol":
        raise BadInput(
            "where tasks are inferred the loss is over all outputs, for superfluous ones have to be trained down; "
            f"expected logits_over=protocol, got {logits_over}"
        )
