"""Augmentation of examples: turns, mirror images and noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scenefuse.simulate.wald import add_noise
from scenefuse.training.scenes import Example, Image


def turned(example: Example, element: int) -> Example:
    """The example under an element of the square's symmetry group: 0 to 3 quarter turns; 4 to 7, mirrored first.

    Each coarse pixel keeps its own fine pixels, and a blur of one width has the same symmetries: it is still a pair. Of
    a blur with two widths, which MossFuse can learn, half of the elements exchange the axes.
    """

    def turn(image: Image) -> Image:
        seen = image[:, :, ::-1] if element >= 4 else image
        return np.ascontiguousarray(np.rot90(seen, element % 4, axes=(1, 2)))

    truth = None if example.truth is None else turn(example.truth)
    return Example(hs=turn(example.hs), ms=turn(example.ms), truth=truth)


def noisy(example: Example, snr_db: float, rng: np.random.Generator) -> Example:
    """The example with white Gaussian noise on the HSI, snr_db below each band's power in the window."""
    return replace(example, hs=add_noise(example.hs, snr_db, rng))
