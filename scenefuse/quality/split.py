"""Split: which pixels of a scene score methods fairly when some of the networks learnt from that very scene."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.window import Window
from scenefuse.training.hold_out import HoldOut

Training = Mapping[str, Any]
"""The training record in the card of some weights."""


def truths_learnt(training: Training) -> frozenset[str]:
    """Digests, `sha256:<hex>`, of the truths that a training, or one it continues, learnt from."""
    base = training.get("base")
    before = frozenset[str]() if base is None else truths_learnt(base)
    return before.union(*(told[1:] for told in training.get("truths", ())))


def unseen_blocks(
    training: Training, inputs: Collection[str], grid: PairGrid | None, *, truths: Collection[str] = ()
) -> tuple[Window, ...] | None:
    """Blocks of a scene that a training held out, fine pixels of its grid; None if it learnt from other scenes only.

    inputs: the scene's files as `kind:checksum`; grid: the pair's, None for an image without a partner; truths:
    digests of what the scene is scored against. The result is empty, as nobody knows which pixels were never seen, if
    the training used one of the files with other partners, one of the truths with other scenes, or the pair without a
    hold-out (adapted weights).
    """
    if not set(training.get("inputs", ())).isdisjoint(inputs):
        return ()
    shared = [scene for scene in training.get("scenes", ()) if not set(scene.get("inputs", ())).isdisjoint(inputs)]
    same = [scene for scene in shared if set(scene["inputs"]) == set(inputs)]
    learnt = {digest for told in training.get("truths", ()) for digest in told[1:]}
    own: tuple[Window, ...] | None = None if learnt.isdisjoint(truths) else ()
    if shared:
        own = () if grid is None or not same else _blocks(same[0], training["recipe"], grid)
    base = training.get("base")
    before = None if base is None else unseen_blocks(base, inputs, grid, truths=truths)
    return before if own is None else own


def _blocks(scene: Mapping[str, Any], recipe: Mapping[str, Any], grid: PairGrid) -> tuple[Window, ...]:
    """Held-out blocks of a scene, from a training's record, in fine pixels.

    With Wald's protocol, the record counts pixels of the HSI.
    """
    reduced = recipe["protocol"] == "wald"
    hold_out = HoldOut(
        shape=grid.coarse_shape if reduced else grid.fine_shape,
        patch_px=recipe["patch_px"],
        block_px=scene["block_px"],
        guard_px=scene["guard_px"],
        step_px=grid.ratio,
        origin_px=tuple(scene["block_origin_px"]),
    )
    return tuple(block.refine(grid.ratio) if reduced else block for block in hold_out.blocks())


def honest_pixels(
    name: str, kept: Iterable[tuple[str, tuple[Window, ...]]], window: Window, step: int
) -> NDArray[np.bool_] | None:
    """Mask (y, x) over the truth of the pixels that no network has seen; None if that is all of them.

    kept: label and held-out blocks, fine pixels, of each network that learnt from the scene called name.
    window: the truth's extent, fine pixels; step: fine pixels per pixel of the truth. DataError if no pixel is left.
    """
    mask: NDArray[np.bool_] | None = None
    for label, blocks in kept:
        own = np.zeros((window.shape[0] // step, window.shape[1] // step), bool)
        for block in blocks:
            rows, columns = (
                slice(max(0, -(-(start - origin) // step)), max(0, (stop - origin) // step))
                for start, stop, origin in ((block.y0, block.y1, window.y0), (block.x0, block.x1, window.x0))
            )
            own[rows, columns] = True
        mask = own if mask is None else mask & own
        if not mask.any():
            raise DataError(
                f"{label} learnt from {name}, and no pixel there is known to be unseen",
                "its scores there would say how well it remembers",
                "Give another scene, or leave it out",
            )
    return mask
