"""Resampling of feature maps by integer factors with fixed kernels, locked to the scene's lattice.

Uses only slices, products and sums, so a pixel gets the same bits in every window; `F.interpolate` with a ratio does
not guarantee that at factors 3 and 6. Coarse pixel i covers fine pixels [i * factor, (i + 1) * factor).
At a window's edge the edge pixel is repeated; the affected pixels lie within the network's support and are cropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import floor
from typing import Literal

import torch
from torch import Tensor

from scenefuse.models.edges import repeat_edges

Kernel = Literal["linear", "cubic"]

CUBIC_A = -0.75
"""Sharpness of the cubic kernel: PyTorch's value, with which S3RNet was published."""


def _weight(kernel: Kernel, distance: float) -> float:
    """Kernel at a distance in source pixels (Keys 1981, eq. 4, with a = CUBIC_A)."""
    d = abs(distance)
    if kernel == "linear":
        return max(0.0, 1.0 - d)
    a = CUBIC_A
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def _taps(kernel: Kernel, position: float, stretch: float = 1.0) -> tuple[tuple[int, float], ...]:
    """(offset, weight) of the source pixels around a position in source pixels; weights sum to 1."""
    reach = (1 if kernel == "linear" else 2) * stretch
    offsets = range(floor(position - reach), floor(position + reach) + 2)
    raw = [(offset, _weight(kernel, (offset - position) / stretch)) for offset in offsets]
    total = sum(weight for _, weight in raw)
    return tuple((offset, weight / total) for offset, weight in raw if abs(weight) > 1e-12)


@cache
def _phases(factor: int) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Linear taps of each of the `factor` fine pixels in a coarse pixel."""
    return tuple(_taps("linear", (phase + 0.5) / factor - 0.5) for phase in range(factor))


def enlarge(x: Tensor, factor: int, margin: int = 0) -> Tensor:
    """Enlarge linearly: (n, c, y, x), including `margin` pixels on each side, to (n, c, (y - 2 margin) * factor, ...).

    out[i * factor + p] = sum_t w_p[t] * x[i + t], half-pixel centres (align_corners=False).
    """
    if margin < 1:
        x, margin = repeat_edges(x, 1), 1
    for dim in (-2, -1):
        size = x.shape[dim] - 2 * margin
        fine = [
            _weighted_sum([(x.narrow(dim, margin + offset, size), weight) for offset, weight in taps])
            for taps in _phases(factor)
        ]
        x = torch.stack(fine, dim=dim).flatten(dim - 1, dim)
    return x


def shrink(x: Tensor, factor: int, kernel: Kernel, *, antialias: bool) -> Tensor:
    """Shrink (n, c, y, x) to (n, c, y / factor, x / factor), the kernel at the centre of each coarse pixel.

    With antialias the kernel is stretched by the factor; without, it interpolates between fine pixels.
    """
    taps = _taps(kernel, (factor - 1) / 2, factor if antialias else 1.0)
    margin = max(-taps[0][0], taps[-1][0] - factor + 1, 0)
    x = repeat_edges(x, margin)
    for dim in (-2, -1):
        span = x.shape[dim] - 2 * margin
        steps = torch.arange(0, span, factor, device=x.device)
        x = _weighted_sum([(x.index_select(dim, steps + margin + offset), weight) for offset, weight in taps])
    return x


def repeat(x: Tensor, factor: int) -> Tensor:
    """Repeat (n, c, y, x) to (n, c, y * factor, x * factor): each coarse pixel over the fine pixels it covers."""
    return x.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def _weighted_sum(terms: Sequence[tuple[Tensor, float]]) -> Tensor:
    """sum_i w_i x_i, added in order."""
    total = terms[0][0] * terms[0][1]
    for x, weight in terms[1:]:
        total = total + x * weight
    return total
