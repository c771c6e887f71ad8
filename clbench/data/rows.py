"""Images of a source as rows of float tensors in [0, 1], converted on demand."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ImageRows:
    """Rows of a uint8 array (in memory or memory-mapped), scaled and optionally with their pixels permuted.

    Hands out float32 (n, C, H, W): ``(pixel / 255 - mean) / std``. ``permutation`` (H*W,) moves pixels, the
    same way in every channel.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        rows: NDArray[np.int64],
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        permutation: NDArray[np.int64] | None = None,
    ) -> None:
        self._images = images
        self._rows = rows
        self._scale = torch.tensor([1.0 / (255.0 * s) for s in std]).view(1, -1, 1, 1)
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(1, -1, 1, 1)
        self._permutation = permutation

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self._rows), *self._images.shape[1:])

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Images at these positions as float32."""
        picked = np.asarray(self._images[self._rows[rows.cpu().numpy()]])
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
