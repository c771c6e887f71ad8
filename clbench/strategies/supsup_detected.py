"""Supermasks in superposition that notice by themselves when a task begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from clbench.errors import BadInput
from clbench.masks import draw_scores, maskable
from clbench.models import Model
from clbench.strategies.supsup import SupSup
from clbench.strategy import check_finite
from clbench.stream import Inputs, ProtocolName, Query, StreamSpec, TaskView
from clbench.superposition import alpha_gradients


@dataclass(kw_only=True)
class SupSupDetected(SupSup):
    """SupSup that is not told either when a task begins: a batch that no mask is for gets a mask of its own.

    Every ``detect_every`` batches the masks learnt are superposed, with drawn ones to make up ``fewest``. Where the
    largest of softmax(-dH / d alpha) stays below ``novelty`` / k for k masks, or is that of a drawn one, a new mask is
    trained, otherwise that of the largest. The inferred task of a sample is the one its mask was first trained in.

    Source: Wortsman et al., Supermasks in Superposition, NeurIPS 2020, scenario NNs; the authors' code for the rule.
    Differs: batches are counted through, not anew in every epoch, which would look at each task's very first one; a
    drawn mask is not trained before it counts as learnt; the optimiser of a mask is new in every task. The defaults of
    ``novelty`` and ``fewest`` are those for MNIST and 500 outputs: they depend on how large the outputs get.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"domain-incremental"})
    protocols_because: ClassVar[str] = "tasks that are not told must have their outputs in common"

    detect_every: int = 100
    novelty: float = 1.125
    fewest: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.detect_every, self.fewest) < 1 or self.novelty <= 0 or self.transfer:
            raise BadInput(f"expected detect_every >= 1, fewest >= 1, novelty > 0 and transfer=false; got {self}")

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """As SupSup; no mask is learnt."""
        super().setup(model, spec, rng)
        self.scores_: dict[int, dict[str, Tensor]] = {}  # of all masks: none of them is ever finished
        self.begun_: list[int] = []  # the task in which each mask was first trained
        self.current_ = self.batches_ = self.tasks_ = 0

    def train_task(self, task: TaskView) -> None:
        """Train whichever mask the batches are found to be for."""
        self.observe(task)
        self.tasks_ += 1
        optimizers: dict[int, torch.optim.Optimizer] = {}
        losses: list[Tensor] = []
        for batch in task.batches(self.trainer.batch_size, self.trainer.epochs):
            if self.batches_ % self.detect_every == 0:
                self.detect(batch.inputs)
            self.batches_ += 1
            self.model_.train()
            scores = self.scores_[self.current_]
            if self.current_ not in optimizers:
                optimizers[self.current_] = self.trainer.make([s.requires_grad_() for s in scores.values()])
            optimizers[self.current_].zero_grad()
            loss = self.masked_loss(batch, scores, {})
            loss.backward()  # type: ignore[no-untyped-call]
            optimizers[self.current_].step()
            losses.append(loss.detach())
            if batch.last:
                check_finite(losses, batch.epoch)
                losses.clear()
        for mask in optimizers:
            self.scores_[mask] = {name: s.detach() for name, s in self.scores_[mask].items()}
            self.keep(mask, self.scores_[mask])
            self.classes_[mask] = torch.tensor(task.classes)

    def detect(self, inputs: Inputs) -> None:
        """Choose the mask for a batch; a new one where no mask is for it.

        Source: section 3.5 (NNs).
        """
        learnt, base = len(self.begun_), maskable(self.model_)
        while len(self.scores_) < max(self.fewest, learnt + 1):
            self.scores_[len(self.scores_) + 1] = {name: draw_scores(weight) for name, weight in base.items()}
        k = max(self.fewest, learnt)
        masks = [{name: self.choose(s) for name, s in self.scores_[mask].items()} for mask in range(1, k + 1)]
        self.model_.eval()
        nu = (-alpha_gradients(self.model_, inputs, masks).mean(0)).softmax(0)
        self.current_ = int(nu.argmax()) + 1
        if self.current_ > learnt or float(nu.max()) < self.novelty / k:
            self.current_ = learnt + 1
            self.begun_.append(self.tasks_)

    def answer(self, inputs: Inputs, query: Query) -> tuple[Tensor, Tensor | None]:
        """As SupSup; the task of a mask is the one it was first trained in."""
        scores, masks = super().answer(inputs, query)
        return scores, None if masks is None else torch.tensor(self.begun_, device=masks.device)[masks - 1]
