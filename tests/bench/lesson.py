"""Lesson: what a network learns from and what it is tested on, never the same ground; and one lesson taken."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scenefuse.grid.borders import read_mirrored
from scenefuse.grid.resample import degrade_reach_px
from scenefuse.grid.window import Window
from scenefuse.models.architectures import build_model
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.network import FusionNetwork
from scenefuse.models.resample import upsample
from scenefuse.models.weights import WeightsCard, save_weights
from scenefuse.quality.trial import Trial, TrialSource
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST
from scenefuse.training.batches import draw_step
from scenefuse.training.fit import Course, fit, score
from scenefuse.training.hold_out import HoldOut
from scenefuse.training.losses import LOSSES, backward
from scenefuse.training.recipe import CPU_RECIPES, Protocols, Recipe
from scenefuse.training.scenes import Example
from scenefuse.training.score import Ground, score_truth

MOST_SCORINGS = 10
"""Scorings of a training at most."""
SCORING_SHARE = 0.1
"""Share of a training's time that its scorings may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialScene:
    """A trial as training reads it; with protocol `scene` its truth stays hidden."""

    trial: Trial
    protocol: Protocols = "truth"

    @property
    def name(self) -> str:
        return self.trial.name

    @property
    def ratio(self) -> int:
        return self.trial.ratio

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.trial.truth.shape[1:]
        return rows, columns

    @property
    def reach_px(self) -> int:
        """Margin of the coarse input, and the ground that its pixels were blurred from."""
        sigma_px = psf_sigma_px(DEFAULT_MTF_NYQUIST, self.ratio)
        return UPSAMPLE_MARGIN * self.ratio + degrade_reach_px(self.ratio, sigma_px)

    def read(self, window: Window) -> Example:
        source = TrialSource(self.trial)
        coarse = window.coarsen(self.ratio).grow(UPSAMPLE_MARGIN)
        hidden = self.protocol == "scene"
        return Example(
            hs=read_mirrored(source.read_hs, coarse, source.grid.coarse_shape),
            ms=read_mirrored(source.read_ms, window, self.shape),
            truth=None if hidden else read_mirrored(self._truth, window, self.shape),
        )

    def _truth(self, window: Window) -> NDArray[np.float32]:
        return self.trial.truth[:, *window.slices]


