"""Split rules: how one source becomes the tasks of a stream.

A rule is a pure function ``rule(source, is_test, card, generator) -> list[Plan]``. Its plans name rows and
transform parameters only, so a stream can be fingerprinted without touching a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.data import Source
from clbench.errors import BadInput, unknown

Rows = NDArray[np.int64]
RuleCard = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """One task before its data are touched: rows of the source, and what happens to their pixels."""

    name: str
    train: Rows
    test: Rows
    permutation: Rows | None = None
    degrees: float = 0.0


def split_rows(source: Source, test_fraction: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Mark the test rows: the official ones, else ``test_fraction`` of every class, at least one row in each half.

    Where the source has units, units are dealt out instead of rows.
    """
    if source.is_test is not None:
        return source.is_test
    if not 0 < test_fraction < 1:
        raise BadInput(f"test_fraction must lie between 0 and 1; got {test_fraction}")
    unit = np.arange(len(source)) if source.unit is None else source.unit
    _, first, member = np.unique(unit, return_index=True, return_inverse=True)
    is_test = np.zeros(len(first), dtype=bool)
    for label, name in enumerate(source.class_names):
        units = generator.permutation(np.flatnonzero(source.y[first] == label))
        if len(units) < 2:
            raise BadInput(f"class '{name}' has {len(units)} samples; it needs two, one to train and one to test on")
        is_test[units[: min(max(1, round(test_fraction * len(units))), len(units) - 1)]] = True
    return is_test[member]


