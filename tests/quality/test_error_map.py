"""Maps of errors: gathered window by window what numpy finds over the whole, and what of it is drawn."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

from scenefuse.grid.window import Window
from scenefuse.quality.error_map import ErrorMap, mean_squared_error, spectral_angle_deg
from scenefuse.quality.picture import ERROR_COLOURS, ERROR_STEPS, error_uri
from scenefuse.tiles.tiling import Tiling

SHAPE = (75, 50)


def images() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A product and its truth, (band, y, x), each with a hole of its own."""
    rng = np.random.default_rng(5)
    truth = rng.random((6, *SHAPE), np.float32)
    fused = (truth + rng.normal(0, 0.02, truth.shape)).astype(np.float32)
    fused[:, :9, :20] = np.nan
    truth[2, 30:40, 40:] = np.nan
    return fused, truth


@pytest.mark.parametrize("factor", [1, 2, 8, 32, 128])
def test_a_map_of_windows_is_that_of_the_whole(factor: int) -> None:
    fused, truth = images()
    found = ErrorMap.blank(SHAPE, factor)
    for tile in Tiling(fine_shape=SHAPE, core_px=16, halo_px=0, lattice_px=1):
        there = (slice(None), *tile.core.slices)
        found.add(tile.core, fused[there], truth[there])
    squares = ((fused.astype(np.float64) - truth) ** 2).mean(axis=0)
    rows, columns = (-(-side // factor) for side in SHAPE)
    padded = np.full((rows * factor, columns * factor), np.nan)
    padded[: SHAPE[0], : SHAPE[1]] = squares
    blocks = padded.reshape(rows, factor, columns, factor).swapaxes(1, 2).reshape(rows, columns, -1)
    known = np.isfinite(blocks).any(axis=2)
    expected = np.full((rows, columns), np.nan)
    expected[known] = np.sqrt(np.nanmean(blocks[known], axis=1))
    np.testing.assert_allclose(found.rmse, expected, rtol=1e-5)
    assert found.top == pytest.approx(np.percentile(expected[known], 99), rel=1e-5)
    assert found.facts()["median_rmse"] == pytest.approx(np.median(expected[known]), rel=1e-5)


def test_a_map_of_nothing_in_common_has_no_scale() -> None:
    found = ErrorMap.blank(SHAPE, 2)
    empty = np.full((3, *SHAPE), np.nan, np.float32)
    found.add(Window(y0=0, y1=SHAPE[0], x0=0, x1=SHAPE[1]), empty, empty)
    assert found.facts() == {"factor": 2, "median_rmse": None, "top_rmse": None}


def test_errors_and_angles_are_those_of_each_pixel() -> None:
    fused, truth = images()
    error, angle_deg = mean_squared_error(fused, truth), spectral_angle_deg(fused, truth)
    for row, column in ((20, 5), (70, 49)):
        f, t = fused[:, row, column].astype(np.float64), truth[:, row, column].astype(np.float64)
        assert error[row, column] == pytest.approx(((f - t) ** 2).mean(), rel=1e-5)
        cosine = f @ t / np.sqrt((f @ f) * (t @ t))
        assert angle_deg[row, column] == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-3)
    assert np.isnan(error[0, 0])
    assert np.isnan(angle_deg[35, 45])


def test_the_scale_runs_from_its_first_colour_to_its_last_and_gets_lighter() -> None:
    errors = np.array([[0.0, 0.05, 0.1, 0.7, np.nan]])
    with Picture.open(io.BytesIO(base64.b64decode(error_uri(errors, 0.1).partition(",")[2]))) as picture:
        none, half, end, beyond, unknown = np.asarray(picture.convert("RGBA"))[0].tolist()
    assert none == [*ERROR_COLOURS[0], 255]
    assert end == beyond == [*ERROR_COLOURS[-1], 255]
    assert unknown[3] == 0
    assert none != half != end
    lightness = [np.dot(colour, (0.2126, 0.7152, 0.0722)) for colour in ERROR_COLOURS]
    assert lightness == sorted(lightness)


def test_the_picture_of_a_noisy_map_stays_small() -> None:
    errors = np.abs(np.random.default_rng(0).normal(0, 1, (512, 512)))
    assert len(error_uri(errors, 2.5)) < 300_000
    assert ERROR_STEPS < 64
