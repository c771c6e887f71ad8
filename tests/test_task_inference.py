"""Strategies that infer the task: what they must return, what the record keeps, and where a person sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import clbench
from clbench.cli.show import show_record
from clbench.errors import BadInput
from clbench.evaluate import BATCH, evaluate
from clbench.matrix import ScoreMatrix
from clbench.metrics import metric
from clbench.models import Model
from clbench.record import load_predictions, read_record, write_record
from clbench.report import write_report
from clbench.state import load_state, save_state
from clbench.strategy import Strategy
from clbench.stream import Inputs, Query, StreamSpec, TaskView
from tests.toy_records import Pages, several, toy_record
from tests.toy_streams import CPU, build, digits

INFERENCE = "task_inference_accuracy"


@dataclass(kw_only=True)
class NearestTask(Strategy):
    """Takes a sample for the task with the nearest mean, then for the nearest class mean of that task."""

    interrupted_at: ClassVar[int] = 0  # the task in which a person presses Control-C

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.tasks_: list[Tensor] = []
        self.means_: dict[int, Tensor] = {}
        self.task_of_: dict[int, int] = {}

    def train_task(self, task: TaskView) -> None:
        (batch,) = task.batches(10_000, 1)
        if len(self.tasks_) + 1 == self.interrupted_at:
            raise KeyboardInterrupt
        images = batch.inputs["image"].flatten(1)
        self.tasks_.append(images.mean(dim=0))
        for c in task.classes:
            self.means_[c] = images[batch.y == c].mean(dim=0)
            self.task_of_[c] = len(self.tasks_)

    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        return self.answer(inputs, query)[0]

    def answer(self, inputs: Inputs, query: Query) -> tuple[Tensor, Tensor | None]:
        images = inputs["image"].flatten(1)
        if not self.tasks_:
            return torch.zeros(len(images), len(query.classes)), None
        taken = torch.cdist(images, torch.stack(self.tasks_)).argmin(dim=1) + 1
        scores = torch.full((len(images), len(query.classes)), -torch.inf)
        for column, c in enumerate(query.classes):
            if c in self.means_:
                own = taken == self.task_of_[c]
                scores[own, column] = -(images[own] - self.means_[c]).norm(dim=1)
        return scores, taken.int()


def run(folder: Path, seed: int = 0) -> Any:
    return clbench.run("split_digits-v1", NearestTask, seed=seed, records=folder)


# --- what is recorded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("records")
    run(place)
    return place


def test_the_record_says_how_often_each_task_was_recognised_and_of_which_sample(folder: Path) -> None:
    (place,) = (path.parent for path in folder.rglob("record.json"))
    record, kept = read_record(place), load_predictions(place)
    values = record.matrix(INFERENCE).values
    assert np.isnan(values[0]).all(), "nothing is inferred before the first task"
    assert (kept["inferred"][0] == 0).all()
    own = kept["inferred"] == kept["probe"]
    again = np.stack([own[:, kept["probe"] == j].mean(axis=1) for j in range(1, 6)], axis=1)
    np.testing.assert_array_equal(values[1:], again[1:])
    assert values[1, 0] == 1, "of one task nothing else can be taken"
    assert (kept["inferred"][1:].max(axis=1) == np.arange(1, 6)).all()
    assert 0.5 < values[-1].mean() < 1
    assert (record.matrix().values[-1] <= values[-1]).all(), "a sample taken for another task is wrong"


def test_a_strategy_that_infers_nothing_has_no_such_matrix(tmp_path: Path) -> None:
    record = clbench.run("split_digits-v1", "ncm", records=tmp_path, overrides=["keep=false"])
    assert INFERENCE not in record.result["matrices"]


def test_an_interrupted_run_goes_on_with_what_was_inferred_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NearestTask, "interrupted_at", 4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.setattr(NearestTask, "interrupted_at", 1)  # training on the first task again would stop it again
    assert run(tmp_path).result == run(folder).result


def test_a_checkpoint_of_a_version_without_inference_is_thrown_away(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NearestTask, "interrupted_at", 4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    rows = list(tmp_path.glob(".checkpoints/*.row*"))
    assert len(rows) == 4, "of the untrained model and three tasks, each in a file of its own"
    for path in rows:
        row = load_state(path)
        del row["inferred"], row["inference"]
        save_state(path, row)
    monkeypatch.setattr(NearestTask, "interrupted_at", 0)
    assert run(tmp_path).result == run(folder).result


# --- what a strategy may return


@dataclass(kw_only=True)
class Says(Strategy):
    """Answers nothing, and for tasks what the test gives."""

    tasks: Any = None
    group: int = 1

    @property
    def group_size(self) -> int:
        return self.group

    def train_task(self, task: TaskView) -> None: ...

    def answer(self, inputs: Inputs, query: Query) -> tuple[Tensor, Tensor | None]:
        n = len(inputs["image"])
        return torch.zeros(n, len(query.classes)), self.tasks(n)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_any_integers_are_tasks(dtype: torch.dtype) -> None:
    row = evaluate(Says(tasks=lambda n: torch.full((n,), 2, dtype=dtype)), "class-incremental", digits().tasks, 5, CPU)
    np.testing.assert_array_equal(row.inference, [0, 1, 0, 0, 0])
    assert (row.inferred == 2).all()


def test_a_probe_with_a_sample_for_which_nothing_was_inferred_has_no_share() -> None:
    row = evaluate(Says(tasks=lambda n: (torch.arange(n) > 0).int()), "class-incremental", digits().tasks, 5, CPU)
    assert np.isnan(row.inference).all()


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (lambda n: [1] * n, "Says.answer.. must return as tasks None or integers of shape .*got list"),
        (lambda n: torch.ones(n, 1, dtype=torch.int64), r"got torch.int64 of shape \(\d+, 1\)"),
        (lambda n: torch.ones(n - 1, dtype=torch.int64), r"one for each sample; got torch.int64 of shape"),
        (lambda n: torch.ones(n), "got torch.float32"),
        (lambda n: torch.ones(n, dtype=torch.bool), "got torch.bool"),
        (lambda n: torch.full((n,), 6), "numbers tasks from 1 to 5, 0 for none inferred; got 6 to 6"),
        (lambda n: torch.full((n,), -1), "got -1 to -1"),
    ],
)
def test_tasks_of_another_shape_or_kind_are_refused_in_words(tasks: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        evaluate(Says(tasks=tasks), "class-incremental", digits().tasks, 5, CPU)


@pytest.mark.parametrize(("group", "largest"), [(1, 512), (3, 510), (100, 500), (700, 700)])
def test_samples_that_are_answered_together_are_asked_together(group: int, largest: int) -> None:
    asked: list[int] = []
    (task,) = build(data={"source": "mnist5k"}, n_tasks=1).tasks
    evaluate(Says(tasks=lambda n: asked.append(n), group=group), "class-incremental", [task], 1, CPU)
    assert BATCH == 512
    assert asked[:-1] == [largest] * (len(task.test) // largest)
    assert sum(asked) == len(task.test)


# --- where it is shown


def inferring(strategy: str, n_tasks: int = 3, **changes: Any) -> list[Any]:
    made = several(strategy, 0.6, **changes)
    for record in made:
        values = np.full((n_tasks + 1, n_tasks), np.nan)
        values[1:] = np.linspace(0.5, 0.9, n_tasks) + 0.01 * record.seed
        record.result["matrices"][INFERENCE] = ScoreMatrix(values, name=INFERENCE).to_json()
    return made


def test_a_run_prints_how_often_the_task_was_recognised(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = run(folder)
    show_record(record, folder, True)
    mean = 100 * record.matrix(INFERENCE).values[-1].mean()
    assert re.search(rf"task inference accuracy +{mean:.1f} % +task_inference_accuracy\.last", capsys.readouterr().out)
    show_record(toy_record("replay"), folder, True)
    assert "inference" not in capsys.readouterr().out


def test_the_report_has_a_column_and_a_table_by_task_where_tasks_are_inferred(pages: Pages) -> None:
    md, data, html = pages(*inferring("supsup"), *several("naive", 0.2))
    assert "| supsup | 51.0 ± 2.5 | 71.0 ± 2.5 | 91.0 ± 2.5 | 51.0 (task 1) |" in md
    assert "| strategy | task 1 | task 2 | task 3 | lowest of all tasks |" in md
    assert re.search(r"Task inference after the last task.*>91\.0 ± 2\.5<.*>51\.0 \(task 1\)<", html, re.DOTALL)
    by_label = {entry["label"]: entry for entry in data["scenarios"][0]["entries"]}
    assert [task["per_seed"] for task in by_label["supsup"][INFERENCE]] == [
        pytest.approx([share, share + 0.01, share + 0.02]) for share in (0.5, 0.7, 0.9)
    ]
    assert by_label["supsup"]["values"]["task_inference_accuracy.last"]["mean"] == pytest.approx(0.71)
    assert by_label["naive"]["values"]["task_inference_accuracy.last"]["mean"] is None
    assert INFERENCE not in by_label["naive"]


def test_a_run_of_an_entry_without_the_matrix_leaves_its_figures_open(pages: Pages) -> None:
    md, *_ = pages(*inferring("supsup", seeds=3)[:2], toy_record("supsup", 2, 0.6))
    assert "| supsup | — | — | — | — |" in md


def test_without_inference_the_report_says_nothing_of_it(pages: Pages) -> None:
    assert not [page for page in map(str, pages(*several("naive", 0.2))) if "nference" in page]


def test_the_report_of_a_real_run_is_made_from_its_record(folder: Path, tmp_path: Path) -> None:
    record = run(folder)
    write_record(tmp_path / "records" / "a" / "b" / "c" / "seed0", record)
    write_report(tmp_path / "records", tmp_path / "out")
    shown = f"{100 * metric('task_inference_accuracy.last')(record.matrix(INFERENCE)):.1f}"
    assert shown in (tmp_path / "out" / "leaderboard.md").read_text()
