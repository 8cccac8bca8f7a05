"""What lies outside a window, made up by repeating its edge."""

from __future__ import annotations

import torch
from torch import Tensor


def repeat_edges(image: Tensor, margin: int) -> Tensor:
    """(n, c, y, x) with margin more pixels on each side, each the image's nearest: (n, c, y + 2 margin, ...).

    The kernel of F.pad's mode `replicate`, called directly: under deterministic algorithms F.pad would on a GPU take
    two gathers in its place, and import torch's compiler for them, although only the kernel's gradient depends on the
    order of its sums.
    """
    padded: Tensor = torch.ops.aten.replication_pad2d(image, [margin] * 4)
    return padded
