"""What a run shows: a live progress display on a terminal, plain lines when piped, and a table at the end."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from clbench.evaluate import Row
from clbench.matrix import numbered
from clbench.metrics import HEADLINE, METRICS, score
from clbench.record import Record, total
from clbench.stream import Batch

WIDE = 15  # tasks that stand side by side in 120 characters


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
    names = {kind: escape(name) for kind, name in record.names.items()}  # [memory=50] is no style
    title = f"{names['strategy']} on {names['scenario']}, {names['model']}, seed {record.seed}"
    if record.status != "ok":
        why = escape(str(record.reason))
        console.print(f"[bold]{title}[/bold]: {record.status}\n  {why}", highlight=False, soft_wrap=True)
    else:
        console.print(f"[bold]{title}[/bold]" + (" (done already)" if done_already else ""), highlight=False)
        console.print(_matrix_table(record))
        console.print(_metric_table(record))
    console.print(f"record: {escape(str(folder))}", highlight=False, soft_wrap=True)


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal; a dash when it is not defined."""
    return "—" if math.isnan(value) else f"{100 * value:.1f}"


def _unit(value: float) -> str:
    return "" if math.isnan(value) else " %"  # NaN: not defined for this run


def _matrix_table(record: Record) -> Table:
    matrix = record.matrix()
    table = Table(box=None, pad_edge=False, header_style="dim", title_style="dim")
    table.add_column("accuracy, %", style="dim")
    whole = matrix.n_tasks <= WIDE
    shown = range(1, matrix.n_tasks + 1) if whole else sorted({*numbered(matrix.n_tasks), matrix.n_tasks})
    for j in shown:
        table.add_column(f"task {j}" if matrix.n_tasks <= 8 else str(j), justify="right")
    for i in (0, *shown):
        name = "untrained" if i == 0 else f"after task {i}"
        cells = {j: percent(matrix.values[i, j - 1]) for j in shown}
        table.add_row(name, *(f"[bold]{cell}[/bold]" if j <= i else f"[dim]{cell}[/dim]" for j, cell in cells.items()))
    return table


def _metric_table(record: Record) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    values = score(record.matrix(), tuple(id for id in HEADLINE if METRICS[id].reference is None))
    for id, value in values.items():
        table.add_row(METRICS[id].title, f"[bold]{percent(value)}[/bold]{_unit(value)}", f"[dim]{id}[/dim]")
    if record.card["protocol"] == "class-incremental":
        masked = float(record.matrix("task_masked_accuracy").values[-1].mean())
        table.add_row(
            "the same with tasks told", f"[bold]{percent(masked)}[/bold] %", "[dim]task_masked_accuracy[/dim]"
        )
    inference = METRICS["task_inference_accuracy.last"]
    if inference.matrix in record.result["matrices"]:
        value = inference(record.matrix(inference.matrix))
        table.add_row(inference.title, f"[bold]{percent(value)}[/bold]{_unit(value)}", f"[dim]{inference.id}[/dim]")
    counts = record.result["counts"][-1]
    seconds, flops = (total([c.get(f"train_{unit}") for c in record.costs]) for unit in ("seconds", "flops"))
    stored, megabytes = counts["stored_samples"], counts["state_bytes"] / 1e6
    trained = f"{seconds:.1f} s training" if math.isnan(flops) else f"{flops:.3g} FLOPs training"
    table.add_row("cost", trained, f"{stored} samples stored, {megabytes:.2f} MB state")
    return table
