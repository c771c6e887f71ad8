"""Gradient projection: bases of what the inputs of old tasks span, and training that leaves it alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from clbench.capture import HEAD, Unit, input_grams, units
from clbench.errors import BadInput
from clbench.masks import TaskParts, drop_biases
from clbench.models import Model, Pretrained
from clbench.strategy import SGDStrategy, Trainer
from clbench.stream import Batch, Inputs, Query, StreamSpec, TaskView

ROUNDING = 1e-12  # share of the energy (squared singular values) below which inputs in float32 say nothing


def principal(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,) of a Gram matrix, the largest first, and eigenvectors as columns (d, d).

    Of R RT they are the squared singular values and the left singular vectors of R.
    """
    energies, vectors = torch.linalg.eigh(gram)
    return energies.flip(0).clamp(min=0), vectors.flip(1)


def outside(gram: Tensor, basis: Tensor) -> Tensor:
    """The Gram matrix of what is left of the inputs outside a basis: that of R - M MT R."""
    m = basis.to(gram)
    left = gram - m @ (m.T @ gram)
    return left - (left @ m) @ m.T


def energy_along(gram: Tensor, basis: Tensor) -> Tensor:
    """The energy of the inputs along each column of a basis: |mT R|^2 of each column m, (r,)."""
    m = basis.to(gram)
    return (m * (gram @ m)).sum(0)


def how_many(energies: Tensor, wanted: Tensor) -> int:
    """The smallest number of the first energies whose sum reaches what is wanted; all where no number does."""
    reached = torch.cat([energies.new_zeros(1), energies.cumsum(0)])
    return min(int((reached < wanted).sum()), len(energies))


def extended(basis: Tensor, directions: Tensor) -> Tensor:
    """An orthonormal basis (d, r) in float32 with new directions (d, n) after it; the old columns stay bit by bit."""
    m = basis.double()
    for _ in range(2):  # once leaves what rounding has put into the old columns
        directions = directions - m @ (m.T @ directions)
    return torch.cat([basis, torch.linalg.qr(directions).Q.float()], dim=1)


def with_residual(basis: Tensor, gram: Tensor, share: float) -> Tensor:
    """The basis with the fewest directions of the residual after it that let it hold this share of the energy."""
    total = gram.trace()
    left = outside(gram, basis)
    energies, vectors = principal(left)
    missing = (share - ROUNDING) * total - (total - left.trace())
    room = len(gram) - basis.shape[1]
    return extended(basis, vectors[:, : how_many(energies[:room], missing)])


def projected(update: Tensor, basis: Tensor, importance: Tensor | None = None) -> Tensor:
    """An update (out, d) without what of it lies in a basis (d, r), or without this share (r,) of it per column."""
    if basis.shape[1] == len(basis) and (importance is None or bool((importance == 1).all())):
        return torch.zeros_like(update)  # nothing is outside, not even rounding
    inside = update @ basis
    return update - (inside if importance is None else inside * importance) @ basis.T


