"""Going on from a saved state in a fresh process: what a strategy carries from task to task is its state alone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clbench.checks.clause import describe
from clbench.checks.streams import CPU, TRAINER, Setting, fresh_stream, small_model
from clbench.checks.trace import Trace, answers
from clbench.data.cache import cache_folder
from clbench.experiment import make_strategy
from clbench.loop import prepare, train_one
from clbench.plugins import import_path
from clbench.seeds import Seeds
from clbench.state import load_state, save_state
from clbench.strategy import Strategy, Trainer
from clbench.stream import ProtocolName, TaskStream

FOREIGN = 977  # the child draws initial weights and the like from another seed: loading must replace them all
TIMEOUT = 600
CHILD = "import pathlib, sys; from clbench.checks import continuation as c; c.main(pathlib.Path(sys.argv[1]))"


def continued(
    cls: type[Strategy],
    parameters: Mapping[str, Any],
    traces: Mapping[ProtocolName, Trace],
    seeds: Seeds,
    setting: Setting = "plain",
) -> dict[str, list[str]]:
    """Repeat each task of these runs from the state before it, in one new process; complaints by protocol."""
    complaints: dict[str, list[str]] = {protocol: [] for protocol in traces}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for protocol, trace in traces.items():
            try:
                _store(folder / protocol, trace)
            except TypeError as error:
                complaints[protocol] = [f"its state cannot be saved without pickle: {error}"]
        plan: dict[str, Any] = {
            "strategy": {"_target_": import_path(cls), **parameters},
            "protocols": [p for p in traces if not complaints[p]],
            "seeds": asdict(seeds),
            "setting": setting,
            "started": min(trace.started for trace in traces.values()),
        }
        if not plan["protocols"]:
            return complaints
        (folder / "plan.json").write_text(json.dumps(plan))
        told = _in_a_new_process(folder)
    if isinstance(told, str):
        return complaints | {p: [f"the fresh process ended: {told}"] for p in plan["protocols"]}
    return complaints | told


def _in_a_new_process(folder: Path) -> dict[str, list[str]] | str:
    """Carry out a folder's plan: complaints by protocol, or the last line of a process that gave none."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    answer = folder / "complaints.json"
    if child.returncode or not answer.exists():
        return (child.stderr.strip().splitlines() or ["no message"])[-1]
    told: dict[str, list[str]] = json.loads(answer.read_text())
    return told


def _store(folder: Path, trace: Trace) -> None:
    folder.mkdir()
    for row, state in enumerate(trace.states):
        save_state(folder / f"state{row}", state)
    for row, scores in trace.scores.items():
        save_state(folder / f"scores{row}", scores)


def main(folder: Path) -> None:
    """Work through the plan in a folder; the child's side."""
    torch.set_num_threads(1)  # as in every check run
    plan = json.loads((folder / "plan.json").read_text())
    result = {}
    for protocol in plan["protocols"]:
        stream = partial(fresh_stream, protocol, setting=plan["setting"])
        stream()  # its features are there before files are watched
        make_strategy(_restored(plan["strategy"]), TRAINER)  # imports the strategy's module, which may read files
        fresh_files = _fresh_files_read(plan["started"])
        result[protocol] = _protocol(folder / protocol, stream, plan["strategy"], Seeds(**plan["seeds"]))
        files = sorted(f for f in fresh_files if not f.startswith(str(folder.resolve())))
        read = [f"training read {f}, which was written during the run" for f in files[:3]]
        result[protocol] = [*read, *result[protocol]]
    (folder / "complaints.json").write_text(json.dumps(result))


def _fresh_files_read(since: float) -> set[str]:
    """A set that fills, from now on, with the files this process opens that were written since the run began.

    Such a file may hold what a strategy put there at an earlier task. Code and clbench's cache do not.
    """
    found: set[str] = set()
    cache = str(cache_folder().resolve())

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(args[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(args[0])
        if path.endswith((".py", ".pyc")) or path.startswith(("/dev/", "/proc/", "/sys/", cache)):
            return
        with contextlib.suppress(OSError):  # a file that is not there yet holds nothing
            if Path(path).is_file() and Path(path).stat().st_mtime >= since:
                found.add(os.path.realpath(path))

    sys.addaudithook(look)
    return found


def _protocol(folder: Path, fresh: Callable[[], TaskStream], config: dict[str, Any], seeds: Seeds) -> list[str]:
    """Last task first, so that nothing an earlier task left in the process can help."""
    complaints: list[str] = []
    for row in range(len(fresh()), 0, -1):
        try:
            complaints += _task(folder, fresh(), config, seeds, row)
        except Exception as error:  # the plugin is someone else's code
            complaints.append(f"task {row}, from the state after task {row - 1}: {describe(error)}")
    return complaints


def _task(folder: Path, stream: TaskStream, config: dict[str, Any], seeds: Seeds, row: int) -> list[str]:
    strategy = make_strategy(_restored(config), TRAINER)
    stream = prepare(strategy, small_model, stream, Seeds.of(FOREIGN), CPU)
    strategy.load_state_dict(load_state(folder / f"state{row - 1}"))
    train_one(strategy, stream, row, seeds, CPU)
    if not (folder / f"scores{row}").exists():
        return []
    wanted: list[Tensor] = load_state(folder / f"scores{row}")
    got = answers(strategy, stream, row)
    return [
        f"task {row}, from the state after task {row - 1}: scores of probe {j} differ by up to {_gap(a, b):.3g}"
        for j, (a, b) in enumerate(zip(wanted, got, strict=True), start=1)
        if not torch.equal(a, b)
    ]


def _restored(config: dict[str, Any]) -> dict[str, Any]:
    trainer = config.get("trainer")
    return {**config, "trainer": Trainer(**trainer)} if isinstance(trainer, dict) else config


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().nan_to_num(torch.inf).max()) if a.shape == b.shape else float("inf")
