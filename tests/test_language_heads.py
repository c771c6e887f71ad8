"""Language heads: frozen semantic rows, their three controls, and the logits they give (L2, L3, L5, L6, L8 to L12)."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.backbones.text_encoder import TextEncoder
from clbench.errors import BadInput
from clbench.models import MLP, Features, Head
from clbench.models.frozen import orthonormal_map, random_rows
from clbench.stream import Query, StreamSpec
from clbench.targets import semantic_rows
from tests.toy_language_heads import ANIMALS, ARMS, head, open_spec, spec


def off_diagonal(gram: Tensor) -> Tensor:
    return gram[~torch.eye(len(gram), dtype=torch.bool)]


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


def test_a_smaller_map_changes_cosines_by_a_little_and_says_by_how_much(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("clbench.models.head")
    monkeypatch.setattr(log, "disabled", False)  # as a Hydra run before this in the same process leaves it
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
