"""What a tracker gets of a run is what its record has: read back with the tracker's own reader."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.metrics import metric
from clbench.record import Record
from tests.command import Answer, call, only, quick, records, refused
from tests.toy_records import store, toy_record

pytestmark = pytest.mark.xdist_group("trackers")  # the run is made once
RUN = ("strategy=replay", "keep=false", "probe_every=1", "probe_samples=20")
TASKS = 5
Series = dict[str, dict[int, float]]  # name -> step -> value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with in-training curves, and beside it one that failed."""
    root = tmp_path_factory.mktemp("tracked")
    assert quick(*RUN, cwd=root).code == 0
    store(root / "records", toy_record("ewc", status="failed", reason="NonFiniteLoss: it diverged"))
    return root


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    (done,) = (r for r in records(folder / "records") if r.status == "ok")
    return done


def tracked(tracker: str, folder: Path, out: Path) -> Answer:
    """Handed over twice: the second time replaces the first."""
    answers = [call("track", "records", "--to", tracker, "--out", out, cwd=folder) for _ in range(2)]
    assert [a.code for a in answers] == [0, 0], answers
    assert "2 records -> " in answers[1].out
    return answers[1]


def expected(record: Record) -> Series:
    """The series that the record holds, from the record itself."""
    found: Series = defaultdict(dict)
    for name in record.result["matrices"]:
        for (row, column), x in np.ndenumerate(record.matrix(name).values):
            found[f"{name}/task {column + 1}"][row] = float(x)
    for kind, rows in (("costs", record.costs), ("counts", record.result["counts"])):
        for task, row in enumerate(rows, start=1):
            for name, x in row.items():
                if x is not None:
                    found[f"{kind}/{name}"][task] = float(x)
    curves = record.curves
    assert len(curves["task"]) > 2 * TASKS
    for n in range(len(curves["task"])):
        found["in_training/task"][n], found["in_training/step"][n] = curves["task"][n], curves["step"][n]
        for k in range(TASKS):
            found[f"in_training/accuracy, task {k + 1}"][n] = curves["accuracy"][k][n]
    return {name: {s: x for s, x in points.items() if not math.isnan(x)} for name, points in found.items()}


def agree(got: Series, record: Record, near: float = 0.0, rename: Any = str) -> None:
    """All series of the record and its figures, none besides."""
    wanted = {rename(name): points for name, points in expected(record).items() if points}
    figures = {rename(id): points[0] for id, points in got.items() if id not in wanted}
    assert wanted.keys() <= got.keys()
    for name, points in wanted.items():
        assert got[name] == pytest.approx(points, rel=near, abs=0), name
    for id in ("average_accuracy.gem2017", "forgetting.rwalk2018", "performance_maintenance.l2m_mrlep"):
        assert figures.pop(rename(id)) == pytest.approx(metric(id)(record.matrix()), rel=near, abs=near), id
    assert not [id for id in figures if id.startswith("lib.") or math.isnan(figures[id])]
    assert rename("windowed_forgetting.delange2023[w=10]") in figures, "a figure of the in-training curves"
    assert "train_seconds" in figures and "performance_recovery.l2m" not in figures


