"""SupSup without task labels: the objective's derivatives, which mask they name, and who may not ask."""

from __future__ import annotations

import logging
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from clbench.errors import BadInput
from clbench.evaluate import make_query
from clbench.loop import RunResult, prepare, run, train_one
from clbench.masks import maskable
from clbench.models import BiasFreeMLP, ConvNet, Model, ReducedResNet18
from clbench.seeds import Seeds
from clbench.strategies.supsup import SupSup
from clbench.strategy import Trainer
from clbench.stream import StreamSpec, TaskStream
from clbench.superposition import alpha_gradients, infer
from tests.toy_streams import CPU, build

SLOW = Trainer(epochs=10, batch_size=32, optimizer="adam", lr=0.003, momentum=0.0)
FEW = Trainer(epochs=4, batch_size=16, optimizer="adam", lr=0.01, momentum=0.0)
SPEC = StreamSpec("domain-incremental", {"image": (1, 8, 8)}, n_classes=10)
Masks = list[dict[str, Tensor]]


@cache
def permuted(n_tasks: int = 4) -> TaskStream:
    sizes = {"train": 600, "test": 200}
    return build(0, rule="permutation", protocol="domain-incremental", n_tasks=n_tasks, subset=sizes)


def network(spare: int, width: int = 200) -> Any:
    return partial(BiasFreeMLP, widths=[width, width], spare=spare)


def inferring(strategy: SupSup, stream: TaskStream, make: Any, n_tasks: int | None = None) -> SupSup:
    """The strategy after the first ``n_tasks`` tasks."""
    torch.set_num_threads(1)
    read = prepare(strategy, make, stream, Seeds.of(0), CPU)
    for index in range(1, (n_tasks or len(stream)) + 1):
        train_one(strategy, read, index, Seeds.of(0), CPU)
    return strategy


@cache
def outcome(spare: int, **options: Any) -> RunResult:
    torch.set_num_threads(1)
    strategy = SupSup(trainer=SLOW, **options)
    stream = prepare(strategy, network(spare, 256), permuted(), Seeds.of(0), CPU)
    return run(strategy, stream, Seeds.of(0), CPU)


def inference(result: RunResult) -> float:
    assert result.task_inference is not None
    return float(result.task_inference.values[-1].mean())


def random_masks(model: Model, k: int) -> Masks:
    torch.manual_seed(k)
    return [{name: torch.rand_like(w) < 0.5 for name, w in maskable(model).items()} for _ in range(k)]


def by_autograd(model: Model, x: Tensor, masks: Masks, superfluous: Tensor | None) -> Tensor:
    """The derivatives (B, k) one sample at a time, backwards from the objective as the paper writes it."""
    found = []
    for row in x:
        alpha = torch.full((len(masks),), 1 / len(masks), requires_grad=True)
        weights = {
            name: w.detach() * sum(a * mask[name] for a, mask in zip(alpha, masks, strict=True))
            for name, w in maskable(model).items()
        }
        logits = functional_call(model, weights, ({"image": row[None]},))[0]
        if superfluous is None:
            value = -(logits.softmax(0) * logits.log_softmax(0)).sum()
        else:
            value = torch.where(superfluous, logits, logits.detach()).logsumexp(0)
        found.append(torch.autograd.grad(value, alpha)[0])
    return torch.stack(found)


@pytest.mark.parametrize("objective", ["entropy", "g"])
@pytest.mark.parametrize("make", [network(5, 20), partial(ConvNet, width=3, hidden=16)], ids=["mlp", "conv"])
def test_derivatives_are_those_of_the_objective_as_the_paper_writes_it(make: Any, objective: str) -> None:
    torch.manual_seed(0)
    model = make(SPEC).eval()
    x, masks = torch.rand(6, 1, 8, 8), random_masks(model, 3)
    superfluous = torch.arange(len(model.head.weight)) >= 7 if objective == "g" else None
    found = alpha_gradients(model, {"image": x}, masks, superfluous)
    wanted = by_autograd(model, x, masks, superfluous)
    assert found.shape == (6, 3)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-7)
    assert wanted.abs().min() > 0


