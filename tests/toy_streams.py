"""Small streams of real images, for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from clbench.cards import Scenario
from clbench.seeds import Seeds
from clbench.stream import Task, TaskStream

CPU = torch.device("cpu")
PROSE = {"summary": "A test.", "licence": "CC-BY-4.0", "citation": "none"}


def scenario(**fields: Any) -> Scenario:
    card = {"name": "test", "data": {"source": "digits"}, "rule": "classes", "n_tasks": 5, **PROSE, **fields}
    return Scenario.from_card({"protocol": "class-incremental", **card})


def build(seeds: Seeds | int = 0, data_dir: Path = Path("data"), **fields: Any) -> TaskStream:
    return scenario(**fields).build(Seeds.of(seeds) if isinstance(seeds, int) else seeds, data_dir)


@cache
def digits() -> TaskStream:
    return build()


def pixels(task: Task, half: str = "train") -> torch.Tensor:
    split = getattr(task, half)
    return torch.as_tensor(split.inputs["image"][torch.arange(len(split))])