def test_tensorboard_has_what_the_record_has(folder: Path, record: Record, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    answer = tracked("tensorboard", folder, tmp_path)
    assert f"tensorboard --logdir {tmp_path}" in answer.out
    (place,) = tmp_path.glob(f"split_digits-v1/*-{record.id}")
    assert len(list(place.iterdir())) == 1, "the second time replaced the first"
    events = EventAccumulator(str(place), size_guidance={"scalars": 0}).Reload()
    scalars = {name: {e.step: e.value for e in events.Scalars(name)} for name in events.Tags()["scalars"]}
    agree({name.removeprefix("metrics/"): points for name, points in scalars.items()}, record, near=1e-6)
    data = HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info.hparams
    assert data["seed"].number_value == 0 and data["names.strategy"].string_value == "replay"
    assert data["strategy.parameters.memory"].number_value == record.identity["strategy"]["parameters"]["memory"]
    text = {n: events.Tensors(n)[0].tensor_proto.string_val[0].decode() for n in events.Tags()["tensors"][1:]}
    assert text["clbench.fingerprint"] == record.result["fingerprint"] and text["clbench.id"] == record.id
    assert text["clbench.commit"] == record.environment["commit"]


def test_mlflow_has_what_the_record_has(folder: Path, record: Record, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    from clbench.trackers.mlflow import allowed

    tracked("mlflow", folder, tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    by_name = {e.name: e.experiment_id for e in client.search_experiments()}
    (run,) = client.search_runs([by_name["split_digits-v1"]])
    history = {n: {m.step: m.value for m in client.get_metric_history(run.info.run_id, n)} for n in run.data.metrics}
    agree(history, record, rename=allowed)
    assert run.data.tags["clbench.id"] == record.id
    assert run.data.tags["clbench.fingerprint"] == record.result["fingerprint"]
    assert run.data.tags["clbench.commit"] == record.environment["commit"]
    assert run.data.params["names.strategy"] == "replay" and run.data.params["seed"] == "0"
    parameters = record.identity["strategy"]["parameters"]
    assert run.data.params["strategy.parameters.memory"] == str(parameters["memory"])
    (failed,) = client.search_runs([by_name["split_toy-v1"]])
    assert failed.info.status == "FAILED" and "diverged" in failed.data.tags["clbench.reason"]
    assert not failed.data.metrics


def saved(path: Path) -> Iterator[Any]:
    """Messages of an offline run: wandb's own protobuf in the frames of a LevelDB log; its reader is not in Python."""
    from wandb.proto import wandb_internal_pb2

    message = wandb_internal_pb2.Record  # type: ignore[attr-defined]  # made when the module is imported
    data, block, header = path.read_bytes(), 32768, 7
    assert data.startswith(b":W&B")
    position, parts = header, b""
    while position + header <= len(data):
        if block - position % block < header:  # the rest of a block is too short for a header
            position += block - position % block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + header : position + header + size]
        position += header + size
        if kind in (1, 4):  # whole, or the last part
            yield message.FromString(parts)
            parts = b""


def test_wandb_has_what_the_record_has_and_nothing_is_sent(folder: Path, record: Record, tmp_path: Path) -> None:
    tracked("wandb", folder, tmp_path)
    (path,) = tmp_path.glob(f"wandb/offline-run-*-{record.id}/run-{record.id}.wandb")
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    series: Series = defaultdict(dict)
    for message in saved(path):
        if message.WhichOneof("record_type") == "run":
            assert message.run.run_group == "split_digits-v1" and message.run.telemetry.feature.offline
            config |= {item.key: json.loads(item.value_json) for item in message.run.config.update}
        elif message.WhichOneof("record_type") == "history":
            point = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in message.history.item}
            step = int(point["after_task" if "after_task" in point else "evaluation"])
            for name in point.keys() - {"after_task", "evaluation"}:
                if not name.startswith("_"):
                    series[name][step] = point[name]
        elif message.WhichOneof("record_type") == "summary":
            summary |= {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in message.summary.update}
    series |= {id: {0: x} for id, x in summary.items() if id not in series and not id.startswith("_")}
    del series["after_task"], series["evaluation"]
    agree(series, record)
    assert config["clbench.fingerprint"] == record.result["fingerprint"] and config["clbench.id"] == record.id
    assert config["strategy.parameters.memory"] == record.identity["strategy"]["parameters"]["memory"]


def test_a_run_hands_its_record_to_the_tracker_it_names(tmp_path: Path) -> None:
    answer = quick("tracker=tensorboard", "tracker_dir=boards", "keep=false", cwd=tmp_path)
    assert answer.code == 0 and "tensorboard --logdir boards" in answer.out
    (events,) = (tmp_path / "boards").rglob("events.out.tfevents.*")
    assert events.parent.name.endswith(only(tmp_path / "records").id)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_is_refused_before_the_run_starts(
    tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)  # as Python shows a package that is not there
    refused(
        quick(f"tracker={tracker}", cwd=tmp_path), f"tracker '{tracker}' needs", f"pip install 'clbench[{tracker}]'"
    )
    assert not (tmp_path / "records").exists(), "nothing has run"
    store(tmp_path / "records", toy_record())
    refused(call("track", "records", "--to", tracker, "--out", "boards", cwd=tmp_path), f"clbench[{tracker}]")
    assert not (tmp_path / "boards").exists()


def test_an_unknown_tracker_and_a_place_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    refused(quick("tracker=tensorbord", cwd=tmp_path), "unknown tracker 'tensorbord'", "did you mean 'tensorboard'")
    store(tmp_path / "records", toy_record())
    (tmp_path / "file").write_text("in the way")
    answer = call("track", "records", "--to", "mlflow", "--out", "file", cwd=tmp_path)
    refused(answer, "mlflow could not write to 'file'")
