"""Rows of a source, converted to tensors on demand: images as floats in [0, 1], and plain arrays."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class SourceRows(Protocol):
    """Rows of a data source that know where they come from, so that what is worked out of them can be kept.

    ``content``: hash of all rows of the source with the transform that is applied to them. ``rows`` (N,): which
    of them these are, in order.
    """

    content: str
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of these rows, their number first."""

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The rows at these positions."""

    def whole(self) -> SourceRows:
        """All rows of the source in its own order, with the same transform."""


class ArrayRows:
    """Rows of an array (in memory or memory-mapped), handed out as they are; ``content`` as in ``SourceRows``."""

    def __init__(self, array: NDArray[Any], rows: NDArray[np.int64] | None = None, content: str = "") -> None:
        self._array = array
        self.rows = np.arange(len(array)) if rows is None else rows
        self.content = content

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        return (len(self.rows), *self._array.shape[1:])

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Rows at these positions as a tensor of the array's own type."""
        return torch.from_numpy(np.asarray(self._array[self.rows[rows.cpu().numpy()]]))

    def whole(self) -> ArrayRows:
        """All rows of the array."""
        return ArrayRows(self._array, None, self.content)

    def take(self, rows: NDArray[np.int64]) -> ArrayRows:
        """Other rows of the same array."""
        return ArrayRows(self._array, rows, self.content)


class ImageRows:
    """Rows of a uint8 array (in memory or memory-mapped), scaled and optionally with their pixels permuted.

    Hands out float32 (n, C, H, W): ``(pixel / 255 - mean) / std``. ``permutation`` (H*W,) moves pixels, the
    same way in every channel. ``source``: hash of the images.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        rows: NDArray[np.int64],
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        permutation: NDArray[np.int64] | None = None,
        source: str = "",
    ) -> None:
        self._images = images
        self.rows = rows
        self._source, self._mean, self._std = source, mean, std
        self._scale = torch.tensor([1.0 / (255.0 * s) for s in std]).view(1, -1, 1, 1)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1)
        self._permutation = permutation
        digest = hashlib.sha256(f"{source}|{images.shape}|{mean}|{std}|".encode())
        if permutation is not None:
            digest.update(permutation.astype("<i8").tobytes())
        self.content = digest.hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.rows), *self._images.shape[1:])

    def whole(self) -> ImageRows:
        """All images of the source, transformed in the same way."""
        return self._like(np.arange(len(self._images)), self._mean, self._std)

    def plain(self) -> ImageRows:
        """The same rows in [0, 1], without mean and std: what a pretrained network normalises itself."""
        return self._like(self.rows, (0.0,), (1.0,))

    def _like(self, rows: NDArray[np.int64], mean: tuple[float, ...], std: tuple[float, ...]) -> ImageRows:
        return ImageRows(self._images, rows, mean, std, self._permutation, self._source)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Images at these positions as float32."""
        picked = np.asarray(self._images[self.rows[rows.cpu().numpy()]])
        if self._permutation is not None:
            picked = picked.reshape(*picked.shape[:2], -1)[:, :, self._permutation].reshape(picked.shape)
        return torch.from_numpy(picked).float().mul_(self._scale).add_(self._shift)


class CropFlip:
    """Random crop after zero padding by ``pad`` pixels, and random horizontal flip; (B, C, H, W) to the same."""

    def __init__(self, pad: int, flip: bool) -> None:
        self.pad = pad
        self.flip = flip

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Augment a batch; the generator decides."""
        n, _, height, width = images.shape
        padded = torch.nn.functional.pad(images, [self.pad] * 4)
        top, left = generator.integers(0, 2 * self.pad + 1, size=(2, n))
        columns = np.broadcast_to(np.arange(width), (n, width))
        if self.flip:
            columns = np.where(generator.random((n, 1)) < 0.5, columns[:, ::-1], columns)
        device = images.device
        y = torch.from_numpy(top[:, None] + np.arange(height)).to(device)
        x = torch.from_numpy(left[:, None] + columns).to(device)
        sample = torch.arange(n, device=device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[sample, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2).contiguous()
