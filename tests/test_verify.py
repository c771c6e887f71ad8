"""``clbench verify`` repeats the run of a record and says whether the same comes out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clbench.record import FILE, read_record, same_result
from tests.command import call, quick, refused
from tests.faulty_records import accuracy, as_schema_1, copy_of, edited, lowered, set_cell, set_field

MINE = """
from dataclasses import dataclass
from pathlib import Path

from clbench.strategies.naive import Naive

(Path(__file__).parent / "imported").touch()


@dataclass(kw_only=True)
class Mine(Naive):
    fails: bool = False

    def train_task(self, task):
        if self.fails:
            raise ArithmeticError("this always happens")
        super().train_task(task)
"""


@pytest.fixture(scope="module", autouse=True)
def one_commit() -> Iterator[None]:
    """The code does not change under the tests, whatever is committed meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clbench.costs._commit", lambda: "one")
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with probes and counted operations, in the folder ``records``."""
    cwd = tmp_path_factory.mktemp("good")
    assert quick("probe_every=20", "flops=true", "scenario.n_tasks=2", cwd=cwd).code == 0
    return cwd


@pytest.fixture
def copied(good: Path, tmp_path: Path) -> Path:
    """A copy of its record.json."""
    return copy_of(next(good.rglob(FILE)), tmp_path, 0)


def test_on_the_same_machine_the_result_is_bit_identical(good: Path) -> None:
    answer = call("verify", "records", cwd=good)
    assert answer.code == 0, answer
    assert "bit-identical" in answer.out
    assert "surroundings" not in answer.out
    assert len(list((good / "records").rglob(FILE))) == 1, "it was repeated elsewhere"


def test_the_identity_is_repeated_and_not_the_command(copied: Path) -> None:
    edited(copied, set_field("clbench run scenario=split_digits-v1 strategy=joint", "command"))
    answer = call("verify", copied, cwd=copied.parent)
    assert answer.code == 0
    assert "bit-identical" in answer.out


def test_a_record_of_an_older_schema_agrees_with_its_repetition_in_all_that_it_holds(good: Path, copied: Path) -> None:
    as_schema_1(copied)
    assert same_result(read_record(copied.parent), read_record(next(good.rglob(FILE)).parent))
    assert "bit-identical" in call("verify", copied, cwd=copied.parent).out


def test_a_result_that_this_machine_does_not_give_is_not_reproduced(copied: Path) -> None:
    edited(copied, lowered)
    answer = call("verify", copied, cwd=copied.parent)
    assert answer.code == 1
    assert "NOT reproduced" in answer.out
    assert "accuracy: 1 of 6 cells differ, most R[0, 2]" in answer.out
    assert "rounding alone" not in answer.out


def test_of_another_machine_little_may_differ_and_what_and_where_is_said(copied: Path) -> None:
    edited(copied, lowered)
    edited(copied, set_field("an abacus", "environment", "processor"))
    answer = call("verify", copied, cwd=copied.parent)
    assert answer.code == 0
    for words in ("within tolerance", "R[0, 2]", "(0.03 allowed)", "surroundings: processor: an abacus in the record"):
        assert words in answer.out
    strict = call("verify", copied, "--tolerance", "0", cwd=copied.parent)
    assert strict.code == 1
    assert "NOT reproduced" in strict.out


def test_of_another_machine_much_may_not_differ(copied: Path) -> None:
    edited(copied, lambda data: set_cell(accuracy(data, "task_masked_accuracy")[2][0], 2, 0)(data))
    edited(copied, set_field("an abacus", "environment", "processor"))
    answer = call("verify", copied, cwd=copied.parent)
    assert answer.code == 1
    assert "NOT reproduced" in answer.out
    assert "rounding alone" in answer.out


@pytest.mark.parametrize("with_probes", [True, False], ids=["curves", "counts"])
def test_what_is_counted_or_probed_must_come_out_too(with_probes: bool, copied: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        if with_probes:
            data["curves"]["accuracy"][0][0] = 0.5
        else:
            data["result"]["counts"][1]["steps"] += 1

    edited(copied, edit)
    answer = call("verify", copied, cwd=copied.parent)
    assert answer.code == 1
    assert ("the curves of the probes" if with_probes else "task 2: steps") in answer.out


def test_a_method_that_passes_for_a_reference_is_not_repeated(copied: Path) -> None:
    edited(copied, set_field(True, "reference"))
    refused(call("verify", copied, cwd=copied.parent), "clbench.strategies.naive.Naive is a reference")


def test_code_of_another_version_is_said(copied: Path) -> None:
    edited(copied, set_field("clbench 0.0.1", "identity", "strategy", "code"))
    answer = call("verify", copied, cwd=copied.parent)
    assert answer.code == 0
    assert "surroundings: strategy.code: clbench 0.0.1 in the record, clbench " in answer.out


def relabel(path: Path) -> None:
    """Make the card one of the user's own."""
    edited(path, set_field("mine-v1", "names", "scenario"))
    edited(path, set_field(None, "card", "fingerprint"))


