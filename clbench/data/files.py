"""Image files that are decoded when they are asked for, by worker processes: for sets too large to keep decoded."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clbench.data.crops import Crops
from clbench.errors import BadInput, DataMissing

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 16  # files that a worker decodes at a time; fewer are not worth a worker
IDLE = 30  # seconds until idle workers go, also those of a process that was killed
Pixels = NDArray[np.uint8]
Size = int | Mapping[str, int] | None


class ImageFiles:
    """Image files below a folder as an array (N, C, H, W) of uint8 that decodes what is indexed.

    ``size``: see ``fitted``. There are as many worker processes as processors; ``LOKY_MAX_CPU_COUNT`` limits them.
    """

    def __init__(self, root: Path, names: Sequence[str], size: Size, grey: bool = False) -> None:
        self._root, self._names, self._size, self._grey = root, names, size, grey
        side = output_size(size)
        if side is None:
            raise BadInput("decode: ondemand needs a size: data: {size: {resize: 256, crop: 224}}")
        self.shape = (len(names), 1 if grey else 3, side, side)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, rows: NDArray[np.int64]) -> Pixels:
        """The images at these positions."""
        return self.views(rows)[0]

    def views(self, rows: NDArray[np.int64], crops: Crops | None = None) -> tuple[Pixels, Pixels]:
        """The images at these positions, and crops of their files resized to the same shape; each decoded once."""
        from joblib import Parallel, cpu_count, delayed, parallel_config

        names = [self._names[row] for row in rows]
        chunks = [slice(k, k + CHUNK) for k in range(0, len(names), CHUNK)]
        ask = [(self._root, names[c], self._size, self._grey, crops and crops.take(c)) for c in chunks]
        workers = min(cpu_count(), len(chunks))
        if workers > 1:
            with parallel_config("loky", idle_worker_timeout=IDLE):
                parts = Parallel(n_jobs=workers, max_nbytes=None)(delayed(_decode)(*chunk) for chunk in ask)
        else:
            parts = [_decode(*chunk) for chunk in ask]
        empty = np.empty((0, *self.shape[1:]), np.uint8)
        plain, cropped = zip(*parts, strict=True) if parts else ((), ())
        return np.concatenate([empty, *plain]), np.concatenate([empty, *(c for c in cropped if c is not None)])


def _decode(
    root: Path, names: Sequence[str], size: Size, grey: bool, crops: Crops | None
) -> tuple[Pixels, Pixels | None]:
    from PIL.Image import Resampling

    plain, cropped = [], []
    for number, name in enumerate(names):
        try:
            data = (root / name).read_bytes()
        except OSError as error:
            raise DataMissing(f"image file '{root / name}' cannot be read: {error}") from error
        picture = opened(name, data, grey)
        whole = fitted(picture, size)
        plain.append(pixels_of(whole))
        if crops is not None:
            left, top, width, height = crops.boxes(picture.height, picture.width, number).tolist()
            part = picture.crop((left, top, left + width, top + height))
            cropped.append(pixels_of(part.resize(whole.size, Resampling.BILINEAR)))
    return np.stack(plain), np.stack(cropped) if crops is not None else None


def opened(name: str, data: bytes, grey: bool) -> Image:
    """The picture in the bytes of a file, transparent parts white; ``DataMissing`` when they cannot be decoded."""
    from PIL import Image, UnidentifiedImageError

    unreadable = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError)
    try:
        picture: Image.Image = Image.open(io.BytesIO(data))
        if picture.has_transparency_data:  # a transparent background needs one fixed colour
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        return picture.convert("L" if grey else "RGB")
    except unreadable as error:  # as Pillow's decoders raise
        raise DataMissing(f"image file '{name}' cannot be decoded: {error}") from error


def output_size(size: Size) -> int | None:
    """Pixels a side that ``fitted`` gives; None for pictures left as they are. ``BadInput`` for impossible ones."""
    wanted = size if isinstance(size, Mapping) else {"resize": size, "crop": size}
    resize, crop = wanted.get("resize"), wanted.get("crop")
    if size is None:
        return None
    if len(wanted) != 2 or not isinstance(crop, int) or not isinstance(resize, int) or not 0 < crop <= resize:
        raise BadInput(
            f"size must be a number of pixels, or {{resize: 256, crop: 224}} with crop <= resize; got {size}"
        )
    return crop


def fitted(picture: Image, size: Size) -> Image:
    """The picture in ``size`` x ``size`` pixels; with ``{resize, crop}``, as the papers do it.

    Its shorter side is resized to ``resize`` pixels (bicubic), and the middle of ``crop`` x ``crop`` pixels cut out.
    """
    from PIL.Image import Resampling

    side = output_size(size)
    if side is None:
        return picture
    if not isinstance(size, Mapping):
        return picture if picture.size == (side, side) else picture.resize((side, side), Resampling.BILINEAR)
    short, resize = min(picture.size), size["resize"]
    width, height = (int(resize * length / short) for length in picture.size)
    picture = picture.resize((width, height), Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return picture.crop((left, top, left + side, top + side))


def pixels_of(picture: Image) -> Pixels:
    """A picture as (C, H, W)."""
    array = np.asarray(picture, dtype=np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
