"""Coming from another library: its figure, our id of the same number, and why the two differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from clbench.matrix import ScoreMatrix
from clbench.metrics.libraries import side_by_side

TITLE = "Coming from Avalanche, Mammoth, PyCIL and others"
LEAD = (
    "The same words mean different numbers in different libraries. Find the figure you know; the id beside it is the "
    "definition that gives the same number here. Ids under `lib.` repeat what a library prints and are for "
    "comparison only: no leaderboard shows them. Rules were read in public code."
)
SHOWN = (
    "clbench keeps the whole score matrix of a run, the row before training included, and computes every figure from "
    "it, so all of these can be had of any old run: `clbench metrics RECORD` prints them, and in Python "
    "`clbench.measured.value(metric(id), record)` is one of them. A cell that was not "
    "measured is NaN here, where some libraries put 0; with one task, differences between tasks are NaN, where "
    "some give 0."
)


class Figure(NamedTuple):
    """A figure that a library prints; ``id`` gives the same number, ``why`` says what the name hides."""

    library: str
    prints: str
    id: str
    why: str


_POOLED = "Weights tasks by their test samples; `average_accuracy.gem2017` weights tasks alike. Equal for equal sizes."
_LITERAL = "The sum is divided by T, not by the T-1 tasks that can be forgotten: `backward_transfer.gem2017` × (T-1)/T."
FIGURES: tuple[Figure, ...] = (
    Figure("Avalanche", "Top1_Acc_Stream", "lib.avalanche.stream_accuracy", _POOLED),
    Figure(
        "Avalanche",
        "StreamForgetting",
        "forgetting.first_last",
        "From right after training to the end. The board's `forgetting.rwalk2018` starts from the best earlier row, so "
        "it is never smaller.",
    ),
    Figure("Avalanche", "StreamBWT", "backward_transfer.gem2017", "The same number: minus `forgetting.first_last`."),
    Figure(
        "Avalanche",
        "StreamForwardTransfer",
        "forward_transfer.gem2017",
        "The same number, if the untrained model was evaluated before the first task; here it always is (row 0).",
    ),
    Figure(
        "Mammoth",
        "Accuracy, class-il and task-il",
        "average_accuracy.gem2017",
        "Class-IL is the column itself, Task-IL the column `task_masked.average_accuracy.gem2017`: one model, logits "
        "masked to the task's classes. A run under the task-incremental protocol is something else: "
        "it also trains with the label.",
    ),
    Figure(
        "Mammoth",
        "forgetting (in a run)",
        "lib.mammoth.forgetting_run",
        "The best row starts one before the task is trained, because its zero-shot score has been appended to it, "
        "and the last row counts: never negative.",
    ),
    Figure("Mammoth", "backward transfer", "backward_transfer.gem2017", "The same number."),
    Figure(
        "Mammoth",
        "forward transfer",
        "forward_transfer.gem2017",
        "The same number; the baseline there is a model of random weights, here row 0 of the same run.",
    ),
    Figure(
        "Mammoth",
        "AVG Transfer",
        "lib.mammoth.transfer_rows",
        "Mean of row means above the diagonal; the paper's `transfer.mtil2023` is the mean of column means.",
    ),
    Figure("PyCIL", "total (CNN top1 curve)", "lib.pycil.total", _POOLED),
    Figure(
        "PyCIL",
        "Average Accuracy",
        "average_incremental_accuracy.icarl2017_micro",
        "The mean of that curve over steps: what the class-incremental literature calls average incremental accuracy, "
        "not the accuracy after the last task.",
    ),
    Figure(
        "PyCIL",
        "Forgetting",
        "lib.pycil.forgetting",
        "Never negative, of percentages rounded to two decimals, and of groups of ten labels rather than of tasks.",
    ),
    Figure(
        "Continuum",
        "accuracy",
        "accuracy.diaz2018",
        "The mean over all rows of the lower triangle, not of the last row alone.",
    ),
    Figure(
        "Continuum",
        "average_incremental_accuracy",
        "lib.continuum.average_incremental_accuracy",
        "Averages over tasks not learned yet as well, so it is usually lower than "
        "`average_incremental_accuracy.icarl2017_macro`.",
    ),
    Figure(
        "Continuum",
        "backward_transfer",
        "backward_transfer.diaz2018",
        "The mean over all rows; its docstring names GEM, whose figure reads the last row alone.",
    ),
    Figure(
        "Continuum",
        "forward_transfer",
        "lib.continuum.forward_transfer",
        "No baseline is taken off: larger than `forward_transfer.gem2017` by the mean of row 0 over tasks 2 to T.",
    ),
    Figure(
        "Continuum",
        "forgetting",
        "forgetting.since_learned",
        "The best row counts from when the task was learned; `forgetting.rwalk2018` also sees a zero-shot peak before.",
    ),
    Figure(
        "FACIL",
        "forgetting, TAw and TAg",
        "forgetting.since_learned",
        "Future tasks are 0 in its matrix, so no zero-shot peak counts. TAg: of the accuracy matrix; TAw: of the "
        "task-masked one.",
    ),
    Figure(
        "LibContinual",
        "compute_frgt",
        "lib.libcontinual.forgetting",
        "Off by one: the last task but one is left out of the sum, but not of the count; 0 for two tasks.",
    ),
    Figure(
        "LibContinual",
        "compute_bwt",
        "lib.libcontinual.backward_transfer",
        "`backward_transfer.diaz2018` without the task just before each row, divided as if it were there.",
    ),
    Figure("FusionBench", "average_accuracy", "average_accuracy.gem2017", "The same number."),
    Figure("FusionBench", "backward_transfer", "lib.fusionbench.backward_transfer", _LITERAL),
    Figure("Renate", "forgetting", "forgetting.rwalk2018", "The same number; 0 there for one task, NaN here."),
    Figure("GEM release", "bwt", "backward_transfer.gem2017_code", _LITERAL),
    Figure(
        "pyCLAD",
        "BackwardTransfer",
        "lib.pyclad.backward_transfer",
        "Mean of step-wise changes, 2/T times `backward_transfer.gem2017`; its documentation states "
        "`backward_transfer.diaz2018`.",
    ),
    Figure("BeGin", "AF", "lib.begin.average_forgetting", f"It has the sign of a backward transfer. {_LITERAL}"),
)


class Example(NamedTuple):
    """A hand-worked matrix with what is to be seen in it."""

    name: str
    text: str
    matrix: ScoreMatrix
    sizes: tuple[int, ...]


def examples() -> tuple[Example, Example]:
    """Two matrices of the reference vectors, ``v4`` and ``w2``."""
    v4 = [
        [0.1, 0.1, 0.1, 0.1],
        [0.9, 0.2, 0.15, 0.1],
        [0.7, 0.85, 0.3, 0.2],
        [0.6, 0.75, 0.8, 0.25],
        [0.55, 0.65, 0.7, 0.95],
    ]
    w2 = [[math.nan] * 3, [0.5, 0.7, 0.1], [0.6, 0.4, 0.1], [0.8, 0.3, 0.9]]
    plain = "Ordinary forgetting over four tasks of 100, 50, 200 and 50 test samples."
    odd = (
        "Three equal tasks; the first gets better, the second was best before it was trained, and the untrained model "
        "was not measured: forgetting comes out from −0.20 to +0.20."
    )
    return (
        Example("v4", plain, ScoreMatrix(np.array(v4)), (100, 50, 200, 50)),
        Example("w2", odd, ScoreMatrix(np.array(w2)), (100, 100, 100)),
    )


def variants() -> list[tuple[str, str, str, list[str]]]:
    """All variants of every quantity for the examples: quantity, whose it is, id, and a number for each example."""
    tables = [side_by_side(e.matrix, np.asarray(e.sizes, dtype=np.float64)) for e in examples()]
    return [
        (row[0].quantity, row[0].by, row[0].id, [_number(variant.value) for variant in row])
        for row in zip(*tables, strict=True)
    ]


def matrix_rows(example: Example) -> list[list[str]]:
    """The cells of an example, row 0 first."""
    return [["—" if math.isnan(v) else f"{v:.2f}" for v in row] for row in example.matrix.values]


def _number(value: float) -> str:
    return "—" if math.isnan(value) else f"{round(value, 4) + 0.0:.4f}".replace("-", "−")


def to_markdown() -> str:
    """The page in Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield from (f"# {TITLE}", "", LEAD, "", SHOWN, "", "| library | prints | the same number here | why it differs |")
    yield "|---|---|---|---|"
    for figure in FIGURES:
        yield f"| {figure.library} | {figure.prints} | `{figure.id}` | {figure.why} |"
    yield from ("", "## One matrix, many answers", "")
    for example in examples():
        yield from (f"Matrix {example.name}. {example.text} Rows: after 0, 1, ... tasks; columns: tasks.", "", "```")
        yield from ("  ".join(row) for row in matrix_rows(example))
        yield from ("```", "")
    yield from ("| quantity | whose | id | v4 | w2 |", "|---|---|---|---:|---:|")
    for quantity, by, id, values in variants():
        yield f"| {quantity} | {by} | `{id}` | {' | '.join(values)} |"
    yield from ("", "—: undefined, because a cell that the definition reads was not measured.")
