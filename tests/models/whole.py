"""A method on a whole pair in memory, as one block and one window: the reference that tiled runs must equal."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from scenefuse.errors import DataError
from scenefuse.grid.borders import mirror_indices
from scenefuse.models.base import UPSAMPLE_MARGIN, FusionModel, SceneWindow
from scenefuse.models.observation import observation_stages
from scenefuse.models.state import SceneState

Image = NDArray[np.float32]
Pixel = TypeVar("Pixel", bound=np.generic)


def freeze_whole(model: FusionModel, hs: Image, ms: Image, *, psf_sigma_px: float | None = None) -> SceneState:
    """The scene's state: fill spectra, spectral response, point spread, then the method's own stages.

    hs: (hs band, y, x), ms: (ms band, y * ratio, x * ratio), reflectance, NaN = no data.
    psf_sigma_px: fine pixels, when known; else estimated.
    """
    card = model.card
    _refuse_misfit(model, hs, ms)
    pair = _filled(hs, ms)
    state = SceneState(arrays={"hs_mean": pair.hs_mean, "ms_mean": pair.ms_mean}, facts={"ratio": card.ratio})
    observation = observation_stages(card.hs_bands, card.ms_bands, card.ratio, psf_sigma_px=psf_sigma_px)
    for stage in (*observation, *model.stages()):
        margin_px = stage.margin * card.ratio
        window = SceneWindow(
            hs=_mirrored(pair.hs, stage.margin, stage.margin),
            ms=_mirrored(pair.ms, margin_px, margin_px),
            hs_valid=_mirrored(pair.hs_valid, stage.margin, stage.margin),
            ms_valid=_mirrored(pair.ms_valid, margin_px, margin_px),
            margin=stage.margin,
            ratio=card.ratio,
        )
        state = stage.conclude({} if stage.where == "nowhere" else stage.measure(window, state), state)
    return state


def fuse_whole(model: FusionModel, hs: Image, ms: Image, state: SceneState) -> Image:
    """The fused image, (hs band, y * ratio, x * ratio) float32, NaN where either input has no data.

    One window: the scene extended by its mirror image by the support or more, as the lattice asks.
    """
    card = model.card
    _refuse_misfit(model, hs, ms)
    pair = _filled(hs, ms, state)
    step = lcm(card.lattice_px, card.ratio)
    before_px = -(-card.support_px // step) * step
    sides_px = ms.shape[1:]
    after_px = tuple(before_px + -side % step for side in sides_px)
    before, after = before_px // card.ratio, tuple(px // card.ratio for px in after_px)
    coarse = _mirrored(pair.hs, before + UPSAMPLE_MARGIN, *(count + UPSAMPLE_MARGIN for count in after))
    fine = _mirrored(pair.ms, before_px, *after_px)
    with torch.inference_mode():
        window = model.fuse(torch.from_numpy(coarse)[None], torch.from_numpy(fine)[None], state)
    height, width = sides_px
    fused = window[0, :, before_px : before_px + height, before_px : before_px + width].cpu().numpy().copy()
    hs_valid = pair.hs_valid.repeat(card.ratio, axis=0).repeat(card.ratio, axis=1)
    fused[:, ~(hs_valid & pair.ms_valid)] = np.nan
    return fused


@dataclass(frozen=True, slots=True, kw_only=True)
class _FilledPair:
    """A pair without no-data, and where it was."""

    hs: Image
    """(hs band, y, x), no-data pixels replaced by hs_mean."""
    ms: Image
    """(ms band, y, x), no-data pixels replaced by ms_mean."""
    hs_valid: NDArray[np.bool_]
    """(y, x): every band is data."""
    ms_valid: NDArray[np.bool_]
    """(y, x): every band is data."""
    hs_mean: NDArray[np.float64]
    """(hs band,) that stands for no data: the mean over valid pixels."""
    ms_mean: NDArray[np.float64]
    """(ms band,) likewise."""


def _filled(hs: Image, ms: Image, state: SceneState | None = None) -> _FilledPair:
    """The pair filled pointwise with the state's mean spectra, or, before there is a state, with its own."""
    filled = []
    for image, name in ((hs, "hs_mean"), (ms, "ms_mean")):
        valid: NDArray[np.bool_] = np.asarray(np.isfinite(image).all(axis=0))
        if not valid.any():
            raise DataError(
                "no pixel has data in every band", "there is nothing to fuse", "drop the bands without data"
            )
        mean = image[:, valid].mean(axis=1, dtype=np.float64) if state is None else state.arrays[name]
        whole = np.where(valid, image, mean.astype(np.float32)[:, np.newaxis, np.newaxis])
        filled.append((whole.astype(np.float32), valid, mean))
    (hs, hs_valid, hs_mean), (ms, ms_valid, ms_mean) = filled
    return _FilledPair(hs=hs, ms=ms, hs_valid=hs_valid, ms_valid=ms_valid, hs_mean=hs_mean, ms_mean=ms_mean)


def _mirrored(image: NDArray[Pixel], before: int, after_rows: int, after_columns: int | None = None) -> NDArray[Pixel]:
    """The image (..., y, x) extended by its mirror image: before on top and left, the rest below and right."""
    after_columns = after_rows if after_columns is None else after_columns
    rows = mirror_indices(-before, image.shape[-2] + after_rows, image.shape[-2])
    columns = mirror_indices(-before, image.shape[-1] + after_columns, image.shape[-1])
    return np.ascontiguousarray(image[..., rows[:, np.newaxis], columns])


def _refuse_misfit(model: FusionModel, hs: Image, ms: Image) -> None:
    """Refuse a pair whose bands or grids are not those of the card."""
    card = model.card
    bands = (len(card.hs_bands), len(card.ms_bands))
    nested = ms.shape[1:] == tuple(side * card.ratio for side in hs.shape[1:])
    if (len(hs), len(ms)) != bands or not nested:
        raise DataError(
            f"hs {hs.shape} and ms {ms.shape}",
            f"{card.name} was built for {bands[0]} and {bands[1]} bands at ratio {card.ratio}",
            "Build the method for this pair",
        )
