"""Sweeps: the grammar, a strategy that raises, protocols that do not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clbench.compose import expand
from clbench.places import names
from clbench.record import Record
from clbench.seeds import Seeds
from tests.command import Answer, call, quick, records, refused

RAISES = '''
from dataclasses import dataclass
from clbench.strategy import SGDStrategy

@dataclass(kw_only=True)
class Raises(SGDStrategy):
    """Raise in the second task when the first number drawn is the unlucky one, or always.

    Source: nowhere.
    """

    unlucky: int = -1

    def setup(self, model, spec, rng):
        super().setup(model, spec, rng)
        self.fails_ = self.unlucky in (-1, int(rng.integers(1 << 40)))

    def before_task(self, task):
        if self.fails_ and len(self.seen_) > 2:
            raise ZeroDivisionError("this strategy had bad luck")
'''


def unlucky(seed: int) -> int:
    """The first number that a strategy of this seed draws."""
    return int(Seeds.of(seed).generator("strategy", "setup").integers(1 << 40))


def module(folder: Path, name: str) -> str:
    """Write the strategy as a module of its own name, so that no test meets another's."""
    (folder / f"{name}.py").write_text(RAISES)
    return f"{name}.Raises"


def by_status(found: list[Record]) -> dict[str, list[Record]]:
    return {status: [r for r in found if r.status == status] for status in ("ok", "failed", "skipped")}


def test_globs_and_ranges_expand_to_every_combination_once() -> None:
    runs = expand(["scenario=split_digits-v1,labelled_digits-v1", "strategy=glob(*)", "seed=range(3)"])
    strategies = names("strategy")
    assert len(runs) == len({tuple(r) for r in runs}) == 2 * len(strategies) * 3
    assert {o for run in runs for o in run if o.startswith("strategy=")} == {f"strategy={s}" for s in strategies}
    assert {o for run in runs for o in run if o.startswith("seed=")} == {"seed=0", "seed=1", "seed=2"}


def test_a_glob_takes_the_cards_by_name() -> None:
    found = {o for run in expand(["scenario=glob(*_digits-v1)"]) for o in run}
    assert found == {f"scenario={n}" for n in names("scenario") if n.endswith("_digits-v1")}
    excluded = {o for run in expand(["strategy=glob(*,exclude=[joint,ewc*])", "scenario=split_digits-v1"]) for o in run}
    assert not excluded & {"strategy=joint", "strategy=ewc", "strategy=ewc_online"}


def test_expand_lists_the_runs_that_a_sweep_makes(tmp_path: Path) -> None:
    words = [
        "scenario=split_digits-v1",
        "strategy=glob([na*,replay*])",
        "seed=range(2)",
        "trainer.epochs=1",
        "model.width=8",
    ]
    answer = call("run", "-m", *words, cwd=tmp_path)
    assert answer.code == 0, answer.err
    made = {(r.names["strategy"], r.seed) for r in records(tmp_path / "records")}
    listed = {tuple(o.partition("=")[2] for o in run[1:3]) for run in expand(words)}
    assert made == {(strategy, int(seed)) for strategy, seed in listed}
    assert {s for s, _ in made} == {"naive", "replay", "replay_balanced"}


