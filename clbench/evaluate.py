"""One row of the score matrices: all probes, one pass, no side effects."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench.errors import BadInput
from clbench.metrics.calibration import brier_score, expected_calibration_error, negative_log_likelihood
from clbench.strategy import Strategy
from clbench.stream import ProtocolName, Query, Split, Taken, Task

BATCH = 512  # fixed, so that scores do not depend on who evaluates
IMPOSSIBLE = 1e-12
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def make_query(protocol: ProtocolName, tasks: Sequence[Task], row: int, column: int) -> Query:
    """What a protocol means: the candidates of cell R[row, column] (row 0..T, column 1..T).

    Task-incremental: the label and the task's classes. Class-incremental: no label, the classes of tasks
    1..max(row, column). Domain-incremental: no label, all classes.
    """
    asked = tasks[column - 1]
    if protocol == "task-incremental":
        return Query(asked.index, asked.classes, asked.class_names)
    upto = tasks[: max(row, column)] if protocol == "class-incremental" else tasks
    names = {c: n for task in upto for c, n in zip(task.classes, task.class_names, strict=True)}
    classes = tuple(sorted(names))
    return Query(None, classes, tuple(names[c] for c in classes))


@dataclass(frozen=True)
class Row:
    """Scores of all probes after one training step, and what is kept of every test sample.

    ``accuracy``, ``task_masked`` (T,): fractions correct. Per sample, probes one after the other (N,):
    ``predicted`` class, its probability ``confidence``, the probability of the ``truth``, and the sum of
    squared probabilities ``squares``, all from a softmax over the candidates' scores. ``inferred``: the task each
    sample was taken for, 0 where the strategy infers none; ``inference`` (T,): how often that is the sample's own task,
    NaN where the strategy infers none. ``nll``, ``brier``, ``ece`` (T,): see :func:`calibration`.
    """

    accuracy: NDArray[np.float64]
    task_masked: NDArray[np.float64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    truth: NDArray[np.float32]
    squares: NDArray[np.float32]
    inferred: NDArray[np.int64]
    inference: NDArray[np.float64]
    nll: NDArray[np.float64]
    brier: NDArray[np.float64]
    ece: NDArray[np.float64]


@contextmanager
def no_side_effects(strategy: Strategy) -> Iterator[None]:
    """Freeze every random state and the training mode of every module while probes are scored."""
    modules = [m for value in vars(strategy).values() if isinstance(value, nn.Module) for m in value.modules()]
    modes = [m.training for m in modules]
    generators = [g for g in vars(strategy).values() if isinstance(g, np.random.Generator)]
    positions = [g.bit_generator.state for g in generators]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (frozen, not used)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 (put back, not used)
        for generator, position in zip(generators, positions, strict=True):
            generator.bit_generator.state = position
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def evaluate(
    strategy: Strategy,
    protocol: ProtocolName,
    tasks: Sequence[Task],
    row: int,
    device: torch.device,
    probes: Sequence[Split] | None = None,
) -> Row:
    """Score the probes of all tasks after ``row`` training steps, each sample in one forward pass.

    ``probes``: the test halves on the device, where the caller keeps them there. Samples that the strategy answers
    together are handed to it together.
    """
    cells = []
    step = max(1, BATCH // strategy.group_size) * strategy.group_size
    with no_side_effects(strategy):
        for column, task in enumerate(tasks, start=1):
            probe = probes[column - 1] if probes is not None else task.test
            query = make_query(protocol, tasks, row, column)
            parts = []
            for start in range(0, len(probe), step):
                rows = torch.arange(start, min(start + step, len(probe)), device=device)
                scores, taken = strategy.answer(Taken(probe, rows, device), query)
                name = type(strategy).__name__
                scores = checked(scores, len(rows), query, name)
                inferred = checked_tasks(taken, len(rows), len(tasks), name)
                cell = _cell(scores, probe.labels[rows].to(device), query, task.classes)
                parts.append(torch.stack([*cell, inferred.to(cell[0])]))
            cells.append(torch.cat(parts, dim=1).cpu().double().numpy())
    return _row(cells)


def _row(cells: Sequence[NDArray[np.float64]]) -> Row:
    """The cells of a row put together; a cell is what :func:`_cell` gives and the inferred tasks (7, N)."""
    whole = np.concatenate(cells, axis=1)
    nll, brier, ece = np.array([calibration(cell[0], cell[3], cell[4], cell[5]) for cell in cells]).T
    return Row(
        np.array([cell[0].mean() for cell in cells]),
        np.array([cell[1].mean() for cell in cells]),
        whole[2].astype(np.int64),
        whole[3].astype(np.float32),
        whole[4].astype(np.float32),
        whole[5].astype(np.float32),
        whole[6].astype(np.int64),
        np.array([_share(cell[6], column) for column, cell in enumerate(cells, start=1)]),
        nll,
        brier,
        ece,
    )


def calibration(
    correct: NDArray[np.float64],
    confidence: NDArray[np.float64],
    truth: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> tuple[float, float, float]:
    """Mean negative log-likelihood (nats), Brier score (0 to 2) and expected calibration error of one probe, all (N,).

    A probability of the truth below ``IMPOSSIBLE`` counts as that: a method that says "never" and errs would have an
    infinite loss otherwise.
    """
    nll = negative_log_likelihood(np.maximum(truth, IMPOSSIBLE))
    found = np.array([nll, brier_score(truth, squares), expected_calibration_error(confidence, correct)])
    low, high = np.zeros(3), np.array([-math.log(IMPOSSIBLE), 2.0, 1.0])  # sums are rounded
    first, second, third = np.clip(found, low, high).tolist()
    return first, second, third


def _share(inferred: NDArray[np.float64], own: int) -> float:
    """How many samples of a probe were taken for their own task; NaN where no task was inferred for them."""
    return float((inferred == own).mean()) if (inferred > 0).all() else float("nan")


def checked(scores: Tensor, n: int, query: Query, name: str) -> Tensor:
    """The scores, if they have the shape and values the contract asks for; ``BadInput`` otherwise."""
    expected = (n, len(query.classes))
    if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise BadInput(f"{name}.predict() must return scores of shape {expected} (samples, candidates); got {got}")
    if bool((torch.isnan(scores) | torch.isposinf(scores)).any()):
        raise BadInput(f"{name}.predict() returned NaN or infinity; use minus infinity for 'never'")
    return scores


def checked_tasks(inferred: Tensor | None, n: int, n_tasks: int, name: str) -> Tensor:
    """The tasks that were inferred, zeros for None, if they have the shape and values the contract asks for.

    ``BadInput`` otherwise.
    """
    if inferred is None:
        return torch.zeros(n, dtype=torch.int64)
    wanted = f"{name}.answer() must return as tasks None or integers of shape {(n,)}, one for each sample"
    if not isinstance(inferred, Tensor):
        raise BadInput(f"{wanted}; got {type(inferred).__name__}")
    if tuple(inferred.shape) != (n,) or inferred.dtype not in INTEGERS:
        raise BadInput(f"{wanted}; got {inferred.dtype} of shape {tuple(inferred.shape)}")
    if n and (int(inferred.min()) < 0 or int(inferred.max()) > n_tasks):
        low, high = int(inferred.min()), int(inferred.max())
        raise BadInput(f"{name}.answer() numbers tasks from 1 to {n_tasks}, 0 for none inferred; got {low} to {high}")
    return inferred


def _cell(scores: Tensor, y: Tensor, query: Query, own: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Per sample: correct, correct among the task's own classes, predicted, confidence, truth, squares."""
    classes = torch.tensor(query.classes, device=scores.device)
    truth = torch.searchsorted(classes, y)
    columns = torch.tensor([query.classes.index(c) for c in own], device=scores.device)
    masked_truth = torch.searchsorted(classes[columns], y)
    scores = scores.double()
    nothing = torch.isinf(scores).all(dim=1, keepdim=True)
    probabilities = torch.softmax(torch.where(nothing, 0.0, scores), dim=1)
    confidence = probabilities.max(dim=1).values
    return (
        credit(scores, truth),
        credit(scores[:, columns], masked_truth),
        classes[scores.argmax(dim=1)].double(),
        confidence,
        probabilities.gather(1, truth[:, None])[:, 0],
        probabilities.square().sum(dim=1),
    )


def credit(scores: Tensor, truth: Tensor) -> Tensor:
    """1 where the truth has the highest score, 1/k in a k-fold tie, else 0; (B, K) and (B,) to (B,).

    >>> credit(torch.tensor([[0.0, 1.0], [2.0, 2.0]]), torch.tensor([1, 0])).tolist()
    [1.0, 0.5]
    """
    best = scores == scores.max(dim=1, keepdim=True).values
    hit = best.gather(1, truth[:, None])[:, 0]
    return hit.double() / best.sum(dim=1)
