"""``clbench compare``: two entries seed by seed, from the command line."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from clbench.evaluate import IMPOSSIBLE
from clbench.matrix import ScoreMatrix
from clbench.metrics import metric
from clbench.record import FILE, Record
from tests.command import Answer, call, refused
from tests.toy_records import several, store, toy_record

ACCURACY = "average_accuracy.gem2017"
USUAL = [ACCURACY, "forgetting.rwalk2018", "backward_transfer.gem2017", "learning_accuracy.mer2019"]


def noisy(strategy: str, finals: list[float], **changes: Any) -> list[Record]:
    return [toy_record(strategy, seed, final, **changes) for seed, final in enumerate(finals)]


GOOD, BAD = [0.61, 0.55, 0.66, 0.58], [0.33, 0.21, 0.36, 0.30]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store(tmp_path / "a", *noisy("replay", GOOD))
    store(tmp_path / "b", *noisy("naive", BAD))
    return tmp_path


def as_json(root: Path, *words: object) -> dict[str, Any]:
    answer = call("compare", *(words or ("a", "b")), "--json", cwd=root)
    assert answer.code == 0, answer
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_the_figures_are_those_of_scipy_on_the_records(root: Path) -> None:
    found = as_json(root)
    assert [figure["metric"] for figure in found["figures"]] == USUAL
    assert found["seeds"] == [0, 1, 2, 3] and found["a"]["names"]["strategy"] == "replay"
    ps = []
    for figure in found["figures"]:
        value = metric(figure["metric"])
        x, y = (np.array([value(r.matrix()) for r in noisy(*side)]) for side in (("replay", GOOD), ("naive", BAD)))
        assert figure["a"] == pytest.approx(x) and figure["b"] == pytest.approx(y)
        gap = figure["difference"]
        assert gap["mean"] == pytest.approx(np.mean(x - y)) and (gap["n"], gap["method"]) == (4, "Student t")
        if np.ptp(x - y) > 1e-9:
            oracle = stats.t.interval(0.95, 3, np.mean(x - y), stats.sem(x - y))
            assert (gap["low"], gap["high"]) == pytest.approx(oracle)
            assert figure["p"]["paired_t"] == pytest.approx(stats.ttest_rel(x, y).pvalue)
        higher = figure["higher_is_better"]
        assert figure["a_better"]["share"] == np.mean(np.where(abs(x - y) < 1e-9, 0.5, (x > y) == higher))
        ps.append(figure["p"]["paired_t"])
    assert found["figures"][0]["p"]["paired_t_holm"] == pytest.approx(min(ps[:3]) * 3, rel=0.5)
    assert found["figures"][0]["separated"] and found["figures"][0]["p"]["least_sign_flip"] == 0.125


def test_the_table_says_in_words_what_is_separated(root: Path) -> None:
    answer = call("compare", "a", "b", cwd=root)
    assert answer.code == 0 and answer.err == ""
    for part in (
        "split_toy-v1, seeds that both have: 0, 1, 2, 3",
        "A: replay · mlp · sgd",
        "B: naive · mlp · sgd",
        "average accuracy: A is better; A − B is between +",
        "forgetting: A is better; A − B is between −",
        "4 of 4 (40–100 %)",
        "0.125 (≥ 0.125)",
    ):
        assert part in answer.out, answer.out
    backwards = call("compare", "b", "a", cwd=root).out
    assert "average accuracy: B is better; A − B is between −" in backwards


def test_the_same_records_give_the_same_bytes_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    first = call("compare", "a", "b", "--json", cwd=root).out
    store(tmp_path / "elsewhere", *noisy("replay", GOOD)[::-1])
    assert call("compare", "elsewhere", "b", "--json", cwd=root).out == first


def test_comparing_writes_nothing(root: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    call("compare", "a", "b", cwd=root)
    assert {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()} == before


def test_more_than_ten_seeds_have_a_bootstrap_interval(tmp_path: Path) -> None:
    store(tmp_path / "a", *noisy("replay", [0.5, 0.6, 0.55] * 3 + [0.52, 0.58]))
    store(tmp_path / "b", *noisy("naive", [0.2, 0.4, 0.31] * 3 + [0.22, 0.21]))
    assert as_json(tmp_path, "a", "b", "--metric", ACCURACY)["figures"][0]["difference"]["method"] == "bootstrap"


def test_a_metric_and_a_matrix_can_be_chosen(root: Path) -> None:
    (figure,) = as_json(root, "a", "b", "--metric", "accuracy.diaz2018", "--matrix", "task_masked_accuracy")["figures"]
    assert (figure["metric"], figure["matrix"]) == ("accuracy.diaz2018", "task_masked_accuracy")
    assert len(as_json(root, "a", "b", "--matrix", "task_masked_accuracy")["figures"]) == 4
    (seconds,) = as_json(root, "a", "b", "--metric", "train_seconds")["figures"]
    assert seconds["unit"] == "seconds" and seconds["a"] == [4.5] * 4 and not seconds["higher_is_better"]
    assert seconds["p"]["paired_t"] == 1 and seconds["a_better"]["share"] == 0.5
    refused(call("compare", "a", "b", "--metric", "accuracy.lst", cwd=root), "accuracy.lst", "did you mean")
    refused(call("compare", "a", "b", "--matrix", "acuracy", cwd=root), "unknown matrix 'acuracy'", "'accuracy'")


def with_loss(strategy: str, loss: float) -> list[Record]:
    records = several(strategy, 0.5)
    for record in records:
        values = np.full((4, 3), loss) + 0.01 * record.seed * loss
        bounds = (0.0, -math.log(IMPOSSIBLE))
        matrix = ScoreMatrix(values, "negative_log_likelihood", "nats", higher_is_better=False, bounds=bounds)
        record.result["matrices"][matrix.name] = matrix.to_json()
    return records


def test_a_mean_of_losses_is_better_when_it_is_low(tmp_path: Path) -> None:
    store(tmp_path / "a", *with_loss("replay", 0.8))
    store(tmp_path / "b", *with_loss("naive", 1.9))
    words = ("a", "b", "--metric", ACCURACY, "--matrix", "negative_log_likelihood")
    (figure,) = as_json(tmp_path, *words)["figures"]
    assert (figure["unit"], figure["higher_is_better"]) == ("nats", False)
    assert figure["difference"]["mean"] < 0 and figure["a_better"]["share"] == 1
    assert "A is better" in figure["in_words"]


def test_what_one_side_has_not_measured_is_undefined(root: Path) -> None:
    store(root / "c", *with_loss("ewc", 1.0))
    figure, *_ = as_json(root, "a", "c", "--matrix", "negative_log_likelihood")["figures"]
    assert figure["difference"]["mean"] is None and not figure["separated"]
    assert "lacks what it reads: the matrix negative_log_likelihood" in figure["in_words"]


def test_one_record_each_shows_the_difference_and_says_that_it_means_nothing(root: Path) -> None:
    folders = [next((root / side).rglob("seed0-*")) for side in "ab"]
    found = as_json(root, *folders)
    assert found["seeds"] == [0]
    for figure in found["figures"]:
        assert figure["difference"]["low"] is None and figure["p"]["paired_t"] is None and not figure["separated"]
        assert "that takes 3 seeds in common, and there are 1" in figure["in_words"]


def test_seeds_that_one_side_lacks_and_runs_that_failed_are_named(root: Path) -> None:
    store(root / "a", toy_record("replay", 7, 0.6), toy_record("replay", 8, status="failed", reason="out of\nmemory"))
    answer = call("compare", "a", "b", cwd=root)
    assert "seeds that only A has: 7" in answer.out and "not counted: seed 8: failed: out of memory" in answer.out
    found = as_json(root)
    assert found["seeds"] == [0, 1, 2, 3] and found["a"]["not_counted"] == ["seed 8: failed: out of memory"]


def test_a_figure_that_needs_a_reference_says_so(root: Path) -> None:
    (figure,) = as_json(root, "a", "b", "--metric", "forward_transfer.cuber2022")["figures"]
    assert figure["difference"]["mean"] is None and "the reference 'independent'" in figure["in_words"]


def test_other_models_share_the_stream_only_and_the_table_says_so(root: Path) -> None:
    store(root / "c", *noisy("naive", BAD, names={"model": "cnn"}))
    assert "not the initial weights" in call("compare", "a", "c", cwd=root).out
    assert "not the initial weights" not in call("compare", "a", "b", cwd=root).out


def compared_with(root: Path, *records: Record) -> Answer:
    return call("compare", "a", store(root / "c", *records), cwd=root)


def test_other_cards_are_refused(root: Path) -> None:
    refused(compared_with(root, *several("naive", 0.2, scenario="split_other-v1")), "split_toy-v1", "split_other-v1")


def test_another_stream_for_the_same_seed_is_refused(root: Path) -> None:
    refused(compared_with(root, *several("naive", 0.2, fingerprint="other")), "their streams differ", "seed 0")


def test_no_seed_in_common_is_refused(root: Path) -> None:
    others = [toy_record("naive", seed, 0.2) for seed in (5, 6)]
    refused(compared_with(root, *others), "no seed in common: A has 0, 1, 2, 3; B has 5, 6")


def test_several_entries_in_one_folder_are_named(root: Path) -> None:
    records = [*several("naive", 0.2), *several("ewc", 0.3)]
    refused(compared_with(root, *records), "holds several entries", "naive · mlp · sgd, in ", "ewc · mlp · sgd, in ")


def test_two_records_of_one_seed_are_refused(root: Path) -> None:
    record = toy_record("naive", 0, 0.2)
    again = toy_record("naive", 0, 0.3)
    again.identity["seeds"]["init"] = 9
    refused(compared_with(root, record, again), "two records of seed 0")


def test_folders_without_a_usable_record_are_refused(root: Path) -> None:
    refused(call("compare", "a", "nowhere", cwd=root), "no records folder at 'nowhere'")
    (root / "empty").mkdir()
    refused(call("compare", "a", "empty", cwd=root), "no record under 'empty'", "folder of a record")
    failed = toy_record("naive", 0, status="failed", reason="out of memory")
    refused(compared_with(root, failed), "gave a result", "seed 0: failed: out of memory")


def test_a_record_that_cannot_be_read_is_an_error_and_not_left_out(root: Path) -> None:
    path = next((root / "b").rglob(FILE))
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 1')[:-200], encoding="utf-8")
    name = str(path.relative_to(root / "b"))
    refused(call("compare", "a", "b", cwd=root), "not every record under 'b' can be used", name)
    shutil.rmtree(path.parent)
    assert call("compare", "a", "b", cwd=root).code == 0


def test_an_entry_does_not_differ_from_itself(root: Path) -> None:
    for figure in as_json(root, "a", "a")["figures"]:
        assert figure["difference"]["mean"] == 0 and figure["a_better"]["share"] == 0.5 and not figure["separated"]
