"""Running an experiment into a store, with checkpoints; and loading a trained model back."""

from __future__ import annotations

import dataclasses
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clbench.backbones.backbone import Filling
from clbench.checkpoint import Checkpoint
from clbench.compose import compose
from clbench.costs import environment
from clbench.errors import BadInput, ClbenchError, RecordError, UnsupportedProtocol
from clbench.experiment import Experiment, experiment, make_strategy
from clbench.features import check_read, fill, with_features
from clbench.identity import PLACES
from clbench.loop import Extras, RunResult, Watcher, prepare, run
from clbench.models import Model
from clbench.plugins import import_class
from clbench.record import PREDICTIONS, Record, read_record, save_predictions, write_record
from clbench.seeds import Seeds
from clbench.state import State, load_state, save_state
from clbench.store import Store
from clbench.strategy import Strategy, Trainer
from clbench.stream import StreamSpec, TaskStream
from clbench.targets import EncoderMissing

STATE = "state.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What became of a request to run: the record, where it lies, and whether it had been there already."""

    record: Record
    folder: Path
    done_already: bool = False


def execute(exp: Experiment, store: Store, *, keep: bool = True, watcher: Watcher | None = None) -> Outcome:
    """Run an experiment and store its record, unless a finished one of the same identity is there.

    A strategy that raises gives a record of status ``failed``; one that does not support the protocol, of
    status ``skipped``. Raises ``ClbenchError`` for bad input, before any work is done.
    """
    store.check_writable()
    blank = exp.record(status="ok")
    stream = _build(exp)
    before = _done_before(blank, stream, store)
    if before:
        exp, keep, done = _more(exp, keep, before)
        if done:
            return Outcome(before.record, before.folder, done_already=True)
    strategy = dataclasses.replace(exp.strategy)
    surroundings = _surroundings(exp)
    filling = Filling(exp.device, getattr(watcher, "filled", None))
    with _threads(exp.threads):
        try:
            stream = _prepared(exp, strategy, stream, filling)
        except UnsupportedProtocol as error:
            skipped = exp.record(status="skipped", reason=str(error), environment=surroundings)
            return Outcome(skipped, write_record(store.folder(skipped), skipped))
        except ClbenchError:
            raise
        except Exception as error:
            return _failure(exp, store, error, surroundings, before)
        of = {"fingerprint": stream.fingerprint, "extras": dataclasses.asdict(exp.extras)}
        checkpoint = Checkpoint(store.root / ".checkpoints", blank.id, of)
        try:
            result = _trained(exp, strategy, stream, checkpoint, watcher)
        except Exception as error:  # the strategy's own failure is a result, not ours to hide
            return _failure(exp, store, error, surroundings, before)
    surroundings["frozen_forwards"] = filling.forwarded
    parts = {"result": _content(result, stream), "costs": result.costs, "curves": result.curves}
    record = exp.record(status="ok", environment=surroundings, **parts)
    place = before.folder if before else store.folder(record)
    outcome = _finished(record, place, store, result, strategy.state_dict() if keep else None)
    checkpoint.remove()
    return outcome


def _prepared(exp: Experiment, strategy: Strategy, stream: TaskStream, filling: Filling) -> TaskStream:
    """Set the strategy up, and return the stream that it reads, with the features of a frozen backbone worked out."""
    if exp.backbone:
        stream = with_features(stream, exp.backbone, filling)
    stream = prepare(strategy, exp.make_model, stream, exp.seeds, exp.device)
    check_read(stream, getattr(strategy, "model_", None), exp.names["model"])
    fill(stream)
    return stream


def _trained(
    exp: Experiment, strategy: Strategy, stream: TaskStream, checkpoint: Checkpoint, watcher: Watcher | None
) -> RunResult:
    """Run a prepared strategy from its checkpoint on, with a new one after each task."""
    return run(
        strategy,
        stream,
        exp.seeds,
        exp.device,
        watcher=watcher,
        progress=checkpoint.load(strategy, exp.device),
        checkpoint=checkpoint.save,
        extras=exp.extras,
    )


def _finished(record: Record, place: Path, store: Store, result: RunResult, state: State | None) -> Outcome:
    """Write the record of a run that ended and, with the state to keep, its predictions."""
    with tempfile.TemporaryDirectory(dir=store.root, prefix=".files-") as folder:
        files = {}
        if state is not None:
            files = {name: Path(folder) / name for name in (PREDICTIONS, STATE)}
            save_predictions(files[PREDICTIONS], result.kept)
            save_state(files[STATE], state)
        return Outcome(record, write_record(place, record, files))


def _surroundings(exp: Experiment) -> dict[str, Any]:
    """The environment of a run, and where the files of its backbone lie on this machine."""
    places = {k: v for k, v in exp.backbone.config().items() if k in PLACES and v} if exp.backbone else {}
    return environment(exp.device) | {"threads": exp.threads} | ({"backbone": places} if places else {})


def _done_before(blank: Record, stream: TaskStream, store: Store) -> Outcome | None:
    """The finished record of the same identity and the same data."""
    found = store.find(blank)
    if found is None or found[0].status != "ok" or found[0].result["fingerprint"] != stream.fingerprint:
        return None
    return Outcome(*found)


def _more(exp: Experiment, keep: bool, before: Outcome) -> tuple[Experiment, bool, bool]:
    """The run with all that was measured and kept before, so that nothing is lost; and whether that is all there is."""
    had, kept = Extras.of(before.record.curves, before.record.costs), (before.folder / STATE).exists()
    wanted, keep = exp.extras.beside(had), keep or kept
    return dataclasses.replace(exp, extras=wanted), keep, (wanted, keep) == (had, kept)


