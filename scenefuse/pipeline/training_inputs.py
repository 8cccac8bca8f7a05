"""Prepare the inputs of a training: compatible pairs, as a protocol presents them, with their held-out blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scenefuse.archive.access import AccessPolicy, trusted_path
from scenefuse.archive.items import sensor_of
from scenefuse.cube.pair import PairCube
from scenefuse.cube.source import PairSource
from scenefuse.cube.truth import open_truth
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.errors import DataError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.transform import Transform
from scenefuse.models.observation import observation_stages
from scenefuse.models.weights import WAVELENGTH_TOLERANCE_NM
from scenefuse.pipeline.opening import OpenedPair
from scenefuse.place.durable import sha256_of
from scenefuse.place.href import is_url, redact
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST
from scenefuse.training.hold_out import plan_hold_out, shared_origins_px
from scenefuse.training.recipe import Recipe
from scenefuse.training.resident import ResidentImage, ResidentPair, may_reside, resident_bytes
from scenefuse.training.scenes import FullScene, Read, TrainingScene, WaldScene, wald_sigmas_px
from scenefuse.training.score import Ground

RESIDENT_BYTES = 6 * 2**30
"""Scenes are kept in memory if all of them, with their truths, need at most this much and it is free; otherwise
windows are read from the files."""


def require_alike(cubes: Sequence[PairCube]) -> PairCube:
    """Return the first pair; DataError unless all others share its bands and ratio."""
    first = cubes[0]
    for other in cubes[1:]:
        kind = [(cube.grid.ratio, len(cube.hs_bands), len(cube.ms_bands)) for cube in (first, other)]
        if kind[0] != kind[1]:
            raise DataError(
                f"{first.pair_id} and {other.pair_id} have ratio, HSI and MSI bands {kind[0]} and {kind[1]}",
                "a network has one of each",
                "Drop the bands that not all have with --drop-band, or train each kind separately",
            )
        bands = zip((*first.hs_bands, *first.ms_bands), (*other.hs_bands, *other.ms_bands), strict=True)
        for ours, theirs in bands:
            if abs((ours.wavelength_nm or 0.0) - (theirs.wavelength_nm or 0.0)) > WAVELENGTH_TOLERANCE_NM:
                raise DataError(
                    f"{other.pair_id} has {theirs.name} at {theirs.wavelength_nm} nm where {first.pair_id} has "
                    f"{ours.name} at {ours.wavelength_nm} nm",
                    "the network would read one wavelength as another",
                    "Drop the bands that not all have with --drop-band",
                )
    return first


def grounds_of(
    opened: Sequence[OpenedPair], truths: Sequence[str], recipe: Recipe, *, policy: AccessPolicy | None = None
) -> tuple[Ground, ...]:
    """Each pair as the recipe's protocol presents it, with its held-out blocks; truths: one raster per pair, or none.

    Pairs that show the same ground in one CRS hold out the same blocks of it; otherwise one pair would train on what
    the other tests. In different CRSs or pixel sizes such pairs raise. (If their pixels do not coincide, blocks agree
    to within a pixel, which the guard covers.)
    """
    shown = list(zip(opened, truths or (None,) * len(opened), strict=True))
    needed = sum(resident_bytes(pair.cube, truth=truth is not None) for pair, truth in shown)
    resident = may_reside(needed, RESIDENT_BYTES)
    scenes = [_scene(pair, recipe, truth, resident=resident, policy=policy) for pair, truth in shown]
    guard_px = max(scene.reach_px for scene in scenes) + (1 if len(scenes) > 1 else 0)
    places = [
        RasterGrid(
            crs_wkt=pair.cube.grid.crs_wkt,
            transform=_transform(pair.cube, recipe),
            shape=scene.shape,
            name=pair.pair.id,
        )
        for pair, scene in zip(opened, scenes, strict=True)
    ]
    return tuple(
        Ground(
            scene=scene,
            hold_out=plan_hold_out(
                scene.shape,
                patch_px=recipe.patch_px,
                guard_px=guard_px,
                step_px=scene.ratio,
                block_px=recipe.block_px,
                origin_px=origin,
            ),
        )
        for scene, origin in zip(scenes, shared_origins_px(places), strict=True)
    )


def ground_facts(pair: OpenedPair, ground: Ground) -> dict[str, Any]:
    """Facts about one pair for the weights' card; the PSF only if it was estimated, not from a sensor card."""
    scene, hold_out = ground.scene, ground.hold_out
    estimated_px = scene.estimated_psf_px if isinstance(scene, WaldScene) else None
    return {
        "pair": pair.pair.id,
        "opened": pair.facts(),
        "inputs": sorted(file.evidence for file in pair.cube.inputs),
        "held_out_px": sum(block.shape[0] * block.shape[1] for block in hold_out.blocks()),
        "windows": hold_out.count(),
        "block_px": hold_out.block_px,
        "guard_px": hold_out.guard_px,
        "block_origin_px": list(hold_out.origin_px),
        **({} if estimated_px is None else {"estimated_psf_px": estimated_px}),
    }


