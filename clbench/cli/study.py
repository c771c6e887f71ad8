"""``clbench study``: a named sweep, resumable, whose records and report go to ``reports/NAME``."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

from clbench.compose import Composed, compose, expand
from clbench.errors import BadInput, ClbenchError
from clbench.places import config, read_yaml
from clbench.record import FILE, Record, read_record, same_result
from clbench.store import Store

Ended = tuple[Path | None, str, str, float]  # folder of the record, status, a line for a person, CPU seconds


@dataclass(frozen=True)
class Study:
    """A sweep with a name: each of ``sweeps`` is a list of overrides as for ``clbench run -m``."""

    name: str
    purpose: str
    cpu_minutes: float
    jobs: int
    sweeps: list[list[str]]
    comparisons: list[dict[str, Any]]

    def runs(self) -> list[list[str]]:
        """The overrides of every run, each once."""
        return list({tuple(run): run for sweep in self.sweeps for run in expand(sweep)}.values())


def run_study(name: str, records: Path, out: Path | None, *, jobs: int | None, fresh: bool, dry: bool) -> int:
    """Run what is missing of a study, then write its report. Exit code 1 when a run failed."""
    study = load_study(name)
    if jobs is not None and jobs < 1:
        raise BadInput(f"--jobs must be a whole number from 1 on; got {jobs}")
    out = out or Path("reports") / study.name
    runs = study.runs()
    store = Store(records / study.name)
    _check_replaceable(out / "records", store.root, runs)
    store.check_writable()
    before = {r.id: r for r in (Store(out / "records").read().records if (out / "records").is_dir() else ())}
    if not fresh:
        _adopt(out / "records", store.root)
    todo, folders = _missing(runs, store)
    jobs = min(jobs or study.jobs, max(1, len(todo)))
    minutes = study.cpu_minutes * len(todo) / max(1, len(runs)) / jobs
    _say(
        f"study {study.name}: {len(runs)} runs, {len(runs) - len(todo)} done already; "
        f"about {minutes:.0f} min for the rest in {jobs} process{'es' if jobs > 1 else ''}"
    )
    if dry:
        return 0
    failed, seconds = _work(todo, store.root, jobs, folders)
    if todo:
        _say(f"these {len(todo)} runs took {seconds / 60:.1f} CPU minutes")
    if not folders:
        _say("no run left a record; there is nothing to report")
        return 1
    finished = _publish(folders, store, out)
    _compare(before, finished)
    from clbench.report import write_report

    write_report(out / "records", out)
    _say(f"report: {out / 'leaderboard.html'} (and .md, .csv, .json, .tex)")
    if study.comparisons:
        (out / "comparisons.md").write_text(compared(study, finished), encoding="utf-8", newline="\n")
        _say(f"paired differences: {out / 'comparisons.md'}")
    return 1 if failed else 0


def compared(study: Study, records: Sequence[Record]) -> str:
    """The page of paired differences that a study asks for."""
    from clbench.comparison import Comparison, to_markdown

    return to_markdown(study.purpose, [Comparison.from_config(c) for c in study.comparisons], records)


def load_study(name: str) -> Study:
    """A shipped study by name, or one's own by the path of its YAML file."""
    own = name.endswith((".yaml", ".yml"))
    data = read_yaml(Path(name)) if own else config("study", name)
    try:
        sweeps = [[str(override) for override in sweep] for sweep in data["sweeps"]]
        label = Path(name).stem if own else name
        asked = list(data.get("comparisons", []))
        study = Study(label, str(data["purpose"]), float(data["cpu_minutes"]), int(data["jobs"]), sweeps, asked)
    except (KeyError, TypeError, ValueError) as error:
        missing = [key for key in ("purpose", "cpu_minutes", "jobs", "sweeps") if key not in data]
        what = f"lacks: {', '.join(missing)}" if missing else str(error)
        raise BadInput(f"study '{name}' {what}\n  it needs purpose, cpu_minutes, jobs and sweeps") from error
    if study.jobs < 1 or not 0 <= study.cpu_minutes < math.inf:
        raise BadInput(f"study '{name}' needs jobs >= 1 and finite cpu_minutes; got {study.jobs}, {study.cpu_minutes}")
    if asked:  # hours before they are made
        from clbench.comparison import Comparison

        for comparison in asked:
            Comparison.from_config(comparison)
    return study


def _missing(runs: list[list[str]], store: Store) -> tuple[list[list[str]], list[Path]]:
    """The runs still to do, and the folders of the records of those that are done."""
    if not any(store.root.rglob(FILE)):
        return runs, []  # composing hundreds of configurations takes a while
    todo, folders = [], []
    for run in runs:
        wanted = _experiment(run)
        record, folder = store.find(wanted.record(status="ok")) or (None, store.root)
        measured = record and record.status == "ok" and wanted.extras.are_in(record.curves, record.costs)
        if record and (measured or record.status == "skipped"):
            folders.append(folder)
        else:
            todo.append(run)
    return todo, folders


