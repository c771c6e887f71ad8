"""The contract of a strategy, and the one training loop that gradient-trained strategies share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.errors import BadInput, NonFiniteLoss
from clbench.models import Model
from clbench.state import PLAIN, State, freeze, thaw
from clbench.stream import PROTOCOLS, Batch, Inputs, ProtocolName, Query, Samples, StreamSpec, TaskView

Branch = Callable[[Inputs], Tensor]  # (B, ...) inputs to (B, D) features


@dataclass(kw_only=True)
class Strategy(ABC):
    """A learning method. Dataclass fields are its hyperparameters; ``__init__`` only stores them.

    State made later ends in ``_`` and is saved and loaded by that name: tensors, scalars, modules, buffers,
    generators, and lists and dicts of them. Nothing else survives from task to task.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = PROTOCOLS
    deterministic: ClassVar[bool] = False  # the seed of the run changes nothing
    reference: ClassVar[bool] = False  # a declared oracle: shown, never ranked
    measured_rows: ClassVar[Literal["all", "last"]] = "all"  # rows of the score matrix that mean something
    protocols_because: ClassVar[str] = ""  # why not the others, told to who asks for one of them

    @property
    def group_size(self) -> int:
        """Consecutive samples of a task that are answered together; each by itself unless overridden."""
        return 1

    def reads(self, model: Model) -> tuple[str, ...]:
        """Names of the inputs it wants; asked before ``setup``, whose spec and all batches hold no others."""
        return model.reads

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Take the untrained model, what may be known of the stream, and the strategy's own randomness."""
        self.model_ = model
        self.rng_ = rng
        self.spec = spec

    @abstractmethod
    def train_task(self, task: TaskView) -> None:
        """Learn one task; its data are closed afterwards."""

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores (B, len(query.classes)), higher is likelier, minus infinity for never; changes nothing."""
        self.model_.eval()  # train_task() switches back; the harness restores the mode after a probe inside a task
        return self.model_.scores(inputs, query)

    def answer(self, inputs: Inputs, query: Query) -> tuple[Tensor, Tensor | None]:
        """The scores of ``predict``, and for each sample (B,) the task (1, 2, ...) it was taken for.

        None where nothing is inferred. A strategy that infers tasks overrides this, and ``predict`` by its first part.
        """
        return self.predict(inputs, query), None

    def branches(self) -> dict[str, Branch]:
        """Frozen networks by name, each a function of inputs that will never change again.

        The harness runs each once over every sample and hands the result out as ``inputs[name]``, in training and
        in prediction. ``predict`` may be asked without it, and then runs the network itself.
        """
        return {}

    def stored_samples(self) -> int:
        """Number of training samples kept from task to task; at most the field ``memory`` where there is one."""
        return 0

    def hyperparameters(self) -> dict[str, Any]:
        """The fields by name, nested ones as dicts."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def state_dict(self) -> State:
        """Everything that must survive, as plain tensors and scalars."""
        return {k: freeze(v, k) for k, v in sorted(vars(self).items()) if k.endswith("_") and not k.startswith("_")}

    def load_state_dict(self, state: State) -> None:
        """Put a saved state back; ``setup`` has been called before."""
        for name, saved in state.items():
            setattr(self, name, thaw(getattr(self, name, None), saved))


