"""Fuse a scene into one array in this process: for trials and experiments, never for products."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from scenefuse.cube.source import PairSource
from scenefuse.engine.precision import repeatable
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.resident import ModelHandle, resident_model
from scenefuse.engine.windows import read_model_window
from scenefuse.models.observation import observation_stages
from scenefuse.models.state import SceneState
from scenefuse.tiles.tiling import Tiling, lattice_px, round_core_px, round_halo_px

CORE_PX = 256
"""Side of a tile's core, fine pixels: bounds a network's memory, and is large enough for a whole benchmark scene."""


def fuse_in_memory(source: PairSource, handle: ModelHandle) -> NDArray[np.float32]:
    """Fuse on one CPU thread; returns (hs band, y, x) float32 reflectance, NaN = no data.

    Works as for a product: the state is prepared from the pair, networks' statistics come from a sample of patches, and
    tiles have the method's default halo.
    """
    stages = observation_stages(source.hs_bands, source.ms_bands, source.grid.ratio)
    state = prepare(source, Preparation(stages=stages, model=handle))
    tiling = _tiling(source, handle)
    fused = np.empty((len(source.hs_bands), *source.grid.fine_shape), np.float32)
    with repeatable("cpu", "fp32"):
        for tile in tiling:
            inner = tile.core.within(tile.read)
            window = read_model_window(source, tile.read, state)
            core = _fuse(handle, window.hs, window.ms, state)[:, *inner]
            fused[:, *tile.core.slices] = np.where(window.valid[inner], core, np.nan)
    return fused


def _tiling(source: PairSource, handle: ModelHandle) -> Tiling:
    """Cores of CORE_PX, or one core that holds the scene."""
    card, grid = resident_model(handle).card, source.grid
    lattice = lattice_px(model_lattice_px=card.lattice_px, ratio=grid.ratio)
    longest = -(-max(grid.fine_shape) // lattice) * lattice
    return Tiling(
        fine_shape=grid.fine_shape,
        core_px=min(round_core_px(CORE_PX, lattice), longest),
        halo_px=round_halo_px(card.halo_px, lattice),
        lattice_px=lattice,
    )


def _fuse(
    handle: ModelHandle, hs: NDArray[np.float32], ms: NDArray[np.float32], state: SceneState
) -> NDArray[np.float32]:
    """The fused window, (hs band, y, x)."""
    fused = resident_model(handle).fuse(torch.from_numpy(hs)[None], torch.from_numpy(ms)[None], state)
    return np.asarray(fused[0].cpu().numpy(), np.float32)