@dataclass(frozen=True, kw_only=True)
class Quarter(HoldOut):
    """The last quarter of a scene is held out: its left half chooses among the weights, its right half tests them."""

    everywhere: bool = False
    """True where windows may lie on it, for a network that is shown no truth."""

    def blocks(self) -> tuple[Window, ...]:
        (whole,) = super().blocks()
        return (replace(whole, x1=(whole.x0 + whole.x1) // 2),)

    def tested(self) -> tuple[Window, ...]:
        (whole,) = super().blocks()
        return (replace(whole, x0=(whole.x0 + whole.x1) // 2),)

    def _starts(self, axis: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        free, touching = super()._starts(axis)
        return (np.sort(np.concatenate([free, touching])), touching[:0]) if self.everywhere else (free, touching)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A scene to learn from and pixels to be tested on."""

    name: str
    """Name in tables."""
    learnt: Trial
    """What a network with a truth learns from, its last quarter left out."""
    tested: Trial
    """What all methods are tested on; the same trial, or other ground."""

    def windows(self) -> tuple[Window, ...]:
        """Pixels of `tested` that count: of the learnt scene only its test block."""
        if self.tested is self.learnt:
            return quarter(self.learnt, patch_px=1).tested()
        rows, columns = self.tested.truth.shape[1:]
        return (Window(y0=0, y1=rows, x0=0, x1=columns),)

    def ground(self, recipe: Recipe) -> Ground:
        """What fit is given: without truth it is the tested scene itself, whole."""
        hidden = recipe.protocol == "scene"
        trial = self.tested if hidden else self.learnt
        scene = TrialScene(trial=trial, protocol="scene" if hidden else "truth")
        return Ground(scene=scene, hold_out=quarter(trial, patch_px=recipe.patch_px, everywhere=hidden))


def quarter(trial: Trial, *, patch_px: int, everywhere: bool = False) -> Quarter:
    """The hold-out of a trial's last quarter."""
    scene = TrialScene(trial=trial)
    return Quarter(
        shape=scene.shape,
        patch_px=patch_px,
        block_px=-(-max(scene.shape) // (2 * trial.ratio)) * trial.ratio,
        guard_px=scene.reach_px,
        step_px=trial.ratio,
        everywhere=everywhere,
    )


@dataclass(kw_only=True)
class Taken:
    """A network after a lesson."""

    weights: Path
    """Its weights, with their card."""
    steps: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Wall time of training, scorings included."""
    cpu_seconds: float = 0.0
    """Processor time of it; less than the wall time where the machine had other work."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """seconds, cpu_seconds, step and psnr_db on the choosing block, at each scoring."""
    bicubic_db: float = 0.0
    """PSNR of cubic interpolation on the choosing block."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """How it was trained, as far as it matters: iterations, patch_px, lr, batch."""


def take(lesson: Lesson, name: str, *, minutes: float, folder: Path, recipe: Recipe | None = None) -> Taken:
    """The network trained from nothing on a lesson, its schedule made to end with so many minutes of processor time.

    Processor, not wall: other work on the machine makes a training longer, not worse.
    """
    trial, recipe = lesson.learnt, recipe or CPU_RECIPES[name]
    torch.manual_seed(0)
    shape = {"hs_bands": len(trial.hs_bands), "ms_bands": len(trial.ms_bands), "ratio": trial.ratio}
    network = build_model(name, **shape)
    step = lcm(network.lattice_px, trial.ratio)
    recipe = replace(recipe, patch_px=max(1, round(recipe.patch_px / step)) * step)
    ground = lesson.ground(recipe)
    recipe = fitted(recipe, network, (ground,), name, 60 * minutes)
    course = Course(architecture=name, grounds=(ground,), recipe=recipe, seed=0, facts={"lesson": lesson.name})
    shown = lesson.tested if recipe.protocol == "scene" else lesson.learnt
    choosing = Ground(scene=TrialScene(trial=shown), hold_out=ground.hold_out)
    taken = Taken(weights=folder / f"{name}.safetensors")
    taken.recipe = {key: getattr(recipe, key) for key in ("iterations", "patch_px", "batch", "lr", "schedule")}
    taken.bicubic_db = score_truth(
        lambda hs, _: upsample(hs, trial.ratio), (choosing,), context_px=0, step_px=trial.ratio
    )["psnr_db"]
    began, cpu_began = time.perf_counter(), time.process_time()

    def note(row: dict[str, float]) -> None:
        seconds = time.perf_counter() - began
        psnr_db = row["psnr_db"] if "psnr_db" in row else score(network, (choosing,))["psnr_db"]
        cpu_seconds = time.process_time() - cpu_began
        taken.curve.append({"seconds": seconds, "cpu_seconds": cpu_seconds, "step": row["step"], "psnr_db": psnr_db})

    fitted_network = fit(network, course, stem=folder / name, report=note)
    taken.seconds, taken.steps = time.perf_counter() - began, fitted_network.steps
    taken.cpu_seconds = time.process_time() - cpu_began
    save_weights(
        taken.weights,
        fitted_network.network,
        WeightsCard(
            architecture=name,
            options={},
            hs_bands=trial.hs_bands,
            ms_bands=trial.ms_bands,
            ratio=trial.ratio,
            training=course.identity(),
            licence="Apache-2.0",
        ),
    )
    return taken


def fitted(recipe: Recipe, network: FusionNetwork, grounds: tuple[Ground, ...], name: str, seconds: float) -> Recipe:
    """The recipe with as many steps as fit into the seconds of processor time beside the scorings, after timing both.

    Scorings are evenly spaced: MOST_SCORINGS, or as many as take SCORING_SHARE of the time.
    """
    trial_run = deepcopy(network)
    times = []
    for number in range(3):
        began = time.process_time()
        for batch in draw_step(grounds, recipe, 0, number):
            output = trial_run.supervised(batch.hs, batch.ms)
            backward(trial_run, LOSSES[name](trial_run, output, batch), 1.0)
        times.append(time.process_time() - began)
    began = time.process_time()
    score(trial_run, grounds)
    scoring = time.process_time() - began
    scorings = max(1, min(MOST_SCORINGS, int(SCORING_SHARE * seconds / scoring)))
    steps = max(1, int((0.95 * seconds - scorings * scoring) / min(times[1:])))
    return replace(recipe, iterations=steps, score_every=-(-steps // scorings), patience=0)
