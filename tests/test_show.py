"""What a run prints at its end: labels as they are, and a matrix that fits a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.cli.show import show_record
from clbench.matrix import ScoreMatrix
from tests.toy_records import toy_matrix, toy_record

Printed = pytest.CaptureFixture[str]


def test_brackets_in_labels_reasons_and_places_are_text_and_no_styles(capsys: Printed) -> None:
    show_record(toy_record("replay[memory=50]"), Path("records[a]"), False)
    out = capsys.readouterr().out
    assert out.startswith("replay[memory=50] on split_toy-v1, mlp, seed 0")
    assert out.endswith("record: records[a]\n")
    show_record(toy_record("naive", status="failed", reason="KeyError: [/dim] is not in [red]"), Path("x"), False)
    assert "failed\n  KeyError: [/dim] is not in [red]\n" in capsys.readouterr().out


def test_up_to_fifteen_tasks_are_shown_whole(capsys: Printed) -> None:
    values = toy_matrix(0.5, 0, 15).values.copy()
    values[15, 14] = 1.0
    show_record(toy_record(matrix=ScoreMatrix(values)), Path("x"), False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[2:] == [str(j) for j in range(1, 16)]
    assert [line.split()[0] for line in lines[2:18]] == ["untrained", *["after"] * 15]
    assert lines[17].split()[2:] == ["15", *["50.0"] * 14, "100.0"]


def test_a_hundred_tasks_are_thinned_out_and_end_with_the_last(capsys: Printed) -> None:
    show_record(toy_record(matrix=toy_matrix(0.5, 0, 101)), Path("x"), False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[2:] == ["20", "40", "60", "80", "100", "101"]
    assert [line.split()[2] for line in lines[3:9]] == ["20", "40", "60", "80", "100", "101"]
    assert lines[3].split()[3:] == ["90.0", *["10.0"] * 5]
    assert lines[8].split()[3:] == [*["50.0"] * 5, "90.0"]
