"""Training a network on pairs of scenes: weights with their card, learning curves, a checkpoint to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from math import isfinite, lcm
from pathlib import Path
from typing import Any

import torch

from scenefuse.archive.items import sensor_of
from scenefuse.archive.scene import Scene
from scenefuse.config import DeviceChoice, RunConfig
from scenefuse.cube.pair import PairCube
from scenefuse.cube.source import PairSource
from scenefuse.cube.truth import open_truth
from scenefuse.engine.device import choose_device
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.errors import DataError, UsageError
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.transform import Transform
from scenefuse.models.architectures import ARCHITECTURES, build_model
from scenefuse.models.network import FusionNetwork
from scenefuse.models.observation import observation_stages
from scenefuse.models.resample import upsample
from scenefuse.models.weights import WAVELENGTH_TOLERANCE_NM, WeightsCard, save_weights
from scenefuse.pipeline.opening import OpenedPair, open_aligned
from scenefuse.pipeline.shelve import require_shelf_name, shelve
from scenefuse.place.durable import sha256_of
from scenefuse.place.href import redact
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST
from scenefuse.training.fit import Course, Fitted, fit, score
from scenefuse.training.hold_out import plan_hold_out, shared_origins_px
from scenefuse.training.losses import LEAST_PATCH_PX
from scenefuse.training.ranks import open_ranks
from scenefuse.training.recipe import RECIPES, Recipe
from scenefuse.training.resident import ResidentImage, ResidentPair, may_reside, resident_bytes
from scenefuse.training.scenes import FullScene, Read, TrainingScene, WaldScene, wald_sigmas_px
from scenefuse.training.score import Ground, Scores, score_truth

FREE_DB = 0.01
"""Weights are stored as float16 where that costs less on the held-out blocks."""
RESIDENT_BYTES = 6 * 2**30
"""Scenes are kept in memory when all of them, with their truths, need no more and it is free; else windows come from
the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What is trained, how long, where."""

    model: str
    """Name of the network."""
    recipe: Recipe | None = None
    """How; None is the network's own of RECIPES."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the network that differ from its defaults: `{"width": 32}`."""
    truths: tuple[str, ...] = ()
    """A raster of truth for each pair; none for the recipe's protocol."""
    seed: int = 0
    """Seed of first weights, windows, turns, noise."""
    minutes: float | None = None
    """Longest time of training; None for all iterations."""
    device: DeviceChoice = "auto"
    """`auto` takes a CUDA device when there is one."""
    licence: str = "LicenseRef-unstated"
    """Licence of the weights, an SPDX expression."""
    name: str | None = None
    """Name under which the weights go onto the user's shelf; None leaves them in the folder alone."""
    inputs: RunConfig = field(default_factory=RunConfig)
    """How scenes are opened: hs_scale, ms_scale, drop_bands, register, allow_host count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Weights that were trained."""

    weights: Path
    """The safetensors file; its card has the suffix .json, the learning curves .csv and .png."""
    label: str | None
    """name@version on the shelf; None when the weights were not put there."""
    sha256: str
    """Digest of the weights."""
    step: int
    """Steps after which they were the best."""
    steps: int
    """Steps done in all."""
    stopped: str
    """`iterations`, `patience`, or `minutes`: then the same call goes on."""
    scores: Scores
    """Scores on the held-out blocks."""
    bicubic: Scores
    """Scores of plain cubic interpolation of the HSI there; empty without a truth."""

    def facts(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        return {**asdict(self), "weights": str(self.weights)}


Report = Callable[[dict[str, float]], None]


def train(
    pairs: Sequence[tuple[str | Scene, str | Scene]], *, out: Path, config: TrainConfig, report: Report | None = None
) -> Trained:
    """Train a network on pairs (HSI, MSI) and write `<model>-<HSI bands>x<ratio>.safetensors` with its card into out.

    The same call again goes on from its checkpoint, or finds that training is over and writes the same weights.
    report: told of each scoring. Started by torchrun, all processes share the work and return the same.
    """
    if config.model not in ARCHITECTURES:
        raise UsageError(
            f"{config.model} is no network", "there is nothing to train", f"Use one of {', '.join(ARCHITECTURES)}"
        )
    if config.name is not None:
        require_shelf_name(config.name)
    if config.truths and len(config.truths) != len(pairs):
        raise UsageError(
            f"{len(config.truths)} truths for {len(pairs)} pairs", "one would be without", "Give one for each pair"
        )
    with open_ranks(choose_device(config.device)) as ranks:
        opened = [open_aligned(hs, ms, replace(config.inputs, model="bicubic")) for hs, ms in pairs]
        first = _alike([pair.cube for pair in opened])
        network = _first_network(config, first)
        recipe = _fitted_recipe(config, network)
        grounds = tuple(_grounds(opened, config, recipe))
        name = f"{config.model}-{len(first.hs_bands)}x{first.grid.ratio}"
        facts = _facts(opened, grounds, config)
        course = Course(architecture=config.model, grounds=grounds, recipe=recipe, seed=config.seed, facts=facts)
        fitted = fit(network, course, stem=out / name, minutes=config.minutes, report=report, ranks=ranks)
        return ranks.told(lambda: _kept(fitted, course, first, out / f"{name}.safetensors", config))


def _kept(fitted: Fitted, course: Course, cube: PairCube, weights: Path, config: TrainConfig) -> Trained:
    """The trained network's weights written with their card, and put onto the shelf where one is asked for."""
    bicubic = _bicubic(course.grounds, fitted.network)
    training = {
        **course.identity(),
        "steps": fitted.step,
        "stopped": fitted.stopped,
        "score": _finite(fitted.scores),
        "bicubic": _finite(bicubic),
        "torch": torch.__version__,
    }
    training["float16_cost_db"] = _float16_cost_db(fitted, course.grounds, choose_device(config.device))
    half = training["float16_cost_db"] < FREE_DB
    card = save_weights(weights, fitted.network, _card(config, cube, training), half=half)
    finished = fitted.stopped != "minutes"
    label = shelve(weights, config.name).label if config.name is not None and finished else None
    return _trained(weights, card, fitted, bicubic, label)


def _float16_cost_db(fitted: Fitted, grounds: tuple[Ground, ...], device: str) -> float:
    """What the deciding score on the held-out blocks loses when the weights are rounded to float16."""
    rounded = deepcopy(fitted.network).half().float().to(device)
    name, exact = next(iter(fitted.scores.items()))
    return exact - score(rounded, grounds)[name] if isfinite(exact) else 0.0


def _alike(cubes: Sequence[PairCube]) -> PairCube:
    """The first of the pairs, whose bands and ratio all others share."""
    first = cubes[0]
    for other in cubes[1:]:
        kind = [(cube.grid.ratio, len(cube.hs_bands), len(cube.ms_bands)) for cube in (first, other)]
        if kind[0] != kind[1]:
            raise DataError(
                f"{first.pair_id} and {other.pair_id} have ratio, HSI and MSI bands {kind[0]} and {kind[1]}",
                "one network has one of each",
                "Leave out the bands that not all have with --drop-band, or train for each kind apart",
            )
        bands = zip((*first.hs_bands, *first.ms_bands), (*other.hs_bands, *other.ms_bands), strict=True)
        for ours, theirs in bands:
            if abs((ours.wavelength_nm or 0.0) - (theirs.wavelength_nm or 0.0)) > WAVELENGTH_TOLERANCE_NM:
                raise DataError(
                    f"{other.pair_id} has {theirs.name} at {theirs.wavelength_nm} nm where {first.pair_id} has "
                    f"{ours.name} at {ours.wavelength_nm} nm",
                    "the network would read one wavelength as another",
                    "Leave out the bands that not all have with --drop-band",
                )
    return first


def _first_network(config: TrainConfig, cube: PairCube) -> FusionNetwork:
    """The network with its first weights, by seed, on its device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_model(
            config.model,
            hs_bands=len(cube.hs_bands),
            ms_bands=len(cube.ms_bands),
            ratio=cube.grid.ratio,
            **config.options,
        )
    return network.to(choose_device(config.device))


def _fitted_recipe(config: TrainConfig, network: FusionNetwork) -> Recipe:
    """The recipe with its window rounded to the network's lattice, and the protocol that the truths ask for.

    Windows are not turned where the network's PSF lies off the coarse pixel's centre: it would turn, too.
    """
    recipe = config.recipe or RECIPES[config.model]
    step = lcm(network.lattice_px, network.ratio)
    patch = max(1, round(recipe.patch_px / step)) * step
    least = LEAST_PATCH_PX.get(config.model, 1)
    if patch < least:
        raise UsageError(
            f"windows of {patch} px for {config.model}",
            f"its loss compares structures in {least} px",
            f"Give --patch-px {-(-least // step) * step} or more",
        )
    protocol = "truth" if config.truths else recipe.protocol
    if protocol == "truth" and not config.truths:
        raise UsageError("protocol truth without a truth", "there is nothing to learn from", "Give --truth RASTER")
    if (protocol == "scene") != (RECIPES[config.model].protocol == "scene"):
        needs = "no truth: it learns from the scene itself" if protocol != "scene" else "a truth"
        raise UsageError(
            f"protocol {protocol} for {config.model}", f"its loss takes {needs}", "Leave out the protocol and --truth"
        )
    phase_px = config.options.get("psf_phase_px")
    centred = phase_px is None or phase_px == (network.ratio - 1) / 2
    return replace(recipe, patch_px=patch, protocol=protocol, turns=recipe.turns and centred)


def _grounds(opened: Sequence[OpenedPair], config: TrainConfig, recipe: Recipe) -> list[Ground]:
    """Each pair as the recipe's protocol shows it, with its held-out blocks.

    Pairs that show the same ground in one CRS hold out the same blocks of it: else one pair would teach what the
    other asks. (Where their pixels are not the same, blocks are the same within a pixel, which the guard covers.)
    """
    truths = config.truths or (None,) * len(opened)
    needed = sum(resident_bytes(pair.cube, truth=truth is not None) for pair, truth in zip(opened, truths, strict=True))
    resident = may_reside(needed, RESIDENT_BYTES)
    scenes = [_scene(pair, recipe, truth, resident=resident) for pair, truth in zip(opened, truths, strict=True)]
    guard_px = max(scene.reach_px for scene in scenes) + (1 if len(scenes) > 1 else 0)
    places = [
        RasterGrid(crs_wkt=pair.cube.grid.crs_wkt, transform=_transform(pair.cube, recipe), shape=scene.shape)
        for pair, scene in zip(opened, scenes, strict=True)
    ]
    return [
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
    ]


def _transform(cube: PairCube, recipe: Recipe) -> Transform:
    """Affine of the pixels that windows count: the HSI's at reduced resolution."""
    return cube.grid.coarse_transform if recipe.protocol == "wald" else cube.grid.fine_transform


def _scene(pair: OpenedPair, recipe: Recipe, truth: str | None, *, resident: bool) -> TrainingScene:
    """The pair under a protocol; at reduced resolution blurred by its sensors' own MTF.

    Of an HSI whose instrument has no card the PSF is estimated from the pair.
    """
    cube, name = pair.cube, pair.pair.id
    source: PairSource = ResidentPair(cube) if resident else cube
    if recipe.protocol != "wald":
        shown: Read | None = None if truth is None else open_truth(truth, cube.fine_raster, cube.hs_bands).read
        if shown is not None and resident:
            shown = ResidentImage(shown, cube.grid.fine_shape).read
        return FullScene(name=name, source=source, truth=shown)
    grid = cube.grid
    sigmas = []
    for scene, bands, pixel_m in (
        (pair.pair.hs, cube.hs_bands, grid.hs_gsd_m),
        (pair.pair.ms, cube.ms_bands, grid.fine_gsd_m),
    ):
        sensor = sensor_of(scene.properties)
        mtfs = [DEFAULT_MTF_NYQUIST if sensor is None else sensor.mtf_of(band) for band in bands]
        gsds_px = [max(1.0, (band.gsd_m or pixel_m) / pixel_m) for band in bands]
        sigmas.append(wald_sigmas_px(mtfs, gsds_px, grid.ratio))
    known = WaldScene(name=name, source=source, hs_sigmas_px=sigmas[0], ms_sigmas_px=sigmas[1])
    psf_sigma_px = _estimated_psf_px(cube) if sensor_of(pair.pair.hs.properties) is None else None
    if psf_sigma_px is None:
        return known
    return replace(known, hs_sigmas_px=(psf_sigma_px,) * len(cube.hs_bands), estimated_psf_px=psf_sigma_px)


def _estimated_psf_px(cube: PairCube) -> float | None:
    """Blur of the HSI against the MSI as the pair shows it, fine pixels; None where it does not show it.

    It is relative to the fine image's own blur, and at reduced resolution the truth has its own, too: the fine
    pixels are the HSI's there, and the number stands.
    """
    stages = observation_stages(cube.hs_bands, cube.ms_bands, cube.grid.ratio)
    facts = prepare(cube, Preparation(stages=stages), lane=InProcessLane()).facts
    return round(float(facts["psf_sigma_px"]), 4) if facts["psf_source"] == "estimated" else None


def _facts(opened: Sequence[OpenedPair], grounds: Sequence[Ground], config: TrainConfig) -> dict[str, Any]:
    """What the weights come from, besides recipe and seed."""
    first = opened[0].cube
    return {
        "scenes": [
            {
                "pair": pair.pair.id,
                "opened": pair.facts(),
                "inputs": sorted(f"{file.checksum_kind}:{file.checksum}" for file in pair.cube.inputs),
                "held_out_px": sum(block.shape[0] * block.shape[1] for block in ground.hold_out.blocks()),
                "windows": ground.hold_out.count(),
                "block_px": ground.hold_out.block_px,
                "guard_px": ground.hold_out.guard_px,
                "block_origin_px": list(ground.hold_out.origin_px),
                **_psf_facts(ground.scene),
            }
            for pair, ground in zip(opened, grounds, strict=True)
        ],
        "truths": [_known_truth(truth) for truth in config.truths],
        "options": dict(config.options),
        "bands": [[band.name for band in bands] for bands in (first.hs_bands, first.ms_bands)],
    }


def _psf_facts(scene: TrainingScene) -> dict[str, float]:
    """The PSF that was estimated; nothing where a sensor's card, or none at all, was used."""
    if not isinstance(scene, WaldScene) or scene.estimated_psf_px is None:
        return {}
    return {"estimated_psf_px": scene.estimated_psf_px}


def _known_truth(truth: str) -> list[str]:
    """Name of a raster of truth, and its digest where it is a local file."""
    path = Path(truth)
    return [Path(redact(truth)).name, *([f"sha256:{sha256_of(path)}"] if path.is_file() else [])]


def _bicubic(grounds: tuple[Ground, ...], network: FusionNetwork) -> Scores:
    """Scores of interpolation alone on the same blocks; none without a truth."""
    if grounds[0].scene.protocol == "scene":
        return {}
    return score_truth(
        lambda hs, _: upsample(hs, network.ratio),
        grounds,
        context_px=0,
        step_px=network.ratio,
    )


def _card(config: TrainConfig, cube: PairCube, training: Mapping[str, Any]) -> WeightsCard:
    return WeightsCard(
        architecture=config.model,
        options=dict(config.options),
        hs_bands=cube.hs_bands,
        ms_bands=cube.ms_bands,
        ratio=cube.grid.ratio,
        training=training,
        licence=config.licence,
    )


def _trained(path: Path, card: WeightsCard, fitted: Fitted, bicubic: Scores, label: str | None) -> Trained:
    return Trained(
        weights=path,
        label=label,
        sha256=card.sha256,
        step=fitted.step,
        steps=fitted.steps,
        stopped=fitted.stopped,
        scores=_finite(fitted.scores),
        bicubic=_finite(bicubic),
    )


def _finite(scores: Scores) -> Scores:
    """The scores that JSON can hold."""
    return {name: value for name, value in scores.items() if isfinite(value)}
