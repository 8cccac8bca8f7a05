"""The plainest way down from the fine grid to the coarse one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def block_mean(fine: NDArray[np.float32], ratio: int) -> NDArray[np.float32]:
    """Mean of the fine pixels of each coarse pixel, (band, y, x); fine: (band, y * ratio, x * ratio)."""
    bands, rows, columns = fine.shape
    blocks = fine.reshape(bands, rows // ratio, ratio, columns // ratio, ratio)
    means: NDArray[np.float64] = blocks.mean((2, 4), dtype=np.float64)
    return means.astype(np.float32)
