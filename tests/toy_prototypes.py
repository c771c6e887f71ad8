"""Streams for classifiers in closed form, and what the classifiers answer once they have learnt them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.backbones.backbone import Filling
from clbench.compose import compose
from clbench.experiment import experiment
from clbench.features import with_features
from clbench.loop import prepare, train_one
from clbench.models import Features
from clbench.seeds import Seeds
from clbench.strategies.fecam import FeCAM
from clbench.strategies.ncm import NCM
from clbench.strategies.ranpac import RanPAC
from clbench.strategies.simplecil import SimpleCIL
from clbench.strategies.slda import SLDA
from clbench.strategy import Strategy
from clbench.stream import Query, Split, StreamSpec, Task, TaskStream
from tests import oracles
from tests.real_data import DATA

CPU = torch.device("cpu")
SEEDS = Seeds.of(0)
ALL = Query(None, tuple(range(10)), ())
DIGITS = ("scenario=split_digits-v1",)
COMING_AGAIN = (*DIGITS, "scenario.rule=instances", "scenario.protocol=domain-incremental", "scenario.n_tasks=3")
# A few hundred images, the first ones of every class: few chunks of the feature cache have to be there.
LITE0 = ("scenario=cifar10_lite0-v1", "backbone=lite0", "scenario.subset={train:600,test:200,rows:first}")
ORDERLESS: list[Callable[[], Strategy]] = [SimpleCIL, NCM, lambda: NCM(normalise=True), SLDA, FeCAM]
EVERY: list[Callable[[], Strategy]] = [*ORDERLESS, lambda: RanPAC(n_projections=30)]
Oracle = Callable[[Any, Any, Any], NDArray[np.int64]]
ORACLES: list[tuple[str, Oracle]] = [
    ("simplecil", oracles.nearest_cosine),
    ("ncm", oracles.nearest_mean),
    ("slda", oracles.discriminant),
    ("fecam", oracles.mahalanobis),
]


@cache
def built(*overrides: str) -> TaskStream:
    """The stream of these overrides, with the backbone's features where there is a backbone."""
    exp = experiment(compose([*overrides, "strategy=ncm", f"data_dir={DATA}"]))
    stream = exp.scenario.build(exp.seeds, exp.data_dir)
    return with_features(stream, exp.backbone, Filling(CPU)) if exp.backbone else stream


def learnt(strategy: Strategy, stream: TaskStream, seeds: Seeds = SEEDS) -> Any:
    """The strategy, trained on all tasks of a stream."""
    torch.set_num_threads(1)
    read = prepare(strategy, Features, stream, seeds, CPU)
    for index in range(1, len(read) + 1):
        train_one(strategy, read, index, seeds, CPU)
    return strategy


def samples(stream: TaskStream, half: str) -> tuple[Tensor, Tensor]:
    """All features (without a backbone: pixels) and classes of a half, in the order of the source."""
    splits = [getattr(task, half) for task in stream.tasks]
    order = np.argsort(np.concatenate([split.index for split in splits]), kind="stable")
    name = "features" if "features" in stream.spec.inputs else "image"
    x = torch.cat([split.take(torch.arange(len(split)))[name].flatten(1) for split in splits])
    return x[order], torch.cat([split.labels for split in splits])[order]


def scores(strategy: Strategy, x: Tensor, query: Query = ALL) -> Tensor:
    """What the strategy answers to features, under the name that it reads them by."""
    (name,) = strategy.spec.inputs
    return strategy.predict({name: x}, query)


def answers(strategy: Strategy, stream: TaskStream) -> NDArray[np.int64]:
    return scores(strategy, samples(stream, "test")[0]).argmax(1).numpy()


def toy(x: Tensor, y: Tensor, n_tasks: int = 1) -> TaskStream:
    """Features dealt out to tasks class by class."""
    return dealt(x, y, [torch.isin(y, classes).nonzero()[:, 0] for classes in torch.unique(y).chunk(n_tasks)])


def dealt(x: Tensor, y: Tensor, parts: Sequence[Tensor]) -> TaskStream:
    """Features dealt out to tasks by these rows; a class may come again."""
    tasks = []
    for index, rows in enumerate(parts, start=1):
        split = Split({"features": x[rows]}, y[rows], rows.numpy())
        labels = tuple(torch.unique(y[rows]).tolist())
        tasks.append(Task(index, str(index), labels, tuple(map(str, labels)), split, split, ""))
    spec = StreamSpec("class-incremental", {"features": (x.shape[1],)}, n_classes=int(y.max()) + 1)
    return TaskStream(spec, tuple(tasks), "")


def clouds(n_classes: int = 5, n: int = 40, width: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping clouds of points, ``n`` a class, with no two variances alike."""
    drawn = torch.Generator().manual_seed(seed)
    y = torch.arange(n_classes).repeat(n)
    spread = torch.linspace(0.5, 2.0, width)
    x = 0.7 * torch.randn(n_classes, width, generator=drawn)[y] + spread * torch.randn(len(y), width, generator=drawn)
    return x, y
