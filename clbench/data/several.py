"""Several image sources as one, whose classes come in groups: the data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.data.cache import cached
from clbench.data.files import Pixels, fitted, output_size, pixels_of
from clbench.data.sources import Source, load_source
from clbench.errors import BadInput

Rows = NDArray[np.int64]


def several(data_dir: Path, of: Sequence[Mapping[str, Any]], size: int, per_class: int | None = None) -> Source:
    """The images of several sources in colour at ``size`` x ``size`` pixels (bilinear); a group is a data set.

    ``of``: the ``data`` of each source as on a card, with a ``name`` where its own will not do. Classes are called by
    both names. ``per_class``: the first images of every class (those of the first units, where there are any), in each
    half of an official split. The official split is kept where all have one; else only the training images of those
    that do are used. Raises ``BadInput`` for texts and for names that occur twice.
    """
    if per_class is not None and (isinstance(per_class, bool) or not isinstance(per_class, int) or per_class < 2):
        raise BadInput(f"per_class must be a whole number from 2 on; got {per_class!r}")
    if (side := output_size(size)) is None or side != size:
        raise BadInput(f"size of source 'several' must be a number of pixels; got {size!r}")
    if not isinstance(of, (list, tuple)) or not all(isinstance(given, Mapping) for given in of):
        raise BadInput(f"'of' of source 'several' is a list of data: [{{source: digits}}, ...]; got {of!r}")
    parts = [_part(dict(given), data_dir) for given in of]
    names, sources = [name for name, _ in parts], [source for _, source in parts]
    if len(set(names)) < len(names) or len(names) < 2:
        raise BadInput(f"source 'several' needs two data sets or more, of different names; got {names}; add a name")
    official = all(source.is_test is not None for source in sources)
    rows = [_rows(source, per_class, official) for source in sources]
    digest = hashlib.sha256(json.dumps([[source.content for source in sources], size]).encode())
    for chosen in rows:
        digest.update(f"|{len(chosen)}|".encode() + chosen.astype("<i8").tobytes())
    content = digest.hexdigest()
    made = cached(
        content[:32],
        lambda: {"images": np.concatenate([_images(s, r, size) for s, r in zip(sources, rows, strict=True)])},
    )
    counts = [len(source.class_names) for source in sources]
    return Source(
        "several",
        made["images"],
        _joined([s.y[r] for s, r in zip(sources, rows, strict=True)], counts),
        tuple(f"{name} {kind}" for name, source in parts for kind in source.class_names),
        content,
        np.concatenate([_halves(s)[r] for s, r in zip(sources, rows, strict=True)]) if official else None,
        group=np.repeat(np.arange(len(sources)), counts),
        group_names=tuple(names),
        unit=_joined([_units(s)[r] for s, r in zip(sources, rows, strict=True)], [len(s) for s in sources]),
    )


def _part(given: dict[str, Any], data_dir: Path) -> tuple[str, Source]:
    name = given.pop("name", None)
    source = load_source(given, data_dir)
    if source.modality != "image":
        raise BadInput(f"source 'several' puts images together; '{source.name}' holds {source.modality}s")
    return str(name or source.name), source


def _rows(source: Source, per_class: int | None, official: bool) -> Rows:
    """The rows that are used, sorted."""
    candidates = np.argsort(_units(source), kind="stable")  # both drawings of an emoji, then those of the next
    is_test = _halves(source)
    if not official:
        candidates = candidates[~is_test[candidates]]
    if per_class is None:
        return np.sort(candidates)
    labelled = 2 * source.y[candidates] + is_test[candidates]
    return np.sort(np.concatenate([candidates[labelled == k][:per_class] for k in np.unique(labelled)]))


def _halves(source: Source) -> NDArray[np.bool_]:
    return np.zeros(len(source), dtype=bool) if source.is_test is None else source.is_test


def _units(source: Source) -> Rows:
    """The unit of every row, counted from 0; a row by itself where the source has none."""
    return np.arange(len(source)) if source.unit is None else np.unique(source.unit, return_inverse=True)[1]


def _joined(numbers: Sequence[Rows], sizes: Sequence[int]) -> Rows:
    """Numbers of one source after the other, each above all of those before: ``sizes`` of their ranges."""
    starts = np.cumsum([0, *sizes[:-1]])
    return np.concatenate([n + start for n, start in zip(numbers, starts, strict=True)])


def _images(source: Source, rows: Rows, size: int) -> Pixels:
    """Images of a source as (N, 3, size, size)."""
    from PIL import Image

    images = np.asarray(source.samples[rows])
    if images.shape[2:] != (size, size):
        planes = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
        images = np.stack([pixels_of(fitted(Image.fromarray(np.ascontiguousarray(p)), size)) for p in planes])
    return np.broadcast_to(images, (len(images), 3, size, size))
