"""The degradation first: PSF and response of a pair fitted alone, before a network that learns them begins to learn.

L_DE = |R X - D M| (Du et al. 2025, eq. 12) looks at the two images only, never at the network. Learnt beside it, at
its rate of 1e-3, the response had moved by a third of its way when the network was done, and the network had learnt to
please a wrong one (Jasper Ridge, three minutes of a core: 17.4 dB on the held-out block, 23.3 dB with the degradation
first, bicubic 20.3 dB). Alone it takes seconds.
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
"""Learning rate at the start; it falls along half a cosine. From 0.03 to 0.1 the result is the same."""
WINDOWS = 4
"""Windows that are looked at, all of them in every step."""
SIDE_PX = 128
"""Side of a window where scenes have room for it, fine pixels: where the PSF reaches beyond, nothing is learnt."""


def degradation_of(network: FusionNetwork) -> Degradation | None:
    """The part of the network that is the pair's PSF and response; None for a network without one."""
    part = getattr(network, "degradation", None)
    return part if isinstance(part, Degradation) else None


def learn_degradation(network: FusionNetwork, grounds: Sequence[Ground], recipe: Recipe, seed: int) -> None:
    """Fit the network's degradation, where it is a physical one that is not given, to the least L_DE.

    Held-out blocks are never looked at. The same seed gives the same bits.
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
    """The hold-out with windows as wide as there is room for, at most SIDE_PX; its own where nothing wider fits."""
    step = hold_out.step_px
    for side in range(SIDE_PX // step * step, patch_px, -step):
        wide = replace(hold_out, patch_px=side)
        if min(hold_out.shape) >= side and wide.count():
            return wide
    return hold_out
