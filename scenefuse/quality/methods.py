"""Run a method on a trial and score the result."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.in_memory import fuse_in_memory
from scenefuse.engine.resident import ModelHandle, resident_model
from scenefuse.grid.window import Window
from scenefuse.metrics.window import CONTEXT_PX
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.models.base import ModelCard
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model, needs_weights
from scenefuse.models.shelf import with_weights
from scenefuse.models.weights import read_card
from scenefuse.quality.trial import Trial, TrialSource

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fusion:
    """A method's result on a trial."""

    fused: Image
    """(hs band, y, x) reflectance on the truth's grid; NaN = no data."""
    seconds: float
    """Wall time of preparation and fusion."""
    card: ModelCard
    """The method's card."""


def fuse_trial(trial: Trial, name: str, *, weights: str | None = None) -> Fusion:
    """Fuse the trial with a method as a product would be, on one CPU thread and in float32.

    Only registration is left out: a trial's images are aligned already.
    """
    ref = ModelRef(name=name, hs_bands=trial.hs_bands, ms_bands=trial.ms_bands, ratio=trial.ratio)
    handle = ModelHandle(ref=ready(ref, weights), load=load_model)
    card = resident_model(handle).card
    began = time.perf_counter()
    fused = fuse_in_memory(TrialSource(trial if card.takes_phase else trial.nested()), handle)
    return Fusion(fused=fused, seconds=time.perf_counter() - began, card=card)


def ready(ref: ModelRef, weights: str | None) -> ModelRef:
    """The reference with its weights resolved: weights is a path, a name on the shelf, or None for fitting ones."""
    if not needs_weights(ref.name):
        return replace(ref, weights=weights)
    ref = with_weights(ref, weights)
    return replace(ref, weights_sha256=read_card(Path(str(ref.weights))).sha256)


def score_part(
    fused: Image, truth: Image, part: Window, *, ratio: int, scored: NDArray[np.bool_] | None = None
) -> ReferenceSums:
    """Score sums over one part of the image: the window's fine pixels, with the context of their local windows.

    scored: (y, x) mask of pixels that count, with local windows entirely inside it; None for all.
    """
    around = part.grow(CONTEXT_PX).clip(truth.shape[1:])
    there = (slice(None), *around.slices)
    mask = None if scored is None else scored[around.slices]
    return ReferenceSums(ratio=ratio).add(fused[there], truth[there], mask, core=part.within(around))
