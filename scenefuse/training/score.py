"""Scores on held-out blocks: against the truth or, without one, against the inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, log10
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scenefuse.grid.window import Window
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.network import FusionNetwork
from scenefuse.training.hold_out import HoldOut
from scenefuse.training.scenes import Example, Image, TrainingScene

Scores = dict[str, float]
Fuse = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A scene and its hold-out, the part that is used only for scoring."""

    scene: TrainingScene
    """The scene."""
    hold_out: HoldOut
    """Where windows may and may not lie."""


def score_truth(fuse: Fuse, grounds: Sequence[Ground], *, context_px: int, step_px: int) -> Scores:
    """psnr_db and sam_deg over all held-out blocks together, by the metrics' standard convention.

    fuse: maps (hs, ms) of one window to the fused window, NaN-free. Each block is fused as one window with at least
    context_px around it and sides that are multiples of step_px. Pixels without data in any image are not counted.
    """
    sums = ReferenceSums(ratio=grounds[0].scene.ratio, local=False)
    for example, window, block in _held_out(grounds, context_px, step_px):
        if example.truth is None:
            raise ValueError("a scene without truth has no score against it")
        with torch.inference_mode():
            fused = fuse(filled(example.hs), filled(example.ms))[0].float().cpu().numpy()
        sums = sums.add(fused, example.truth, _valid(example), core=block.within(window))
    scores = sums.scores()
    return {name: scores[name] for name in ("psnr_db", "sam_deg")}


def score_inputs(network: FusionNetwork, grounds: Sequence[Ground], *, context_px: int, step_px: int) -> Scores:
    """consistency_db: how close a self-supervised network's result, degraded by its own model, is to both inputs.

    10 log10(1 / m), m the mean of (mse_hs + mse_ms) / 2 over held-out windows. It needs no truth, and proves none.
    """
    device = next(network.parameters()).device
    errors = []
    for example, _, _ in _held_out(grounds, context_px, step_px):
        hs, ms = filled(example.hs).to(device), filled(example.ms).to(device)
        with torch.inference_mode():
            output: Any = network.supervised(hs, ms)
            both = (output.fused_as_hs - network.central(hs)).square().mean()
            both = both + (output.fused_as_ms - ms).square().mean()
        errors.append(float(both) / 2)
    mean = sum(errors) / len(errors)
    return {"consistency_db": -10 * log10(mean) if mean else inf}


def _held_out(grounds: Sequence[Ground], context_px: int, step_px: int) -> Iterator[tuple[Example, Window, Window]]:
    """Yield each held-out block with the example and the window that contain it."""
    for ground in grounds:
        ratio = ground.scene.ratio
        for block in ground.hold_out.blocks():
            y0, x0 = ((start - context_px) // ratio * ratio for start in (block.y0, block.x0))
            ends = (block.y1 + context_px - y0, block.x1 + context_px - x0)
            rows, columns = (-(-end // step_px) * step_px for end in ends)
            window = Window(y0=y0, y1=y0 + rows, x0=x0, x1=x0 + columns)
            yield ground.scene.read(window), window, block


def filled(image: Image) -> Tensor:
    """(1, band, y, x): no-data replaced by the band's mean in the window, or 0 if the band has no data at all."""
    valid = np.isfinite(image)
    count = valid.sum(axis=(1, 2), keepdims=True)
    mean = np.where(valid, image, 0).sum(axis=(1, 2), keepdims=True) / np.maximum(count, 1)
    return torch.from_numpy(np.where(valid, image, mean).astype(np.float32))[None]


def _valid(example: Example) -> NDArray[np.bool_]:
    """(y, x) of the fine window: whether both inputs have data in every band."""
    m = UPSAMPLE_MARGIN
    coarse: NDArray[np.bool_] = np.asarray(np.isfinite(example.hs).all(axis=0))[m:-m, m:-m]
    ratio = example.ms.shape[1] // coarse.shape[0]
    fine: NDArray[np.bool_] = coarse.repeat(ratio, axis=0).repeat(ratio, axis=1) & np.isfinite(example.ms).all(axis=0)
    return fine
