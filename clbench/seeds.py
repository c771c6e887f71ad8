"""Independent random streams from one seed, so that runs pair by seed across strategies."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Seeds:
    """One seed per source of variation; the same number everywhere unless told otherwise.

    ``order``: class order and transform parameters; ``split``: train/test rows; ``init``: initial weights;
    ``shuffle``: order of batches; ``augment``: crops and flips; ``strategy``: what the method draws itself.
    """

    order: int = 0
    split: int = 0
    init: int = 0
    shuffle: int = 0
    augment: int = 0
    strategy: int = 0

    @classmethod
    def of(cls, seed: int) -> Seeds:
        """All streams from one number; they stay independent of each other."""
        return cls(seed, seed, seed, seed, seed, seed)

    def generator(self, stream: str, *keys: int | str) -> np.random.Generator:
        """Make the generator of one stream, e.g. ``generator("shuffle", task, epoch)``."""
        return np.random.default_rng(self._sequence(stream, *keys))

    def integer(self, stream: str, *keys: int | str) -> int:
        """A 63-bit seed of one stream, for libraries that want a number."""
        return int(self._sequence(stream, *keys).generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _sequence(self, stream: str, *keys: int | str) -> np.random.SeedSequence:
        words = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in (stream, *keys)]
        return np.random.SeedSequence([getattr(self, stream), *words])
