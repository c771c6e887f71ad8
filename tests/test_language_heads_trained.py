"""Language heads in training: no strategy moves a frozen row, and nothing else changes (L1, L7, L13)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from clbench.loop import prepare, run, train_one
from clbench.models import MLP
from clbench.seeds import Seeds
from clbench.strategies.independent import Independent
from clbench.strategy import Trainer
from clbench.targets import semantic_rows
from tests.toy_language_heads import (
    ARMS,
    FROZEN,
    TARGETS,
    FirstBatch,
    language_run,
    prepared,
    shipped_strategy,
    spec,
    stream,
)
from tests.toy_streams import CPU

TRAINED = [
    *("naive", "replay", "ewc", "ewc_online", "lwf", "derpp", "si", "agem", "er_ace", "gdumb", "icarl"),
    *("independent", "joint", "cumulative"),
]

# --- L1: frozen


@pytest.mark.parametrize(("mode", "label_space"), [("sliced", "known"), ("growing", "open")])
@pytest.mark.parametrize("name", TRAINED)
def test_no_strategy_moves_a_frozen_row(name: str, mode: str, label_space: str) -> None:
    strategy = shipped_strategy(name)
    tasks = prepared(strategy, mode, label_space)
    h = strategy.model_.head
    known: dict[int, Tensor] = {}
    for task in tasks.tasks:
        if strategy.reference:  # told which task is the last one
            run(strategy, tasks, Seeds.of(0), CPU)
        else:
            train_one(strategy, tasks, task.index, Seeds.of(0), CPU)
        rows = dict(zip(h.keys[:, 1].tolist(), h.weight, strict=True))
        expected = dict(zip(task.classes, semantic_rows(task.class_names), strict=True))
        assert all(torch.equal(rows[c], row) for c, row in {**known, **expected}.items())
        known.update({c: row.clone() for c, row in expected.items()})
        assert h.weight.grad is None
        assert not h.weight.requires_grad
        optimizer = strategy.trainer.make(strategy.model_.parameters())
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert id(h.weight) not in held
        assert {id(h.scale), id(h.projector.weight if h.projector else None)} <= held
        if strategy.reference:
            break


@pytest.mark.parametrize(
    ("kind", "mode", "label_space"),
    [
        ("random_frozen", "sliced", "known"),
        ("random_frozen", "growing", "open"),
        ("language_permuted", "sliced", "known"),
    ],
)
def test_no_training_moves_a_row_of_the_controls(kind: str, mode: str, label_space: str) -> None:
    strategy = shipped_strategy("replay")
    tasks = prepared(strategy, mode, label_space, kind)
    h = strategy.model_.head
    assert h.projector is not None
    rows, projector = h.weight.clone(), h.projector.weight.clone()
    for task in tasks.tasks:
        before = FirstBatch(lambda: h.weight.clone())
        train_one(strategy, tasks, task.index, Seeds.of(0), CPU, before)
        assert torch.equal(h.weight, before.seen)
        assert torch.equal(h.weight[: len(rows)], rows)
        assert h.weight.grad is None
        assert not h.weight.requires_grad
        rows = before.seen
    assert len(rows) == 10
    assert not torch.equal(h.projector.weight, projector)


@pytest.mark.parametrize(("mode", "label_space"), [("sliced", "known"), ("growing", "open")])
@pytest.mark.parametrize(("name", "kept"), [("ewc", "fisher_"), ("si", "importance_"), ("lwf", "teacher_")])
def test_the_projector_is_kept_as_any_weight_and_frozen_rows_are_not_weights(
    name: str, kept: str, mode: str, label_space: str
) -> None:
    strategy = shipped_strategy(name)
    tasks = prepared(strategy, mode, label_space)
    train_one(strategy, tasks, 1, Seeds.of(0), CPU)
    held: dict[str, Tensor] = getattr(strategy, kept)
    assert held["head.projector.weight"].shape == (384, 24)
    assert held["head.projector.weight"].abs().max() > 0
    assert ("head.weight" in held) == (name == "lwf")  # a whole network, to be run; the others hold weights in place


@pytest.mark.parametrize("kind", FROZEN)
def test_rows_stay_and_all_else_begins_anew_when_a_model_is_restarted(kind: Any) -> None:
    torch.manual_seed(0)
    model = MLP(spec(), width=16, head=kind, targets=TARGETS)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    model.restart(initial)
    assert all(torch.equal(value, initial[name]) for name, value in model.state_dict().items())


def test_independent_models_share_their_frozen_rows() -> None:
    tasks = stream(protocol="task-incremental")
    strategy = Independent(trainer=Trainer(epochs=6, batch_size=16))
    model = partial(MLP, width=24, depth=1, head="language", targets=TARGETS)
    result = run(strategy, prepare(strategy, model, tasks, Seeds.of(0), CPU), Seeds.of(0), CPU)
    assert len(strategy.models_) == 3
    assert all(torch.equal(m["head.weight"], strategy.model_.head.weight) for m in strategy.models_.values())
    assert (result.accuracy.values[3] > 0.5).all(), result.accuracy.values[3]


# --- L7: nothing else changes


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("strategy", ["naive", "ewc", "derpp", "lwf"])
def test_trained_rows_through_the_plug_in_are_those_of_the_plain_head_bit_for_bit(
    tmp_path: Path, strategy: str, kind: str
) -> None:
    plain = language_run(tmp_path / "plain", strategy, f"model.head={kind}", model="mlp")
    plugged = language_run(tmp_path / "plugged", strategy, f"model.head={kind}", "model.targets.dim=null")
    assert plain.result == plugged.result
    states = [next((tmp_path / name).rglob("state.safetensors")).read_bytes() for name in ("plain", "plugged")]
    assert states[0] == states[1]


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_is_a_word_on_the_command_line_and_learns(tmp_path: Path, arm: str) -> None:
    record = language_run(tmp_path, "replay", f"model.head={arm}", "trainer.epochs=5")
    assert record.status == "ok", record.reason
    values = record.result["matrices"]["accuracy"]["values"]
    assert sum(values[k + 1][k] for k in range(5)) / 5 > 0.6


# --- L13: teachers


@pytest.mark.parametrize("name", ["lwf", "icarl"])
@pytest.mark.parametrize(("mode", "label_space"), [("sliced", "known"), ("growing", "open")])
def test_teacher_and_student_share_their_rows(name: str, mode: str, label_space: str) -> None:
    strategy = shipped_strategy(name)
    tasks = prepared(strategy, mode, label_space)
    train_one(strategy, tasks, 1, Seeds.of(0), CPU)
    h = strategy.model_.head
    teacher: dict[str, Tensor] = strategy.teacher_  # type: ignore[attr-defined]
    own = {k.removeprefix("head."): v for k, v in teacher.items() if k.startswith("head.")}
    x = torch.rand(20, 24, generator=torch.Generator().manual_seed(0))
    first = FirstBatch(lambda: h(x))
    train_one(strategy, tasks, 2, Seeds.of(0), CPU, first)
    rows, more = (h.rows(task.classes, None) for task in tasks.tasks[:2])
    wanted = functional_call(h, own, (x,))[:, rows]
    assert wanted.std() > 0
    assert torch.equal(first.seen[:, rows], wanted)  # the student's head begins as the teacher's, beside its new rows
    assert first.seen.shape[1] > max(more)
    assert not torch.allclose(h(x)[:, rows], wanted, atol=1e-3)  # what is trained around the rows moves on ...
    moved = {k: v for k, v in h.state_dict().items() if k not in ("weight", "keys")}
    torch.testing.assert_close(functional_call(h, {**own, **moved}, (x,))[:, rows], h(x)[:, rows])  # ... and they stay
