"""What a run costs: operations against a count by hand, energy where the machine tells, time without the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clbench.costs import energy_joules
from tests.command import only, quick

CPU = torch.device("cpu")


def test_operations_of_training_are_those_of_the_matrix_products(tmp_path: Path) -> None:
    assert quick("flops=true", "model.width=32", cwd=tmp_path).code == 0
    record = only(tmp_path)
    forward = 2 * (64 * 32 + 32 * 32 + 32 * 10)  # multiply and add, per sample
    backward = 2 * forward - 2 * 64 * 32  # nobody asks for the gradient of the input
    for count, cost in zip(record.result["counts"], record.costs, strict=True):
        assert cost["train_flops"] == count["samples"] * (forward + backward)
        assert cost["train_seconds"] is None, "the counter slows training down: its time is not reported"
    n_test = sum(task["n_test"] for task in record.result["tasks"])
    assert all(cost["evaluate_flops"] == n_test * forward for cost in record.costs)


def test_counting_operations_changes_no_bit_of_the_result(tmp_path: Path) -> None:
    for name, flops in (("counted", "true"), ("plain", "false")):
        words = ("strategy=derpp", f"flops={flops}", f"records={name}", "keep=false")
        assert quick(*words, cwd=tmp_path).code == 0
    assert only(tmp_path / "counted").result_sha256 == only(tmp_path / "plain").result_sha256
    assert all(cost["train_flops"] is None for cost in only(tmp_path / "plain").costs)


def test_energy_is_read_where_the_machine_counts_it_and_is_none_elsewhere(tmp_path: Path) -> None:
    assert energy_joules(CPU, tmp_path) is None
    for name, microjoules in (("intel-rapl:0", 2_000_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
    assert energy_joules(CPU, tmp_path) == pytest.approx(2.5), "both packages, not their parts again"
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert energy_joules(CPU, tmp_path) is None
