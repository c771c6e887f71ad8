"""Records held against one another: one card and one stream to a name, and one result to a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from clbench.compose import complete
from clbench.matrix import ScoreMatrix
from clbench.record import Record, digest, same_result

TOLERANCE = 0.03
ROW = 4  # the average of one row may differ by so many times the tolerance of that of all
Group = Mapping[str, list[Path]]


def shown(path: Path) -> str:
    r"""A path as it may be printed and written: what is no character, or moves a terminal's cursor, is spelt out.

    >>> shown(Path("a\x1b/record.json"))
    'a\\x1b/record.json'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def contradictions(records: Sequence[tuple[Path, Record]], trusted: Collection[Path] = ()) -> dict[Path, str]:
    """Records that are of one scenario by their names, but not by their cards or their streams, and why.

    Those that differ from the trusted ones are named; where none is trusted, from most; and all where no most are
    alike. Streams are compared seed by seed, of finished runs.
    """
    cards: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    streams: dict[tuple[str, int, int], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    contents: dict[int, str] = {}  # by object, since records share their cards
    for path, record in records:
        scenario, card, seeds = record.names["scenario"], record.identity["scenario"], record.identity["seeds"]
        if id(card) not in contents:
            contents[id(card)] = digest({k: v for k, v in complete(card).items() if v is not None})
        cards[scenario][contents[id(card)]].append(path)
        if record.status == "ok":  # the seeds are those that the stream depends on
            streams[scenario, seeds["order"], seeds["split"]][record.result["fingerprint"]].append(path)
    clashes: dict[Path, str] = {}
    for scenario, group in cards.items():
        for path, other in _outsiders(group, trusted):
            clashes[path] = f"{shown(path)} and {shown(other)} are both {scenario}, but their cards differ"
    for (scenario, seed, _), group in streams.items():
        for path, other in _outsiders(group, trusted):
            both = f"{shown(path)} and {shown(other)} are both {scenario} with seed {seed}"
            clashes[path] = f"{both}, but their streams differ"
    return clashes


FIRM = ("steps", "samples", "stored_samples", "parameters")  # counts that no rounding changes
MACHINE = ("platform", "processor", "instructions", "accelerator", "torch", "numpy", "threads")


def repetitions(records: Sequence[tuple[Path, Record]]) -> tuple[dict[Path, Path], dict[Path, str]]:
    """Records of one and the same run: those that another one stands for, and those that cannot be right, and why.

    A run may lie in the folders of several studies: the record that holds most counts, a finished one before one that
    failed. On one machine the same run gives the same bits, and on different ones results that differ by rounding; of
    records that differ by more, none counts.
    """
    runs: dict[str, list[tuple[Path, Record]]] = defaultdict(list)
    for path, record in records:
        runs[record.id].append((path, record))
    repeated: dict[Path, Path] = {}
    named: dict[Path, str] = {}
    for copies in runs.values():
        done = [(p, r) for p, r in copies if r.status == "ok"] or copies
        chosen, first = max(done, key=_content)
        wrong = [p for p, r in done if first.status == "ok" and not agree(first, r)]
        if wrong:
            for path, _ in done:
                other = wrong[0] if path != wrong[0] else chosen
                named[path] = f"{shown(path)} and {shown(other)} are records of one run, but their results differ"
        else:
            repeated |= {path: chosen for path, _ in copies if path != chosen}
    return repeated, named


def _content(found: tuple[Path, Record]) -> tuple[int, int, int, str]:
    """How much a record holds; of those that hold as much the last by name."""
    path, record = found
    costs = sum(value is not None for cost in record.costs for value in cost.values())
    return len(record.result.get("matrices", ())), len(record.curves), costs, str(path)


def agree(one: Record, other: Record) -> bool:
    """Whether two records of one run are the same bit by bit or, of different machines, in accuracy within tolerance.

    Accuracy alone, which ranks: among the classes of a task forgotten long ago rounding may decide half of the answers.
    What is counted without rounding is the same everywhere.
    """
    if same_result(one, other):
        return True
    if one.status != "ok" or other.status != "ok":
        return False
    a, b = one.result, other.result
    elsewhere = any(one.environment.get(name) != other.environment.get(name) for name in MACHINE)
    same_stream = (a["fingerprint"], a["tasks"]) == (b["fingerprint"], b["tasks"])
    both = zip(a["counts"], b["counts"], strict=False)
    same_counts = all(x[name] == y[name] for x, y in both for name in FIRM if name in x and name in y)
    return elsewhere and same_stream and same_counts and matrix_difference(one.matrix(), other.matrix())[1]


def matrix_difference(one: ScoreMatrix, other: ScoreMatrix, tolerance: float = TOLERANCE) -> tuple[str | None, bool]:
    """How the matrix of a record differs from that of a repetition, None where it does not; and if within tolerance.

    Another processor, build or number of threads adds numbers in another order, and training magnifies what rounding
    makes of that. So the average of all cells of a matrix may differ by ``tolerance`` times the width of its bounds,
    that of a row by ``ROW`` times as much, and single cells by anything.

    Source: 100 runs of 13 strategies on four cards of small images, made on AMD EPYC and repeated on Intel Xeon: 46
    were bit-identical; cells differed by up to .37, averages of a row by up to .098, and of all cells by up to .021.
    """
    if one.values.shape != other.values.shape:
        return f"{one.name} has shape {one.values.shape} in the record, {other.values.shape} here", False
    if np.array_equal(one.values, other.values, equal_nan=True):
        return None, True
    if not np.array_equal(np.isnan(one.values), np.isnan(other.values)):
        return f"{one.name}: other cells are missing in the record than here", False
    signed = np.nan_to_num(one.values - other.values)
    gaps, whole, row = np.abs(signed), float(abs(signed.mean())), float(np.abs(signed.mean(axis=1)).max())
    width = one.bounds[1] - one.bounds[0]
    limit = tolerance * (width if np.isfinite(width) else 1.0)
    i, j = (int(k) for k in np.unravel_index(gaps.argmax(), gaps.shape))
    most = f"R[{i}, {j + 1}]: {one.values[i, j]:.6g} in the record, {other.values[i, j]:.6g} here"
    averages = f"averages by {whole:.2g} ({limit:.2g} allowed), of a row by {row:.2g} ({ROW * limit:.2g} allowed)"
    line = f"{one.name}: {np.count_nonzero(gaps)} of {gaps.size} cells differ, most {most}; {averages}"
    return line, whole <= limit and row <= ROW * limit


def _outsiders(group: Group, trusted: Collection[Path]) -> Iterator[tuple[Path, Path]]:
    """Each record that is not among the trusted or most frequent of a group, with one that differs from it."""
    if len(group) == 1:
        return
    right = [key for key, paths in group.items() if any(path in trusted for path in paths)]
    if not right:
        most = max(map(len, group.values()))
        right = [key for key, paths in group.items() if len(paths) == most]
    for key, paths in group.items():
        if right != [key]:
            other = next(p for k in (*right, *group) if k != key for p in group[k])
            yield from ((path, other) for path in paths if path not in trusted)