def _failure(
    exp: Experiment, store: Store, error: Exception, surroundings: dict[str, Any], before: Outcome | None
) -> Outcome:
    failed = exp.record(status="failed", reason=_reason(error), environment=surroundings)
    if before:  # what was finished stays
        return Outcome(failed, before.folder)
    return Outcome(failed, write_record(store.folder(failed), failed))


def _build(exp: Experiment) -> TaskStream:
    """The stream; an official card's for seed 0 must be the one its fingerprint was taken from."""
    try:
        stream = exp.scenario.build(exp.seeds, exp.data_dir)
    except ClbenchError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        name = exp.scenario.name
        raise BadInput(f"scenario '{name}' cannot be built from its card: {type(error).__name__}: {error}") from error
    expected = exp.scenario.fingerprint
    if expected and "[" not in exp.names["scenario"] and exp.seeds == Seeds.of(0) and stream.fingerprint != expected:
        raise BadInput(
            f"the stream of '{exp.scenario.name}' for seed 0 has fingerprint {stream.fingerprint}, its card says "
            f"{expected}\n  the data are not those of the card: check {exp.data_dir}"
        )
    return stream


def _content(result: RunResult, stream: TaskStream) -> dict[str, Any]:
    """The hashed part of a record: what a repetition must give again, bit by bit."""
    return {
        "fingerprint": stream.fingerprint,
        "spec": _spec_content(stream.spec),
        "tasks": [
            {
                "name": task.name,
                "classes": list(task.classes),
                "class_names": list(task.class_names),
                "n_train": len(task.train),
                "n_test": len(task.test),
                "fingerprint": task.fingerprint,
            }
            for task in stream.tasks
        ],
        "matrices": {name: matrix.to_json() for name, matrix in result.matrices.items()},
        "counts": result.counts,
    }


def _spec_content(spec: StreamSpec) -> dict[str, Any]:
    """The spec as plain data; class names are those of the tasks, and a backbone stands there where there is one."""
    plain = dataclasses.asdict(spec) | {"inputs": {k: list(v) for k, v in spec.inputs.items()}}
    if spec.backbone:  # where its files lie is of this machine: see the record's environment
        plain["backbone"] = {k: v for k, v in spec.backbone.items() if k not in PLACES or v is None}
    return {k: v for k, v in plain.items() if k != "class_names" and (k != "backbone" or v)}


def _spec_of(record: Record) -> StreamSpec:
    """The spec that a record's result was made with."""
    result, spec = record.result, dict(record.result["spec"])
    if "backbone" in spec:
        spec["backbone"] = spec["backbone"] | record.environment.get("backbone", {})
    names = {c: n for t in result["tasks"] for c, n in zip(t["classes"], t["class_names"], strict=True)}
    known = tuple(names[c] for c in sorted(names)) if spec["label_space"] == "known" else None
    inputs = {name: tuple(shape) for name, shape in spec["inputs"].items()}
    return StreamSpec(**{**spec, "inputs": inputs, "class_names": known})


def _reason(error: Exception) -> str:
    if isinstance(error, ClbenchError):
        return f"{type(error).__name__}: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} (at {Path(last.filename).name}:{last.lineno}, in {last.name})"


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_once(
    scenario: str,
    strategy: str | Strategy | type[Strategy] = "naive",
    *,
    model: str = "mlp",
    seed: int = 0,
    records: str | Path = "records",
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
) -> Record:
    """Run one strategy on one scenario and return its record; ``clbench.run`` is this function.

    ``strategy``: a configured name, a class, or an instance. ``overrides``: as on the command line, e.g.
    ``["trainer.lr=0.1", "scenario.n_tasks=2"]``. Raises ``ClbenchError`` for bad input.
    """
    words = [f"scenario={scenario}", f"model={model}", f"seed={seed}", f"records={records}", *overrides]
    if isinstance(strategy, str):
        words.insert(1, f"strategy={strategy}")
    composed = compose(words, Path(config_dir) if config_dir is not None else None)
    exp = experiment(composed, None if isinstance(strategy, str) else strategy)
    return execute(exp, Store(Path(composed.config["records"])), keep=composed.config["keep"]).record


def load(folder: str | Path) -> Strategy:
    """Load the trained strategy of a record folder, ready to ``predict``; ``clbench.load`` is this function.

    Raises ``RecordError`` when the folder holds no finished record or its state was not kept.
    """
    folder = Path(folder)
    record = read_record(folder)
    if record.status != "ok" or not (folder / STATE).exists():
        raise RecordError(f"{folder} holds no trained model (status {record.status}); run it again with keep=true")
    parts, spec = record.identity, _spec_of(record)
    if "__main__" in parts["strategy"]["target"]:
        raise BadInput("this strategy was defined in a script's __main__; put it in a module to load it back")
    strategy = make_strategy({"_target_": parts["strategy"]["target"], **parts["strategy"]["parameters"]}, Trainer())
    model_class, options = import_class(parts["model"]["target"], Model, "model"), parts["model"]["parameters"]
    try:
        model = model_class(spec, **options)
    except EncoderMissing:  # the rows are in the state: no encoder is needed to answer
        model = model_class(spec, **options | {"targets": {**(options.get("targets") or {}), "encoder": None}})
    strategy.setup(model, spec, np.random.default_rng(0))
    strategy.load_state_dict(load_state(folder / STATE))
    return strategy
