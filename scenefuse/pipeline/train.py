"""Train a network on pairs of scenes: weights with their card, learning curves, a checkpoint to resume from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite, isnan, lcm
from pathlib import Path
from typing import Any

import torch

from scenefuse.archive.scene import Scene
from scenefuse.config import DeviceChoice, RunConfig
from scenefuse.cube.pair import PairCube
from scenefuse.engine.device import choose_device
from scenefuse.errors import DataError, UsageError, WorkError
from scenefuse.models.architectures import ARCHITECTURES, build_model
from scenefuse.models.network import FusionNetwork
from scenefuse.models.resample import upsample
from scenefuse.models.weights import WeightsCard, save_weights
from scenefuse.pipeline.measured_halo import measured_halo_px
from scenefuse.pipeline.opening import OpenedPair, open_scenes, policy_of, require_pair
from scenefuse.pipeline.shelve import require_shelf_name, shelve
from scenefuse.pipeline.training_inputs import ground_facts, grounds_of, require_alike, truth_facts
from scenefuse.place.location import own_path
from scenefuse.training.fit import Course, Fitted, fit, score
from scenefuse.training.losses import LEAST_PATCH_PX
from scenefuse.training.ranks import open_ranks
from scenefuse.training.recipe import RECIPES, Recipe
from scenefuse.training.rounding import FREE_DB, as_float16, float16_cost_db
from scenefuse.training.score import Ground, Scores, score_truth
from scenefuse.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What to train, for how long, and on what device."""

    model: str
    """Name of the network."""
    recipe: Recipe | None = None
    """Training recipe; None for the network's own in RECIPES."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the network that differ from its defaults: `{"width": 32}`."""
    truths: tuple[str, ...] = ()
    """A truth raster for each pair; empty to train by the recipe's protocol."""
    seed: int = 0
    """Seed of initial weights, windows, orientations and noise."""
    minutes: float | None = None
    """Time limit of training; None for all iterations."""
    device: DeviceChoice = "auto"
    """`auto` takes a CUDA device when there is one."""
    licence: str = "LicenseRef-unstated"
    """Licence of the weights, an SPDX expression."""
    name: str | None = None
    """Name of the weights on the user's shelf; None leaves them only in the folder."""
    inputs: RunConfig = field(default_factory=RunConfig)
    """How scenes are opened; hs_scale, ms_scale, drop_bands, drop_ms_bands, register and allow_host are used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Result of a training."""

    weights: Path
    """The safetensors file; beside it its card (.json) and the learning curves (.csv and .png)."""
    label: str | None
    """name@version on the shelf; None when the weights were not put there."""
    sha256: str
    """Digest of the weights."""
    step: int
    """Step with the best score, whose weights are kept."""
    steps: int
    """Steps done in all."""
    stopped: str
    """Why training stopped: `iterations`, `patience` or `minutes`; after `minutes` the same call continues."""
    scores: Scores
    """Scores on the held-out blocks."""
    bicubic: Scores
    """Scores of bicubic interpolation of the HSI on the same blocks; empty without a truth."""

    def facts(self) -> dict[str, Any]:
        """The result in JSON types."""
        return {**asdict(self), "weights": str(self.weights)}


Report = Callable[[dict[str, float]], None]


def train(
    pairs: Sequence[tuple[str | Path | Scene, str | Path | Scene]],
    *,
    out: str | Path,
    config: TrainConfig,
    report: Report | None = None,
) -> Trained:
    """Train a network on pairs and write `<model>-<HSI bands>x<ratio>.safetensors` with its card into out.

    Repeating the call continues from its checkpoint or, if training is over, writes the same weights. Under torchrun
    all processes share the work and return the same result.

    Args:
        pairs: Pairs of an HSI and an MSI, each a path, URL or Scene.
        out: Folder for weights, learning curves and checkpoint.
        config: What to train, how, and for how long.
        report: Called with each evaluation on the held-out blocks.
    """
    if config.model not in ARCHITECTURES:
        raise UsageError(
            f"{config.model} is not a network", "there is nothing to train", f"Use one of {', '.join(ARCHITECTURES)}"
        )
    if config.name is not None:
        require_shelf_name(config.name)
    if config.minutes is not None and not config.minutes >= 0:
        raise UsageError(f"{config.minutes} minutes", "training would have no such end", "Give 0 or more")
    if not pairs:
        raise UsageError("no pair", "there is nothing to learn from", "Give an HSI and an MSI")
    for number, pair in enumerate(pairs):
        require_pair(pair, f"pairs[{number}]")
    if config.truths and len(config.truths) != len(pairs):
        raise UsageError(
            f"{counted(len(config.truths), 'truth')} for {counted(len(pairs), 'pair')}",
            "each pair needs exactly one",
            "Give one for each pair",
        )
    folder = own_path(out)
    with open_ranks(choose_device(config.device)) as ranks:
        opened = [open_scenes(hs, ms, config.inputs) for hs, ms in pairs]
        first = require_alike([pair.cube for pair in opened])
        network = _first_network(config, first)
        if config.name is not None and not network.freezable:
            raise UsageError(
                f"the name {config.name} for {config.model} with these options",
                "they could not be used for fusing: a pixel would depend on where the tile lies",
                "Leave out --name",
            )
        recipe = _fitted_recipe(config, network)
        grounds = grounds_of(opened, config.truths, recipe, policy=policy_of(config.inputs))
        name = f"{config.model}-{len(first.hs_bands)}x{first.grid.ratio}"
        bicubic = ranks.told(lambda: _bicubic(grounds, network))
        facts = _facts(opened, grounds, config)
        course = Course(architecture=config.model, grounds=grounds, recipe=recipe, seed=config.seed, facts=facts)
        fitted = fit(network, course, stem=folder / name, minutes=config.minutes, report=report, ranks=ranks)
        return ranks.told(lambda: _kept(fitted, course, bicubic, first, folder / f"{name}.safetensors", config))


