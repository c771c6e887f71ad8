"""Clauses on train_task(): what it reads, what it leaves alone, and that it learns."""

from __future__ import annotations

import torch

from clbench.checks.answering import equal
from clbench.checks.clause import NotApplicable, expect
from clbench.checks.strategy_case import SEED, StrategyCase
from clbench.checks.trace import begin, quiet, run, step
from clbench.errors import BadInput, TaskClosedError
from clbench.evaluate import credit, make_query

CLEARLY = 0.3  # of the way from chance to perfect


def past_tasks_are_closed(case: StrategyCase) -> None:
    """The data of a task are not read after its train_task() has returned."""
    if isinstance(case.error, TaskClosedError):
        raise case.error
    assert case.main is not None  # any other failure is told by declared_protocols_work


def training_data_are_left_alone(case: StrategyCase) -> None:
    """Training does not write into the samples or labels it is given."""
    for given, task in zip(case.stream().tasks, case.main.stream.tasks, strict=True):
        rows = torch.arange(len(given.train))
        read = given.train.take(rows)
        changed = [k for k, x in task.train.take(rows).items() if not torch.equal(x, read[k])]
        changed += [] if torch.equal(given.train.labels, task.train.labels) else ["y"]
        expect(
            not changed, "training data as they were", f"changes in {changed} of task {task.index}", "work on a copy"
        )


def training_leaves_the_process_alone(case: StrategyCase) -> None:
    """Training leaves gradient mode, threads, default dtype and the global random states of Python and NumPy alone."""
    advice = "put settings back with a context manager, and draw from the generator that setup() is given"
    expect(not case.main.altered, "the settings of the process as they were", f"a changed {case.main.altered}", advice)


def current_task_is_learnt(case: StrategyCase) -> None:
    """After training on a task, its own test samples are told apart clearly better than by chance."""
    tasks = case.main.stream.tasks
    rows = [row for row in case.main.scores if row]
    for row in rows:
        task = tasks[row - 1]
        query = make_query(case.protocol, tasks, row, row)
        columns = [query.classes.index(c) for c in task.classes]
        truth = torch.searchsorted(torch.tensor(task.classes), task.test.labels)
        reached = float(credit(case.main.scores[row][row - 1][:, columns].double(), truth).mean())
        chance = 1 / len(task.classes)
        floor = chance + CLEARLY * (1 - chance)
        advice = "see whether the loss goes down and predict() uses what was trained"
        expect(reached >= floor, f"accuracy of {floor:.2f} or more on task {row} after it", f"{reached:.2f}", advice)


def number_of_tasks_is_not_known(case: StrategyCase) -> None:
    """A stream that ends earlier changes nothing before its end: no strategy knows how many tasks will come."""
    if case.subject.cls.reference:
        raise NotApplicable("a declared reference is told which task is the last")
    stream = case.stream()
    shorter = type(stream)(stream.spec, stream.tasks[:-1], stream.fingerprint, stream.augment)
    trace = run(case.subject.make(), shorter, SEED, answer=False)
    for row, state in enumerate(trace.states):
        same = equal(state, case.main.states[row])
        expect(
            same,
            f"the same state after task {row} of {len(shorter)} as of {len(stream)}",
            "another",
            "use nothing but the view",
        )


def classes_may_arrive_with_the_tasks(case: StrategyCase) -> None:
    """With an open label space and a growing head the strategy trains and answers, or refuses with BadInput."""
    if case.protocol == "domain-incremental":
        raise NotApplicable("under domain-incremental all classes are there from the first task")
    stream = case.stream("open")
    with quiet():
        try:
            trace = begin(case.subject.make(), stream, SEED)
        except BadInput as error:
            raise NotApplicable(f"setup() refuses an open label space: {error}") from error
        for index in range(1, len(stream) + 1):
            step(trace, index, SEED)
    for row, cells in trace.scores.items():
        nan = any(bool(torch.isnan(scores).any()) for scores in cells)
        expect(not nan, f"answers in row {row}", "NaN", "return float('-inf') for classes that have not come yet")
