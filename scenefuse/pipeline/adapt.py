"""Fine-tune a network, without a truth, on the pair that it is going to fuse."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from math import isfinite, lcm
from pathlib import Path
from typing import Any

import torch

from scenefuse.config import RunConfig, weights_folder
from scenefuse.cube.source import PairSource
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.errors import DataError
from scenefuse.models.architectures import build_model
from scenefuse.models.observation import observation_stages
from scenefuse.models.ref import ModelRef
from scenefuse.models.weights import load_weights, put_weights, save_weights
from scenefuse.pipeline.opening import OpenedPair
from scenefuse.training.consistency import Observation
from scenefuse.training.fit import Course, fit
from scenefuse.training.hold_out import hold_nothing_out
from scenefuse.training.recipe import RECIPES, Recipe
from scenefuse.training.resident import ResidentPair, may_reside, resident_bytes
from scenefuse.training.rounding import FREE_DB, float16_cost_db
from scenefuse.training.scenes import FullScene
from scenefuse.training.score import Ground

FOLDER = ".adapted"
"""Folder of adapted weights on the user's shelf, with a subfolder for each pair, network and number of steps."""
RESIDENT_BYTES = 2 * 2**30
"""Largest pair that is kept in memory while the network learns from it, bytes."""


def recipe_of(steps: int, ratio: int) -> Recipe:
    """Recipe for adapting a network: few, small steps, on windows large enough for a PSF."""
    return Recipe(
        iterations=steps,
        patch_px=max(48, 6 * ratio),
        batch=1,
        lr=1e-4,
        schedule="cosine",
        lr_end=1e-6,
        warmup=min(20, steps),
        protocol="scene",
        ema_decay=0.99,
        score_every=max(1, steps // 4),
        patience=0,
    )


def adapt(opened: OpenedPair, config: RunConfig) -> OpenedPair:
    """Fine-tune the pair's network on the pair by config.adapt steps; weights are kept on the shelf and reused.

    The same pair, network and steps give the same weights (on one CPU thread); an interrupted call resumes.
    """
    ref = opened.model.ref
    if config.adapt is None:
        raise ValueError("no number of steps")
    recipe = _fitted(recipe_of(config.adapt, ref.ratio), ref)
    facts = _facts(opened, recipe)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = weights_folder() / FOLDER / key
    path = folder / "weights.safetensors"
    if not path.is_file():
        _learn(opened, recipe, facts, folder)
        if opened.model.device == "cuda":
            torch.cuda.empty_cache()  # a worker is about to need this device
    adapted = replace(ref, weights=str(path), weights_sha256=None)
    return opened.with_model(adapted)


def _learn(opened: OpenedPair, recipe: Recipe, facts: dict[str, Any], folder: Path) -> None:
    """Write the adapted weights and their card into the folder."""
    ref, cube = opened.model.ref, opened.cube
    base, tensors = load_weights(ref)
    network = build_model(
        ref.name, hs_bands=len(ref.hs_bands), ms_bands=len(ref.ms_bands), ratio=ref.ratio, **base.options
    )
    put_weights(network, tensors, str(ref.weights))
    stages = observation_stages(cube.hs_bands, cube.ms_bands, cube.grid.ratio)
    state = prepare(cube, Preparation(stages=stages), lane=InProcessLane())
    device = opened.model.device
    observation = Observation.of(state, cube.ms_bands, cube.grid.ratio).to(device)
    if observation.inner_px(recipe.patch_px) < 1:
        raise DataError(
            f"a PSF of sigma {observation.psf_sigma_px:.1f} px in windows of {recipe.patch_px} px",
            "no HSI pixel has its whole footprint inside a window, so there is nothing to compare",
            "Leave out --adapt",
        )
    resident = may_reside(resident_bytes(cube, truth=False), RESIDENT_BYTES)
    source: PairSource = ResidentPair(cube) if resident else cube
    scene = FullScene(name=opened.pair.id, source=source)
    hold_out = hold_nothing_out(scene.shape, patch_px=recipe.patch_px, step_px=scene.ratio)
    course = Course(
        architecture=ref.name,
        grounds=(Ground(scene=scene, hold_out=hold_out),),
        recipe=recipe,
        seed=0,
        # a network whose own loss needs no truth keeps that loss
        loss=None if RECIPES[ref.name].protocol == "scene" else observation.terms,
        judge=observation.judge,
        facts=facts,
    )
    fitted = fit(network.to(device), course, stem=folder / "weights")
    cost_db = float16_cost_db(fitted, course.grounds, observation.judge, device)
    training = {
        "adapted_from": base.sha256,
        "base": dict(base.training),
        **course.identity(),
        "steps": fitted.step,
        "score": fitted.scores,
    }
    if isfinite(cost_db):  # beyond float16's range there is no cost
        training["float16_cost_db"] = cost_db
    card = replace(base, training=training, halo_px=None, effective_px=None)  # measured with other weights
    save_weights(folder / "weights.safetensors", fitted.network, card, half=cost_db < FREE_DB)


def _fitted(recipe: Recipe, ref: ModelRef) -> Recipe:
    """The recipe with its window rounded up to a multiple of the network's lattice."""
    network = build_model(ref.name, hs_bands=len(ref.hs_bands), ms_bands=len(ref.ms_bands), ratio=ref.ratio)
    step = lcm(network.lattice_px, ref.ratio)
    return replace(recipe, patch_px=-(-recipe.patch_px // step) * step)


def _facts(opened: OpenedPair, recipe: Recipe) -> dict[str, Any]:
    """What the adapted weights depend on."""
    return {
        "pair": opened.pair.id,
        "inputs": sorted(file.evidence for file in opened.cube.inputs),
        "grid": replace(opened, losses=None).facts(),
        "weights": opened.card.weights_sha256,
        "device": opened.model.device,
        "recipe": asdict(recipe),
    }