def _work(todo: list[list[str]], root: Path, jobs: int, folders: list[Path]) -> tuple[int, float]:
    """Do the runs in ``jobs`` processes and add their records' folders; returns the failures and the CPU seconds."""
    failed, seconds, begin = 0, 0.0, time.monotonic()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers when they start
    for n, (folder, status, line, took) in enumerate(_each(todo, root, jobs), start=1):
        failed += status == "failed"
        seconds += took
        folders += [folder] if folder else []
        left = (time.monotonic() - begin) / n * (len(todo) - n) / 60
        _say(f"[{n}/{len(todo)}, {left:.0f} min left] {line}, {took:.1f} CPU s")
    return failed, seconds


def _each(todo: list[list[str]], root: Path, jobs: int) -> Iterator[Ended]:
    """The runs as they end. One whose process was killed takes those beside it along: they begin again, one by one."""
    broken: list[list[str]] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            futures = {pool.submit(work, run, str(root)): run for run in todo}
            for future in as_completed(futures):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    broken.append(futures[future])
                except Exception as error:  # a fault of ours: the other runs go on
                    yield None, "failed", f"{' '.join(futures[future])}: {type(error).__name__}: {error}", 0.0
        except (KeyboardInterrupt, GeneratorExit):  # the pool would end only when all that waits has been run
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()
            raise
    broken.sort(key=todo.index)
    if len(todo) == len(broken) == 1:
        yield None, "failed", f"{' '.join(broken[0])}: its process was killed; was there memory enough?", 0.0
        return
    suspects = jobs + 1  # one more is handed to the pool before it is begun
    for run in broken[:suspects]:
        yield from _each([run], root, 1)
    if len(broken) > suspects:
        yield from _each(broken[suspects:], root, jobs)


def _end_with_parent() -> None:
    """In a worker: end when the study is killed, instead of waiting for work for ever."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def work(overrides: Sequence[str], root: str) -> Ended:
    """One run in a worker process; returns its record's folder, its status, a line for a person, and CPU seconds."""
    from clbench.metrics import metric
    from clbench.session import execute

    begin = time.process_time()
    try:
        outcome = execute(_experiment(overrides), Store(Path(root)))
    except ClbenchError as error:
        return None, "failed", f"{' '.join(overrides)}: {error}", time.process_time() - begin
    record = outcome.record
    name = f"{record.names['scenario']} {record.names['strategy']} seed {record.seed}"
    how = f"{record.status} ({record.reason})"
    if record.status == "ok":
        how = f"average accuracy {metric('average_accuracy.gem2017')(record.matrix()):.3f}"
    return outcome.folder, record.status, f"{name}: {how}", time.process_time() - begin


def _experiment(overrides: Sequence[str]) -> Any:
    """A run ready to be executed; those that differ by ``seed`` are composed once, which takes Hydra half a second."""
    from clbench.experiment import experiment

    seeds = [override for override in overrides if re.fullmatch(r"seed=\d+", override)]
    shared = _composed(tuple(override for override in overrides if override not in seeds))
    seed = int(seeds[-1].partition("=")[2]) if seeds else shared.config["seed"]
    return experiment(replace(shared, config=shared.config | {"seed": seed}, overrides=tuple(overrides)))


@cache
def _composed(overrides: tuple[str, ...]) -> Composed:
    return compose(overrides)


def _adopt(published: Path, root: Path) -> None:
    """Go on from the records committed with an earlier sitting."""
    for path in published.rglob(FILE) if published.is_dir() else ():
        target = root / path.relative_to(published)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def _check_replaceable(published: Path, working: Path, runs: list[list[str]]) -> None:
    """What a study published before is replaced by what it publishes now; runs of anybody else must not be.

    Its own are those of its scenarios and strategies: their code may have changed since, and their identity with it.
    """
    ours, theirs = published.resolve(), working.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise BadInput(
            f"'{published}' would be replaced, and '{working}' is where the runs are made: name another --out"
        )
    asked = {(words.get("scenario"), words.get("strategy")) for words in map(_words, runs)}
    for path in published.rglob("*") if published.is_dir() else ():
        if not path.is_file():
            continue
        scenario, strategy = path.relative_to(published).parts[:2] if path.name == FILE else ("", "")
        own = (scenario.partition("[")[0], strategy.partition("[")[0])
        if own not in asked and (own[0], None) not in asked:
            raise BadInput(
                f"'{published}' would be replaced, but holds '{path.relative_to(published)}', which is not of this "
                "study\n  choose another folder with --out"
            )


def _words(overrides: Sequence[str]) -> dict[str, str]:
    return dict(override.partition("=")[::2] for override in overrides)


def _publish(folders: list[Path], store: Store, out: Path) -> list[Record]:
    """Make ``out/records`` hold exactly the records of the study that there are, without kept predictions."""
    draft = out / ".records-draft"
    shutil.rmtree(draft, ignore_errors=True)  # of a sitting that was killed here
    for folder in folders:
        place = draft / folder.relative_to(store.root)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / FILE, place / FILE)
    if (out / "records").exists():
        shutil.rmtree(out / "records")
    draft.rename(out / "records")
    return [read_record(folder) for folder in folders]


def _compare(before: dict[str, Record], now: list[Record]) -> None:
    """Say how many results equal the committed ones, bit by bit."""
    both = [(r, before[r.id]) for r in now if r.status == "ok" and r.id in before and before[r.id].status == "ok"]
    if both:
        same = sum(same_result(a, b) for a, b in both)
        _say(f"{same} of {len(both)} results are bit-identical to those committed before")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