@pytest.fixture(scope="module")
def one_in_five(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """Five seeds of two strategies, of which one raises for seed 3, through the user's own --config-dir."""
    cwd = tmp_path_factory.mktemp("sweep")
    target = module(cwd, "one_in_five")
    (cwd / "mine" / "strategy").mkdir(parents=True)
    (cwd / "mine" / "strategy" / "fragile.yaml").write_text(f"_target_: {target}\nunlucky: {unlucky(3)}\n")
    answer = quick("-m", "strategy=fragile,naive", "seed=range(5)", "--config-dir", "mine", cwd=cwd)
    return cwd, answer


def test_a_strategy_that_raises_leaves_one_failed_record_and_the_others_finish(
    one_in_five: tuple[Path, Answer],
) -> None:
    cwd, answer = one_in_five
    found = by_status(records(cwd / "records"))
    assert len(found["ok"]) == 9
    (failed,) = found["failed"]
    assert (failed.names["strategy"], failed.seed) == ("fragile", 3)
    assert failed.reason is not None
    assert "ZeroDivisionError: this strategy had bad luck" in failed.reason
    assert "one_in_five.py:" in failed.reason, "where it was raised"
    assert answer.code == 1
    assert "1 of 10 runs did not end well" in answer.err
    assert "ZeroDivisionError" in answer.out


def test_the_report_says_that_a_seed_is_missing(one_in_five: tuple[Path, Answer]) -> None:
    cwd, _ = one_in_five
    answer = call("report", "records", "--out", "page", cwd=cwd)
    assert answer.code == 0
    for suffix in ("md", "html"):
        page = (cwd / "page" / f"leaderboard.{suffix}").read_text()
        assert "4 of 5" in page
        assert "this strategy had bad luck" in page


def test_a_failed_run_is_tried_again_and_a_finished_one_is_not(one_in_five: tuple[Path, Answer]) -> None:
    cwd, _ = one_in_five
    again = quick("-m", "strategy=fragile", "seed=2,3", "--config-dir", "mine", cwd=cwd)
    assert again.code == 1
    assert again.out.count("done already") == 1
    assert "task 1/5" not in again.err, "what a failed run had finished is kept"


def test_a_target_that_raises_for_one_seed_of_three_is_shown_as_two_of_three(tmp_path: Path) -> None:
    words = [f"strategy._target_={module(tmp_path, 'one_in_three')}", f"+strategy.unlucky={unlucky(1)}"]
    answer = quick("-m", *words, "seed=range(3)", cwd=tmp_path)
    assert answer.code == 1
    found = by_status(records(tmp_path / "records"))
    assert [r.seed for r in found["failed"]] == [1]
    assert [r.seed for r in found["ok"]] == [0, 2]
    assert call("report", "records", cwd=tmp_path).code == 0
    assert "2 of 3" in (tmp_path / "records" / "leaderboard.md").read_text()


def test_a_strategy_that_always_raises_is_in_the_report_with_no_seed(tmp_path: Path) -> None:
    assert quick(f"strategy._target_={module(tmp_path, 'never')}", cwd=tmp_path).code == 1
    assert quick("strategy=naive", cwd=tmp_path).code == 0
    assert call("report", "records", cwd=tmp_path).code == 0
    assert re.search(r"0 of 1", (tmp_path / "records" / "leaderboard.md").read_text())


def test_an_unsupported_protocol_is_skipped_in_a_sweep_with_its_reason(tmp_path: Path) -> None:
    answer = quick("-m", "strategy=icarl,naive", cwd=tmp_path, scenario="labelled_digits-v1")
    assert answer.code == 0, answer.err
    found = by_status(records(tmp_path / "records"))
    assert [r.names["strategy"] for r in found["ok"]] == ["naive"]
    (skipped,) = found["skipped"]
    assert skipped.reason is not None
    assert "does not support task-incremental" in skipped.reason
    assert "class-incremental" in skipped.reason


def test_an_unsupported_protocol_asked_for_alone_is_bad_input(tmp_path: Path) -> None:
    answer = quick("strategy=icarl", cwd=tmp_path, scenario="labelled_digits-v1")
    assert answer.code == 2
    assert "ICaRL does not support task-incremental; it declares: class-incremental" in answer.err
    assert "Traceback" not in answer.err


def test_bad_input_in_a_sweep_stops_it_before_the_first_run(tmp_path: Path) -> None:
    answer = quick("-m", "strategy=naive,replay", "strategy.memory=50", cwd=tmp_path)  # naive has no memory
    refused(answer, "strategy.memory")
    assert not records(tmp_path)


def test_one_impossible_scenario_of_a_sweep_does_not_stop_the_others(tmp_path: Path) -> None:
    answer = quick("-m", "scenario.n_tasks=11,2", cwd=tmp_path)
    refused(answer, "scenario.n_tasks=11", "n_tasks may be at most 10", "1 of 2 runs did not end well")
    assert [r.matrix().n_tasks for r in records(tmp_path)] == [2]
