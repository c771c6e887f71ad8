"""A strategy of one's own, from outside the package: three ways in, one result; and a scenario of one's own."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clbench
from clbench.cards import Scenario
from clbench.errors import BadInput, RecordError
from clbench.evaluate import make_query
from clbench.record import FILE, Record, load_predictions
from clbench.seeds import Seeds
from clbench.strategy import Strategy, Trainer
from tests.command import QUICK, call, only, quick, records, refused, spawn

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
QUICK_TRAINER = Trainer(epochs=1, batch_size=64)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the user's with a copy of the example, and nothing of the package."""
    shutil.copy(EXAMPLES / "custom_strategy.py", tmp_path)
    shutil.copytree(EXAMPLES / "conf", tmp_path / "conf")
    return tmp_path


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Strategy]]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    made = importlib.import_module("custom_strategy").Anchored
    assert issubclass(made, Strategy)
    yield made
    sys.modules.pop("custom_strategy", None)


def test_the_example_is_short_and_says_where_it_comes_from() -> None:
    text = (EXAMPLES / "custom_strategy.py").read_text()
    assert len(text.splitlines()) <= 30
    assert "Source:" in text
    assert "Differs:" in text


def test_a_target_a_config_dir_and_python_give_the_same_matrix(outside: Path, example: type[Strategy]) -> None:
    typed = quick("strategy._target_=custom_strategy.Anchored", "+strategy.alpha=0.5", "records=typed", cwd=outside)
    assert typed.code == 0, typed.err
    configured = quick(
        "--config-dir", "conf", "strategy=anchored", "strategy.alpha=0.5", "records=configured", cwd=outside
    )
    assert configured.code == 0, configured.err
    called = clbench.run(
        "split_digits-v1",
        example(alpha=0.5, trainer=QUICK_TRAINER),  # type: ignore[call-arg]
        overrides=["model.width=32"],
        records=outside / "called",
    )
    of_class = clbench.run("split_digits-v1", example, overrides=QUICK, records=outside / "of_class")
    found = [only(outside / "typed"), only(outside / "configured"), called]
    assert [r.names["strategy"] for r in found] == ["Anchored[alpha=0.5]", "anchored[alpha=0.5]", "Anchored[alpha=0.5]"]
    assert len({r.result_sha256 for r in found}) == 1
    assert len({r.id for r in found}) == 1
    assert of_class.names["strategy"] == "Anchored"
    assert of_class.result_sha256 != called.result_sha256, "alpha matters"


def test_the_example_runs_in_a_process_that_knows_nothing_of_this_one(outside: Path) -> None:
    words = ("run", "scenario=labelled_digits-v1", "strategy._target_=custom_strategy.Anchored", *QUICK)
    answer = spawn(*words, cwd=outside)
    assert answer.code == 0, answer.err
    record = only(outside / "records")
    labels = ("labelled_digits-v1", "Anchored", "mlp[width=32]", "sgd[batch_size=64,epochs=1]")
    assert tuple(record.names[key] for key in ("scenario", "strategy", "model", "trainer")) == labels
    assert record.identity["strategy"]["code"].startswith("source ")


def test_the_example_keeps_the_contract(outside: Path) -> None:
    answer = call("check", "custom_strategy:Anchored", cwd=outside)
    assert answer.code == 0, answer.out


def test_what_the_example_does_helps_against_forgetting_when_the_task_is_told(
    outside: Path, example: type[Strategy]
) -> None:
    naive = clbench.run("labelled_digits-v1", "naive", records=outside / "r", overrides=["trainer.epochs=5"])
    anchored = clbench.run("labelled_digits-v1", example, records=outside / "r", overrides=["trainer.epochs=5"])
    final = [float(r.matrix().values[-1].mean()) for r in (naive, anchored)]
    assert final[1] > final[0] + 0.02


