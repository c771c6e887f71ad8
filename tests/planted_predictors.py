"""Broken strategies that predict wrongly, each with the clause meant to catch it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clbench.models import Model
from clbench.strategies.naive import Naive
from clbench.stream import Inputs, Query, StreamSpec, TaskView
from tests.planted_strategies import breaks


@breaks("predict_answers_each_sample_by_itself")
@dataclass(kw_only=True)
class NormalisesByTheBatch(Naive):
    """Predicts with batch normalisation in training mode."""

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        self.model_.eval()
        hidden = self.model_.features(inputs)
        hidden = F.batch_norm(hidden, None, None, training=len(hidden) > 1) if len(hidden) > 1 else hidden
        scores: Tensor = self.model_.head(hidden)[:, list(query.classes)]
        return scores


@breaks("predict_answers_each_sample_by_itself")
@dataclass(kw_only=True)
class InfersTheTaskFromTheBatch(Naive):
    """Favours the classes that most of the batch seems to be of: the batch gives the task away."""

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        scores = super().predict(inputs, query)
        return scores + 10 * scores.softmax(1).mean(0)


@breaks("predict_changes_nothing")
@dataclass(kw_only=True)
class AdaptsWhilePredicting(Naive):
    """Keeps a running mean of what it is asked."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.mean_ = torch.zeros(())

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        self.mean_ = 0.9 * self.mean_ + 0.1 * inputs["image"].mean()
        return super().predict(inputs, query)


@breaks("evaluation_has_no_side_effects")
@dataclass(kw_only=True)
class LearnsFromProbes(Naive):
    """Nudges its weights at every prediction."""

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        scores = super().predict(inputs, query)
        self.model_.head.weight.mul_(0.999)
        return scores


@breaks("predict_gives_the_same_answer_twice")
@dataclass(kw_only=True)
class PredictsAtRandom(Naive):
    """Breaks ties with fresh noise."""

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        scores = super().predict(inputs, query)
        return scores + 0.01 * torch.rand_like(scores)


@breaks("predict_gives_the_same_answer_twice")
@dataclass(kw_only=True)
class DropsOutWhilePredicting(Naive):
    """Forgets to switch dropout off; fine only as long as training does it."""

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.dropout_ = nn.Dropout(0.2)

    def after_task(self, task: TaskView) -> None:
        self.dropout_.eval()

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        self.model_.eval()
        scores: Tensor = self.model_.head(self.dropout_(self.model_.features(inputs)))[:, list(query.classes)]
        return scores


@breaks("predict_follows_the_order_of_the_query")
@dataclass(kw_only=True)
class SortsTheQuery(Naive):
    """Answers in the order of its own classes."""

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        classes = tuple(sorted(query.classes))
        return super().predict(inputs, Query(query.task_label, classes, query.class_names))


@breaks("predict_is_shaped_by_the_query")
@dataclass(kw_only=True)
class AnswersWithAllClasses(Naive):
    """Gives a column to every class, asked for or not."""

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        self.model_.eval()
        scores: Tensor = self.model_(inputs)
        return scores


@breaks("predict_ranks_candidates_consistently")
@dataclass(kw_only=True)
class RanksByWhoElseIsAsked(Naive):
    """Turns its ranking round when few classes are asked for."""

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        scores = super().predict(inputs, query)
        return scores if len(query.classes) > 6 else -scores


@breaks("predict_gives_no_nan")
@dataclass(kw_only=True)
class ScoresNaN(Naive):
    """Divides by the number of samples of a class, which is 0 before it has come."""

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        counts = torch.tensor([float(c in self.seen_) for c in query.classes])
        return super().predict(inputs, query).exp() * counts / counts


@breaks("predict_answers_before_it_has_learnt")
@dataclass(kw_only=True)
class CannotAnswerUntrained(Naive):
    """Needs class means to answer, and has none before the first task."""

    measured_rows = "last"

    def after_task(self, task: TaskView) -> None:
        self.ready_ = True

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        if not getattr(self, "ready_", False):
            raise KeyError(query.classes[0])
        return super().predict(inputs, query)