def test_equal_masks_have_equal_derivatives_and_searches_end_all_the_same() -> None:
    torch.manual_seed(0)
    model = network(5, 20)(SPEC).eval()
    x, (mask,) = {"image": torch.rand(7, 1, 8, 8)}, random_masks(model, 1)
    gradients = alpha_gradients(model, x, [mask] * 5)
    assert torch.equal(gradients, gradients[:, :1].expand(-1, 5))
    for halving in (False, True):
        assert infer(model, x, [mask] * 5, None, 1, halving).tolist() == [0] * 7


def test_a_slot_that_no_task_has_learnt_would_win_and_is_not_asked() -> None:
    torch.manual_seed(0)
    model = network(5, 20)(SPEC).eval()
    masks = random_masks(model, 4)
    x, superfluous = torch.rand(400, 1, 8, 8), torch.arange(15) >= 10
    empty = {name: torch.zeros_like(mask) for name, mask in masks[0].items()}
    assert not alpha_gradients(model, {"image": x}, [*masks, empty], superfluous)[:, 4].any()
    trap = infer(model, {"image": x}, [*masks, empty], superfluous, 1, False)
    assert (trap == 4).float().mean() > 0.1, "a derivative of zero is the lowest where all others are above it"
    strategy = inferring(SupSup(trainer=FEW), permuted(), network(0), n_tasks=2)
    _, tasks = strategy.answer({"image": x}, make_query("domain-incremental", permuted().tasks, 2, 1))
    assert tasks is not None and set(tasks.tolist()) <= {1, 2}


def test_halving_follows_the_lower_median_as_the_authors_code_does() -> None:
    torch.manual_seed(0)
    model = network(20, 20)(SPEC).eval()
    masks, x = random_masks(model, 7), torch.rand(25, 1, 8, 8)
    found = infer(model, {"image": x}, masks, None, 1, True)
    for row, task in zip(x, found.tolist(), strict=True):
        left = list(range(7))
        while len(left) > 1:
            gradients = by_autograd(model, row[None], [masks[i] for i in left], None)[0]
            left = [i for i, g in zip(left, gradients, strict=True) if g <= gradients.median()]
        assert left == [task]


def test_with_one_task_every_sample_is_taken_for_it_and_before_it_for_none() -> None:
    strategy, query = SupSup(trainer=FEW), make_query("domain-incremental", permuted().tasks, 1, 1)
    stream = prepare(strategy, network(0), permuted(), Seeds.of(0), CPU)
    probe = stream.tasks[1].test.take(torch.arange(50))
    assert strategy.answer(probe, query)[1] is None
    train_one(strategy, stream, 1, Seeds.of(0), CPU)
    _, tasks = strategy.answer(probe, query)
    assert tasks is not None and tasks.tolist() == [1] * 50


def test_inference_rises_with_the_number_of_outputs_and_of_images_and_by_g() -> None:
    bare, wide = (inference(outcome(spare, objective="entropy")) for spare in (0, 90))
    assert bare < 0.6 and wide > bare + 0.2
    assert inference(outcome(90, objective="g")) > max(0.97, wide + 0.1)
    assert inference(outcome(90, objective="entropy", images=10)) > wide + 0.05


def test_masks_of_permuted_digits_are_found_without_task_labels_from_single_images() -> None:
    """The paper's scenario GNs: as good as told which task it is, and nothing is forgotten."""
    result = outcome(90, objective="g")
    learnt = np.diagonal(result.accuracy.trained)
    assert learnt.min() > 0.9
    assert np.allclose(result.accuracy.values[-1], learnt, atol=0.02)


def test_without_superfluous_outputs_entropy_stands_in_for_g_and_that_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("clbench.strategies.supsup")
    monkeypatch.setattr(log, "disabled", False)  # as a Hydra run before this in the same process leaves it
    with caplog.at_level(logging.WARNING, logger=log.name):
        g = inferring(SupSup(trainer=FEW, objective="g"), permuted(), network(0), n_tasks=2)
    assert caplog.text.count("model.spare") == 1
    entropy = inferring(SupSup(trainer=FEW, objective="entropy"), permuted(), network(0), n_tasks=2)
    x = permuted().tasks[0].test.take(torch.arange(200))
    assert torch.equal(g.inferred_masks(x), entropy.inferred_masks(x))
    assert len(g.inferred_masks(x).unique()) == 2  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("images", [1, 7, 10])