def subset_rows(
    source: Source, is_test: NDArray[np.bool_], subset: dict[str, Any], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Keep ``subset["train"]`` and ``subset["test"]`` rows, the same number of every class.

    The seed chooses them; with ``rows: first`` they are the first ones of every class, for all seeds.
    """
    keep = np.zeros(len(source), dtype=bool)
    n_classes = len(source.class_names)
    sizes = dict(subset)
    chosen = sizes.pop("rows", "seed")
    if chosen not in ("seed", "first"):
        raise unknown("subset rows", str(chosen), ["seed", "first"])
    for half in sizes:
        if half not in ("train", "test"):
            raise unknown("part of subset", half, ["train", "test", "rows"])
    for half, in_half in (("train", ~is_test), ("test", is_test)):
        if half not in sizes:
            keep |= in_half
            continue
        per_class, rest = divmod(int(sizes[half]), n_classes)
        if rest or per_class < 1:
            raise BadInput(f"subset {half}: {sizes[half]} is not a positive multiple of the {n_classes} classes")
        for label in range(n_classes):
            rows = np.flatnonzero(in_half & (source.y == label))
            if len(rows) < per_class:
                raise BadInput(f"subset {half}: class '{source.class_names[label]}' has only {len(rows)} rows")
            keep[(rows if chosen == "first" else generator.permutation(rows))[:per_class]] = True
    return keep


def by_class(source: Source, is_test: NDArray[np.bool_], card: RuleCard, generator: np.random.Generator) -> list[Plan]:
    """Tasks of disjoint classes; the first tasks get one more where the classes do not divide evenly.

    ``increments``: classes per task as a list, or one number for all tasks but a shorter last one.
    """
    n_classes = len(source.class_names)
    increments = card.get("increments")
    if increments is None:
        increments = _even(n_classes, int(card["n_tasks"]))
    elif isinstance(increments, int):
        increments = [min(increments, n_classes - start) for start in range(0, n_classes, max(1, increments))]
    if sum(increments) != n_classes or min(increments) < 1:
        raise BadInput(f"increments {increments} must be positive and sum to the {n_classes} classes of the data")
    if len(increments) != int(card["n_tasks"]):
        raise BadInput(f"increments {increments} are {len(increments)} tasks, but n_tasks is {card['n_tasks']}")
    classes = order_classes(card.get("class_order", "seed"), n_classes, generator)
    plans, start = [], 0
    for number, size in enumerate(increments, start=1):
        inside = np.isin(source.y, classes[start : start + size])
        plans.append(_plan(f"classes {number}", inside, is_test))
        start += size
    return plans


def by_overlap(
    source: Source, is_test: NDArray[np.bool_], card: RuleCard, generator: np.random.Generator
) -> list[Plan]:
    """Tasks of ``increments`` classes that share some: each begins n_classes / n_tasks after the one before, in a ring.

    Or those of each task, where ``class_order`` is a list of lists; a class in none of them is left out. The rows of a
    shared class are in all of its tasks.
    """
    windows = _windows(card, len(source.class_names), generator)
    return [_plan(f"classes {k}", np.isin(source.y, window), is_test) for k, window in enumerate(windows, start=1)]


def _windows(card: RuleCard, n_classes: int, generator: np.random.Generator) -> list[Rows]:
    order, n_tasks, size = card.get("class_order", "seed"), int(card["n_tasks"]), card.get("increments")
    if isinstance(order, list) and any(isinstance(window, list) for window in order):
        known = range(n_classes)
        whole = all(isinstance(w, list) and w and all(c in known for c in w) for w in order)
        if not whole or len(order) != n_tasks or any(len(set(w)) < len(w) for w in order):
            raise BadInput(
                f"class_order of overlapping tasks must list the classes of each of the {n_tasks} tasks, "
                f"different ones within 0..{n_classes - 1}; got {order}"
            )
        if size is not None:
            raise BadInput(f"increments is for tasks in a ring; class_order lists those of this card; got {size!r}")
        return [np.array(window) for window in order]
    stride, rest = divmod(n_classes, n_tasks)
    if rest or not isinstance(size, int) or not stride < size <= n_classes:
        raise BadInput(
            f"rule 'overlapping' needs n_tasks that divides the {n_classes} classes, and as increments one number "
            f"above n_classes / n_tasks, at most all classes; got n_tasks {n_tasks}, increments {size!r}"
        )
    ring = np.tile(order_classes(order, n_classes, generator), 2)
    return [ring[start : start + size] for start in range(0, n_classes, stride)]


def order_classes(order: Any, n_classes: int, generator: np.random.Generator) -> Rows:
    """The classes in the order of a card: "seed", "natural", a list, or a number.

    A number is the seed of NumPy's legacy generator, as the papers have it: ``numpy.random.seed(1993)``, then
    ``numpy.random.permutation(n_classes)``.
    """
    if order == "seed":
        return generator.permutation(n_classes)
    if order == "natural":
        return np.arange(n_classes)
    if isinstance(order, int) and not isinstance(order, bool):
        return np.random.RandomState(order).permutation(n_classes)
    classes = np.array(order)
    if sorted(classes.ravel().tolist()) != list(range(n_classes)):
        raise BadInput(
            f"class_order must be 'seed', 'natural', a number or a permutation of 0..{n_classes - 1}; got {order}"
        )
    return classes


def by_group(source: Source, is_test: NDArray[np.bool_], card: RuleCard, generator: np.random.Generator) -> list[Plan]:
    """One task per group of classes, in the order of the data or one drawn from the seed (``domain_order: seed``)."""
    if source.group is None:
        raise BadInput(f"rule 'groups' needs data whose classes come in groups; '{source.name}' has none")
    n_groups = len(source.group_names)
    if int(card["n_tasks"]) != n_groups:
        raise BadInput(f"n_tasks is {card['n_tasks']}, but the classes come in {n_groups} groups: {source.group_names}")
    order = generator.permutation(n_groups) if card.get("domain_order") == "seed" else range(n_groups)
    group = source.group[source.y]
    return [_plan(source.group_names[g], group == g, is_test) for g in order]


def by_permutation(
    source: Source, is_test: NDArray[np.bool_], card: RuleCard, generator: np.random.Generator
) -> list[Plan]:
    """The same samples with their pixels in a new fixed order per task; the first task leaves them alone."""
    n_pixels = source.samples.shape[2] * source.samples.shape[3]
    everything = np.ones(len(source), dtype=bool)
    plans = [_plan("permutation 1", everything, is_test)]
    for number in range(2, int(card["n_tasks"]) + 1):
        order = generator.permutation(n_pixels)
        plans.append(_plan(f"permutation {number}", everything, is_test, permutation=order))
    return plans


def by_rotation(
    source: Source, is_test: NDArray[np.bool_], card: RuleCard, generator: np.random.Generator
) -> list[Plan]:
    """The same samples turned by equal steps from 0 up to, not including, ``max_degrees`` (default 180)."""
    n_tasks, full = int(card["n_tasks"]), float(card.get("max_degrees") or 180.0)
    everything = np.ones(len(source), dtype=bool)
    angles = [full * k / n_tasks for k in range(n_tasks)]
    return [_plan(f"{angle:g} degrees", everything, is_test, degrees=angle) for angle in angles]


def by_domain(source: Source, is_test: NDArray[np.bool_], card: RuleCard, generator: np.random.Generator) -> list[Plan]:
    """One task per domain (folder), in alphabetical order or an order drawn from the seed."""
    if source.domain is None:
        raise BadInput(f"rule 'domain' needs data with domains (layout domain/class); '{source.name}' has none")
    n_domains = len(source.domain_names)
    if int(card["n_tasks"]) != n_domains:
        raise BadInput(f"n_tasks is {card['n_tasks']}, but the data have {n_domains} domains: {source.domain_names}")
    order = generator.permutation(n_domains) if card.get("domain_order") == "seed" else range(n_domains)
    return [_plan(source.domain_names[d], source.domain == d, is_test) for d in order]


def by_instances(
    source: Source, is_test: NDArray[np.bool_], card: RuleCard, generator: np.random.Generator
) -> list[Plan]:
    """New samples of the same classes: training and test rows are dealt out to the tasks, class by class."""
    n_tasks = int(card["n_tasks"])
    part = np.full(len(source), -1)
    for half in (~is_test, is_test):
        for label in range(len(source.class_names)):
            rows = generator.permutation(np.flatnonzero(half & (source.y == label)))
            if len(rows) < n_tasks:
                raise BadInput(
                    f"class '{source.class_names[label]}' has {len(rows)} rows in a half, fewer than n_tasks"
                )
            part[rows] = np.arange(len(rows)) % n_tasks
    return [_plan(f"instances {k + 1}", part == k, is_test) for k in range(n_tasks)]


Rule = Callable[[Source, NDArray[np.bool_], RuleCard, np.random.Generator], list[Plan]]
RULES: dict[str, Rule] = {
    "classes": by_class,
    "overlapping": by_overlap,
    "permutation": by_permutation,
    "rotation": by_rotation,
    "domain": by_domain,
    "groups": by_group,
    "instances": by_instances,
}


def plan_tasks(
    source: Source, is_test: NDArray[np.bool_], keep: NDArray[np.bool_], card: RuleCard, generator: np.random.Generator
) -> list[Plan]:
    """Apply the card's rule to the kept rows. Raises ``BadInput`` for unknown rules and impossible sizes."""
    if card["rule"] not in RULES:
        raise unknown("split rule", str(card["rule"]), RULES)
    if source.modality != "image" and card["rule"] in ("permutation", "rotation"):
        raise BadInput(f"rule '{card['rule']}' changes pixels; '{source.name}' holds {source.modality}s")
    if int(card["n_tasks"]) < 1:
        raise BadInput(f"n_tasks must be at least 1; got {card['n_tasks']}")
    plans = RULES[card["rule"]](source, is_test, card, generator)
    return [Plan(p.name, p.train[keep[p.train]], p.test[keep[p.test]], p.permutation, p.degrees) for p in plans]


def _even(n: int, parts: int) -> list[int]:
    if parts > n:
        raise BadInput(f"{n} classes cannot be split into {parts} tasks; n_tasks may be at most {n}")
    size, more = divmod(n, parts)
    return [size + 1] * more + [size] * (parts - more)


def _plan(name: str, inside: NDArray[np.bool_], is_test: NDArray[np.bool_], **transform: Any) -> Plan:
    return Plan(name, np.flatnonzero(inside & ~is_test), np.flatnonzero(inside & is_test), **transform)
