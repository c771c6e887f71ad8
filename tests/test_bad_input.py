"""Bad input: what was expected, what came, what to do; exit code 2, no traceback, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import clbench
from clbench.errors import BadInput
from clbench.metrics import metric
from tests.command import QUICK, call, only, quick, records, refused

FAULTY = """
from dataclasses import dataclass
from clbench.strategy import SGDStrategy, Strategy

class NotAStrategy:
    pass

@dataclass(kw_only=True)
class Abstract(Strategy):
    pass

class Undecorated(SGDStrategy):
    alpha: float = 1.0

@dataclass(kw_only=True)
class Fine(SGDStrategy):
    alpha: float = 1.0

@dataclass(kw_only=True)
class NoSetup(SGDStrategy):
    def setup(self, model, spec, rng):
        raise RuntimeError("no setup today")

@dataclass(kw_only=True)
class WrongShape(SGDStrategy):
    def predict(self, inputs, query):
        return super().predict(inputs, query)[:, :1]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "unwritten.py").write_text("x = = 1\n")
    (tmp_path / "explodes.py").write_text("raise RuntimeError('boom')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            ["scenario=split_digit-v1"],
            ["unknown scenario 'split_digit-v1'", "did you mean 'split_digits-v1'", "known:"],
        ),
        (["strategy=replai"], ["unknown strategy 'replai'", "did you mean 'replay'", "er_ace"]),
        (["model=mpl"], ["unknown model 'mpl'", "did you mean 'mlp'", "resnet18_reduced"]),
        (["trainer=sdg"], ["unknown trainer 'sdg'", "did you mean 'sgd'", "adam"]),
        (["sed=1"], ["unknown override 'sed'", "did you mean 'seed'", "known:"]),
        (["trainer.ephocs=3"], ["'trainer.ephocs'", "did you mean 'trainer.epochs'", "+trainer.ephocs="]),
        (["strategy=replay", "strategy.memry=5"], ["did you mean 'strategy.memory'"]),
        (["strategy=replay", "+strategy.memry=5"], ["strategy Replay", "did you mean 'memory'"]),
        (["scenario.n_task=2"], ["did you mean 'scenario.n_tasks'"]),
        (["+scenario.n_task=2"], ["field of a scenario card", "did you mean 'n_tasks'"]),
        (["strategy=glob(nothing*)"], ["nothing*"]),
        (["seed"], ["seed", "EQUAL"]),
        (["seed=-1"], ["seed must be a whole number from 0 on, below 2**63; got -1"]),
        (["seed=x"], ["seed must be a whole number from 0 on, below 2**63; got 'x'"]),
        ([f"seed={2**63}"], [f"below 2**63; got {2**63}"]),
        (
            ["seed=1", f"+seeds.init={2**63}"],
            [f"seeds.init must be a whole number from 0 on, below 2**63; got {2**63}"],
        ),
        (["seed=1.5"], ["got 1.5"]),
        (["seed=true"], ["got True"]),
        (["+seeds.order=-1"], ["seeds.order must be a whole number from 0 on, below 2**63; got -1"]),
        (["+seeds.ordre=1"], ["did you mean 'order'"]),
        (["threads=0"], ["threads must be a whole number from 1 on, below 2**63; got 0"]),
        (["device=tpu9"], ["device must be cpu, cuda or cuda:N; got 'tpu9'"]),
        (["scenario.n_tasks=11"], ["10 classes cannot be split into 11 tasks", "at most 10"]),
        (["scenario.n_tasks=0"], ["n_tasks must be at least 1; got 0"]),
        (["scenario.n_tasks=x"], ["split_digits-v1", "card", "'x'"]),
        (["scenario.test_fraction=1.5"], ["test_fraction must lie between 0 and 1; got 1.5"]),
        (["scenario.protocol=class"], ["unknown protocol 'class'", "class-incremental"]),
        (["scenario.rule=clases"], ["unknown split rule 'clases'", "did you mean 'classes'"]),
        (["scenario.data.source=digit"], ["unknown data source 'digit'", "did you mean 'digits'"]),
        (["trainer.epochs=0"], ["epochs >= 1", "epochs=0"]),
        (["trainer.epochs=x"], ["option 'epochs' of trainer is of type int; got 'x'"]),
        (["trainer.lr=nan"], ["finite lr"]),
        (["trainer.optimizer=adm"], ["unknown value of optimizer in trainer 'adm'", "did you mean 'adam'"]),
        (["strategy=replay", "strategy.memory=0"], ["capacity >= 1", "got 0"]),
        (["strategy=replay", "strategy.memory=x"], ["option 'memory' of strategy Replay is of type int; got 'x'"]),
        (["strategy=ewc", "strategy.strength=nan"], ["finite number"]),
        (["model.width=-1"], ["model MLP does not take", "-1"]),
        (["model._target_=torch.nn.Linear"], ["is not a Model"]),
        (["strategy._target_=no_such_module.X"], ["'no_such_module.X' cannot be imported", "package.module.Class"]),
        (["strategy._target_=X"], ["'X' cannot be imported", "package.module.Class"]),
        (["strategy._target_=faulty.Fines"], ["did you mean 'Fine'"]),
        (["strategy._target_=unwritten.X"], ["cannot be imported", "SyntaxError", "unwritten.py, line 1"]),
        (["strategy._target_=explodes.X"], ["cannot be imported", "RuntimeError: boom"]),
        (["strategy._target_=faulty.NotAStrategy"], ["is not a Strategy", "derive it"]),
        (["strategy._target_=faulty.Abstract"], ["Abstract is abstract", "train_task"]),
        (["strategy._target_=faulty.Undecorated"], ["must be a dataclass", "@dataclass(kw_only=True)"]),
        (["strategy._target_=faulty.Fine", "+strategy.alpa=2"], ["strategy Fine", "did you mean 'alpha'"]),
        (["--config-dir", "nowhere"], ["--config-dir 'nowhere' is not a folder"]),
        (["--config-dir"], ["--config-dir needs a folder"]),
        (["--cfg", "jop"], ["invalid choice: 'jop'"]),
    ],
    ids=lambda part: " ".join(part) if part and "=" in part[0] else None,
)
def test_a_run_is_refused_with_what_came_and_what_to_do(words: list[str], parts: list[str], mine: Path) -> None:
    answer = call("run", "scenario=split_digits-v1", *QUICK, *words, cwd=mine)
    if "--cfg" not in words:  # argparse shows its usage as well
        refused(answer, *parts)
    assert answer.code == 2
    assert parts[0] in answer.err
    assert answer.out == ""
    assert not records(mine)