@dataclass(kw_only=True)
class ProjectedSGD(SGDStrategy):
    """SGD whose updates stay out of the inputs of old tasks, for every layer and the head's shared rows.

    ``threshold``: the share of the energy of a layer's inputs that its basis must hold after a task;
    ``first_threshold``: the same for the first layer, None for no other; both grow by ``threshold_step`` from task to
    task, up to 1. ``n_samples``: training samples whose inputs are looked at.
    """

    threshold: float = 0.99
    first_threshold: float | None = 0.95
    threshold_step: float = 0.0
    n_samples: int = 125
    trainer: Trainer = field(default_factory=lambda: Trainer(momentum=0.0))

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Drop biases and start with empty bases; ``BadInput`` for what projecting cannot protect.

        A pretrained network keeps its biases, scales and shifts, untrained: they are part of what it knows.
        """
        super().setup(model, spec, rng)
        self._check(model, spec)
        _drop_biases(model)
        self.units = units(model)
        self.bases_: dict[str, Tensor] = {}  # by unit: orthonormal columns (d_in, r)
        for unit in self.units:
            rows = unit.rows(model.get_parameter(unit.weight))
            self.bases_[unit.name] = rows.new_zeros(rows.shape[1], 0, requires_grad=False)
        self.own_ = TaskParts(model)  # batch-norm statistics by task
        self.n_learnt_ = 0
        self.trained_ = model.head.weight.new_zeros(len(model.head.weight), dtype=torch.bool)  # rows of the head

    def train_task(self, task: TaskView) -> None:
        """Train the weights of layers and head; nothing else of the network is trained."""
        self.observe(task)
        self.before_task(task)
        self.optimise(task, parameters=self.parameters())
        self.after_task(task)

    def parameters(self) -> list[Tensor]:
        """What the optimiser of the task gets: weights of layers and head, and in the first task the head's scale."""
        head = self.model_.head
        names = {unit.weight: None for unit in self.units} | ({HEAD: None} if _is_trained(head.weight) else {})
        found: list[Tensor] = [self.model_.get_parameter(name) for name in names]
        return [*found, head.scale] if head.scale is not None and not self.n_learnt_ else found

    def before_task(self, task: TaskView) -> None:
        """Begin the task's own statistics, and note which rows of the head take part and which are old."""
        _drop_biases(self.model_)  # of rows that have come with the task
        if task.label is not None:
            self.own_.begin(task.label)
        self._open = self.allowed_[self.label_]
        self.trained_ = nn.functional.pad(self.trained_, (0, len(self._open) - len(self.trained_)))
        self._old = self._open & self.trained_

    def weights(self, label: int) -> dict[str, Tensor]:
        """Parameters and buffers by name that the network works with on a task; the others are its own."""
        return self.own_.of(label)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the network with the task's weights."""
        logits = functional_call(self.model_, self.weights(self.label_), (batch.inputs,))
        return self.cross_entropy(logits, batch.y)

    def after_backward(self, batch: Batch) -> None:
        """Keep the weights as they are before the step."""
        names = {HEAD, *(unit.weight for unit in self.units)} if self.n_learnt_ else set()
        self._before = {name: _named(self.model_, name).detach().clone() for name in names}

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Project the whole update, whatever made it: gradient, momentum or weight decay."""
        if not self.n_learnt_:
            return
        for unit in self.units:
            weight = unit.rows(self.model_.get_parameter(unit.weight))
            before = unit.rows(self._before[unit.weight])
            kept = before + self.project(unit, weight - before)
            weight.copy_(torch.where(self._old[:, None], kept, weight) if unit.weight == HEAD else kept)
        head = self.model_.head
        if _is_trained(head.weight):  # rows that take no part stay bit by bit
            head.weight.copy_(torch.where(self._open[:, None], head.weight, self._before[HEAD]))

    def project(self, unit: Unit, update: Tensor) -> Tensor:
        """What of a unit's update (out, d_in) is done."""
        return projected(update, self.bases_[unit.name])

    def after_task(self, task: TaskView) -> None:
        """Look at the inputs of every unit and enlarge its basis."""
        inputs, _ = self.draw(task)
        grams = input_grams(self.model_, inputs, self.weights(self.label_), self.units)
        for unit in self.units:
            self.remember(unit, grams[unit.name], self.share(unit))
        self.trained_ |= self._open
        self.n_learnt_ += 1

    def remember(self, unit: Unit, gram: Tensor, share: float) -> None:
        """Enlarge the basis of a unit, so that it holds this share of the energy of the task's inputs."""
        self.bases_[unit.name] = with_residual(self.bases_[unit.name], gram, share)

    def share(self, unit: Unit) -> float:
        """The share of the energy that the unit's basis must hold after the task at hand."""
        is_first = unit.weight == self.units[0].weight and self.first_threshold is not None
        start = self.first_threshold if is_first else self.threshold
        return min(1.0, (start or 0.0) + self.threshold_step * self.n_learnt_)

    def draw(self, task: TaskView) -> tuple[Inputs, Tensor]:
        """Inputs and classes (n,) of ``n_samples`` random training samples, or of all where there are fewer."""
        labels = task.data.labels
        rows = torch.randperm(len(labels))[: self.n_samples].to(labels.device)
        device = self.model_.head.weight.device
        return {name: x.to(device) for name, x in task.data.take(rows).items()}, labels[rows]

    def gradients(self, inputs: Inputs, y: Tensor) -> dict[str, Tensor]:
        """Gradient (out, d_in) of the task's loss by unit, through the network's own weights, without dropout.

        Batch norm normalises by these samples, and no statistics change.
        """
        mode = self.model_.training
        self.model_.eval()
        for norm in self.model_.modules():
            if isinstance(norm, _BatchNorm):
                norm.train()
        logits = functional_call(self.model_, {k: v.clone() for k, v in self.own_.of(self.label_).items()}, (inputs,))
        names = list({unit.weight: None for unit in self.units})
        with_respect_to = [self.model_.get_parameter(name) for name in names]
        found = torch.autograd.grad(self.cross_entropy(logits, y), with_respect_to, materialize_grads=True)
        self.model_.train(mode)
        return {unit.name: unit.rows(found[names.index(unit.weight)]) for unit in self.units}

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores by the network with the task's weights where a label tells the task, else with its own."""
        self.model_.eval()
        return self.model_.scores(inputs, query, self.weights(query.task_label or 0))

    def _check(self, model: Model, spec: StreamSpec) -> None:
        name = type(self).__name__
        shares = [self.threshold, 1.0 if self.first_threshold is None else self.first_threshold]
        if not all(0 < share <= 1 for share in shares) or self.threshold_step < 0 or self.n_samples < 1:
            raise BadInput(
                f"{name} needs thresholds above 0 and at most 1, threshold_step >= 0 and n_samples >= 1; got "
                f"{self.threshold}, {self.first_threshold}, {self.threshold_step} and {self.n_samples}"
            )
        if self.trainer.optimizer == "adam":
            raise BadInput(
                f"{name} projects the steps of SGD: Adam rescales every entry by its own history, so that its steps "
                "leave the subspace that gradients were projected to; use trainer=plain_sgd"
            )
        if spec.protocol != "task-incremental" and any(isinstance(m, _BatchNorm) for m in model.modules()):
            raise BadInput(
                f"{name} cannot protect batch-norm statistics, which all tasks share under {spec.protocol}; use a "
                "network without batch norm (model=mlp, model=cnn), or a task-incremental scenario: statistics per task"
            )
        if model.head.kind == "cosine" and model.head.mode != "per_task":
            raise BadInput(
                f"{name} cannot protect the rows of a cosine head that tasks share: normalising a row undoes the "
                "projection of its update; use model.head=linear, or model.head_mode=per_task under task-incremental"
            )


def _drop_biases(model: Model) -> None:
    drop_biases(model.head if isinstance(model, Pretrained) else model)


def _is_trained(weight: Tensor) -> bool:
    return isinstance(weight, nn.Parameter)  # frozen rows are a buffer


def _named(model: Model, name: str) -> Tensor:
    return model.head.weight if name == HEAD else model.get_parameter(name)
