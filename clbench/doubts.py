"""What makes figures of a table doubtful though each of its records is sound: records held against one another."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from clbench.entries import LABELS, Entry, Table
from clbench.record import Record
from clbench.statistics import MIN_SEEDS

Row = tuple[float, ...]
CLEAR = 0.1  # so far above chance is not near it
ERRORS = 4.0  # standard errors
FEW = 2.001  # samples that another processor may take for another class
CELLS = 4  # that are equal by more than coincidence


def doubts(tables: Iterable[Table]) -> tuple[str, ...]:
    """What a reader should know before comparing figures, and for which scenarios; no record is left out for it.

    Runs on several kinds of processor; references that are ambiguous; more than chance before any training, without a
    pretrained network; another start with some seeds only; the same scores of tasks to come for methods that learned
    different things; the same scores on the same stream with several seeds.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for table in tables:
        for check in (_processors, _ambiguous, _above_chance, _other_starts, _same_before_learning, _same_seeds):
            for text in check(table.entries):
                found[text].append(table.scenario)
    return tuple(f"{', '.join(scenarios)}: {text}" for text, scenarios in found.items())


def _processors(entries: Sequence[Entry]) -> Iterator[str]:
    made = {tuple(r.environment.get(key) for key in ("processor", "instructions")) for e in entries for r in e.records}
    told = {processor for processor, instructions in made if instructions}
    # Older records do not say the instructions: theirs may be any that others of the same processor have.
    found = {" ".join(filter(None, map(str, (p, i or "")))) for p, i in made if p and (i or p not in told)}
    if len(found) > 1:
        yield (
            f"runs were made on {len(found)} kinds of processor ({', '.join(sorted(found))}); "
            "do not compare their times, and expect accuracies of a repetition to differ in the last digits"
        )


def _ambiguous(entries: Sequence[Entry]) -> Iterator[str]:
    """With a seed there is one run of a reference for a model and trainer, or it is not known which one to take."""
    runs = [(tuple(e.names[k] for k in LABELS), r.seed) for e in entries if e.reference for r in e.records]
    several: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for (names, seed), n in sorted(Counter(runs).items()):
        several[names] += [seed] if n > 1 else []
    for names, seeds in several.items():
        if seeds:
            yield (
                f"there are several runs of the reference {' · '.join(names)} with {_seeds(seeds)}: "
                "no figure is compared with any of them"
            )


def _above_chance(entries: Sequence[Entry]) -> Iterator[str]:
    """Row 0 is near chance where no network was pretrained: its mean over tasks, over seeds within its error."""
    for entry in entries:
        fresh = [r for r in entry.records if "backbone" not in r.identity]
        if len(fresh) < max(MIN_SEEDS, len(entry.records)):
            continue
        gaps = np.array([np.mean(r.matrix().values[0] - chance(r)) for r in fresh])
        gap, error = float(gaps.mean()), float(gaps.std(ddof=1)) / len(gaps) ** 0.5
        if gap > max(CLEAR, ERRORS * error):
            yield (
                f"{entry.label} is {100 * gap:.0f} points above chance before any training: "
                "its network was trained before, or its answers know more than the query says"
            )


def chance(record: Record) -> NDArray[np.float64]:
    """(T,) what guessing scores on each task before any training: one in as many as there are candidates."""
    classes = [set(task["classes"]) for task in record.result["tasks"]]
    seen = [len(set().union(*classes[: k + 1])) for k in range(len(classes))]
    protocol = record.card.get("protocol")
    known = {"task-incremental": [len(own) for own in classes], "class-incremental": seen}
    return 1 / np.array(known.get(str(protocol), [seen[-1]] * len(seen)), dtype=np.float64)


