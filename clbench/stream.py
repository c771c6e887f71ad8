"""What a scenario becomes: a stream of tasks, and the view of one task that a strategy is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from clbench.data.sources import Modality as Modality  # part of what a stream is
from clbench.errors import BadInput, TaskClosedError
from clbench.split import Rows as Rows
from clbench.split import Split as Split
from clbench.split import Taken as Taken

ProtocolName = Literal["task-incremental", "domain-incremental", "class-incremental"]
PROTOCOLS: frozenset[ProtocolName] = frozenset(get_args(ProtocolName))
Inputs = Mapping[str, Tensor]
Samples = Mapping[str, Tensor]  # named rows: the inputs, "y", and whatever else a strategy stores beside them


@dataclass(frozen=True)
class Task:
    """One step of a stream; ``index`` is 1-based, ``classes`` the sorted labels that occur in it."""

    index: int
    name: str
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str


@dataclass(frozen=True)
class StreamSpec:
    """All that a strategy may know before the first task; never the number of tasks.

    ``inputs``: shape of one sample by input name. ``n_classes``, ``class_names`` (by class): given when
    ``label_space`` is "known", None when it is "open" and classes arrive with the tasks. ``backbone``: the
    configuration (``_target_`` and fields) of the pretrained network that ``inputs["features"]`` come from.
    """

    protocol: ProtocolName
    inputs: Mapping[str, tuple[int, ...]]
    label_space: Literal["known", "open"] = "known"
    n_classes: int | None = None
    modality: Modality = "image"
    class_names: tuple[str, ...] | None = None
    backbone: Mapping[str, Any] | None = None

    def reading(self, names: Collection[str]) -> StreamSpec:
        """The same with these inputs only; ``BadInput`` where one is not there."""
        for name in names:
            if name not in self.inputs:
                raise BadInput(
                    f"the stream has no input '{name}'; it has: {', '.join(self.inputs)}\n"
                    "  features and tokens come from a backbone: backbone=NAME (see: clbench list backbones)"
                )
        return replace(self, inputs={k: v for k, v in self.inputs.items() if k in names})


@dataclass(frozen=True)
class Query:
    """What may be answered: the candidate classes of a cell; ``task_label`` only under task-incremental."""

    task_label: int | None
    classes: tuple[int, ...]
    class_names: tuple[str, ...]


Augment = Callable[[Tensor, np.random.Generator], Tensor]


@runtime_checkable
class Files(Protocol):
    """Rows of image files, which are augmented from the file rather than from the image handed out."""

    def views(self, rows: Tensor, augment: Augment, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The images at these positions, and the same augmented."""


@dataclass(frozen=True)
class TaskStream:
    """The tasks of one scenario for one set of seeds; ``fingerprint`` hashes rows, labels and transforms."""

    spec: StreamSpec
    tasks: tuple[Task, ...]
    fingerprint: str
    augment: Augment | None = None

    def __len__(self) -> int:
        return len(self.tasks)

    def reading(self, names: Collection[str]) -> TaskStream:
        """The same stream with these inputs only: what nobody reads is not even decoded."""
        tasks = tuple(replace(t, train=t.train.reading(names), test=t.test.reading(names)) for t in self.tasks)
        return replace(self, spec=self.spec.reading(names), tasks=tasks)


@dataclass(frozen=True, slots=True)
class Batch:
    """One mini-batch: ``inputs`` augmented, ``raw`` not; ``y`` (B,) labels; ``rows`` (B,) positions in the task.

    ``extras``: what else the iterated samples carry, by name. ``epoch`` counts from 1 in its phase, ``step``
    from 1 in its epoch; ``last`` marks the last step of an epoch.
    """

    inputs: Inputs
    raw: Inputs
    y: Tensor
    extras: Inputs
    rows: Tensor
    epoch: int
    step: int
    last: bool
    augment: Augment | None = None

    def augmented(self, samples: Samples, rng: np.random.Generator) -> dict[str, Tensor]:
        """Stored samples with the scenario's augmentation drawn anew; as they are where it has none."""
        if self.augment is None or "image" not in samples:
            return dict(samples)
        return {**samples, "image": self.augment(samples["image"], rng)}


@dataclass
class Feed:
    """How a view's batches are made: the random streams, augmentation, device, and who watches each ``next()``.

    ``position`` maps each phase to (epochs done, batches done in the current epoch): all that is needed to go on
    from any ``next()``, because every epoch draws its order from its own generator.
    """

    generator: Callable[..., np.random.Generator]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    augment: Augment | None = None
    watch: Callable[[str, Batch], None] | None = None
    position: dict[str, tuple[int, int]] = field(default_factory=dict)


