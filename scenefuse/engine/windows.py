"""Read windows as a model or stage sees them: extended by the scene's border rule, no-data filled.

Both rules depend on the scene alone, so a pixel has the same value in every window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenefuse.cube.source import PairSource
from scenefuse.engine.flags import finite_in_every_band
from scenefuse.grid.borders import read_mirrored
from scenefuse.grid.window import Window
from scenefuse.models.base import UPSAMPLE_MARGIN, SceneWindow
from scenefuse.models.state import SceneState


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelWindow:
    """Input of FusionModel.fuse for one window, and where its result is valid."""

    hs: NDArray[np.float32]
    """(hs band, y / ratio + 2 UPSAMPLE_MARGIN, x / ratio + 2 UPSAMPLE_MARGIN) reflectance, no NaN."""
    ms: NDArray[np.float32]
    """(ms band, y, x) reflectance, no NaN."""
    valid: NDArray[np.bool_]
    """(y, x): true if the fine pixel and the coarse pixel over it have data in every band."""


def read_model_window(source: PairSource, window: Window, state: SceneState) -> ModelWindow:
    """Read a fine window as the model sees it; it may exceed the scene, and its edges are multiples of the ratio.

    Beyond the scene's border pixels are mirrored (half-sample symmetric); a pixel with a non-finite band becomes the
    state's mean spectrum.
    """
    ratio = source.grid.ratio
    margin = UPSAMPLE_MARGIN
    hs, hs_valid = _read_filled(
        source.read_hs, window.coarsen(ratio).grow(margin), source.grid.coarse_shape, state.arrays["hs_mean"]
    )
    ms, valid = _read_filled(source.read_ms, window, source.grid.fine_shape, state.arrays["ms_mean"])
    valid &= _refine(hs_valid[margin:-margin, margin:-margin], ratio)
    return ModelWindow(hs=hs, ms=ms, valid=valid)


def read_scene_window(source: PairSource, window: Window, *, margin: int, state: SceneState) -> SceneWindow:
    """Read a coarse window as a stage sees it, with margin coarse pixels of context on each side of both images.

    No-data is filled once the state has `hs_mean` and `ms_mean`; before that it stays NaN.
    """
    ratio = source.grid.ratio
    grown = window.grow(margin)
    hs, hs_valid = _read_filled(source.read_hs, grown, source.grid.coarse_shape, state.arrays.get("hs_mean"))
    fine = grown.refine(ratio)
    ms, ms_valid = _read_filled(source.read_ms, fine, source.grid.fine_shape, state.arrays.get("ms_mean"))
    return SceneWindow(
        hs=hs,
        ms=ms,
        hs_valid=hs_valid,
        ms_valid=ms_valid,
        margin=margin,
        ratio=ratio,
        phase_px=source.grid.phase_px,
    )


def cut_scene_window(window: SceneWindow, rows: slice, columns: slice) -> SceneWindow:
    """Cut a scene window to these coarse rows and columns of its interior, with the same margin around."""
    margin, ratio = window.margin, window.ratio
    coarse = (
        slice(rows.start, rows.stop + 2 * margin),
        slice(columns.start, columns.stop + 2 * margin),
    )
    fine = tuple(slice(s.start * ratio, s.stop * ratio) for s in coarse)
    return SceneWindow(
        # Copied so that a stage sees C order, however large the read that contained its block.
        hs=np.ascontiguousarray(window.hs[:, *coarse]),
        ms=np.ascontiguousarray(window.ms[:, *fine]),
        hs_valid=np.ascontiguousarray(window.hs_valid[coarse]),
        ms_valid=np.ascontiguousarray(window.ms_valid[fine]),
        margin=margin,
        ratio=ratio,
        phase_px=window.phase_px,
    )


def valid_fraction(window: SceneWindow) -> float:
    """Share of the window's fine pixels, without the margin, that have data in both images, 0 to 1."""
    margin, ratio = window.margin, window.ratio
    inside = slice(margin, -margin or None)
    fine = slice(margin * ratio, -margin * ratio or None)
    both = window.ms_valid[fine, fine] & _refine(window.hs_valid[inside, inside], ratio)
    return float(both.mean())


def _refine(valid: NDArray[np.bool_], ratio: int) -> NDArray[np.bool_]:
    return valid.repeat(ratio, axis=0).repeat(ratio, axis=1)


def _read_filled(
    read: Callable[[Window], NDArray[np.float32]],
    window: Window,
    shape: tuple[int, int],
    mean: NDArray[np.floating] | None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Pixels of a window under the border rule, (band, y, x), and where every band has data, (y, x)."""
    pixels = read_mirrored(read, window, shape)
    valid = finite_in_every_band(pixels)
    if mean is not None and not valid.all():
        # Fill a copy, because the source may hand out its own memory.
        pixels = np.where(valid, pixels, mean.astype(np.float32)[:, None, None])
    return np.require(pixels, np.float32, ["C", "W"]), valid
