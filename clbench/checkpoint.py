"""What an interrupted run goes on from: the rows of its matrices, each written once, and all else after every task."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clbench.errors import RecordError
from clbench.evaluate import Row
from clbench.loop import Progress
from clbench.probing import Curves
from clbench.state import State, load_state, save_state
from clbench.strategy import Strategy

PARTS = {"of", "rows", "counts", "costs", "curves", "strategy"}


class Checkpoint:
    """The files of one unfinished run, ``NAME.safetensors`` and one more for each row.

    A row holds what every test sample was taken for: written anew after every task, long streams would write a hundred
    times what they keep. ``of``: plain data that must be the same for a run to go on: of which stream, measured how.
    """

    def __init__(self, folder: Path, name: str, of: dict[str, Any]) -> None:
        self.folder, self.name, self.of = folder, name, of
        self._written = 0

    def save(self, progress: Progress, state: State) -> None:
        """Write the rows that are new, then the rest, which says how many rows there are."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for n, row in enumerate(progress.rows[self._written :], start=self._written):
            if row is not None:
                fields = {f.name: torch.from_numpy(getattr(row, f.name)) for f in dataclasses.fields(row)}
                self._write(self._row(n), fields)
        self._written = len(progress.rows)
        rows = [row is not None for row in progress.rows]
        curves = dataclasses.asdict(progress.curves)
        saved = {"rows": rows, "counts": progress.counts, "costs": progress.costs, "curves": curves, "strategy": state}
        self._write(self._rest, saved | {"of": self.of})

    def load(self, strategy: Strategy, device: torch.device) -> Progress | None:
        """Put the strategy where it was and return what was measured until then; None where there is nothing.

        What is damaged, of other data, of another version or measured otherwise is removed.
        """
        if not self._rest.exists():
            return None
        try:
            saved = load_state(self._rest, None if device.type == "cpu" else device)
            if not set(saved) >= PARTS or saved["of"] != self.of:
                raise RecordError(f"{self._rest} is not a checkpoint of this run")
            rows = [self._read(n) if there else None for n, there in enumerate(saved["rows"])]
        except (RecordError, TypeError):  # TypeError: rows with other fields, of another version
            self.remove()
            return None
        strategy.load_state_dict(saved["strategy"])
        self._written = len(rows)
        return Progress(rows, saved["counts"], saved["costs"], Curves(**saved["curves"]))

    def remove(self) -> None:
        """Delete the files, of a run that has ended or cannot be gone on with."""
        for path in (self._rest, *self.folder.glob(f"{self.name}.row*.safetensors")):
            path.unlink(missing_ok=True)

    @property
    def _rest(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    def _row(self, n: int) -> Path:
        return self.folder / f"{self.name}.row{n}.safetensors"

    def _read(self, n: int) -> Row:
        return Row(**{name: np.asarray(values) for name, values in load_state(self._row(n)).items()})

    def _write(self, path: Path, content: Any) -> None:
        draft = path.with_suffix(f".{os.getpid()}.draft")
        save_state(draft, content)
        draft.replace(path)  # whole or not at all
