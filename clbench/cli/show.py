"""What a run shows: a live progress display on a terminal, plain lines when piped, and a table at the end."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from clbench.evaluate import Row
from clbench.metrics import HEADLINE, METRICS, score
from clbench.record import Record
from clbench.stream import Batch


class Display:
    """Watches a run: a moving bar on a terminal, one line per task elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.n_tasks = 0
        self._tenth = 0
        self._live: Progress | None = None
        self._bar: TaskID | None = None
        if sys.stderr.isatty():
            text = TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.fields[now]}")
            self._live = Progress(*text, TimeElapsedColumn(), console=Console(stderr=True), transient=True)

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def filled(self, done: int, total: int) -> None:
        """Show how far the feature cache is."""
        if self._live:
            if self._bar is None:
                self._bar = self._live.add_task(self.title, total=total, now="")
            self._live.update(self._bar, completed=done, total=total, now=f"frozen features: {done} of {total}")
        elif (tenth := done * 10 // total) != self._tenth:
            self._tenth = tenth
            sys.stderr.write(f"{self.title}: frozen features of {done} of {total} samples\n")
            sys.stderr.flush()

    def started(self, n_tasks: int) -> None:
        """Note the number of tasks."""
        self.n_tasks = n_tasks
        if self._live:
            if self._bar is not None:  # of the feature cache
                self._live.remove_task(self._bar)
            self._bar = self._live.add_task(self.title, total=n_tasks, now="scoring the untrained model")

    def stepped(self, task: int, phase: str, batch: Batch) -> None:
        """Show where training is, at the start of each epoch."""
        if self._live and self._bar is not None and batch.step == 1:
            self._live.update(self._bar, now=f"task {task}/{self.n_tasks}, {phase} epoch {batch.epoch}")

    def finished_task(self, task: int, row: Row, seconds: float) -> None:
        """Show the accuracy over the tasks seen so far."""
        seen = float(row.accuracy[:task].mean())
        if self._live and self._bar is not None:
            self._live.update(self._bar, completed=task, now=f"accuracy so far {seen:.3f}")
        else:
            sys.stderr.write(f"{self.title}: task {task}/{self.n_tasks} done in {seconds:.1f} s, accuracy {seen:.3f}\n")
            sys.stderr.flush()


def show_record(record: Record, folder: Path, done_already: bool) -> None:
    """Print what a person wants to know of a run, and where its record is."""
    console = Console() if sys.stdout.isatty() else Console(width=120)
    title = f"{record.names['strategy']} on {record.names['scenario']}, {record.names['model']}, seed {record.seed}"
    if record.status != "ok":
        console.print(f"[bold]{title}[/bold]: {record.status}\n  {record.reason}", highlight=False, soft_wrap=True)
    else:
        console.print(f"[bold]{title}[/bold]" + (" (done already)" if done_already else ""), highlight=False)
        console.print(_matrix_table(record))
        console.print(_metric_table(record))
    console.print(f"record: {folder}", highlight=False, soft_wrap=True)


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal; a dash when it is not defined."""
    return "—" if math.isnan(value) else f"{100 * value:.1f}"


def _matrix_table(record: Record) -> Table:
    matrix = record.matrix()
    table = Table(box=None, pad_edge=False, header_style="dim", title_style="dim")
    table.add_column("accuracy, %", style="dim")
    for j in range(1, matrix.n_tasks + 1):
        table.add_column(f"task {j}" if matrix.n_tasks <= 8 else str(j), justify="right")
    for i, row in enumerate(matrix.values):
        name = "untrained" if i == 0 else f"after task {i}"
        cells = [f"[bold]{percent(v)}[/bold]" if j < i else f"[dim]{percent(v)}[/dim]" for j, v in enumerate(row)]
        table.add_row(name, *cells)
    return table


def _metric_table(record: Record) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    values = score(record.matrix(), tuple(id for id in HEADLINE if METRICS[id].reference is None))
    for id, value in values.items():
        unit = " %" if value == value else ""  # NaN: not defined for this run
        table.add_row(METRICS[id].title, f"[bold]{percent(value)}[/bold]{unit}", f"[dim]{id}[/dim]")
    if record.card["protocol"] == "class-incremental":
        masked = float(record.matrix("task_masked_accuracy").values[-1].mean())
        table.add_row(
            "the same with tasks told", f"[bold]{percent(masked)}[/bold] %", "[dim]task_masked_accuracy[/dim]"
        )
    counts = record.result["counts"][-1]
    seconds = sum(c["train_seconds"] for c in record.costs)
    stored, megabytes = counts["stored_samples"], counts["state_bytes"] / 1e6
    table.add_row("cost", f"{seconds:.1f} s training", f"{stored} samples stored, {megabytes:.2f} MB state")
    return table