def _other_starts(entries: Sequence[Entry]) -> Iterator[str]:
    """Who starts like most others of the same model and seed starts so with every seed, or with none.

    A method that draws its own weights has another row 0 throughout; one that has it for some seeds had other seeds,
    data or weights there than its record says.
    """
    for group in _by_model(entries):
        rows: dict[str, list[tuple[Entry, Record]]] = defaultdict(list)
        for entry in group:
            for record in entry.records:
                rows[json.dumps(record.identity["seeds"], sort_keys=True)].append((entry, record))
        odd: dict[str, list[int]] = defaultdict(list)
        for alike in rows.values():
            count = Counter(_row(record) for _, record in alike)
            usual, n = min(count.items(), key=lambda item: (-item[1], item[0]))
            if 2 * n > len(alike) > 1:
                for entry, record in alike:
                    if not _near(_row(record), usual, record):
                        odd[entry.id].append(record.seed)
        for entry in group:
            seeds = sorted(set(odd[entry.id]))
            if 0 < 2 * len(seeds) < len(set(entry.seeds)):
                yield (
                    f"{entry.label} with {_seeds(seeds)} starts with other scores than others of its model, "
                    "and like them with its other seeds: seeds, data or weights were not those of the record"
                )


def _row(record: Record) -> Row:
    return tuple(record.matrix().values[0].tolist())


def _near(row: Row, other: Row, record: Record) -> bool:
    sizes = [task["n_test"] for task in record.result["tasks"]]
    same = len(row) == len(other)
    return same and all(abs(a - b) * n <= FEW for a, b, n in zip(row, other, sizes, strict=True))


def _same_before_learning(entries: Sequence[Entry]) -> Iterator[str]:
    """Forward transfer differs between methods that learned different things, where it is more than a guess.

    Compared are the scores R[j-1, j] from the third task on: before the second one many methods have done the same.
    """
    for group in _by_model(entry for entry in entries if not entry.reference):
        seeds = set.intersection(*(set(entry.seeds) for entry in group))
        shared = [[r for r in entry.records if r.seed in seeds] for entry in group]
        before = {tuple(cell for r in records for cell in _before(r)) for records in shared}
        learned = {tuple(cell for r in records for cell in _learned(r)) for records in shared}
        if len(before) == 1 < len(learned) and len(*before) >= CELLS and not all(map(_guessed, shared[0])):
            yield (
                f"{', '.join(entry.label for entry in group)} score the same on each task before learning it, though "
                "what they learned until then differs: this was not measured on their own networks"
            )


def _same_seeds(entries: Sequence[Entry]) -> Iterator[str]:
    """Seeds draw different streams, networks or batches; where nothing differs, they are no repetitions."""
    for entry in entries:
        alike: dict[str, list[int]] = defaultdict(list)
        for record in entry.records:
            result = record.result
            alike[json.dumps([result["fingerprint"], result["matrices"]["accuracy"]["values"]])].append(record.seed)
        for seeds in alike.values():
            if len(seeds) > 1:
                yield (
                    f"{entry.label} has one result on one stream for {_seeds(seeds)}: nothing in it is random, or "
                    "these are copies; its interval says nothing"
                )


def _before(record: Record) -> Row:
    """R[j-1, j] from the third task on."""
    return tuple(np.diagonal(record.matrix().values)[2:].tolist())


def _learned(record: Record) -> Row:
    """R[i, j] of the tasks learned by then, for the same rows i."""
    return tuple(np.concatenate([row[: i + 2] for i, row in enumerate(record.matrix().values[2:-1])] or [[]]).tolist())


def _guessed(record: Record) -> bool:
    """Whether those are what any method gets that knows nothing of classes to come: none right, or chance."""
    before = np.array(_before(record))
    return bool(np.all((before == 0) | np.isnan(before) | np.isclose(before, chance(record)[2:])))


def _by_model(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Entries with finished runs, those that start from one network together."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.records:
            identity = entry.records[0].identity
            found[json.dumps([identity["model"], identity.get("backbone")], sort_keys=True)].append(entry)
    return list(found.values())


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
