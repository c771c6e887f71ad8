"""Classifiers in closed form on 20,000 + 10,000 real images, against the same written again in one go."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clbench.compose import compose
from clbench.experiment import experiment
from clbench.loop import prepare, run
from clbench.strategies.ranpac import RanPAC
from clbench.strategy import Strategy
from tests import oracles
from tests.toy_prototypes import CPU, ORACLES, Oracle, answers, built, learnt, samples

pytestmark = pytest.mark.slow
CIFAR = ("scenario=cifar10_lite0-v1", "backbone=lite0")
MARGINS = {"simplecil": 0.002, "ncm": 0.002}  # the others: 0.01


def measured(name: str) -> tuple[float, Strategy]:
    """Final accuracy by the harness, and the trained strategy."""
    exp = experiment(compose([*CIFAR, f"strategy={name}"]))
    torch.set_num_threads(1)
    read = prepare(exp.strategy, exp.make_model, built(*CIFAR), exp.seeds, CPU)
    return float(run(exp.strategy, read, exp.seeds, CPU).accuracy.values[-1].mean()), exp.strategy


@pytest.mark.parametrize(("name", "oracle"), ORACLES)
def test_accuracy_is_that_of_the_closed_form(name: str, oracle: Oracle) -> None:
    (x, y), (asked, truth) = samples(built(*CIFAR), "train"), samples(built(*CIFAR), "test")
    assert (len(y), len(truth)) == (20_000, 10_000)
    found, strategy = measured(name)
    wanted = oracle(x.numpy(), y.numpy(), asked.numpy())
    alike = (answers(strategy, built(*CIFAR)) == wanted).mean()
    print(f"{name}: {found:.4f}, in one go {(wanted == truth.numpy()).mean():.4f}, alike {alike:.4f}")  # noqa: T201
    assert found == pytest.approx((wanted == truth.numpy()).mean(), abs=MARGINS.get(name, 0.01))
    assert alike > 0.999


def test_ranpac_is_ridge_regression_on_everything() -> None:
    (x, y), (asked, truth) = samples(built(*CIFAR), "train"), samples(built(*CIFAR), "test")
    found, strategy = measured("ranpac")
    assert isinstance(strategy, RanPAC)
    wanted = oracles.ridge(x.numpy(), y.numpy(), asked.numpy(), strategy.projection_.numpy(), strategy.ridge_)
    reached = (wanted == truth.numpy()).mean()
    print(f"ranpac: {found:.4f}, in one go {reached:.4f}, ridge {strategy.ridge_:g}")  # noqa: T201
    assert found == pytest.approx(reached, abs=0.01)


def test_slda_answers_as_the_published_recursion_does_but_for_a_few_images() -> None:
    stream = built(*CIFAR)
    (x, y), (asked, truth) = samples(stream, "train"), samples(stream, "test")
    order = np.random.default_rng(0).permutation(len(y))
    wanted = oracles.streaming_discriminant(x.numpy()[order], y.numpy()[order], asked.numpy())
    exp = experiment(compose([*CIFAR, "strategy=slda"]))
    found = answers(learnt(exp.strategy, stream), stream)
    reached = [float((answer == truth.numpy()).mean()) for answer in (found, wanted)]
    print(f"slda: {reached[0]:.4f}, recursion {reached[1]:.4f}, alike {(found == wanted).mean():.4f}")  # noqa: T201
    assert reached[0] == pytest.approx(reached[1], abs=0.01)
