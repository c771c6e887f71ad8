"""Rows of a source, converted to tensors on demand: images as floats in [0, 1], and plain arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.data.crops import Crops
from clbench.data.files import ImageFiles


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
        images: NDArray[np.uint8] | ImageFiles,
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
        return type(self)(self._images, rows, mean, std, self._permutation, self._source)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Images at these positions as float32."""
        return self._scaled(np.asarray(self._images[self.rows[rows.cpu().numpy()]]))

    def _scaled(self, pixels: NDArray[np.uint8]) -> Tensor:
        if self._permutation is not None:
            pixels = pixels.reshape(*pixels.shape[:2], -1)[:, :, self._permutation].reshape(pixels.shape)
        return torch.from_numpy(pixels).float().mul_(self._scale).add_(self._shift)


class FileRows(ImageRows):
    """Rows of image files that are decoded on demand; crops are cut out of the files as they are."""

    def views(
        self, rows: Tensor, augment: Callable[[Tensor, np.random.Generator], Tensor], generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """The images at these positions, and the same augmented; each file is decoded once."""
        if not isinstance(augment, ResizedCrop):
            plain = self[rows]
            return plain, augment(plain, generator)
        assert isinstance(self._images, ImageFiles)
        crops, flipped = augment.draw(len(rows), generator)
        plain, cropped = map(self._scaled, self._images.views(self.rows[rows.cpu().numpy()], crops))
        return plain, augment.flip(cropped, flipped)


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


class ResizedCrop:
    """Random part of every image, resized to the whole (bilinear), and random horizontal flip; keeps (B, C, H, W).

    ``scale``: least and greatest share of the area; ``ratio``: least and greatest width : height.

    Source: see ``clbench.data.crops.Crops``.
    Differs: on images in memory the part is enlarged from the image at hand; ``FileRows`` cut it out of the file.
    """

    def __init__(self, scale: tuple[float, float], ratio: tuple[float, float] = (3 / 4, 4 / 3), flip: bool = False):
        self.scale, self.ratio = scale, ratio
        self.flips = flip

    def draw(self, n: int, generator: np.random.Generator) -> tuple[Crops, NDArray[np.bool_]]:
        """Boxes of n images, and which of them are flipped."""
        crops = Crops.draw(n, generator, self.scale, self.ratio)
        return crops, generator.random(n) < (0.5 if self.flips else 0.0)

    def flip(self, images: Tensor, flipped: NDArray[np.bool_]) -> Tensor:
        """The images, those marked flipped."""
        mark = torch.from_numpy(flipped).to(images.device).view(-1, 1, 1, 1)
        return torch.where(mark, images.flip(3), images)

    def __call__(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Augment a batch; the generator decides."""
        n, _, height, width = images.shape
        crops, flipped = self.draw(n, generator)
        left, top, w, h = torch.from_numpy(crops.boxes(height, width)).to(images.device).float().T[..., None]
        x = left + (torch.arange(width, device=images.device) + 0.5) / width * w  # (n, width): where it comes from
        y = top + (torch.arange(height, device=images.device) + 0.5) / height * h
        x = x.clamp(left + 0.5, left + w - 0.5) * 2 / width - 1  # nothing from beyond the box
        y = y.clamp(top + 0.5, top + h - 0.5) * 2 / height - 1
        grid = torch.stack([x[:, None, :].expand(n, height, width), y[:, :, None].expand(n, height, width)], -1)
        return self.flip(torch.nn.functional.grid_sample(images, grid, align_corners=False), flipped)
