"""Mask and projection strategies under every protocol and with every kind of head: what learns, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
import torch

from clbench.errors import BadInput
from clbench.evaluate import make_query
from clbench.experiment import make_strategy
from clbench.loop import prepare, run
from clbench.models import MLP
from clbench.places import config as configuration
from clbench.seeds import Seeds
from clbench.strategy import Trainer
from clbench.stream import PROTOCOLS, TaskStream
from tests.toy_streams import CPU, build

KINDS = ("linear", "cosine", "language", "random_frozen")
TOLD_ONLY = ("ssnet", "exssnet", "exssnet_kkt", "packnet", "wsn", "hat", "piggyback", "trgp", "cuber")
EVERYWHERE = ("supsup", "gpm", "sgp")
# strategy, protocol, head -> words of the refusal; "*" stands for any
REFUSED = {
    **{(s, p, "*"): "does not support" for s in TOLD_ONLY for p in ("class-incremental", "domain-incremental")},
    **{
        ("supsup", p, kind): "head=linear"
        for p in ("class-incremental", "domain-incremental")
        for kind in ("cosine", "language", "random_frozen")
    },
    **{(s, "*", "cosine"): "cosine head" for s in ("gpm", "sgp")},
    **{(s, "task-incremental", "cosine"): "cosine head" for s in ("trgp", "cuber")},
}
CASES = [(s, p, k) for s in (*EVERYWHERE, *TOLD_ONLY) for p in sorted(PROTOCOLS) for k in KINDS]


@cache
def stream(protocol: str) -> TaskStream:
    rule = "instances" if protocol == "domain-incremental" else "classes"
    made = build(0, rule=rule, protocol=protocol, n_tasks=2, subset={"train": 600, "test": 200})
    return replace(made, tasks=tuple(replace(t, train=t.train.on(CPU), test=t.test.on(CPU)) for t in made.tasks))


def refusal(strategy: str, protocol: str, kind: str) -> str | None:
    keys = ((strategy, p, k) for p in (protocol, "*") for k in (kind, "*"))
    return next((REFUSED[key] for key in keys if key in REFUSED), None)


@pytest.mark.parametrize(("name", "protocol", "kind"), CASES)
def test_a_strategy_learns_or_says_why_it_cannot(name: str, protocol: str, kind: Any) -> None:
    config = configuration("strategy", name)
    sgd = name in ("gpm", "sgp", "trgp", "cuber", "hat")
    trainer = Trainer(epochs=8, batch_size=16) if sgd else Trainer(epochs=8, optimizer="adam", lr=0.01, momentum=0.0)
    strategy = make_strategy(config, trainer)
    targets = {"dim": 384} if kind == "language" else None
    model = partial(MLP, width=64, depth=1, head=kind, targets=targets)
    words = refusal(name, protocol, kind)
    if words is not None:
        with pytest.raises(BadInput, match=words):
            prepare(strategy, model, stream(protocol), Seeds.of(0), CPU)
        return
    read = prepare(strategy, model, stream(protocol), Seeds.of(0), CPU)
    result = run(strategy, read, Seeds.of(0), CPU)
    chance = 1 / len(stream(protocol).tasks[0].classes)
    learnt = result.task_masked.values[[1, 2], [0, 1]]
    assert (learnt > chance + 0.25 * (1 - chance)).all(), learnt


@pytest.mark.parametrize("name", ["exssnet", "packnet", "wsn", "piggyback", "supsup"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_the_task_given_the_first_tasks_answers_stand_bit_by_bit_under_any_head(name: str, kind: Any) -> None:
    given = stream("task-incremental")
    strategy: Any = make_strategy(configuration("strategy", name), Trainer(epochs=2, optimizer="adam", momentum=0.0))
    model = partial(MLP, width=64, depth=1, head=kind, targets={"dim": 384} if kind == "language" else None)
    read = prepare(strategy, model, given, Seeds.of(0), CPU)
    inputs = read.tasks[0].test.take(torch.arange(64))
    answers = []

    class Look:
        def started(self, n_tasks: int) -> None:
            """Nothing to do."""

        def stepped(self, *_: Any) -> None:
            """Nothing to do."""

        def finished_task(self, *_: Any) -> None:
            answers.append(strategy.predict(inputs, make_query("task-incremental", given.tasks, 1, 1)))

    run(strategy, read, Seeds.of(0), CPU, watcher=Look())
    assert len(answers) >= 2 and torch.equal(answers[-2], answers[-1])