def test_an_instance_is_not_given_a_trainer_it_would_ignore(tmp_path: Path, example: type[Strategy]) -> None:
    with pytest.raises(BadInput, match="brings its own"):
        clbench.run("split_digits-v1", example(), overrides=["trainer.epochs=1"], records=tmp_path)
    record = clbench.run("split_digits-v1", example(trainer=QUICK_TRAINER), records=tmp_path)  # type: ignore[call-arg]
    assert record.names["trainer"] == "sgd[batch_size=64,epochs=1]"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    cwd = tmp_path_factory.mktemp("replayed")
    assert quick("strategy=replay", "seed=3", cwd=cwd).code == 0
    return next(cwd.rglob(FILE)).parent, only(cwd)


def test_a_loaded_strategy_predicts_what_its_run_predicted_last(replayed: tuple[Path, Record]) -> None:
    folder, record = replayed
    strategy, kept = clbench.load(folder), load_predictions(folder)
    stream = Scenario.from_card(record.card).build(Seeds.of(3))
    for task in stream.tasks:
        query = make_query("class-incremental", stream.tasks, len(stream), task.index)
        scores = strategy.predict(task.test.take(torch.arange(len(task.test))), query)
        predicted = np.array(query.classes)[scores.argmax(dim=1).numpy()]
        np.testing.assert_array_equal(predicted, kept["predicted"][-1][kept["probe"] == task.index])


def test_a_folder_without_a_trained_model_is_refused_by_name(replayed: tuple[Path, Record], tmp_path: Path) -> None:
    shutil.copy(replayed[0] / FILE, tmp_path)
    with pytest.raises(RecordError, match="holds no trained model"):
        clbench.load(tmp_path)
    with pytest.raises(RecordError, match="nowhere"):
        clbench.load(tmp_path / "nowhere")


CARD = """
name: mine-v1
summary: Two tasks of two colours each.
data: {source: folder, path: pictures}
rule: classes
n_tasks: 2
protocol: class-incremental
licence: CC0
citation: drawn by this test
"""
COLOURS = {"blue": (20, 30, 220), "green": (10, 200, 40), "red": (230, 20, 10), "white": (240, 240, 250)}


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder of small pictures by class, and a card that reads it."""
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "data" / "pictures" / name).mkdir(parents=True)
        for k in range(16):
            pixels = np.clip(rng.normal(colour, 40, size=(8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / "pictures" / name / f"{k}.png")
    (tmp_path / "conf" / "scenario").mkdir(parents=True)
    (tmp_path / "conf" / "scenario" / "mine-v1.yaml").write_text(CARD)
    return tmp_path


def test_a_scenario_of_ones_own_reads_a_folder_of_pictures_by_class(pictures: Path) -> None:
    words = ("--config-dir", "conf", "data_dir=data", "strategy=joint", "trainer.epochs=20")
    answer = quick(*words, cwd=pictures, scenario="mine-v1")
    assert answer.code == 0, answer.err
    record = only(pictures / "records")
    assert sorted(n for task in record.result["tasks"] for n in task["class_names"]) == sorted(COLOURS)
    assert record.matrix().values[-1].mean() > 0.9
    assert call("report", "records", cwd=pictures).code == 0
    assert "mine-v1" in (pictures / "records" / "leaderboard.md").read_text()


def test_ones_own_scenarios_and_strategies_are_swept_together(pictures: Path) -> None:
    shutil.copy(EXAMPLES / "custom_strategy.py", pictures)
    shutil.copytree(EXAMPLES / "conf", pictures / "conf", dirs_exist_ok=True)
    words = ("-m", "--config-dir", "conf", "data_dir=data", "strategy=anchored,naive", "seed=0,1")
    answer = quick(*words, cwd=pictures, scenario="mine-v1,labelled_digits-v1")
    assert answer.code == 0, answer.err
    assert len(records(pictures / "records")) == 8


def test_a_wrong_key_of_ones_own_configuration_is_met_with_the_right_one(outside: Path) -> None:
    answer = quick("--config-dir", "conf", "strategy=anchored", "strategy.alhpa=1", cwd=outside)
    refused(answer, "strategy.alhpa", "did you mean 'strategy.alpha'")
    answer = quick("--config-dir", "conf", "strategy=anchord", cwd=outside)
    refused(answer, "did you mean 'anchored'", "naive")