def _kept(
    fitted: Fitted, course: Course, bicubic: Scores, cube: PairCube, weights: Path, config: TrainConfig
) -> Trained:
    """Write the trained weights with their card and, if config names them, put them on the shelf."""
    decides, best = next(iter(fitted.scores.items()))
    if isnan(best):
        raise WorkError(
            f"after {counted(fitted.steps, 'step')} the held-out {decides} is {best:g}",
            "the weights produce no finite values",
            "Start over in another folder with a lower --lr, a warm-up (recipe), or fp32",
        )
    training = {
        **course.identity(),
        "steps": fitted.step,
        "stopped": fitted.stopped,
        "score": _finite(fitted.scores),
        "bicubic": _finite(bicubic),
        "torch": torch.__version__,
    }
    cost_db = float16_cost_db(fitted, course.grounds, score, choose_device(config.device))
    training |= _finite({"float16_cost_db": cost_db})  # beyond float16's range there is none
    half = cost_db < FREE_DB
    stored = as_float16(fitted.network) if half else fitted.network
    card = _card(config, cube, training, halo_px=measured_halo_px(stored, course.grounds))
    card = save_weights(weights, fitted.network, card, half=half)
    finished = fitted.stopped != "minutes"
    label = shelve(weights, config.name).label if config.name is not None and finished else None
    return _trained(weights, card, fitted, bicubic, label)


def _first_network(config: TrainConfig, cube: PairCube) -> FusionNetwork:
    """The network with its initial weights, set by the seed, on its device."""
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
    """The recipe with its window rounded to the network's lattice, and protocol "truth" if there are truths.

    Windows are not rotated if the network's PSF is off the coarse pixel's centre: its offset would rotate with them.
    """
    recipe = config.recipe or RECIPES[config.model]
    step = lcm(network.lattice_px, network.ratio)
    patch = max(1, round(recipe.patch_px / step)) * step
    least = max(LEAST_PATCH_PX.get(config.model, 1), network.least_supervised_px)
    if patch < least:
        raise UsageError(
            f"windows of {patch} px for {config.model}",
            f"its loss needs {least} px at once",
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


def _facts(opened: Sequence[OpenedPair], grounds: Sequence[Ground], config: TrainConfig) -> dict[str, Any]:
    """What the weights derive from, besides recipe and seed."""
    first = opened[0].cube
    return {
        "scenes": [ground_facts(pair, ground) for pair, ground in zip(opened, grounds, strict=True)],
        "truths": [truth_facts(truth) for truth in config.truths],
        "options": dict(config.options),
        "bands": [[band.name for band in bands] for bands in (first.hs_bands, first.ms_bands)],
    }


def _bicubic(grounds: tuple[Ground, ...], network: FusionNetwork) -> Scores:
    """Scores of bicubic interpolation on the held-out blocks; empty without a truth, DataError if they have no data."""
    if grounds[0].scene.protocol == "scene":
        return {}
    scores = score_truth(
        lambda hs, _: upsample(hs, network.ratio),
        grounds,
        context_px=0,
        step_px=network.ratio,
    )
    if isnan(scores["psnr_db"]):
        raise DataError(
            "the held-out blocks hold no pixel with data in every band of both images and of the truth",
            "nothing would show which weights are best",
            "Give other --block-px, or scenes with fewer gaps",
        )
    return scores


def _card(config: TrainConfig, cube: PairCube, training: Mapping[str, Any], *, halo_px: int | None) -> WeightsCard:
    return WeightsCard(
        architecture=config.model,
        options=dict(config.options),
        hs_bands=cube.hs_bands,
        ms_bands=cube.ms_bands,
        ratio=cube.grid.ratio,
        training=training,
        licence=config.licence,
        halo_px=halo_px,
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
    """The finite scores: JSON has no others."""
    return {name: value for name, value in scores.items() if isfinite(value)}
