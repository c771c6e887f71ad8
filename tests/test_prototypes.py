"""Classifiers in closed form: what they compute, against the same written again in one go from all features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.backbones.backbone import Filling
from clbench.compose import compose
from clbench.errors import BadInput
from clbench.experiment import experiment
from clbench.features import with_features
from clbench.loop import prepare, run, train_one
from clbench.models import Features
from clbench.seeds import Seeds
from clbench.strategies.fecam import FeCAM, correlation_form, shrunk
from clbench.strategies.ncm import NCM
from clbench.strategies.ranpac import RIDGES, RanPAC, best_ridge, ridge_weights
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


@pytest.mark.parametrize("make", ORDERLESS)
def test_after_the_last_task_order_and_number_of_tasks_have_made_no_difference(make: Callable[[], Strategy]) -> None:
    streams = [built(*DIGITS), built(*DIGITS, "+seeds.order=7"), built(*DIGITS, "scenario.n_tasks=2")]
    assert streams[0].tasks[0].classes != streams[1].tasks[0].classes
    first, *others = [answers(learnt(make(), stream), stream) for stream in streams]
    assert all(np.array_equal(first, other) for other in others)


def test_a_prototype_is_the_mean_of_its_class_and_stays_so_when_a_stage_is_run_again() -> None:
    stream = built(*DIGITS)
    strategy = learnt(SimpleCIL(), stream)
    x, y = samples(stream, "train")
    wanted = torch.stack([x[y == c].double().mean(0) for c in range(10)])
    assert torch.allclose(strategy.means_.means(), wanted, rtol=0, atol=1e-12)
    train_one(strategy, stream, 2, Seeds.of(1), CPU)
    assert torch.allclose(strategy.means_.means(), wanted, rtol=0, atol=1e-12)


def test_a_class_that_comes_again_has_the_mean_of_all_its_samples_and_not_of_the_last_ones() -> None:
    x, y = clouds()
    early, late = torch.arange(150), torch.arange(150, 200)
    moved = x.clone()
    moved[late] += 5 * torch.arange(12).roll(3) * (y[late, None] - 2)  # samples that say something else
    strategy = learnt(SimpleCIL(), dealt(moved, y, [early, late]))
    query = Query(None, tuple(range(5)), ())
    assert torch.equal(scores(strategy, x, query), scores(learnt(SimpleCIL(), toy(moved, y)), x, query))
    for part in (early, late):
        alone = scores(learnt(SimpleCIL(), dealt(moved, y, [part])), x, query)
        assert (scores(strategy, x, query).argmax(1) != alone.argmax(1)).double().mean() > 0.1


def test_the_length_of_a_class_s_features_does_not_count_in_cosines() -> None:
    x, y = clouds()
    longer = torch.where((y == 2)[:, None], 7 * x, x)
    plain, scaled = learnt(SimpleCIL(), toy(x, y)), learnt(SimpleCIL(), toy(longer, y))
    assert torch.allclose(scores(plain, x), scores(scaled, x), atol=1e-6)


@pytest.mark.parametrize("make", EVERY)
def test_other_names_of_the_classes_permute_the_scores(make: Callable[[], Strategy]) -> None:
    x, y = clouds()
    order = torch.tensor([3, 0, 4, 1, 2])
    query = Query(None, tuple(range(5)), ())
    plain, renamed = learnt(make(), toy(x, y)), learnt(make(), toy(x, order[y]))
    assert torch.allclose(scores(plain, x, query), scores(renamed, x, query)[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", EVERY)
def test_a_class_never_seen_is_never_answered(make: Callable[[], Strategy]) -> None:
    stream = built(*DIGITS)
    strategy = make()
    prepare(strategy, Features, stream, SEEDS, CPU)
    x, _ = samples(stream, "test")
    assert bool((scores(strategy, x) == -torch.inf).all())
    train_one(strategy, stream, 1, SEEDS, CPU)
    unseen = sorted(set(range(10)) - set(stream.tasks[0].classes))
    found = scores(strategy, x)
    assert bool((found[:, unseen] == -torch.inf).all())
    assert bool(torch.isfinite(found[:, list(stream.tasks[0].classes)]).all())


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


def test_slda_samples_one_by_one_give_what_a_task_at_once_gives() -> None:
    x, y = clouds()
    whole, single = learnt(SLDA(), toy(x, y)), learnt(SLDA(), toy(x, y))
    single.setup(single.model_, single.spec, np.random.default_rng(0))
    drawn = torch.randperm(len(y), generator=torch.Generator().manual_seed(0)).tolist()
    for row in drawn:
        one = Split({"features": x[row : row + 1]}, y[row : row + 1], np.array([row]))
        label = int(y[row])
        task = Task(1, "one", (label,), (str(label),), one, one, "")
        train_one(single, TaskStream(single.spec, (task,), ""), 1, SEEDS, CPU)
    assert torch.allclose(single.weights_, whole.weights_, rtol=1e-9, atol=1e-12)


def test_slda_answers_as_the_published_recursion_does_but_for_a_few_samples() -> None:
    stream = built(*DIGITS)
    x, y = samples(stream, "train")
    order = np.random.default_rng(0).permutation(len(y))
    wanted = oracles.streaming_discriminant(x.numpy()[order], y.numpy()[order], samples(stream, "test")[0].numpy())
    found = answers(learnt(SLDA(), stream), stream)
    truth = samples(stream, "test")[1].numpy()
    assert (found == wanted).mean() > 0.99
    assert (found == truth).mean() == pytest.approx((wanted == truth).mean(), abs=0.01)


def test_slda_with_the_identity_for_its_covariance_is_the_nearest_class_mean() -> None:
    stream = built(*DIGITS)
    nearest = answers(learnt(NCM(), stream), stream)
    assert np.array_equal(answers(learnt(SLDA(shrinkage=1.0), stream), stream), nearest)


def test_ranpac_s_sums_do_not_depend_on_how_the_samples_are_dealt_out_to_tasks() -> None:
    x, y = clouds()
    shuffled = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    streams = [toy(x, y, n_tasks=n) for n in (5, 2, 1)] + [dealt(x, y, torch.split(shuffled, n)) for n in (200, 70, 30)]
    first, *others = (learnt(RanPAC(n_projections=100), stream) for stream in streams)
    for other in others:
        assert torch.allclose(first.gram_, other.gram_, rtol=1e-9, atol=0)
        assert torch.allclose(first.means_.sums, other.means_.sums, rtol=1e-9, atol=0)


@pytest.mark.parametrize("overrides", [DIGITS, COMING_AGAIN], ids=["new classes", "classes that come again"])
def test_ranpac_task_by_task_is_ridge_regression_on_everything(overrides: tuple[str, ...]) -> None:
    stream = built(*overrides)
    strategy = learnt(RanPAC(n_projections=300), stream)
    x, y = samples(stream, "train")
    projection = strategy.projection_.numpy()
    h = np.maximum(x.numpy() @ projection, 0).astype(np.float64)
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


def test_ranpac_s_projection_is_drawn_once_by_the_seed() -> None:
    stream = built(*DIGITS)
    drawn = [learnt(RanPAC(n_projections=20), stream, Seeds.of(seed)).projection_ for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    untrained = RanPAC(n_projections=20)
    prepare(untrained, Features, stream, SEEDS, CPU)
    assert torch.equal(untrained.projection_, drawn[0])


def test_with_an_endless_ridge_ranpac_ranks_classes_as_their_summed_features_do() -> None:
    x, y = clouds()
    h = x.relu().double()
    sums = torch.stack([h[y == c].sum(0) for c in range(5)])
    weights = ridge_weights(h.T @ h, sums, 1e15)
    assert torch.equal((h @ weights.T).argsort(1), (h @ sums.T).argsort(1))


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


def test_fecam_with_identity_covariances_is_the_nearest_mean_of_normalised_features() -> None:
    stream = built(*DIGITS)
    nearest = answers(learnt(NCM(normalise=True), stream), stream)
    assert np.array_equal(answers(learnt(FeCAM(shrink_diagonal=1e9), stream), stream), nearest)


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


def test_tukey_s_exponent_is_as_features_raised_to_it_before() -> None:
    x, y = clouds()
    x = x.abs()
    raised = learnt(FeCAM(tukey=0.5), toy(x, y))
    assert torch.allclose(scores(raised, x), scores(learnt(FeCAM(), toy(x.sqrt(), y)), x.sqrt()), rtol=1e-5)


def test_a_class_of_one_sample_gets_a_finite_score() -> None:
    x, y = clouds()
    keep = (y != 4) | (torch.arange(len(y)) == 4)
    query = Query(None, tuple(range(5)), ())
    for make in EVERY:
        strategy = learnt(make(), toy(x[keep], y[keep], n_tasks=5))
        assert bool(torch.isfinite(scores(strategy, x, query)).all()), strategy


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (SLDA(shrinkage=0.0), "shrinkage lies above 0"),
        (RanPAC(n_projections=-1), "0 for no projection"),
        (FeCAM(shrink_diagonal=0.0), "raise shrink_diagonal"),
        (FeCAM(tukey=0.5), "set tukey=1"),
    ],
)
def test_what_cannot_be_computed_is_refused_in_words(strategy: Strategy, words: str) -> None:
    x, y = clouds(n=5)
    with pytest.raises(BadInput, match=words):
        learnt(strategy, toy(x, y))


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


def test_features_from_the_cache_and_from_the_network_give_the_same_accuracy() -> None:
    few = (*LITE0[:2], "scenario.subset={train:100,test:20,rows:first}")
    stream = built(*few)
    rows = []
    for model in ("features", "pretrained"):
        exp = experiment(compose([*few, "strategy=simplecil", f"model={model}"]))
        read = prepare(exp.strategy, exp.make_model, stream, exp.seeds, CPU)
        rows.append(run(exp.strategy, read, exp.seeds, CPU).accuracy.values)
    assert np.array_equal(rows[0], rows[1])
