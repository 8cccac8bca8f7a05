"""Linear maps between bands, the same for every pixel, and the injection of fine detail built on them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from scenefuse.grid.resample import NO_PHASE, Phase
from scenefuse.models.resample import band_groups, upsample_into

STEADY_PIXELS = 4096
"""Columns from which a CPU's matrix product rounds a pixel the same way whatever their number (64 x 64 px)."""
STEADY_ROWS = 4
"""Rows from which it does so; with 1 to 3 rows MKL (AVX-512) rounds by the number of columns, at any number."""


def map_bands(matrix: Tensor, image: Tensor) -> Tensor:
    """Apply the matrix (c, b) to every pixel of image (n, b, y, x): (n, c, y, x)."""
    n, _, height, width = image.shape
    mapped = torch.stack([_steady_product(matrix, pixels) for pixels in image.flatten(2)])  # (n, c, y*x)
    return mapped.view(n, -1, height, width)


def inject(coarse: Tensor, gains: Tensor, fine: Tensor, ratio: int, phase_px: Phase = NO_PHASE) -> Tensor:
    """upsample(coarse) + gains @ fine, (n, c, y, x): the last step of every additive method.

    coarse: (n, c, y / ratio + 4, x / ratio + 4), what the method keeps of the HSI; gains: (c, b); fine: (n, b, y, x).
    Upsampling commutes with band maps, so up(hs) + gains @ (ms - up(low)) = up(hs - gains @ low) + gains @ ms: one
    upsampling and one product, a few bands at a time, without a second image of c bands.
    """
    n, bands = coarse.shape[:2]
    fused = coarse.new_empty((n, bands, *fine.shape[-2:]))
    for image, hs, ms in zip(fused, coarse, fine.flatten(2), strict=True):
        for group in band_groups(image):
            upsample_into(image[group], hs[group], ratio, phase_px)
            add_mapped(image[group].view(-1, ms.shape[1]), gains[group], ms)
    return fused


def add_mapped(total: Tensor, matrix: Tensor, pixels: Tensor) -> None:
    """Add matrix (c, b) @ pixels (b, y*x) to total (c, y*x), in place."""
    if len(matrix) >= STEADY_ROWS and pixels.shape[1] >= STEADY_PIXELS:
        total.addmm_(matrix, pixels)
    else:
        total += _steady_product(matrix, pixels)


def map_into(mapped: Tensor, matrix: Tensor, pixels: Tensor) -> None:
    """Write matrix (c, b) @ pixels (b, y*x) into `mapped`, a contiguous (c, y*x)."""
    if len(matrix) >= STEADY_ROWS and pixels.shape[1] >= STEADY_PIXELS:
        torch.mm(matrix, pixels, out=mapped)
    else:
        mapped.copy_(_steady_product(matrix, pixels))


def _steady_product(matrix: Tensor, pixels: Tensor) -> Tensor:
    """The product matrix (c, b) @ pixels (b, y*x), zero-padded until large enough to round alike in every window."""
    count, rows = pixels.shape[1], len(matrix)
    lacking = max(0, STEADY_PIXELS - count)
    if lacking:
        pixels = pad(pixels, (0, lacking))
    if rows < STEADY_ROWS:
        matrix = pad(matrix, (0, 0, 0, STEADY_ROWS - rows))
    return (matrix @ pixels)[:rows, :count]