def own(cwd: Path, *words: str) -> Path:
    """A run of a strategy of one's own."""
    (cwd / "mine.py").write_text(MINE)
    quick("strategy._target_=mine.Mine", "scenario.n_tasks=2", *words, cwd=cwd)
    sys.modules.pop("mine", None)
    (cwd / "imported").unlink()
    return next((cwd / "records").rglob(FILE))


def test_code_outside_clbench_is_imported_only_where_it_is_trusted(tmp_path: Path) -> None:
    path = own(tmp_path)
    refused(call("verify", path, cwd=tmp_path), "code outside clbench: mine.Mine", "--trust-imports")
    assert not (tmp_path / "imported").exists()
    assert "bit-identical" in call("verify", path, "--trust-imports", cwd=tmp_path).out
    assert (tmp_path / "imported").exists()
    (tmp_path / "mine.py").write_text(MINE + "\nx = 1\n")
    changed = call("verify", path, "--trust-imports", cwd=tmp_path)
    assert changed.code == 0
    assert "surroundings: strategy.code: source " in changed.out


@pytest.mark.parametrize("target", ["os.system", "clbench.__main__.main", "clbench.cli.main", "subprocess.Popen"])
def test_what_is_no_strategy_of_clbench_is_never_called(target: str, copied: Path) -> None:
    edited(copied, set_field(target, "identity", "strategy", "target"))
    edited(copied, set_field("mine", "names", "strategy"))
    edited(copied, set_field({"command": "touch evil"}, "identity", "strategy", "parameters"))
    refused(call("verify", copied, cwd=copied.parent), "code outside clbench")
    refused(call("verify", copied, "--trust-imports", cwd=copied.parent), "is not a Strategy")
    assert not list(copied.parent.glob("evil"))


def test_a_failed_run_is_repeated_and_fails_the_same_way(tmp_path: Path) -> None:
    path = own(tmp_path, "+strategy.fails=true")
    answer = call("verify", path, "--trust-imports", cwd=tmp_path)
    assert answer.code == 0
    assert "bit-identical: failed again, for the same reason: ArithmeticError: this always happens" in answer.out
    edited(path, set_field("ValueError: something else (at x.py:1, in f)", "reason"))
    other = call("verify", path, "--trust-imports", cwd=tmp_path)
    assert other.code == 1
    assert "the record is failed (ValueError: something else), the repetition failed (Arith" in other.out


def test_several_records_are_verified_and_what_cannot_be_repeated_is_named(good: Path, tmp_path: Path) -> None:
    paths = [copy_of(next(good.rglob(FILE)), tmp_path, number) for number in range(3)]
    edited(paths[0], lowered)
    paths[1].write_text("{}")
    answer = call("verify", tmp_path / "copies", cwd=tmp_path)
    assert answer.code == 2
    assert answer.out.count("NOT reproduced") == answer.out.count("bit-identical") == 1
    assert "1 of 3 reproduced" in answer.out
    assert f"cannot be repeated: {paths[1].parent}" in answer.err
    refused(call("verify", tmp_path / "nowhere", cwd=tmp_path), "holds no record.json")


def test_data_that_are_not_here_are_said(copied: Path) -> None:
    folder = {"source": "folder", "path": "pictures", "layout": "class"}
    for part in (("card",), ("identity", "scenario")):
        edited(copied, set_field(folder, *part, "data"))
    relabel(copied)
    answer = call("verify", copied, "--data-dir", "nowhere", cwd=copied.parent)
    refused(answer, "cannot be repeated", "no data at 'nowhere/pictures'")


def test_a_card_of_ones_own_that_has_changed_is_said_and_the_one_of_the_record_is_repeated(
    copied: Path, tmp_path: Path
) -> None:
    relabel(copied)
    card = json.loads(copied.read_text())["card"]
    (tmp_path / "conf" / "scenario").mkdir(parents=True)
    (tmp_path / "conf" / "scenario" / "mine-v1.yaml").write_text(json.dumps(card | {"n_tasks": 3}))
    answer = call("verify", copied, "--config-dir", "conf", cwd=tmp_path)
    assert answer.code == 0
    assert "has changed since, in: n_tasks; the record's is repeated" in answer.out
    assert "bit-identical" in answer.out
