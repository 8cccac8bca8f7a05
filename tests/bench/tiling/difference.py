"""How far a result is from a reference: at the scene's edge, at seams, and in the interior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEAM_PX = 16
"""Pixels on each side of a cut that count as its seam."""


def difference(image: Path, reference: Path, *, cuts: tuple[int, ...], edge_px: int) -> dict[str, Any]:
    """Largest and rms difference of two .npy images (band, y, x), overall and by place; None where no pixel is.

    edge: nearer than edge_px to the scene's border, where its rule for what lies outside counts; seam: within
    SEAM_PX of a cut; interior: the rest.
    """
    one, other = (np.load(path, mmap_mode="r") for path in (image, reference))
    side = one.shape[1]
    places = _places(side, cuts, edge_px)
    largest = dict.fromkeys((*places, "all"), 0.0)
    squares = dict.fromkeys(largest, 0.0)
    missing = 0
    for band in range(len(one)):
        gap = np.abs(np.asarray(one[band], np.float32) - np.asarray(other[band], np.float32))
        missing += int(np.isnan(gap).sum())
        for name, mask in (*places.items(), ("all", None)):
            some = gap if mask is None else gap[mask]
            if some.size:
                largest[name] = max(largest[name], float(some.max()))
                squares[name] += float(np.square(some, dtype=np.float64).sum())
    found: dict[str, Any] = {"missing": missing}
    for name in largest:
        count = (side**2 if name == "all" else int(places[name].sum())) * len(one)
        found[name] = {"max": largest[name], "rms": (squares[name] / count) ** 0.5} if count else None
    return found


def _places(side: int, cuts: tuple[int, ...], edge_px: int) -> dict[str, NDArray[np.bool_]]:
    index = np.arange(side)
    edge = (index < edge_px) | (index >= side - edge_px)
    inner = [cut for cut in cuts if 0 < cut < side]
    seam = np.zeros(side, bool)
    for cut in inner:
        seam |= (index >= cut - SEAM_PX) & (index < cut + SEAM_PX)
    edges = edge[:, None] | edge[None, :]
    seams = (seam[:, None] | seam[None, :]) & ~edges
    return {"edge": edges, "seam": seams, "interior": ~edges & ~seams}
