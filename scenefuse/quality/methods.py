"""Methods side by side under one protocol: the same pair, the same truth, whole images in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.engine.protocols import Source
from scenefuse.grid.window import Window
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.models.whole import freeze_whole, fuse_whole
from scenefuse.quality.product_scores import Scores
from scenefuse.sensors.band import Band
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST
from scenefuse.simulate.wald import WaldProtocol, pair_at_reduced_resolution

Image = NDArray[np.float32]

MOST_VALUES = 2**28
"""Most values (bands x fine pixels) of a trial, 1 GiB as float32: a larger scene is cut to its middle."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """A pair whose truth is known."""

    name: str
    """Name in tables."""
    hs: Image
    """(hs band, y, x) reflectance, NaN = no data."""
    ms: Image
    """(ms band, y * ratio, x * ratio) reflectance."""
    truth: Image
    """(hs band, y * ratio, x * ratio) reflectance."""
    hs_bands: tuple[Band, ...]
    """Bands of hs and truth."""
    ms_bands: tuple[Band, ...]
    """Bands of ms."""
    ratio: int
    """Coarse pixel size / fine pixel size."""


def wald_trial(source: Source, name: str) -> Trial:
    """The pair at reduced resolution: both degraded by the ratio, the HSI itself the truth (Wald's protocol).

    A scene of more than MOST_VALUES values is cut to its middle.
    """
    ratio = source.grid.ratio
    middle = _middle(source)
    hs, ms = source.read_hs(middle), source.read_ms(middle.refine(ratio))
    protocol = WaldProtocol(ratio=ratio, sigma_px=psf_sigma_px(DEFAULT_MTF_NYQUIST, ratio))
    pair = pair_at_reduced_resolution(hs, ms, protocol)
    return Trial(
        name=name,
        hs=pair.hs,
        ms=pair.ms,
        truth=pair.truth,
        hs_bands=source.hs_bands,
        ms_bands=source.ms_bands,
        ratio=ratio,
    )


def score_methods(trial: Trial, names: Sequence[str], *, convention: str = "standard") -> Iterator[Scores]:
    """Scores of each method on the trial, as they are done; seconds are preparation and fusion together."""
    for name in names:
        ref = ModelRef(name=name, hs_bands=trial.hs_bands, ms_bands=trial.ms_bands, ratio=trial.ratio)
        model = load_model(ref)
        began = time.perf_counter()
        state = freeze_whole(model, trial.hs, trial.ms)
        fused = fuse_whole(model, trial.hs, trial.ms, state)
        seconds = time.perf_counter() - began
        sums = ReferenceSums(ratio=trial.ratio).add(fused, trial.truth)
        yield Scores(name=name, values=sums.scores(convention), seconds=seconds)


def _middle(source: Source) -> Window:
    """The coarse window in the scene's middle that holds at most MOST_VALUES values."""
    rows, columns = source.grid.coarse_shape
    per_pixel = len(source.hs_bands) + len(source.ms_bands) * source.grid.ratio**2
    share = min(1.0, (MOST_VALUES / (rows * columns * per_pixel)) ** 0.5)
    height, width = max(1, int(rows * share)), max(1, int(columns * share))
    top, left = (rows - height) // 2, (columns - width) // 2
    return Window(y0=top, y1=top + height, x0=left, x1=left + width)
