"""Random resized crops: the boxes are drawn here, whoever cuts them out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

TRIES = 10  # boxes drawn per image; the first that fits is taken


@dataclass(frozen=True)
class Crops:
    """One random box per image, of a share of its area within ``scale`` and a width : height within ``ratio``.

    ``draws`` (N, 10, 4) in [0, 1): area, shape and place of each try.

    Source: Szegedy et al., Going deeper with convolutions, CVPR 2015, section 6; torchvision's RandomResizedCrop.
    Differs: all tries are drawn at once, so that a box does not depend on who else is drawn for.
    """

    draws: NDArray[np.float64]
    scale: tuple[float, float]
    ratio: tuple[float, float]

    @classmethod
    def draw(
        cls, n: int, generator: np.random.Generator, scale: tuple[float, float], ratio: tuple[float, float]
    ) -> Crops:
        """Boxes for n images."""
        return cls(generator.random((n, TRIES, 4)), scale, ratio)

    def take(self, rows: slice) -> Crops:
        """The boxes of some of the images."""
        return replace(self, draws=self.draws[rows])

    def boxes(self, height: int, width: int, row: int | slice = slice(None)) -> NDArray[np.int64]:
        """Left, top, width and height (N, 4) in images of this size; without N for a single row."""
        area, shape, across, down = np.moveaxis(self.draws[row], -1, 0)
        low, high = np.log(self.ratio)
        pixels = height * width * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
        aspect = np.exp(low + shape * (high - low))
        w, h = np.rint(np.sqrt(pixels * aspect)), np.rint(np.sqrt(pixels / aspect))
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first = fits.argmax(-1)[..., None]
        w, h, across, down = (np.take_along_axis(x, first, -1)[..., 0] for x in (w, h, across, down))
        left, top = np.floor(across * (width - w + 1)), np.floor(down * (height - h + 1))
        wide, high_ = min(width, round(height * self.ratio[1])), min(height, round(width / self.ratio[0]))
        middle = np.array([(width - wide) // 2, (height - high_) // 2, wide, high_])
        boxes = np.where(fits.any(-1)[..., None], np.stack([left, top, w, h], -1), middle)
        return boxes.astype(np.int64)
