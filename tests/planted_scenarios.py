"""Broken scenarios, each with the clause that is meant to catch it; and a correct one that passes them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.cards import Scenario
from clbench.seeds import Seeds
from clbench.stream import ProtocolName, Split, Task, TaskStream

SUBMITTED: dict[str, str] = {}  # class name: name of the clause that is meant to catch it


@dataclass(frozen=True, kw_only=True)
class Correct(Scenario):
    """The twin of all that follow, with nothing wrong."""

    name: str = "planted_digits-v1"
    summary: str = "Five tasks of two digits each."
    data: Mapping[str, Any] = field(default_factory=lambda: {"source": "digits"})
    rule: str = "classes"
    n_tasks: int = 5
    protocol: ProtocolName = "class-incremental"
    licence: str = "CC-BY-4.0"
    citation: str = "Alpaydin and Kaynak, 1998"

    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        """What a broken scenario does to a good stream."""
        return stream

    def build(self, seeds: Seeds, data_dir: Path = Path("data")) -> TaskStream:
        return self.mended(super().build(seeds, data_dir), seeds)


def submitted(clause: str) -> Any:
    def note(cls: type[Correct]) -> type[Correct]:
        SUBMITTED[cls.__name__] = clause
        return dataclass(frozen=True, kw_only=True)(cls)

    return note


def each_task(stream: TaskStream, change: Any) -> TaskStream:
    return replace(stream, tasks=tuple(change(task) for task in stream.tasks))


def only(split: Split, rows: NDArray[np.int64]) -> Split:
    picked = torch.from_numpy(rows)
    return Split(split.take(picked), split.labels[picked], split.index[rows])


@submitted("card_is_complete")
class NamesNoLicence(Correct):
    licence: str = " "


@submitted("card_is_complete")
class HidesThatItIsLossy(Correct):
    data: Mapping[str, Any] = field(default_factory=lambda: {"source": "folder", "path": "digits_jpeg.zip"})


@submitted("fingerprint_is_the_cards")
class CarriesAnOldFingerprint(Correct):
    fingerprint: str | None = "0123456789abcdef0123456789abcdef"


@submitted("fingerprint_covers_the_content")
class FingerprintsItsNameOnly(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        return replace(stream, fingerprint=self.name)


@submitted("fingerprint_covers_the_content")
class LeavesPixelsOutOfTheFingerprint(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        plain = Scenario.build(replace(self, normalise=None), seeds)
        tasks = (replace(t, fingerprint=p.fingerprint) for t, p in zip(stream.tasks, plain.tasks, strict=True))
        return replace(stream, tasks=tuple(tasks), fingerprint=plain.fingerprint)


@submitted("same_seed_gives_the_same_stream")
class DrawsUnseeded(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        generator = np.random.default_rng()
        return each_task(stream, lambda t: replace(t, train=only(t.train, generator.permutation(len(t.train)))))


@submitted("another_seed_gives_another_stream")
class IgnoresTheSeed(Correct):
    def build(self, seeds: Seeds, data_dir: Path = Path("data")) -> TaskStream:
        return super().build(Seeds.of(0), data_dir)


@submitted("building_leaves_random_state_alone")
class SeedsEverybody(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        torch.manual_seed(seeds.order)
        return stream


@submitted("train_and_test_are_disjoint")
class TestsOnWhatItTrainedOn(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        return each_task(stream, lambda t: replace(t, test=only(t.train, np.arange(0, len(t.train), 4))))


@submitted("train_and_test_are_disjoint")
class LeaksIntoAnotherTask(Correct):
    rule: str = "permutation"
    n_tasks: int = 2
    protocol: ProtocolName = "domain-incremental"

    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        first, second = stream.tasks
        return replace(stream, tasks=(first, replace(second, train=second.test, test=second.train)))


@submitted("no_class_is_dropped")
class DropsTheLastTask(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        return replace(stream, tasks=stream.tasks[:-1])


@submitted("no_class_is_dropped")
class RepeatsATask(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        return replace(stream, tasks=(*stream.tasks, stream.tasks[0]))


@submitted("no_sample_is_dropped")
class RoundsDown(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        return each_task(stream, lambda t: replace(t, train=only(t.train, np.arange(len(t.train) // 10 * 10))))


@submitted("labels_match_the_classes")
class RenumbersLabels(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        def renumber(task: Task) -> Task:
            y = torch.searchsorted(torch.tensor(task.classes), task.train.labels)
            return replace(task, train=replace(task.train, y=y))

        return each_task(stream, renumber)


@submitted("labels_match_the_classes")
class MixesUpNames(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        return each_task(stream, lambda t: replace(t, class_names=tuple(reversed(t.class_names))))


@submitted("inputs_match_the_spec")
class DividesByZero(Correct):
    normalise: Mapping[str, list[float]] | None = field(default_factory=lambda: {"mean": [0.0], "std": [1e-45]})


@submitted("inputs_match_the_spec")
class FlattensItsImages(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        def flat(task: Task) -> Task:
            rows = torch.arange(len(task.test))
            return replace(task, test=replace(task.test, inputs={"image": task.test.take(rows)["image"].flatten(1)}))

        return each_task(stream, flat)


class Noisy:
    """Rows that come out a little different every time."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.shape = images.shape

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.images[rows] + 0.01 * torch.randn(len(rows), *self.shape[1:])


@submitted("reading_changes_nothing")
class AugmentsWhileReading(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        def noisy(task: Task) -> Task:
            images = task.train.take(torch.arange(len(task.train)))["image"]
            return replace(task, train=replace(task.train, inputs={"image": Noisy(images)}))

        return each_task(stream, noisy)


class View:
    """Rows handed out from one place in memory, so that whoever writes into them spoils the data."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.shape = images.shape

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.images[: len(rows)]


@submitted("reading_changes_nothing")
class HandsOutItsMemory(Correct):
    def mended(self, stream: TaskStream, seeds: Seeds) -> TaskStream:
        def views(task: Task) -> Task:
            images = task.test.take(torch.arange(len(task.test)))["image"]
            return replace(task, test=replace(task.test, inputs={"image": View(images)}))

        return each_task(stream, views)
