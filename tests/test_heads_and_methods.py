"""Where a head's mode or a small budget decides what a method may do."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from clbench.cards import Scenario
from clbench.errors import BadInput
from clbench.loop import prepare, run
from clbench.models import MLP
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.strategies.icarl import ICaRL
from clbench.strategies.lwf import LwF
from clbench.strategy import Trainer
from clbench.stream import StreamSpec

CPU = torch.device("cpu")
ONE = Trainer(epochs=1)


def test_a_cosine_head_that_is_redrawn_begins_with_the_scale_it_began_with() -> None:
    spec = StreamSpec("class-incremental", {"image": (1, 8, 8)}, n_classes=10)
    model = MLP(spec, head="cosine")
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    assert model.head.scale is not None
    torch.nn.init.constant_(model.head.scale, 33.0)
    model.restart(initial)
    assert float(model.head.scale.detach()) == float(initial["head.scale"])


def test_a_shared_head_without_task_labels_refuses_other_classes() -> None:
    model = MLP(StreamSpec("domain-incremental", {"image": (1, 8, 8)}, n_classes=10), head_mode="shared")
    model.head.observe((0, 1, 2), None)
    model.head.observe((0, 1, 2), None)
    with pytest.raises(BadInput, match="same classes in every task"):
        model.head.observe((1, 2), None)


def test_lwf_distils_the_rows_of_a_shared_head_once() -> None:
    stream = Scenario.from_card(cards()["labelled_digits-v1"]).build(Seeds.of(0))
    strategy = LwF(trainer=ONE)
    prepare(strategy, partial(MLP, head_mode="shared"), stream, Seeds.of(0), CPU)
    run(strategy, stream, Seeds.of(0), CPU)
    assert [rows.tolist() for rows in strategy.groups_] == [[0, 1]]


def test_icarl_says_when_its_memory_cannot_hold_an_exemplar_of_every_class() -> None:
    stream = Scenario.from_card(cards()["split_digits-v1"]).build(Seeds.of(0))
    strategy = ICaRL(memory=3, trainer=ONE)
    prepare(strategy, MLP, stream, Seeds.of(0), CPU)
    with pytest.raises(BadInput, match="memory=3, 4 classes seen"):
        run(strategy, stream, Seeds.of(0), CPU)
