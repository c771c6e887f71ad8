"""Classifiers in closed form: what they compute, against the same written again in one go from all features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clbench.compose import compose
from clbench.experiment import experiment
from clbench.loop import prepare, run
from clbench.strategies.fecam import FeCAM, correlation_form, shrunk
from clbench.strategies.ncm import NCM
from clbench.strategies.ranpac import RIDGES, RanPAC, best_ridge, ridge_weights
from clbench.strategies.slda import SLDA
from clbench.stream import Query
from tests import oracles
from tests.toy_prototypes import (
    COMING_AGAIN,
    CPU,
    DIGITS,
    LITE0,
    ORACLES,
    Oracle,
    answers,
    built,
    clouds,
    learnt,
    samples,
    scores,
    toy,
)


@pytest.mark.parametrize(("name", "oracle"), ORACLES)
@pytest.mark.parametrize("overrides", [DIGITS, COMING_AGAIN], ids=["new classes", "classes that come again"])
def test_task_by_task_gives_what_one_batch_of_everything_gives(
    name: str, oracle: Oracle, overrides: tuple[str, ...]
) -> None:
    stream = built(*overrides)
    strategy = learnt(experiment(compose([*overrides, f"strategy={name}"])).strategy, stream)
    x, y = samples(stream, "train")
    wanted = oracle(x.numpy(), y.numpy(), samples(stream, "test")[0].numpy())
    assert np.array_equal(answers(strategy, stream), wanted)


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")  # pixels that never vary
def test_the_nearest_class_mean_is_scikit_learn_s() -> None:
    from sklearn.neighbors import NearestCentroid

    stream = built(*DIGITS)
    x, y = samples(stream, "train")
    wanted = NearestCentroid().fit(x.double().numpy(), y.numpy()).predict(samples(stream, "test")[0].double().numpy())
    assert np.array_equal(answers(learnt(NCM(), stream), stream), wanted)


def test_slda_answers_as_the_published_recursion_does_but_for_a_few_samples() -> None:
    stream = built(*DIGITS)
    x, y = samples(stream, "train")
    order = np.random.default_rng(0).permutation(len(y))
    wanted = oracles.streaming_discriminant(x.numpy()[order], y.numpy()[order], samples(stream, "test")[0].numpy())
    found = answers(learnt(SLDA(), stream), stream)
    truth = samples(stream, "test")[1].numpy()
    assert (found == wanted).mean() > 0.99
    assert (found == truth).mean() == pytest.approx((wanted == truth).mean(), abs=0.01)


@pytest.mark.parametrize("overrides", [DIGITS, COMING_AGAIN], ids=["new classes", "classes that come again"])
def test_ranpac_task_by_task_is_ridge_regression_on_everything(overrides: tuple[str, ...]) -> None:
    stream = built(*overrides)
    strategy = learnt(RanPAC(n_projections=300), stream)
    x, y = samples(stream, "train")
    projection = strategy.projection_.double().numpy()
    h = np.maximum(x.double().numpy() @ projection, 0)
    penalty = strategy.ridge_ * np.eye(300)
    wanted = np.linalg.solve(h.T @ h + penalty, h.T @ np.eye(10)[y]).T
    assert np.linalg.norm(strategy.weights_.numpy() - wanted) < 1e-6 * np.linalg.norm(wanted)
    asked = samples(stream, "test")[0].numpy()
    found = oracles.ridge(x.numpy(), y.numpy(), asked, projection, strategy.ridge_)
    assert np.array_equal(answers(strategy, stream), found)


def test_ranpac_without_a_projection_is_ridge_regression_on_the_features() -> None:
    x, y = clouds()
    strategy = learnt(RanPAC(n_projections=0), toy(x, y))
    wide = x.double()
    wanted = ridge_weights(wide.T @ wide, strategy.means_.sums, strategy.ridge_)
    assert torch.allclose(strategy.weights_, wanted, rtol=1e-9)


@pytest.mark.parametrize("n_projections", [20, 400], ids=["fewer projections than samples", "more"])
def test_the_chosen_ridge_is_the_best_of_seventeen_solutions(n_projections: int) -> None:
    x, y = clouds()
    drawn = np.random.default_rng(0)
    h = np.maximum(x.numpy() @ drawn.standard_normal((12, n_projections)), 0)
    order = drawn.permutation(len(y))
    h, targets = h[order], np.eye(5)[y.numpy()[order]]
    fitted, held, rest = h[:160], h[160:], targets[160:]
    errors = []
    for penalty in RIDGES:
        weights = np.linalg.solve(fitted.T @ fitted + penalty * np.eye(n_projections), fitted.T @ targets[:160])
        errors.append(np.square(held @ weights - rest).mean())
    assert len(RIDGES) == 17
    assert best_ridge(torch.from_numpy(h), torch.from_numpy(targets), 160) == RIDGES[int(np.argmin(errors))]


def test_the_correlation_form_has_ones_on_its_diagonal_and_no_scale() -> None:
    x, _ = clouds()
    covariance = torch.cov(x.double().T)
    form = correlation_form(covariance)
    assert torch.equal(form.diagonal(), torch.ones(12, dtype=torch.float64))
    assert torch.allclose(form, torch.corrcoef(x.double().T), rtol=1e-9)
    assert torch.allclose(form, correlation_form(100 * covariance), rtol=1e-9)


def test_shrinking_adds_the_mean_variance_and_the_mean_covariance() -> None:
    covariance = torch.tensor([[1.0, 0.5], [0.5, 3.0]])
    assert shrunk(covariance, 1.0, 0.0).tolist() == [[3.0, 0.5], [0.5, 5.0]]
    assert shrunk(covariance, 0.0, 2.0).tolist() == [[1.0, 1.5], [1.5, 3.0]]


def test_fecam_s_whitening_is_the_explicit_quadratic_form() -> None:
    x, y = clouds()
    strategy = learnt(FeCAM(), toy(x, y))
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    own = unit[y == 3]
    inverse = torch.linalg.pinv(correlation_form(shrunk(torch.cov(own.T), 1.0, 0.0)))
    gap = unit - own.mean(0)
    wanted = -((gap @ inverse) * gap).sum(1)
    found = scores(strategy, x, Query(None, (3,), ()))[:, 0].double()
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)


def accuracy(name: str, *overrides: str) -> float:
    """Final accuracy on the small real scenario, by the harness."""
    exp = experiment(compose([*LITE0, f"strategy={name}", *overrides]))
    torch.set_num_threads(1)
    read = prepare(exp.strategy, exp.make_model, built(*LITE0), exp.seeds, CPU)
    return float(run(exp.strategy, read, exp.seeds, CPU).accuracy.values[-1].mean())


@pytest.mark.parametrize(("name", "oracle"), ORACLES)
def test_on_features_of_real_images_accuracy_is_that_of_the_closed_form(name: str, oracle: Oracle) -> None:
    stream = built(*LITE0)
    (x, y), (asked, truth) = samples(stream, "train"), samples(stream, "test")
    wanted = (oracle(x.numpy(), y.numpy(), asked.numpy()) == truth.numpy()).mean()
    assert wanted > 0.3, "real features tell real images apart"
    assert accuracy(name) == pytest.approx(wanted, abs=0.002)


def test_ranpac_on_features_of_real_images_is_ridge_regression() -> None:
    stream = built(*LITE0)
    (x, y), (asked, truth) = samples(stream, "train"), samples(stream, "test")
    strategy = learnt(RanPAC(n_projections=500), stream)
    found = oracles.ridge(x.numpy(), y.numpy(), asked.numpy(), strategy.projection_.numpy(), strategy.ridge_)
    wanted = (found == truth.numpy()).mean()
    assert wanted > 0.3
    assert accuracy("ranpac", "strategy.n_projections=500") == pytest.approx(wanted, abs=0.01)