def _plain(value: Any) -> Any:
    if isinstance(value, PLAIN):
        return value
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return repr(value)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """How the networks of gradient-trained strategies are optimised; the optimiser is new for every task."""

    epochs: int = 10
    batch_size: int = 32
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.lr < math.inf:
            raise BadInput(f"trainer needs epochs >= 1, batch_size >= 1 and a finite lr > 0; got {self}")
        if self.optimizer not in ("sgd", "adam"):
            raise BadInput(f"trainer.optimizer is sgd or adam; got '{self.optimizer}'")
        if self.optimizer == "adam" and self.momentum:
            raise BadInput("trainer.momentum belongs to sgd; with optimizer=adam set momentum=0 (or use trainer=adam)")

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """A new optimiser of those of the parameters that are trainable."""
        trained = [p for p in parameters if p.requires_grad]
        if self.optimizer == "adam":
            return torch.optim.Adam(trained, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(trained, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


@dataclass(kw_only=True)
class SGDStrategy(Strategy):
    """The one training loop: override ``loss``, and at need the hooks around it.

    ``logits_over``: which classes compete in the loss. ``task``: those of the sample's task (needs task labels);
    ``seen``: all trained so far; ``protocol`` (default): ``task`` under task-incremental, ``seen`` otherwise.
    """

    trainer: Trainer = field(default_factory=Trainer)
    logits_over: Literal["protocol", "task", "seen"] = "protocol"

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """As in ``Strategy``; no class has been seen yet."""
        import torch._dynamo  # torch's optimisers import it at their first use: no cost of the first task

        super().setup(model, spec, rng)
        if self.logits_over == "task" and spec.protocol != "task-incremental":
            raise BadInput(
                f"logits_over=task needs task labels, which {spec.protocol} does not give; use protocol or seen"
            )
        self.seen_: list[int] = []
        self.allowed_ = torch.zeros(0, 0, dtype=torch.bool)  # (task labels, head rows): what competes in the loss
        self.row_of_ = torch.zeros(0, 0, dtype=torch.int64)  # (task labels, classes): the head row of a class

    def train_task(self, task: TaskView) -> None:
        """Train by mini-batch gradient descent, ``trainer.epochs`` times over the task."""
        self.observe(task)
        self.before_task(task)
        self.optimise(task)
        self.after_task(task)

    def optimise(
        self,
        task: TaskView,
        epochs: int | None = None,
        samples: Samples | None = None,
        *,
        phase: str = "train",
        trainer: Trainer | None = None,
        parameters: Iterable[Tensor] | None = None,
    ) -> None:
        """Run the training loop on the task, or on ``samples`` instead, with an optimiser of its own.

        ``epochs`` replaces the trainer's, ``trainer`` the strategy's; ``parameters`` are trained instead of the
        model's. A second loop within a task needs another ``phase``. Raises ``NonFiniteLoss`` at the end of an epoch
        in which the loss was not finite.
        """
        self.model_.train()
        trainer = trainer or self.trainer
        optimizer = trainer.make(self.model_.parameters() if parameters is None else parameters)
        losses: list[Tensor] = []
        for batch in task.batches(trainer.batch_size, trainer.epochs if epochs is None else epochs, phase, samples):
            optimizer.zero_grad()
            loss = self.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            self.after_backward(batch)
            optimizer.step()
            self.after_step(batch)
            losses.append(loss.detach())
            if batch.last:
                check_finite(losses, batch.epoch)
                losses.clear()

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch; cross-entropy unless overridden."""
        return self.cross_entropy(self.model_(batch.inputs), batch.y, batch.extras.get("label"))

    def before_task(self, task: TaskView) -> None:
        """Called when the head has its rows for the task, before the first step."""

    def after_backward(self, batch: Batch) -> None:
        """Called when gradients are there, before the optimiser's step."""

    def after_step(self, batch: Batch) -> None:
        """Called after each optimiser step."""

    def after_task(self, task: TaskView) -> None:
        """Called after the last step, while the task's data are still open."""

    def observe(self, task: TaskView) -> None:
        """Note the task's classes: head rows, seen classes, and what competes in the loss."""
        head = self.model_.head
        head.observe(task.classes, task.label, task.class_names)
        self.seen_ = sorted({*self.seen_, *task.classes})
        self.label_ = task.label or 0
        device = head.weight.device
        allowed = _enlarged(self.allowed_, self.label_ + 1, len(head.weight), device)
        row_of = _enlarged(self.row_of_, self.label_ + 1, max(self.seen_) + 1, device)
        rows = torch.tensor(head.rows(task.classes, task.label), device=device)
        row_of[self.label_, list(task.classes)] = rows
        if self._over_task():
            allowed[self.label_] = False
            allowed[self.label_, rows] = True
        else:
            allowed[:, rows] = True
            allowed[self.label_] = allowed.any(dim=0)
        self.allowed_, self.row_of_ = allowed, row_of
        # What the loss of every batch needs, worked out once a task; None where there is nothing to do.
        known = list(task.classes) if self.label_ else self.seen_
        own = row_of[self.label_]
        self._own_rows = None if own[known].tolist() == known else own
        self._closed = None if bool(allowed[self.label_].all()) else ~allowed[self.label_]

    def cross_entropy(
        self, logits: Tensor, y: Tensor, labels: Tensor | None = None, over: Tensor | None = None
    ) -> Tensor:
        """Mean cross-entropy over the classes that compete.

        ``logits`` (B, rows); ``y`` (B,) classes; ``labels`` (B,) task labels of stored samples, None for the
        task at hand; ``over`` (rows,) or (B, rows) bool replaces the mask of competing rows.
        """
        if labels is None:
            rows, closed = y if self._own_rows is None else self._own_rows[y], self._closed
        else:
            rows, closed = self.row_of_[labels, y], ~self.allowed_[labels]
        if over is not None:
            closed = ~over
        return F.cross_entropy(logits if closed is None else logits.masked_fill(closed, -torch.inf), rows)

    def _over_task(self) -> bool:
        if self.logits_over == "protocol":
            return self.spec.protocol == "task-incremental"
        return self.logits_over == "task"


def _enlarged(table: Tensor, n_rows: int, n_columns: int, device: torch.device) -> Tensor:
    larger = torch.zeros(max(n_rows, len(table)), n_columns, dtype=table.dtype, device=device)
    larger[: len(table), : table.shape[1]] = table
    return larger


def check_finite(losses: list[Tensor], epoch: int) -> None:
    """Raise ``NonFiniteLoss`` where one of an epoch's losses is not finite."""
    finite = torch.isfinite(torch.stack(losses))  # one device sync per epoch
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0]) + 1
        raise NonFiniteLoss(f"the loss is {float(losses[step - 1])} in epoch {epoch}, step {step}; try a smaller lr")