def test_without_a_scenario_the_scenarios_are_listed(tmp_path: Path) -> None:
    refused(call("run", "strategy=naive", cwd=tmp_path), "give scenario=NAME", "split_digits-v1")


def test_cuda_is_refused_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(quick("device=cuda", cwd=tmp_path), "torch sees no CUDA device here", "device=cpu")


def test_an_unknown_metric_is_met_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"did you mean 'forgetting\.rwalk2018'"):
        metric("forgeting.rwalk2018")


def test_python_raises_what_the_command_line_says(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'replay'"):
        clbench.run("split_digits-v1", "replai", records=tmp_path)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["study", "leaderbord"], ["unknown study 'leaderbord'", "did you mean 'leaderboard'"]),
        (["study", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        (["report", "nowhere"], ["no records folder at 'nowhere'", "clbench run"]),
        (["report", "empty"], ["no record under 'empty'", "clbench run"]),
        (["check", "no_such_module:X"], ["'no_such_module:X' cannot be imported", "module:Class"]),
        (["check", "faulty:Fines"], ["did you mean 'Fine'"]),
        (["check", "faulty:NotAStrategy"], ["cannot check faulty:NotAStrategy", "Strategy"]),
        (["check", "faulty:Abstract"], ["Abstract is abstract"]),
        (["check", "faulty"], ["my_pkg.mine:Mine", "'faulty'"]),
        (["list", "strategy"], ["invalid choice: 'strategy'", "strategies"]),
        (["ran"], ["invalid choice: 'ran'", "run"]),
    ],
    ids=lambda part: " ".join(part) if len(part) < 3 and " " not in part[0] else None,
)
def test_every_command_refuses_in_words(words: list[str], parts: list[str], mine: Path) -> None:
    (mine / "empty").mkdir()
    refused(call(*words, cwd=mine), *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: [1\nb: }", ["not readable YAML", "own.yaml"]),
        ("- 1\n", ["'strategy' must hold names and values"]),
        ("alpha: 1\n", ["strategy has no _target_", "package.module.Class"]),
        ("_target_: faulty.Fine\nalpa: 1\n", ["did you mean 'alpha'"]),
    ],
    ids=["not YAML", "a list", "no target", "a wrong option"],
)
def test_a_bad_configuration_of_ones_own_is_named(text: str, parts: list[str], mine: Path) -> None:
    (mine / "conf" / "strategy").mkdir(parents=True)
    (mine / "conf" / "strategy" / "own.yaml").write_text(text)
    refused(quick("--config-dir", "conf", "strategy=own", cwd=mine), *parts)


def test_a_setup_that_raises_is_a_failed_run(mine: Path) -> None:
    answer = quick("strategy._target_=faulty.NoSetup", cwd=mine)
    refused(answer, "failed", "RuntimeError: no setup today", "faulty.py:", code=1)
    assert only(mine).status == "failed"


def test_scores_of_a_wrong_shape_fail_the_run_with_both_shapes(mine: Path) -> None:
    answer = quick("strategy._target_=faulty.WrongShape", cwd=mine)
    refused(answer, "WrongShape.predict() must return scores of shape", "got", code=1)


def test_a_non_finite_loss_fails_the_run_with_task_epoch_and_step(tmp_path: Path) -> None:
    answer = quick("strategy=naive", "trainer.lr=1e9", cwd=tmp_path)
    refused(answer, "failed", "task 1 ('classes 1'): the loss is", "in epoch 1, step", "smaller lr", code=1)
    record = only(tmp_path)
    assert record.status == "failed"
    assert record.reason is not None
    assert record.reason.startswith("NonFiniteLoss: task 1")
