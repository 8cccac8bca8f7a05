"""Padding of a window by repeating its edge pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def repeat_edges(image: Tensor, margin: int) -> Tensor:
    """Pad (n, c, y, x) by `margin` pixels on each side with the nearest edge pixel: (n, c, y + 2 margin, ...).

    This calls the kernel of F.pad's mode `replicate` directly. Under deterministic algorithms on a GPU, F.pad would use
    two gathers instead and import torch's compiler for them, although only the kernel's gradient depends on the order
    of summation.
    """
    padded: Tensor = torch.ops.aten.replication_pad2d(image, [margin] * 4)
    return padded
