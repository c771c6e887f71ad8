"""What the committed studies of masks and projections must show, and what the papers claim of them that holds here."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from clbench.metrics import metric
from clbench.record import Record
from clbench.store import Store

ROOT = Path(__file__).resolve().parent.parent
ACCURACY, BACKWARD = "average_accuracy.gem2017", "backward_transfer.gem2017"
EXACT = ("supsup", "exssnet", "packnet", "wsn")  # the task given, old tasks are answered bit by bit as before


@cache
def records(study: str) -> tuple[Record, ...]:
    found = Store(ROOT / "reports" / study / "records").read()
    assert not found.left_out
    return tuple(r for r in found.records if r.status == "ok")


def values(study: str, scenario: str, strategy: str, id: str) -> dict[int, float]:
    """A metric by seed."""
    chosen = [r for r in records(study) if (r.names["scenario"], r.names["strategy"]) == (scenario, strategy)]
    return {r.seed: metric(id)(r.matrix()) for r in chosen}


@pytest.mark.parametrize("id", [ACCURACY, BACKWARD])
def test_on_permuted_digits_projection_beats_plain_training_and_trust_regions_beat_both_on_every_seed(id: str) -> None:
    by = {
        s: values("gradient_projection", "labelled_permuted_digits-v1", s, id)
        for s in ("naive", "gpm", "trgp", "cuber")
    }
    for seed in range(5):
        naive, gpm, trgp, cuber = (by[s][seed] for s in by)
        assert naive + 0.2 < gpm < min(trgp, cuber), seed


@pytest.mark.parametrize("density", ["0.05", "0.1"])
def test_trained_weights_beat_masks_alone_of_the_same_density_on_every_seed(density: str) -> None:
    scenario = "labelled_permuted_digits-v1"
    masks = values("supermasks", scenario, f"supsup[density={density}]", ACCURACY)
    both = values("supermasks", scenario, f"exssnet[density={density}]", ACCURACY)
    assert len(masks) == len(both) == 5
    assert all(both[seed] > masks[seed] + 0.02 for seed in range(5))


def test_with_the_task_given_mask_methods_forget_exactly_nothing() -> None:
    told = [r for r in records("supermasks") if r.card["protocol"] == "task-incremental"]
    exact = [r for r in told if r.names["strategy"].partition("[")[0] in EXACT]
    assert {r.names["strategy"].partition("[")[0] for r in exact} == set(EXACT)
    for record in exact:
        learnt = record.matrix().values[1:]
        for task, column in enumerate(learnt.T):
            assert (column[task:] == column[task]).all(), (record.names, record.seed, task + 1)


def test_without_exclusive_training_something_is_forgotten() -> None:
    assert max(values("supermasks", "labelled_permuted_digits-v1", "ssnet", BACKWARD).values()) < 0


@pytest.mark.parametrize("strategy", ["supsup", "exssnet"])
def test_a_hundredth_task_costs_what_the_second_did(strategy: str) -> None:
    ran = [r for r in records("supermasks") if r.names["scenario"] == "permuted_mnist5k_100-v1"]
    chosen = [r for r in ran if r.names["strategy"].partition("[")[0] == strategy]
    assert chosen
    for record in chosen:
        seconds = [cost["train_seconds"] for cost in record.costs]
        assert len(seconds) == 100 and seconds[99] <= 1.3 * seconds[1], record.seed
        growth = np.diff([count["state_bytes"] for count in record.result["counts"]])[2:]
        assert len(set(growth.tolist())) == 1, "every task adds as many bytes"


def test_both_forward_transfers_are_there_beside_each_other() -> None:
    text = (ROOT / "reports" / "gradient_projection" / "leaderboard.md").read_text(encoding="utf-8")
    assert "`forward_transfer.gem2017`" in text and "`forward_transfer.cuber2022`" in text


def test_inferred_tasks_are_measured_and_rise_with_the_number_of_outputs() -> None:
    inferred: dict[int, list[float]] = {0: [], 90: []}
    for record in records("supermasks"):
        if record.names["strategy"] == "supsup_inferred[images=1,infer=one_shot,objective=g]":
            spare = record.identity["model"]["parameters"]["spare"]
            value = metric("task_inference_accuracy.last")(record.matrix("task_inference_accuracy"))
            inferred.setdefault(spare, []).append(value)
    assert len(inferred[0]) == len(inferred[90]) == 5
    assert min(inferred[90]) > max(inferred[0])
