"""Which coarse pixels both instruments measure."""

from __future__ import annotations

import numpy as np

from scenefuse.models.base import SceneWindow
from scenefuse.models.coarse_pixels import coarse_pixels, degrade_margin


def test_a_coarse_pixel_counts_where_both_images_have_all_of_it() -> None:
    ratio, sigma_px, margin = 4, 1.0, degrade_margin(4)
    side, middle = 5 + 2 * margin, margin + 2
    numbers = np.arange(side**2, dtype=np.float32).reshape(1, side, side)
    hs_valid, ms_valid = np.ones((side, side), np.bool_), np.ones((side * ratio, side * ratio), np.bool_)
    hs_valid[margin, margin] = False
    # Half a pixel from the middle one's centre: 0.35^2 of its Gaussian, and 0.35 * 0.0009 of the nearest others'.
    ms_valid[middle * ratio + 1, middle * ratio + 1] = False
    ms = np.ones((2, side * ratio, side * ratio), np.float32)
    window = SceneWindow(hs=numbers, ms=ms, hs_valid=hs_valid, ms_valid=ms_valid, margin=margin, ratio=ratio)
    inside = set(numbers[0, margin : margin + 5, margin : margin + 5].ravel().tolist())
    pixels = coarse_pixels(window, sigma_px)
    assert set(pixels.hs[:, 0].tolist()) == inside - {numbers[0, margin, margin], numbers[0, middle, middle]}
    assert pixels.ms.shape == (23, 2)
