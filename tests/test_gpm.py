"""GPM and SGP: what they hold, what of the head they protect, what they refuse, and that they forget less."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench.capture import Unit
from clbench.errors import BadInput, UnsupportedProtocol
from clbench.loop import prepare, train_one
from clbench.models import MLP, ReducedResNet18
from clbench.projection import ProjectedSGD, energy_along
from clbench.state import load_state, save_state
from clbench.strategies.cuber import CUBER
from clbench.strategies.gpm import GPM
from clbench.strategies.sgp import SGP
from clbench.strategies.trgp import TRGP
from clbench.strategy import Trainer
from clbench.stream import StreamSpec
from tests.toy_projection import (
    FEW,
    SEEDS,
    NotingGPM,
    NotingSGP,
    check_energy_is_held,
    learnt,
    mlp,
    permuted,
    split,
)
from tests.toy_streams import CPU

EVERY: list[type[ProjectedSGD]] = [GPM, SGP, TRGP, CUBER]


@pytest.mark.parametrize("cls", [NotingGPM, NotingSGP])
def test_a_basis_holds_the_share_of_energy_it_must_and_no_more_than_that_takes(cls: Any) -> None:
    strategy = cls(trainer=FEW, threshold=0.95, first_threshold=0.9, threshold_step=0.01)
    check_energy_is_held(strategy)
    shares = {(unit.name, round(share, 6)) for unit, _, share, _, _ in strategy.steps}
    assert {share for name, share in shares if name == "body.1.weight"} == {0.9, 0.91, 0.92}
    assert {share for name, share in shares if name == "body.3.weight"} == {0.95, 0.96, 0.97}
    for unit, gram, share, before, after in strategy.steps:
        if after.shape[1] > before.shape[1]:
            assert energy_along(gram, after[:, :-1]).sum() < share * gram.trace(), unit


class OneShort(NotingGPM):
    """The first basis lacks its last vector, as in the public code."""

    def remember(self, unit: Unit, gram: Tensor, share: float) -> None:
        super().remember(unit, gram, share)
        if not self.n_learnt_:
            self.bases_[unit.name] = self.bases_[unit.name][:, :-1]
            self.steps[-1] = (*self.steps[-1][:-1], self.bases_[unit.name])


def test_a_basis_that_is_one_vector_short_is_noticed() -> None:
    with pytest.raises(AssertionError, match="of the energy instead of"):
        check_energy_is_held(OneShort(trainer=FEW))


def test_of_a_head_with_rows_per_task_only_the_task_at_hand_is_trained() -> None:
    heads: list[Tensor] = []
    decaying = Trainer(epochs=2, batch_size=20, weight_decay=0.1)
    learnt(
        GPM(trainer=decaying),
        model=mlp(head_mode="per_task"),
        look=lambda s, index: heads.append(s.model_.head.weight.detach().clone()),
    )
    for before, after in pairwise(heads[1:]):
        assert torch.equal(after[: len(before)], before)
        assert len(after) == len(before) + 10


def test_in_a_growing_head_old_rows_are_projected_and_new_ones_are_free() -> None:
    heads: list[Tensor] = []
    bases: list[Tensor] = []

    def look(strategy: Any, index: int) -> None:
        heads.append(strategy.model_.head.weight.detach().clone())
        bases.append(strategy.bases_["head.weight"].clone())

    learnt(GPM(trainer=FEW), split("class-incremental"), mlp(head_mode="growing"), look)
    seen = [0, 4, 7, 10]
    for task in (2, 3):
        basis = bases[task - 1]
        old, new = heads[task][: seen[task - 1]] - heads[task - 1], heads[task][seen[task - 1] :]
        assert old.norm() > 1e-3 and (old @ basis).norm() < 1e-4 * old.norm()
        assert (new @ basis).norm() > 0.1 * new.norm()


def test_biases_are_dropped_and_the_scale_of_a_head_is_learnt_in_the_first_task_only() -> None:
    scales: list[float] = []
    model = mlp(head="random_frozen")
    strategy = learnt(GPM(trainer=FEW), model=model, look=lambda s, index: scales.append(s.model_.head.scale.item()))
    assert scales[0] != scales[1] and scales[1:] == [scales[1]] * 3
    biases = [p for name, p in strategy.model_.named_parameters() if name.endswith("bias")]
    assert biases and all(not p.any() and not p.requires_grad for p in biases)


def resnet(spec: StreamSpec) -> ReducedResNet18:
    return ReducedResNet18(spec, n_filters=2)


@pytest.mark.parametrize(
    ("make", "protocol", "model", "words"),
    [
        (lambda: GPM(trainer=Trainer(optimizer="adam", momentum=0.0)), "task-incremental", mlp(), "plain_sgd"),
        (lambda: CUBER(trainer=Trainer(optimizer="adam", momentum=0.0)), "task-incremental", mlp(), "Adam rescales"),
        (GPM, "domain-incremental", resnet, "batch-norm statistics"),
        (SGP, "domain-incremental", mlp(head="cosine"), "per_task"),
        (lambda: GPM(threshold=1.5), "task-incremental", mlp(), "threshold"),
        (lambda: GPM(n_samples=0), "task-incremental", mlp(), "n_samples"),
        (lambda: SGP(alpha=-1.0), "task-incremental", mlp(), "alpha"),
        (lambda: TRGP(trust=-1.0), "task-incremental", mlp(), "trust"),
        (lambda: CUBER(strength=-1.0), "task-incremental", mlp(), "strength"),
    ],
)
def test_what_cannot_be_protected_or_makes_no_sense_is_refused(
    make: Callable[[], Any], protocol: str, model: Any, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        prepare(make(), model, permuted(protocol=protocol), SEEDS, CPU)


@pytest.mark.parametrize("cls", [TRGP, CUBER])
def test_scalings_need_task_labels(cls: Any) -> None:
    with pytest.raises(UnsupportedProtocol, match="its label must be told"):
        prepare(cls(), MLP, permuted(protocol="domain-incremental"), SEEDS, CPU)


@pytest.mark.parametrize("cls", EVERY)
def test_a_run_goes_on_from_its_saved_state_bit_by_bit(cls: Any, tmp_path: Path) -> None:
    whole = learnt(cls(trainer=FEW))
    half = learnt(cls(trainer=FEW), upto=2)
    save_state(tmp_path / "state", half.state_dict())
    resumed = cls(trainer=FEW)
    read = prepare(resumed, mlp(), permuted(), SEEDS, CPU)
    resumed.load_state_dict(load_state(tmp_path / "state"))
    train_one(resumed, read, 3, SEEDS, CPU)
    save_state(tmp_path / "whole", whole.state_dict())
    save_state(tmp_path / "resumed", resumed.state_dict())
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()