def batch_bounds(n: int, size: int) -> list[tuple[int, int]]:
    """Cut n samples into batches; a remainder of one joins the batch before it (batch norm needs two).

    >>> batch_bounds(7, 3)
    [(0, 3), (3, 7)]
    """
    starts = list(range(0, n, size))
    if size > 1 and len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], n], strict=True)) if starts else []


class TaskView:
    """The training half of one task, as a strategy sees it; closed as soon as ``train_task`` has returned.

    ``label``: the task label (1, 2, ...) under task-incremental, else None. ``last``: whether no task follows,
    told to declared reference strategies only, None for all others.
    """

    def __init__(self, task: Task, protocol: ProtocolName, feed: Feed, last: bool | None = None) -> None:
        files = feed.augment is not None and isinstance(task.train.inputs.get("image"), Files)
        self._split: Split | None = task.train.on(feed.device, limit_bytes=0 if files else 1 << 29)
        self._feed = feed
        self.classes = task.classes
        self.class_names = task.class_names
        self.label = task.index if protocol == "task-incremental" else None
        self.last = last
        self.fingerprint = task.fingerprint

    @property
    def data(self) -> Split:
        """The samples themselves; ``TaskClosedError`` once training on the task has ended."""
        if self._split is None:
            raise TaskClosedError(
                f"the data of a past task (classes {list(self.classes)}) were read after its train_task() had "
                "returned; keep what you need in a declared buffer while the task is open"
            )
        return self._split

    def samples(self) -> dict[str, Tensor]:
        """The whole task as named rows: its inputs, ``y``, and ``label`` (the task label, 0 where there is none)."""
        data = self.data
        rows = torch.arange(len(data), device=self._feed.device)
        label = torch.full_like(data.labels, self.label or 0)
        return {**_to(data.take(rows), self._feed.device), "y": data.labels.clone(), "label": label}

    def close(self) -> None:
        """Shut the view; every later access raises ``TaskClosedError``."""
        self._split = None

    def batches(
        self, size: int, epochs: int = 1, phase: str = "train", samples: Samples | None = None
    ) -> Iterator[Batch]:
        """Iterate over shuffled mini-batches of the task, or of ``samples`` (as from :meth:`samples`) instead.

        The harness owns order, augmentation and position: a phase that was interrupted goes on from its saved
        position, a finished one yields nothing.
        """
        if size < 1 or epochs < 0:
            raise BadInput(f"batches() takes size >= 1 and epochs >= 0; got size={size}, epochs={epochs}")
        first, skip = self._feed.position.get(phase, (0, 0))
        for epoch in range(first, epochs):
            yield from self._epoch(size, epoch, phase, skip, samples)
            self._feed.position[phase] = (epoch + 1, 0)
            skip = 0

    def _epoch(self, size: int, epoch: int, phase: str, skip: int, samples: Samples | None) -> Iterator[Batch]:
        feed = self._feed
        n = len(self.data) if samples is None else len(samples["y"])
        order = torch.from_numpy(feed.generator("shuffle", phase, epoch).permutation(n)).to(feed.device)
        bounds = batch_bounds(n, size)
        for step in range(skip, len(bounds)):
            rows = order[slice(*bounds[step])]
            generator = partial(feed.generator, "augment", phase, epoch, step)
            inputs, raw, y, extras = self._rows(rows, samples, generator)
            last = step + 1 == len(bounds)
            batch = Batch(inputs, raw, y, extras, rows, epoch + 1, step + 1, last, feed.augment)
            feed.position[phase] = (epoch, step)
            if feed.watch is not None:
                feed.watch(phase, batch)
            yield batch

    def _rows(
        self, rows: Tensor, samples: Samples | None, generator: Callable[[], np.random.Generator]
    ) -> tuple[Inputs, Inputs, Tensor, Inputs]:
        data, feed = self.data, self._feed  # raises once the view is closed, whatever is iterated
        files: object = data.inputs.get("image")
        if samples is not None:
            extras = {name: values[rows] for name, values in samples.items()}
            y = extras.pop("y")
            raw = {k: extras.pop(k) for k in data.inputs}
        elif feed.augment is not None and isinstance(files, Files):
            plain, augmented = (x.to(feed.device) for x in files.views(rows, feed.augment, generator()))
            others = _to(data.reading(data.inputs.keys() - {"image"}).take(rows), feed.device)
            return {**others, "image": augmented}, {**others, "image": plain}, data.labels[rows], {}
        else:
            raw, y, extras = _to(data.take(rows), feed.device), data.labels[rows], {}
        if feed.augment is None or "image" not in raw:
            return raw, raw, y, extras
        return {**raw, "image": feed.augment(raw["image"], generator())}, raw, y, extras


def _to(inputs: Inputs, device: torch.device) -> dict[str, Tensor]:
    return {name: values.to(device, non_blocking=True) for name, values in inputs.items()}
