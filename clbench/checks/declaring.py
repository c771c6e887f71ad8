"""Clauses on what a strategy says of itself: hyperparameters, source, protocols."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from clbench.checks.clause import expect
from clbench.checks.strategy_case import StrategyCase
from clbench.errors import ClbenchError
from clbench.state import PLAIN
from clbench.stream import PROTOCOLS


def hyperparameters_are_fields(case: StrategyCase) -> None:
    """Every hyperparameter is a dataclass field, and making a strategy stores the fields and does nothing else."""
    cls = case.subject.cls
    own = inspect.get_annotations(cls)
    loose = [name for name, kind in own.items() if "ClassVar" not in str(kind)]
    undeclared = sorted(set(loose) - {f.name for f in dataclasses.fields(cls)})
    expect(
        not undeclared, "a dataclass", f"{undeclared}, no fields", f"put @dataclass(kw_only=True) above {cls.__name__}"
    )
    made = vars(case.subject.make())
    extra = sorted(set(made) - {f.name for f in dataclasses.fields(cls)})
    expect(not extra, "only hyperparameters after __init__", extra, "make state in setup(), in names that end in '_'")


def hyperparameters_are_stored_as_given(case: StrategyCase) -> None:
    """A value given for a hyperparameter is stored as it is, neither changed nor corrected."""
    subject = case.subject
    default = subject.make()
    for field in dataclasses.fields(subject.cls):
        if not field.init:
            continue
        for value in _variants(getattr(default, field.name)):
            try:
                made = subject.cls(**{**subject.options, field.name: value})
            except (ClbenchError, ValueError):
                continue  # it may refuse a value, but not replace it
            stored = getattr(made, field.name)
            expect(
                stored is value or stored == value,
                f"{field.name}={value!r} stored",
                repr(stored),
                "only store in __init__",
            )


def hyperparameters_stay_constant(case: StrategyCase) -> None:
    """Training and predicting leave the hyperparameters as they were."""
    before, after = case.subject.make().hyperparameters(), case.main.strategy.hyperparameters()
    changed = {k: (before[k], after[k]) for k in before if before[k] != after[k]}
    advice = "keep what changes in an attribute that ends in '_'"
    expect(not changed, "the same hyperparameters after training", f"{changed} (before, after)", advice)


def hyperparameters_are_not_shared(case: StrategyCase) -> None:
    """No default value is a mutable object that two strategies would share."""
    first, second = case.subject.cls, case.subject.make()
    given = case.subject.options
    other = case.subject.make()
    for field in dataclasses.fields(first):
        if field.name in given:
            continue
        value = getattr(second, field.name)
        same = value is getattr(other, field.name) and _mutable(value)
        advice = f"use field(default_factory={type(value).__name__}) or an immutable value"
        expect(
            not same,
            f"a default of '{field.name}' of its own for each instance",
            f"one shared {type(value).__name__}",
            advice,
        )


def hyperparameters_are_plain(case: StrategyCase) -> None:
    """Hyperparameters are numbers, strings, lists of them or dataclasses of them, so a record can hold them."""
    strategy = case.subject.make()
    for field in dataclasses.fields(strategy):
        value = getattr(strategy, field.name)
        advice = "name it by a string and build it in setup()"
        expect(_plain(value), f"a plain value of '{field.name}'", f"a {type(value).__name__}", advice)


def source_is_named(case: StrategyCase) -> None:
    """The class's docstring has a line 'Source:' (paper, section or equation) and a line 'Differs:' (where, why)."""
    lines = [line.strip() for line in (case.subject.cls.__doc__ or "").splitlines()]
    for word, example in (("Source:", "Author, Title, venue and year, Eq. 3"), ("Differs:", "not at all")):
        said = [line for line in lines if line.startswith(word) and line.removeprefix(word).strip()]
        expect(bool(said), f"a line '{word} ...' in the docstring", "none", f"write for example '{word} {example}.'")


def protocols_are_declared(case: StrategyCase) -> None:
    """The class declares as a frozenset which protocols it supports, and its other declarations make sense."""
    cls = case.subject.cls
    declared: Any = cls.protocols
    names = ", ".join(sorted(PROTOCOLS))
    good = isinstance(declared, frozenset) and bool(declared) and declared <= PROTOCOLS
    expect(good, f"protocols: a non-empty frozenset of {names}", repr(declared), "correct the class attribute")
    for name in ("deterministic", "reference"):
        value = getattr(cls, name)
        expect(isinstance(value, bool), f"{name} True or False", repr(value), "correct the class attribute")
    rows, size = cls.measured_rows, case.subject.make().group_size
    expect(rows in ("all", "last"), "measured_rows 'all' or 'last'", repr(rows), "correct the class attribute")
    expect(isinstance(size, int) and size >= 1, "group_size of at least 1", repr(size), "correct the property")


def declared_protocols_work(case: StrategyCase) -> None:
    """A strategy trains and answers under every protocol it declares."""
    if case.error is not None:
        raise case.error


def _variants(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [value, not value]
    if isinstance(value, (int, float)):
        return [value, value + 1, value * 100, value / 2 if isinstance(value, float) else value + 7]
    return [value]


def _mutable(value: Any) -> bool:
    if dataclasses.is_dataclass(value):
        return not bool(vars(type(value))["__dataclass_params__"].frozen)
    return isinstance(value, (list, dict, set)) or (hasattr(value, "__dict__") and not callable(value))


def _plain(value: Any) -> bool:
    if dataclasses.is_dataclass(value):
        return all(_plain(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return isinstance(value, PLAIN)
