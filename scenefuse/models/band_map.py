"""Linear maps from band to band, the same for every pixel, and the injection of fine detail that uses them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from scenefuse.models.resample import band_groups, upsample_into

STEADY_PIXELS = 4096
"""Columns from which a CPU's matrix product gives a pixel the same bits whatever their number (64 x 64 px).

Measured for MKL with AVX-512 and tested here; with fewer columns BLAS may take other kernels.
"""


def map_bands(matrix: Tensor, image: Tensor) -> Tensor:
    """Matrix (c, b) applied to every pixel of image (n, b, y, x): (n, c, y, x)."""
    n, _, height, width = image.shape
    pixels = image.flatten(2)  # (n, b, y*x)
    lacking = max(0, STEADY_PIXELS - height * width)
    padded = pad(pixels, (0, lacking)) if lacking else pixels
    mapped = torch.stack([matrix @ padded[i] for i in range(n)])  # (n, c, y*x + lacking)
    return mapped[..., : height * width].reshape(n, -1, height, width)


def inject(coarse: Tensor, gains: Tensor, fine: Tensor, ratio: int) -> Tensor:
    """upsample(coarse) + gains @ fine, (n, c, y, x): every additive method ends in this.

    coarse: (n, c, y / ratio + 4, x / ratio + 4), what the method keeps of the HSI; gains: (c, b); fine: (n, b, y, x).
    As upsampling commutes with maps of bands, up(hs) + gains @ (ms - up(low)) = up(hs - gains @ low) + gains @ ms:
    one upsampling and one product, a few bands at a time, without a second image of c bands.
    """
    n, bands = coarse.shape[:2]
    fused = coarse.new_empty((n, bands, *fine.shape[-2:]))
    for image, hs, ms in zip(fused, coarse, fine.flatten(2), strict=True):
        for group in band_groups(image):
            upsample_into(image[group], hs[group], ratio)
            add_mapped(image[group].view(-1, ms.shape[1]), gains[group], ms)
    return fused


def add_mapped(total: Tensor, matrix: Tensor, pixels: Tensor) -> None:
    """Add matrix (c, b) @ pixels (b, y*x) to total (c, y*x), in place."""
    count = pixels.shape[1]
    if count >= STEADY_PIXELS:
        total.addmm_(matrix, pixels)
        return
    lacking = STEADY_PIXELS - count
    total.copy_(torch.addmm(pad(total, (0, lacking)), matrix, pad(pixels, (0, lacking)))[:, :count])
