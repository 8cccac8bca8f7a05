"""Measure the halo that trained weights need: from which distance on pixels change a tile's core no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import inf, isnan, lcm
from typing import TypeVar

import torch
from torch import Tensor

from scenefuse.engine.precision import repeatable
from scenefuse.grid.window import Window
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.network import FusionNetwork, multiply_adds_per_pixel
from scenefuse.training.score import Ground, filled

Item = TypeVar("Item")

GROUND_LIMIT = 5e-7
"""Largest difference from the full support on the ground, full scale 1: half of what the default halo may leave."""
NOISE_LIMIT = 1e-6
"""Largest difference on white noise of full scale, rounding apart, for a halo below the architecture's own: no ground
has as much contrast at every distance."""
PLACES = 4
"""Places of the ground that are measured."""
PATCHES = 16
"""Windows that the statistics are frozen to."""
CORE_PX = 48
"""Side of the core that is compared, fine pixels, or the next multiple of the lattice."""
MOST_MULTIPLY_ADDS = 2e12
"""Costlier measurements are left out: about three minutes of a processor core."""


def measured_halo_px(network: FusionNetwork, grounds: Sequence[Ground]) -> int | None:
    """Smallest halo within GROUND_LIMIT at all places, a multiple of the lattice; None where measuring costs too much.

    Halos below the architecture's own must also be within NOISE_LIMIT. Float32, on one processor thread.
    """
    step = lcm(network.lattice_px, network.ratio)
    full_px, core_px = (-(-px // step) * step for px in (network.support_px, CORE_PX))
    cost = multiply_adds_per_pixel(network) * (PLACES + 1) * (core_px + 2 * full_px) ** 2
    if not network.freezable or cost > MOST_MULTIPLY_ADDS:
        return None
    network = deepcopy(network).cpu().eval()
    network.fold()
    with repeatable("cpu", "fp32"):
        _freeze(network, grounds)
        sizes = {"core_px": core_px, "full_px": full_px}
        places = [_Place.of(network, pair, **sizes) for pair in _ground(grounds, step_px=step, **sizes)]
        noise = _Place.of(network, _noise(network, core_px + 2 * full_px), **sizes)
        noise_limit = NOISE_LIMIT + noise.error(full_px - step)  # from so far away nothing comes but rounding
        for halo_px in range(step, full_px, step):
            if any(place.error(halo_px) > GROUND_LIMIT for place in places):
                continue
            if halo_px >= network.halo_px or noise.error(halo_px) <= noise_limit:
                return halo_px
    return full_px


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """A core with everything around it that can influence it."""

    network: FusionNetwork
    """The network, frozen."""
    pair: tuple[Tensor, Tensor]
    """hs with its margin and ms, of the core and full_px around it."""
    core_px: int
    """Side of the core, fine pixels."""
    full_px: int
    """Fine pixels around it."""
    whole: Tensor
    """The core fused with all that is around it, (1, hs band, core_px, core_px)."""

    @classmethod
    def of(cls, network: FusionNetwork, pair: tuple[Tensor, Tensor], *, core_px: int, full_px: int) -> _Place:
        """The place, its whole fused."""
        whole = network(*pair)[..., full_px : full_px + core_px, full_px : full_px + core_px].clone()
        return cls(network=network, pair=pair, core_px=core_px, full_px=full_px, whole=whole)

    def error(self, halo_px: int) -> float:
        """Largest difference that a halo makes in the core; infinite where a value is no number."""
        cut, (hs, ms) = self.full_px - halo_px, self.pair
        coarse = cut // self.network.ratio
        inner, coarse_inner = slice(cut, ms.shape[-1] - cut), slice(coarse, hs.shape[-1] - coarse)
        tile = self.network(hs[..., coarse_inner, coarse_inner], ms[..., inner, inner])
        core = slice(halo_px, halo_px + self.core_px)
        largest = float((tile[..., core, core] - self.whole).abs().max())
        return inf if isnan(largest) else largest


def _freeze(network: FusionNetwork, grounds: Sequence[Ground]) -> None:
    """Freeze the statistics to windows like those of the training."""
    with network.statistics.recording() as sums:
        for ground in _spread(grounds, PATCHES):
            count = ground.hold_out.count()
            for index in range(0, count, -(-count * min(len(grounds), PATCHES) // PATCHES)):
                network(*_read(ground, ground.hold_out.window(index)))
    network.statistics.freeze(sums, like=next(network.parameters()))


def _ground(grounds: Sequence[Ground], *, core_px: int, full_px: int, step_px: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of windows: in a scene's corner, half of which is mirrored, and in the middle of held-out blocks."""
    blocks = [(ground, block) for ground in grounds for block in ground.hold_out.blocks()]
    middles = [
        (ground, (block.y0 + block.y1) // 2, (block.x0 + block.x1) // 2)
        for ground, block in _spread(blocks, PLACES - 1)
    ]
    for ground, *middle in [(grounds[0], 0, 0), *middles]:
        y0, x0 = (at // step_px * step_px for at in middle)
        yield _read(ground, Window(y0=y0, y1=y0 + core_px, x0=x0, x1=x0 + core_px).grow(full_px))


def _read(ground: Ground, window: Window) -> tuple[Tensor, Tensor]:
    example = ground.scene.read(window)
    return filled(example.hs), filled(example.ms)


def _noise(network: FusionNetwork, side_px: int) -> tuple[Tensor, Tensor]:
    """White noise between 0 and 1, hs with its margin and ms."""
    draw = torch.Generator().manual_seed(0)
    coarse_px = side_px // network.ratio + 2 * UPSAMPLE_MARGIN
    sizes = (network.hs_bands, coarse_px), (network.ms_bands, side_px)
    hs, ms = (torch.rand((1, bands, px, px), generator=draw) for bands, px in sizes)
    return hs, ms


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, evenly spread."""
    return [items[index * len(items) // most] for index in range(most)] if len(items) > most else list(items)