def truth_facts(truth: str) -> list[str]:
    """File name of a truth raster and, for a local file, its digest."""
    name = Path(redact(truth)).name
    path = None if is_url(truth) else trusted_path(truth)
    return [name] if path is None or not path.is_file() else [name, f"sha256:{sha256_of(path)}"]


def _transform(cube: PairCube, recipe: Recipe) -> Transform:
    """Affine transform of the pixels that windows count: coarse under Wald's protocol, else fine."""
    return cube.grid.coarse_transform if recipe.protocol == "wald" else cube.grid.fine_transform


def _scene(
    pair: OpenedPair, recipe: Recipe, truth: str | None, *, resident: bool, policy: AccessPolicy | None
) -> TrainingScene:
    """The pair under a protocol; at reduced resolution blurred by its sensors' own MTF.

    If the HSI's instrument has no card, its PSF is estimated from the pair.
    """
    cube, name = pair.cube, pair.pair.id
    source: PairSource = ResidentPair(cube) if resident else cube
    if recipe.protocol != "wald":
        shown: Read | None = None
        if truth is not None:
            shown = open_truth(truth, cube.fine_raster, cube.hs_bands, policy=policy).read
            shown = ResidentImage(shown, cube.grid.fine_shape).read if resident else shown
        return FullScene(name=name, source=source, truth=shown)
    grid = cube.grid
    sigmas = []
    for scene, bands, pixel_m in (
        (pair.pair.hs, cube.hs_bands, grid.hs_gsd_m),
        (pair.pair.ms, cube.ms_bands, grid.fine_gsd_m),
    ):
        sensor = sensor_of(scene.id, scene.properties)
        mtfs = [DEFAULT_MTF_NYQUIST if sensor is None else sensor.mtf_of(band) for band in bands]
        gsds_px = [max(1.0, (band.gsd_m or pixel_m) / pixel_m) for band in bands]
        sigmas.append(wald_sigmas_px(mtfs, gsds_px, grid.ratio))
    known = WaldScene(name=name, source=source, hs_sigmas_px=sigmas[0], ms_sigmas_px=sigmas[1])
    psf_sigma_px = _estimated_psf_px(cube) if sensor_of(pair.pair.hs.id, pair.pair.hs.properties) is None else None
    if psf_sigma_px is None:
        return known
    return replace(known, hs_sigmas_px=(psf_sigma_px,) * len(cube.hs_bands), estimated_psf_px=psf_sigma_px)


def _estimated_psf_px(cube: PairCube) -> float | None:
    """Sigma of the HSI's blur relative to the MSI, in fine pixels, estimated from the pair; None if it cannot be.

    The number also holds at reduced resolution: there the HSI's pixels are the fine ones, and the truth has a blur of
    its own, as the fine image has here.
    """
    stages = observation_stages(cube.hs_bands, cube.ms_bands, cube.grid.ratio)
    facts = prepare(cube, Preparation(stages=stages), lane=InProcessLane()).facts
    return round(float(facts["psf_sigma_px"]), 4) if facts["psf_source"] == "estimated" else None
