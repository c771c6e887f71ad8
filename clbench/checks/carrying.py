"""Clauses on what a strategy carries from task to task: its state, plain, counted and sufficient."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clbench.checks.answering import equal
from clbench.checks.clause import broken, expect
from clbench.checks.strategy_case import StrategyCase
from clbench.state import load_state, save_state

LOOSE_BYTES = 16 * 1024  # of numbers and strings outside tensors, whose bytes are not counted


def state_is_plain(case: StrategyCase) -> None:
    """state_dict() holds tensors, scalars, lists and dicts of them, and comes back from a file as it was."""
    for row, state in enumerate(case.main.states):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            try:
                save_state(path, state)
            except (TypeError, ValueError) as error:
                broken("a state that can be saved without pickle", error, "keep tensors and scalars only")
            expect(
                equal(load_state(path), state),
                f"the state after task {row} back from a file",
                "another",
                "keep plain types",
            )


def state_is_all_that_is_carried(case: StrategyCase) -> None:
    """A new process that loads the state after a task and goes on gets the same scores, bit by bit."""
    assert case.main is not None  # not applicable where training failed
    complaints = case.subject.continued[case.protocol]
    advice = "keep everything that must survive in attributes that end in '_'"
    expect(not complaints, "the run to go on from state_dict() alone", "; ".join(complaints[:3]), advice)


def stored_samples_stay_within_memory(case: StrategyCase) -> None:
    """stored_samples() is at most the hyperparameter 'memory', and 0 where a strategy has none."""
    cls, memory = case.subject.cls, case.subject.options.get("memory", getattr(case.main.strategy, "memory", 0))
    for row, stored in enumerate(case.main.stored):
        whole = isinstance(stored, int) and not isinstance(stored, bool) and stored >= 0
        expect(whole, "stored_samples() to be a count", repr(stored), "return an int")
        if not cls.reference:
            advice = "let go of samples, or declare a field memory: int"
            expect(stored <= memory, f"at most {memory} stored samples after task {row}", stored, advice)


def stored_samples_are_declared(case: StrategyCase) -> None:
    """No more training samples are found in a strategy's attributes than stored_samples() says."""
    for row, (found, stored) in enumerate(zip(case.main.found, case.main.stored, strict=True)):
        advice = "count every kept sample in stored_samples(), copies and drafts too"
        expect(
            found <= int(stored),
            f"at most the declared {stored} training samples after task {row}",
            f"{found} found",
            advice,
        )


def branches_never_change(case: StrategyCase) -> None:
    """What branches() gives is frozen: each branch makes the same of a sample, bit by bit, after every later task."""
    for row, after in enumerate(case.main.branches):
        for before in case.main.branches[:row]:
            changed = [name for name in before.keys() & after.keys() if not torch.equal(before[name], after[name])]
            advice = "give a network only when it is frozen, or under another name when it has changed"
            expect(not changed, f"the same features after task {row} as before", f"others from {changed}", advice)


def state_bytes_are_counted(case: StrategyCase) -> None:
    """What a strategy carries is in tensors, whose bytes are counted, not in long strings or lists of numbers."""
    for row, state in enumerate(case.main.states):
        loose = _loose_bytes(state)
        advice = "keep numbers in tensors"
        expect(loose <= LOOSE_BYTES, f"at most {LOOSE_BYTES} bytes outside tensors after task {row}", loose, advice)


def _loose_bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return 0
    if isinstance(value, dict):
        return sum(_loose_bytes(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return sum(map(_loose_bytes, value))
    return len(value) if isinstance(value, (str, bytes)) else 8
