"""Scores of a finished product: against a reference on its grid, or against its own inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from scenefuse.archive.access import AccessPolicy
from scenefuse.cube.source import PairSource
from scenefuse.cube.truth import Truth, open_truth
from scenefuse.grid.borders import read_mirrored
from scenefuse.grid.resample import NO_PHASE, Phase, degrade, degrade_reach_px
from scenefuse.grid.window import Window
from scenefuse.metrics.window import CONTEXT_PX
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.metrics.without_reference import QnrSums, seen_by_ms
from scenefuse.models.state import SceneState
from scenefuse.product.reading import StoredProduct
from scenefuse.sensors.band import Band, sharp_bands
from scenefuse.tiles.tiling import Tiling, round_core_px

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Scores of one product."""

    name: str
    """Name of the product."""
    values: dict[str, float] = field(default_factory=dict)
    """Scores by name: psnr_db, ssim, sam_deg, ergas, cc, uiqi, rmse, rase, d_lambda, d_s, qnr, ..."""
    notes: tuple[str, ...] = ()
    """Caveats on the scores, for example that the network learnt from this scene."""


def score_with_reference(
    product: StoredProduct, reference: str, *, convention: str = "standard", policy: AccessPolicy | None = None
) -> Scored:
    """Score against a raster of the same pixels, which may cover more ground and have more bands.

    Streams over the product's cores; equal to whole-image scores within 1e-6.
    """
    truth = open_truth(reference, product.grid, product.bands, policy=policy)
    return Scored(name=product.folder.name, values=reference_sums(product, truth).scores(convention))


def reference_sums(
    product: StoredProduct, truth: Truth, *, told: Callable[[Window, Image, Image], None] | None = None
) -> ReferenceSums:
    """Sums of all scores against the truth over the whole product, core by core.

    told: called with each core and its pixels (band, y, x) in product and truth.
    """
    sums = ReferenceSums(ratio=product.ratio)
    for core, window in _cores(product):
        within = core.within(window)
        fused, shown = product.read(window), truth.read(window)
        sums = sums.add(fused, shown, core=within)
        if told is not None:
            told(core, fused[(slice(None), *within)], shown[(slice(None), *within)])
    return sums


def score_without_reference(product: StoredProduct, source: PairSource, state: SceneState) -> Scored:
    """QNR with its two distortions, and how far the degraded product is from both inputs.

    spectral_consistency_rmse: the product degraded by the state's PSF against the HSI; spatial_consistency_rmse: the
    product seen through the MSI's response (state's `srf`, gain and offset) against the MSI. Only the MSI's sharp
    bands count, in D_s too: bands upsampled to the fine grid are softer there than the truth and would favour a blurred
    product; the spatial scores are NaN if the HSI covers no sharp band. Streams over cores; the scores do not depend
    on them.
    """
    qnr = QnrSums.of(len(product.bands))
    spectral, spatial = ReferenceSums(ratio=product.ratio), ReferenceSums(ratio=1)
    sigma_px = float(state.facts["psf_sigma_px"])
    ratio, shape = product.ratio, product.grid.shape
    degraded = partial(read_degraded, shape=shape, ratio=ratio, sigma_px=sigma_px, phase_px=state.phase_px)
    srf = np.asarray(state.arrays["srf"], np.float64)
    sharp, seen = sharp_bands(source.ms_bands), bands_seen(source.ms_bands, state)
    gain, offset = (state.arrays.get(f"observation/{name}") for name in ("gain", "offset"))
    core_px = round_core_px(product.core_px, ratio)
    for tile in Tiling(fine_shape=shape, core_px=core_px, halo_px=0, lattice_px=ratio):
        coarse = tile.core.coarsen(ratio)
        fused, ms = product.read(tile.core), source.read_ms(tile.core)
        hs = source.read_hs(coarse)
        around = tile.core.grow(CONTEXT_PX).clip(shape)
        qnr = qnr.add_fine(product.read(around), source.read_ms(around)[sharp], core=tile.core.within(around))
        around = coarse.grow(CONTEXT_PX).clip(source.grid.coarse_shape)
        low = degraded(source.read_ms, around)[sharp]
        qnr = qnr.add_coarse(source.read_hs(around), low, core=coarse.within(around))
        spectral = spectral.add(degraded(product.read, coarse), hs)
        if seen.any():
            spatial = spatial.add(seen_by_ms(fused, srf, gain=gain, offset=offset)[seen], ms[seen])
    values = {
        **qnr.scores(),
        "spectral_consistency_rmse": spectral.scores()["rmse"],
        "spectral_consistency_sam_deg": spectral.scores()["sam_deg"],
        "spatial_consistency_rmse": spatial.scores()["rmse"],
        "spatial_consistency_cc": spatial.scores()["cc"],
    }
    return Scored(name=product.folder.name, values=values)


def bands_seen(ms_bands: Sequence[Band], state: SceneState) -> NDArray[np.bool_]:
    """Mask (ms band,) of the bands that a fused image can be compared with: sharp and covered by the HSI."""
    covered = np.asarray(state.arrays["srf"], np.float64).sum(axis=1) > 0
    return np.asarray(sharp_bands(ms_bands) & covered)


def read_degraded(
    read: Callable[[Window], NDArray[np.float32]],
    coarse: Window,
    *,
    shape: tuple[int, int],
    ratio: int,
    sigma_px: float,
    phase_px: Phase = NO_PHASE,
) -> NDArray[np.float32]:
    """Degrade a fine image of this shape to a coarse window, (band, y, x), by a Gaussian of sigma_px fine pixels.

    read: reads a fine window inside the scene. Beyond its borders, the scene is mirrored. phase_px: (y, x) fine pixels
    by which the coarse pixels lie beside their grid.
    """
    reach = degrade_reach_px(ratio, sigma_px)
    coarse_reach = -(-reach // ratio)
    spare = coarse_reach * ratio - reach
    fine = read_mirrored(read, coarse.grow(coarse_reach).refine(ratio), shape)
    inner = slice(spare, -spare or None)
    return degrade(np.ascontiguousarray(fine[:, inner, inner]), ratio, sigma_px, phase_px)


def _cores(product: StoredProduct) -> list[tuple[Window, Window]]:
    """Each core, and the window around it with the context that local windows need."""
    tiling = Tiling(fine_shape=product.grid.shape, core_px=product.core_px, halo_px=0, lattice_px=1)
    return [(tile.core, tile.core.grow(CONTEXT_PX).clip(product.grid.shape)) for tile in tiling]
