"""Upsampling and degrading of tensors: the taps of grid/resample.py, applied with torch on any device.

Every step is an elementwise product or multiply-add over shifted views, one tap after another. A pixel of the result
depends only on the pixels under its kernel, so windows cut anywhere give the same bits on a CPU. torch's convolutions
do not guarantee that (their blocking follows the window's width), nor does F.interpolate (at ratios 3 and 6 its phases
drift by 1e-4).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from scenefuse.grid.resample import NO_PHASE, Phase, degrade_reach_px, degrade_taps, upsample_taps
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.edges import repeat_edges

CPU_GROUP_BANDS = 4
"""Bands processed at a time on a CPU, so that their window stays in its cache (measured: 1, 8 and 16 are slower)."""
GPU_GROUP_BANDS = 32
"""Bands processed at a time on a GPU: enough to keep it busy, few enough to save memory."""


def upsample(coarse: Tensor, ratio: int, phase_px: Phase = NO_PHASE) -> Tensor:
    """Upsample to the fine grid by cubic convolution, (n, b, y * ratio, x * ratio).

    coarse: (n, b, y + 4, x + 4); the margin of 2 coarse pixels on each side is consumed. phase_px: (y, x) fine pixels
    by which the coarse pixels lie down and right of their grid.
    """
    n, bands, rows, columns = coarse.shape
    margin = 2 * UPSAMPLE_MARGIN
    fine = coarse.new_empty((n, bands, (rows - margin) * ratio, (columns - margin) * ratio))
    flat, result = coarse.flatten(0, 1), fine.flatten(0, 1)
    for group in band_groups(result):
        upsample_into(result[group], flat[group], ratio, phase_px)
    return fine


def upsample_into(fine: Tensor, coarse: Tensor, ratio: int, phase_px: Phase = NO_PHASE) -> None:
    """Write the upsampled coarse bands (b, y + 4, x + 4) into `fine`, a contiguous (b, y * ratio, x * ratio)."""
    down, right = (upsample_taps(ratio, phase).tolist() for phase in phase_px)
    bands, rows, columns = coarse.shape
    height, width = rows - 2 * UPSAMPLE_MARGIN, columns - 2 * UPSAMPLE_MARGIN
    wide = coarse.new_empty((bands, rows, width, ratio))
    for phase, weights in enumerate(right):
        wide[..., phase] = _weigh([coarse[..., tap : tap + width] for tap in range(len(weights))], weights)
    wide = wide.view(bands, rows, width * ratio)
    tall = fine.view(bands, height, ratio, width * ratio)
    for phase, weights in enumerate(down):
        shifted = [wide[:, tap : tap + height] for tap in range(len(weights))]
        _weigh(shifted, weights, out=tall[:, :, phase])


def degrade(fine: Tensor, ratio: int, sigma_px: float, phase_px: Phase = NO_PHASE) -> Tensor:
    """The fine pixels as the coarse instrument sees them, (n, b, y, x): a Gaussian sampled at the coarse centres.

    fine: (n, b, y * ratio + 2 * reach, x * ratio + 2 * reach), reach = degrade_reach_px(ratio, sigma_px). phase_px:
    (y, x) fine pixels by which those centres lie down and right of the grid's.
    """
    down, right = (degrade_taps(ratio, sigma_px, phase).tolist() for phase in phase_px)
    height = (fine.shape[-2] - len(down)) // ratio + 1
    width = (fine.shape[-1] - len(right)) // ratio + 1
    last_row, last_column = (height - 1) * ratio + 1, (width - 1) * ratio + 1
    coarse = []
    for group in band_groups(fine[0]):
        bands = fine[:, group]
        rows = _weigh([bands[..., tap : tap + last_row : ratio, :] for tap in range(len(down))], down)
        coarse.append(_weigh([rows[..., tap : tap + last_column : ratio] for tap in range(len(right))], right))
    return torch.cat(coarse, dim=1)


def degrade_window(fine: Tensor, ratio: int, sigma_px: float, phase_px: Phase = NO_PHASE) -> Tensor:
    """A window's fine pixels as the coarse instrument sees them, with upsample's margin: (n, b, y + 4, x + 4).

    fine: (n, b, y * ratio, x * ratio). The window is padded by repeating its edge: pixels whose kernel leaves it are
    wrong.
    """
    margin = UPSAMPLE_MARGIN * ratio + degrade_reach_px(ratio, sigma_px)
    return degrade(repeat_edges(fine, margin), ratio, sigma_px, phase_px)


def filter_window(coarse: Tensor, taps: list[float]) -> Tensor:
    """The image filtered along rows and columns with an odd number of taps, same shape, edges repeated outside."""
    reach = len(taps) // 2
    height, width = coarse.shape[-2:]
    padded = repeat_edges(coarse, reach)
    rows = _weigh([padded[..., tap : tap + height, :] for tap in range(len(taps))], taps)
    return _weigh([rows[..., tap : tap + width] for tap in range(len(taps))], taps)


def coarse_blur_taps(ratio: int, sigma_px: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Taps on the coarse grid of degrade after upsample along one axis: odd count, symmetric, sum 1, float64.

    They give what the coarse instrument would see of the upsampled image: degrade(upsample(e)) = taps * e. A phase,
    which moves both alike, changes them by less than 0.001 (0.006 at ratio 2): they are those without one.
    """
    down, up = degrade_taps(ratio, sigma_px), upsample_taps(ratio)
    reach_px = degrade_reach_px(ratio, sigma_px)
    reach = -(-reach_px // ratio) + UPSAMPLE_MARGIN
    taps = np.zeros(2 * reach + 1)
    for index, weight in enumerate(down.astype(np.float64)):
        neighbour, phase = divmod(index - reach_px, ratio)
        first = reach + neighbour - UPSAMPLE_MARGIN
        taps[first : first + up.shape[1]] += weight * up[phase]
    return taps


def band_groups(fine: Tensor) -> Iterator[slice]:
    """Slices over the bands of (b, y, x), each a small group to process at a time.

    Their size never depends on the window, and the last slice takes any remainder rather than leave a short one: a
    matrix product with a different number of rows, or with one to three, may round differently.
    """
    bands = fine.shape[0]
    size = CPU_GROUP_BANDS if fine.device.type == "cpu" else GPU_GROUP_BANDS
    starts = range(0, max(1, bands // size) * size, size)
    return (slice(start, bands if start == starts[-1] else start + size) for start in starts)


def _weigh(views: list[Tensor], weights: list[float], out: Tensor | None = None) -> Tensor:
    """The weighted sum of the views, one tap after another, in `out` if given; taps of weight 0 are skipped."""
    (first, weight), *others = [(view, weight) for view, weight in zip(views, weights, strict=True) if weight]
    total = torch.mul(first, weight, out=out)
    for view, weight in others:
        total.add_(view, alpha=weight)
    return total
