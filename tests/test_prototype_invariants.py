"""Classifiers in closed form: what makes no difference to them, and what they are at the ends of their settings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from clbench.compose import compose
from clbench.errors import BadInput
from clbench.experiment import experiment
from clbench.loop import prepare, run, train_one
from clbench.models import Features
from clbench.seeds import Seeds
from clbench.strategies.fecam import FeCAM
from clbench.strategies.ncm import NCM
from clbench.strategies.ranpac import RanPAC, ridge_weights
from clbench.strategies.simplecil import SimpleCIL
from clbench.strategies.slda import SLDA
from clbench.strategy import Strategy
from clbench.stream import Query, Split, Task, TaskStream
from tests.toy_prototypes import (
    CPU,
    DIGITS,
    EVERY,
    LITE0,
    ORDERLESS,
    SEEDS,
    answers,
    built,
    clouds,
    dealt,
    learnt,
    samples,
    scores,
    toy,
)


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


def test_fecam_with_identity_covariances_is_the_nearest_mean_of_normalised_features() -> None:
    stream = built(*DIGITS)
    nearest = answers(learnt(NCM(normalise=True), stream), stream)
    assert np.array_equal(answers(learnt(FeCAM(shrink_diagonal=1e9), stream), stream), nearest)


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


def test_features_from_the_cache_and_from_the_network_give_the_same_accuracy() -> None:
    few = (*LITE0[:2], "scenario.subset={train:100,test:20,rows:first}")
    stream = built(*few)
    rows = []
    for model in ("features", "pretrained"):
        exp = experiment(compose([*few, "strategy=simplecil", f"model={model}"]))
        read = prepare(exp.strategy, exp.make_model, stream, exp.seeds, CPU)
        rows.append(run(exp.strategy, read, exp.seeds, CPU).accuracy.values)
    assert np.array_equal(rows[0], rows[1])
