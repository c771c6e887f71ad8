"""Scenario cards: what is measured, as data; and the task stream a card becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clbench.data import Source, load_source
from clbench.data.cache import Arrays, cached
from clbench.data.files import ImageFiles
from clbench.data.rows import ArrayRows, CropFlip, FileRows, ImageRows, ResizedCrop
from clbench.errors import BadInput, DataMissing, unknown
from clbench.generators import Plan, plan_tasks, split_rows, subset_rows
from clbench.identity import stream_fingerprint
from clbench.seeds import Seeds
from clbench.stream import PROTOCOLS, Augment, ProtocolName, Split, StreamSpec, Task, TaskStream


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The recipe of a benchmark: a data set, a split rule, a protocol, and who to thank for it.

    ``data``: the source and its options. ``rule``: classes, overlapping, groups, permutation, rotation, domain
    or instances. ``increments``: classes per task where not even, a list or one number. ``class_order``: "seed",
    "natural", a list, or the seed of NumPy's legacy generator; of overlapping tasks also the classes of each.
    ``domain_order``: "seed", or the data's own, of domains or groups.
    ``subset``: number of training and test rows, balanced by class; ``rows: first`` for the first ones instead of
    the seed's choice. ``normalise``: mean and std per channel. ``augment``: ``crop`` (padding in pixels) or ``scale``
    and ``ratio`` (random resized crop), and ``flip``. ``backbone``: the one the card was made for, used where none
    is asked for. ``reported``: published figures. ``obtain``: where to get data that the user has to bring.
    ``fingerprint``: the stream's for seed 0.
    """

    name: str
    summary: str
    data: Mapping[str, Any]
    rule: str
    n_tasks: int
    protocol: ProtocolName
    licence: str
    citation: str
    evaluator: str = "classification"
    test_fraction: float = 0.25
    increments: list[int] | int | None = None
    class_order: Any = "seed"
    domain_order: str | None = None
    max_degrees: float | None = None
    subset: Mapping[str, Any] | None = None
    normalise: Mapping[str, list[float]] | None = None
    augment: Mapping[str, Any] | None = None
    label_space: str = "known"
    notes: str = ""
    backbone: str | None = None
    reported: list[Mapping[str, Any]] | None = None
    obtain: str | None = None
    fingerprint: str | None = None

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> Scenario:
        """Check a card and make the scenario; ``BadInput`` names the field that is wrong or missing."""
        known = {f.name for f in fields(cls)}
        for key in card:
            if key not in known:
                raise unknown("field of a scenario card", key, known)
        missing = [f.name for f in fields(cls) if f.name not in card and f.name in REQUIRED]
        if missing:
            raise BadInput(f"scenario card '{card.get('name', '?')}' lacks: {', '.join(missing)}")
        if card["protocol"] not in PROTOCOLS:
            raise unknown("protocol", str(card["protocol"]), PROTOCOLS)
        if card.get("label_space", "known") not in ("known", "open"):
            raise unknown("label_space", str(card["label_space"]), ["known", "open"])
        if card.get("evaluator", "classification") != "classification":
            raise unknown("evaluator", str(card["evaluator"]), ["classification"])
        return cls(**card)

    def build(self, seeds: Seeds, data_dir: Path = Path("data")) -> TaskStream:
        """Make the stream for these seeds. Raises ``BadInput`` or ``DataMissing`` before any work is lost."""
        source = self._load(data_dir)
        rows = seeds.generator("split", "rows")
        is_test = split_rows(source, self.test_fraction, rows)
        keep = subset_rows(source, is_test, dict(self.subset or {}), rows)
        card = {f.name: getattr(self, f.name) for f in fields(self)}
        rule_stream = "split" if self.rule == "instances" else "order"
        plans = plan_tasks(source, is_test, keep, card, seeds.generator(rule_stream, self.rule))
        return self._stream(source, plans)

    def _load(self, data_dir: Path) -> Source:
        try:
            return load_source(dict(self.data), data_dir)
        except DataMissing as error:
            if self.obtain is None:
                raise
            raise DataMissing(f"{error}\n  {self.obtain.strip()}") from error

    def _stream(self, source: Source, plans: list[Plan]) -> TaskStream:
        if source.modality != "image" and (self.normalise or self.augment):
            raise BadInput(f"normalise and augment are for images; the data of '{self.name}' are {source.modality}s")
        mean, std = self._normalisation(source.samples.shape[1] if source.modality == "image" else 1)
        tasks = []
        for index, plan in enumerate(plans, start=1):
            present = np.unique(source.y[np.concatenate([plan.train, plan.test])])
            classes = tuple(int(c) for c in present)
            if not len(plan.train) or not len(plan.test):
                raise BadInput(f"task {index} ('{plan.name}') of '{self.name}' has no training or no test rows")
            tasks.append(
                Task(
                    index,
                    plan.name,
                    classes,
                    tuple(source.class_names[c] for c in classes),
                    _half(source, plan, plan.train, mean, std),
                    _half(source, plan, plan.test, mean, std),
                    _hash_plan(source, plan, mean, std),
                )
            )
        whole = stream_fingerprint(self.protocol, (t.fingerprint for t in tasks), self.augment)
        known = self.label_space == "known"
        spec = StreamSpec(
            self.protocol,
            {source.modality: tuple(source.samples.shape[1:])},
            "known" if known else "open",
            len(source.class_names) if known else None,
            source.modality,
            source.class_names if known else None,
        )
        return TaskStream(spec, tuple(tasks), whole, _augmentation(self.augment) if self.augment else None)

    def _normalisation(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        given = self.normalise or {"mean": [0.0], "std": [1.0]}
        mean, std = tuple(map(float, given["mean"])), tuple(map(float, given["std"]))
        if len(mean) != len(std) or len(mean) not in (1, channels):
            raise BadInput(f"normalise needs one mean and std, or one per channel ({channels}); got {given}")
        return mean, std


def _augmentation(options: Mapping[str, Any]) -> Augment:
    """The augmentation that a card describes."""
    for key in options:
        if key not in ("crop", "scale", "ratio", "flip"):
            raise unknown("augmentation", key, ["crop", "scale", "ratio", "flip"])
    flip = bool(options.get("flip"))
    if "scale" not in options:
        return CropFlip(int(options.get("crop", 0)), flip)
    low, high = map(float, options["scale"])
    narrow, wide = map(float, options.get("ratio", (3 / 4, 4 / 3)))
    if not (0 < low <= high <= 1 and 0 < narrow <= wide) or "crop" in options:
        raise BadInput(f"augment takes crop, or scale within (0, 1] with a positive ratio; got {dict(options)}")
    return ResizedCrop((low, high), (narrow, wide), flip)


REQUIRED = frozenset({"name", "summary", "data", "rule", "n_tasks", "protocol", "licence", "citation"})


def _half(
    source: Source, plan: Plan, rows: NDArray[np.int64], mean: tuple[float, ...], std: tuple[float, ...]
) -> Split:
    samples, picked, content = source.samples, rows, source.content
    y = torch.from_numpy(source.y[rows])
    if source.modality == "text":
        return Split({"text": ArrayRows(np.asarray(samples), rows, content)}, y, rows)
    if plan.degrees:
        content = hashlib.sha256(f"{content}|{plan.degrees!r}|".encode() + rows.astype("<i8").tobytes()).hexdigest()
        samples, picked = _turned(source, rows, plan.degrees, content), np.arange(len(rows))
    kind = FileRows if isinstance(samples, ImageFiles) else ImageRows
    return Split({"image": kind(samples, picked, mean, std, plan.permutation, content)}, y, rows)


def _turned(source: Source, rows: NDArray[np.int64], degrees: float, content: str) -> NDArray[np.uint8]:
    """Images of a source turned by an angle; seconds for thousands, so they are kept."""

    def turn() -> Arrays:
        from scipy.ndimage import rotate

        images = np.asarray(source.samples[rows])
        return {"images": rotate(images, degrees, axes=(2, 3), reshape=False, order=1, mode="constant")}

    return cached(content[:32], turn)["images"]


def _hash_plan(source: Source, plan: Plan, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    digest = hashlib.sha256(f"{source.content}|{plan.degrees!r}|{mean!r}|{std!r}".encode())
    for rows in (plan.train, plan.test, plan.permutation if plan.permutation is not None else np.empty(0, np.int64)):
        digest.update(f"|{len(rows)}|".encode() + rows.astype("<i8").tobytes())
    digest.update(source.y[plan.train].astype("<i8").tobytes() + source.y[plan.test].astype("<i8").tobytes())
    return digest.hexdigest()[:32]
