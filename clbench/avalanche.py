"""The bridge to Avalanche: a clbench stream as an Avalanche benchmark, an Avalanche strategy as a score matrix."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench.errors import BadInput
from clbench.evaluate import evaluate
from clbench.matrix import ScoreMatrix
from clbench.seeds import Seeds
from clbench.strategy import Strategy
from clbench.stream import Inputs, Query, Split, StreamSpec, TaskStream, TaskView
from clbench.torchvision_schemas import declare_torchvision_schemas


def as_avalanche(stream: TaskStream, seeds: Seeds | None = None) -> Any:
    """The stream as an Avalanche benchmark: one experience per task, classes as lists, all samples in memory.

    Task labels are 0, 1, ... under task-incremental and 0 throughout elsewhere. ``seeds``: of the augmentation,
    where the scenario has one. Raises ``BadInput`` when Avalanche is missing or there are several inputs.
    """
    if len(stream.spec.inputs) != 1:
        raise BadInput(f"Avalanche takes one input per sample; this scenario gives {sorted(stream.spec.inputs)}")
    told = stream.spec.protocol == "task-incremental"
    transform, augment = None, stream.augment
    if augment is not None:
        generator = (seeds or Seeds()).generator("augment", "avalanche")

        def transform(sample: Tensor) -> Tensor:
            return augment(sample[None], generator)[0]

    with torch.random.fork_rng():  # Avalanche's builders use, and some set, the global random state
        return _import().benchmarks.tensors_benchmark(
            train_tensors=[_tensors(task.train) for task in stream.tasks],
            test_tensors=[_tensors(task.test) for task in stream.tasks],
            task_labels=[task.index - 1 if told else 0 for task in stream.tasks],
            train_transform=transform,
        )


def run_avalanche(make_strategy: Callable[[StreamSpec], Any], stream: TaskStream, seeds: Seeds) -> ScoreMatrix:
    """Train an Avalanche strategy on the stream and score it as clbench scores its own, untrained row included.

    ``make_strategy(spec)`` makes the model and the strategy; outputs of the model are scores of the classes by
    number. Probes are answered by a copy of the model, so that a head that grows while it is asked harms nothing.
    """
    benchmark, device = as_avalanche(stream, seeds), torch.device("cpu")
    with torch.random.fork_rng():
        torch.manual_seed(seeds.integer("init", "model"))
        learner = make_strategy(stream.spec)
        rows = []
        for row in range(len(stream) + 1):
            if row:
                torch.manual_seed(seeds.integer("shuffle", "avalanche", row))
                learner.train(benchmark.train_stream[row - 1])
            answers = _Answers(learner.model, benchmark)
            rows.append(evaluate(answers, stream.spec.protocol, stream.tasks, row, device).accuracy)
    return ScoreMatrix(np.stack(rows))


class _Answers(Strategy):
    """A copy of an Avalanche model that answers queries."""

    def __init__(self, model: Any, benchmark: Any) -> None:
        _import()
        from avalanche.models.dynamic_modules import avalanche_model_adaptation
        from avalanche.models.utils import avalanche_forward

        self.model_ = copy.deepcopy(model).eval()
        self._forward = avalanche_forward
        with torch.random.fork_rng():
            for experience in benchmark.test_stream:  # heads of tasks to come, as Avalanche's own evaluation makes them
                avalanche_model_adaptation(self.model_, experience)

    def train_task(self, task: TaskView) -> None:
        raise NotImplementedError("a copy that only answers")

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        (x,) = inputs.values()
        label = (query.task_label or 1) - 1
        scores: Tensor = self._forward(self.model_, x, torch.full((len(x),), label))
        missing = max(query.classes) + 1 - scores.shape[1]  # a head that has not grown to these classes
        return torch.nn.functional.pad(scores, (0, max(0, missing)), value=-torch.inf)[:, list(query.classes)]


def _tensors(split: Split) -> tuple[Tensor, Tensor]:
    (x,) = split.take(torch.arange(len(split))).values()
    return x, split.labels


def _import() -> Any:
    declare_torchvision_schemas()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing solvers and loggers that nothing here uses
        try:
            import avalanche.benchmarks
        except ImportError as error:
            raise BadInput(f"Avalanche cannot be imported: {error}\n  pip install avalanche-lib==0.6.0") from error
    return avalanche
