"""From two names to a pair that can be fused: scenes, aligned cubes, shift removed, method chosen."""

from __future__ import annotations

from dataclasses import dataclass

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.scene import Scene, ScenePair
from scenefuse.archive.source import load_scene
from scenefuse.config import RunConfig
from scenefuse.cube.options import PairOptions
from scenefuse.cube.pair import PairCube, open_pair
from scenefuse.cube.registration import Shift, estimate_shift
from scenefuse.engine.precision import choose_device
from scenefuse.engine.resident import ModelHandle
from scenefuse.models.base import ModelCard
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.sensors.response import response_matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPair:
    """A pair, opened and aligned, with the method that will fuse it; no pixel but the registration's is read."""

    pair: ScenePair
    """The two scenes."""
    cube: PairCube
    """The two aligned lazy cubes, shift removed."""
    shift: Shift | None
    """What registration found; None when it was not asked for."""
    model: ModelHandle
    """The method as workers name it."""
    card: ModelCard
    """The method's card for these bands and this ratio."""


def scene_of(source: str | Scene, config: RunConfig) -> Scene:
    """The scene: a STAC item's path or URL, or a raster file."""
    if isinstance(source, Scene):
        return source
    return load_scene(source, policy=AccessPolicy(allow_hosts=config.allow_host))


def open_aligned(hs: str | Scene, ms: str | Scene, config: RunConfig) -> OpenedPair:
    """The pair of an HSI and an MSI, refused with the reason when the two, or the method, do not fit."""
    pair = ScenePair(hs=scene_of(hs, config), ms=scene_of(ms, config))
    options = PairOptions(hs_scale=config.hs_scale, ms_scale=config.ms_scale, drop_bands=config.drop_bands)
    cube = open_pair(pair, options=options)
    shift = None
    if config.register:
        response = response_matrix(cube.hs_bands, cube.ms_bands)
        shift = estimate_shift(cube, response.matrix)
        cube = cube.registered(shift)
    ref = ModelRef(
        name=config.model,
        hs_bands=cube.hs_bands,
        ms_bands=cube.ms_bands,
        ratio=cube.grid.ratio,
        weights=config.weights,
    )
    handle = ModelHandle(ref=ref, load=load_model, device=choose_device(config.device))
    return OpenedPair(pair=pair, cube=cube, shift=shift, model=handle, card=load_model(ref).card)