def test_groups_are_answered_together_and_every_image_is_counted(images: int) -> None:
    result = outcome(0, objective="entropy", images=images)
    assert result.task_inference is not None
    inferred, probe = result.kept["inferred"][-1], result.kept["probe"]
    for task in range(1, 5):
        own = inferred[probe == task]
        assert result.task_inference.values[-1, task - 1] == pytest.approx(float((own == task).mean()))
        for start in range(0, len(own), images):
            assert len(set(own[start : start + images].tolist())) == 1


@pytest.mark.parametrize("options", [{}, {"infer": "binary"}, {"infer": "binary", "images": 5}], ids=str)
def test_a_group_is_answered_the_same_in_any_company(options: dict[str, Any]) -> None:
    strategy = inferring(SupSup(trainer=FEW, **options), permuted(), network(20))
    query = make_query("domain-incremental", permuted().tasks, 4, 2)
    probe = permuted().tasks[1].test.take(torch.arange(53))
    scores, tasks = strategy.answer(probe, query)
    last, last_tasks = strategy.answer({"image": probe["image"][45:]}, query)
    assert tasks is not None and last_tasks is not None and torch.equal(tasks[45:], last_tasks)
    assert torch.allclose(scores[45:], last, atol=1e-4)


def test_where_labels_are_not_shared_the_inferred_tasks_classes_come_first_each_under_its_own_mask() -> None:
    stream = build(0, n_tasks=3, subset={"train": 400, "test": 200})
    strategy = inferring(SupSup(trainer=FEW), stream, network(30))
    for task in stream.tasks:
        query = make_query("class-incremental", stream.tasks, 3, task.index)
        scores, tasks = strategy.answer(task.test.take(torch.arange(len(task.test))), query)
        assert tasks is not None
        for inferred in stream.tasks:
            own = torch.isin(torch.tensor(query.classes), torch.tensor(inferred.classes))
            rows = scores[tasks == inferred.index]
            assert (rows[:, own].min(1).values > rows[:, ~own].max(1).values).all()
        told = [query.classes.index(c) for c in task.classes]  # what the task-masked matrix reads
        x = task.test.take(torch.arange(len(task.test)))
        by_its_mask = strategy.model_.scores(x, query, strategy.network(task.index))[:, told]
        assert torch.equal(scores[:, told].argmax(1), by_its_mask.argmax(1))


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (partial(BiasFreeMLP, head_mode="growing"), {}, "head_mode=sliced or shared; got head=linear"),
        (partial(BiasFreeMLP, head="cosine"), {}, "got head=cosine"),
        (partial(ReducedResNet18, n_filters=2), {}, "without batch norm"),
        (BiasFreeMLP, {"logits_over": "seen"}, "expected logits_over=protocol"),
    ],
)
def test_what_cannot_be_superposed_is_refused_with_the_reason(make: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        prepare(SupSup(**options), make, permuted(), Seeds.of(0), CPU)


def test_superfluous_outputs_are_trained_down() -> None:
    strategy = inferring(SupSup(trainer=FEW), permuted(), network(90), n_tasks=1)
    x = permuted().tasks[0].test.take(torch.arange(100))
    with torch.no_grad():
        trained = functional_call(strategy.model_, strategy.network(1) or {}, (x,)).softmax(1)
        whole = strategy.model_(x).softmax(1)
    assert float(trained[:, :10].sum(1).mean()) > 0.9 > float(whole[:, :10].sum(1).mean())


def dropping(spec: StreamSpec) -> Model:
    model = BiasFreeMLP(spec, widths=[50], spare=20)
    model.body.append(torch.nn.Dropout(0.5))
    return model


def test_inference_and_answers_are_made_in_evaluation_mode() -> None:
    strategy = inferring(SupSup(trainer=FEW, infer="binary"), permuted(), dropping, n_tasks=3)
    query, probe = make_query("domain-incremental", permuted().tasks, 3, 1), permuted().tasks[0].test
    x = probe.take(torch.arange(100))
    strategy.model_.train()
    assert not torch.equal(strategy.model_.scores(x, query), strategy.model_.scores(x, query)), "it drops units"
    first = strategy.answer(x, query)
    for mode in (True, False):
        strategy.model_.train(mode)
        for one, again in zip(first, strategy.answer(x, query), strict=True):
            assert one is not None and again is not None and torch.equal(one, again)
