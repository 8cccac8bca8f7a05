"""Fitting a pair's PSF and response alone, before training a network that learns them.

L_DE = |R X - D M| (Du et al. 2025, eq. 12) depends only on the two images, never on the network. When the response was
learnt alongside the network, at its rate of 1e-3, it had covered only a third of its way by the end, and the network
had fitted a wrong one (Jasper Ridge, three minutes of a core: 17.4 dB on the held-out block, against 23.3 dB with the
degradation fitted first; bicubic 20.3 dB). Fitted alone it takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import cos, pi

import torch

from scenefuse.models.degradation import Degradation
from scenefuse.models.network import FusionNetwork
from scenefuse.training.batches import draw_step
from scenefuse.training.hold_out import HoldOut
from scenefuse.training.losses import absolute
from scenefuse.training.recipe import Recipe
from scenefuse.training.score import Ground

LR = 0.03
"""Initial learning rate; it falls along half a cosine. Values from 0.03 to 0.1 give the same result."""
WINDOWS = 4
"""Number of windows, all used in every step."""
SIDE_PX = 128
"""Side of a window if scenes have room, fine pixels: where the PSF reaches beyond the window, nothing is learnt."""


def degradation_of(network: FusionNetwork) -> Degradation | None:
    """The part of the network that models the pair's PSF and response; None if it has none."""
    part = getattr(network, "degradation", None)
    return part if isinstance(part, Degradation) else None


def learn_degradation(network: FusionNetwork, grounds: Sequence[Ground], recipe: Recipe, seed: int) -> None:
    """Fit the network's degradation to minimise L_DE; does nothing unless it is physical and learnt.

    Held-out blocks are never used. The same seed gives the same bits.
    """
    degradation = degradation_of(network)
    if degradation is None or not (degradation.physical and degradation.learnt and recipe.degradation_steps):
        return
    wide = [replace(ground, hold_out=_widened(ground.hold_out, recipe.patch_px)) for ground in grounds]
    plain = replace(recipe, batch=WINDOWS, accumulate=1, turns=False, noise_probability=0.0)
    side = min(ground.hold_out.patch_px for ground in wide)
    same = [replace(ground, hold_out=replace(ground.hold_out, patch_px=side)) for ground in wide]
    (batch,) = draw_step(same, plain, seed, 0)
    device = next(network.parameters()).device
    hs, ms = network.central(batch.hs).to(device), batch.ms.to(device)
    optimiser = torch.optim.Adam(degradation.parameters(), lr=LR)
    for step in range(recipe.degradation_steps):
        for group in optimiser.param_groups:
            group["lr"] = LR * (1 + cos(pi * step / recipe.degradation_steps)) / 2
        optimiser.zero_grad()
        seen = (degradation.inner(image) for image in (degradation.to_ms(hs), degradation.to_coarse(ms)))
        torch.autograd.backward(absolute(*seen))
        optimiser.step()
        degradation.clamp()


def _widened(hold_out: HoldOut, patch_px: int) -> HoldOut:
    """The hold-out with windows as large as fit, up to SIDE_PX; unchanged if nothing larger than patch_px fits."""
    step = hold_out.step_px
    for side in range(SIDE_PX // step * step, patch_px, -step):
        wide = replace(hold_out, patch_px=side)
        if min(hold_out.shape) >= side and wide.count():
            return wide
    return hold_out
