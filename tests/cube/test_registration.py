from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from scenefuse.cube.registration import _error_of_mean, estimate_shift
from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.window import Window

RESPONSE = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])


@dataclass(frozen=True)
class SimulatedPair:
    grid: PairGrid
    hs: NDArray[np.float32]
    ms: NDArray[np.float32]

    def read_hs(self, window: Window) -> NDArray[np.float32]:
        return self.hs[(slice(None), *window.slices)]

    def read_ms(self, window: Window) -> NDArray[np.float32]:
        return self.ms[(slice(None), *window.slices)]


def simulate(ratio: int, side: int, shift_px: tuple[float, float], *, noise: float = 0.005) -> SimulatedPair:
    """Blur and shift of a periodic landscape in closed form, on a grid twice as fine as the MSI's."""
    rng = np.random.default_rng(0)
    size = side * ratio * 2
    f = np.fft.fftfreq(size)
    k = np.hypot(f[:, None], f)
    red = np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) / np.where(k > 0, k, 1) ** 1.2).real
    fields = scipy.ndimage.gaussian_filter(rng.standard_normal((size, size)), 6, mode="wrap") > 0.02
    spectrum = np.fft.fft2(red / np.ptp(red) + 0.5 * fields)

    def seen(dy: float, dx: float, sigma_px: float) -> NDArray[np.float64]:
        phase = np.exp(-4j * np.pi * (f[:, None] * dy + f * dx))
        return np.fft.ifft2(spectrum * phase * np.exp(-2 * (2 * np.pi * k * sigma_px) ** 2)).real

    ms = seen(*shift_px, 0.5).reshape(size // 2, 2, size // 2, 2).mean(axis=(1, 3))
    blurred = seen(0, 0, 0.45 * ratio)
    middle = (slice(ratio - 1, None, 2 * ratio), slice(ratio, None, 2 * ratio))
    hs = np.mean([blurred[y, x] for y in middle for x in middle], axis=0)
    grid = PairGrid(
        crs_wkt="", fine_transform=(10, 0, 0, 0, -10, 0), coarse_shape=hs.shape, ratio=ratio, case="ms-grid",
        hs_gsd_m=10.0 * ratio, ms_gsd_m=10.0, hs_resampled=False, ms_resampled=False,
    )  # fmt: skip
    gains = np.array([0.5, 0.6, 0.3])[:, None, None]
    return SimulatedPair(
        grid=grid,
        hs=(gains * hs + noise * rng.standard_normal((3, *hs.shape))).astype(np.float32),
        ms=(gains[:2] * ms + noise * rng.standard_normal((2, *ms.shape))).astype(np.float32),
    )


@pytest.mark.parametrize(("ratio", "side"), [(2, 80), (3, 80), (6, 56)])
@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (0.3, -0.7), (-2.6, 1.5)])
def test_a_known_shift_is_found_to_a_twentieth_of_a_fine_pixel(
    ratio: int, side: int, shift_px: tuple[float, float]
) -> None:
    shift = estimate_shift(simulate(ratio, side, shift_px), RESPONSE)
    assert (shift.dy_px, shift.dx_px) == pytest.approx(shift_px, abs=0.05)
    assert shift.significant == (shift_px != (0.0, 0.0))
    assert shift.peak > 0.8


def test_the_shift_agrees_with_scikit_image() -> None:
    pair = simulate(3, 80, (1.2, -2.1))
    shift = estimate_shift(pair, RESPONSE)
    fine = scipy.ndimage.zoom(pair.hs[0], 3, order=3, grid_mode=True, mode="grid-wrap")
    blurred = scipy.ndimage.gaussian_filter(pair.ms[0], 1.4, mode="wrap")
    theirs, _, _ = phase_cross_correlation(blurred, fine, upsample_factor=50, normalization=None)
    assert (shift.dy_px, shift.dx_px) == pytest.approx(tuple(theirs), abs=0.15)


def test_holes_do_not_move_the_shift() -> None:
    pair = simulate(3, 80, (0.3, -0.7))
    pair.hs[:, 20:30, 20:24] = np.nan
    pair.ms[:, 100:110, 60:70] = np.nan
    shift = estimate_shift(pair, RESPONSE)
    assert (shift.dy_px, shift.dx_px) == pytest.approx((0.3, -0.7), abs=0.1)


@pytest.mark.parametrize("masked", ["hs", "ms"])
def test_clouds_that_one_image_has_masked_and_the_other_shows_do_not_move_the_shift(masked: str) -> None:
    pair = simulate(3, 80, (0.3, -0.7))
    y, x = np.mgrid[:80, :80]
    places = np.random.default_rng(0).uniform(0, 80, (10, 2))
    cloudy = np.any([(y - a) ** 2 + (x - b) ** 2 < 5**2 for a, b in places], axis=0)
    fine = cloudy.repeat(3, axis=0).repeat(3, axis=1)
    pair.hs[:, cloudy] = np.nan if masked == "hs" else 1.0
    pair.ms[:, fine] = np.nan if masked == "ms" else 1.0
    shift = estimate_shift(pair, RESPONSE)
    assert (shift.dy_px, shift.dx_px) == pytest.approx((0.3, -0.7), abs=0.1)


def test_a_shift_beyond_the_bound_is_refused() -> None:
    with pytest.raises(DataError, match="wrong georeference"):
        estimate_shift(simulate(3, 80, (9.0, 0.0)), RESPONSE)


@pytest.mark.parametrize("seed", [1, 2])  # chance has its peak at 5 fine pixels, and at 14: beyond the bound
def test_unrelated_images_have_no_significant_shift(seed: int) -> None:
    pair = simulate(3, 80, (0.0, 0.0))
    pair.ms[:] = np.random.default_rng(seed).random(pair.ms.shape)
    shift = estimate_shift(pair, RESPONSE)
    assert not shift.significant
    assert shift.peak < 0.3


def test_a_scene_too_small_to_compare_says_so() -> None:
    shift = estimate_shift(simulate(3, 20, (1.0, 0.0)), RESPONSE)
    assert shift.windows == 0
    assert not shift.significant


def test_the_same_pair_gives_the_same_shift() -> None:
    pair = simulate(2, 60, (0.4, 0.4))
    assert estimate_shift(pair, RESPONSE) == estimate_shift(pair, RESPONSE)


def test_windows_that_overlap_count_for_less() -> None:
    apart = [(0, 0), (0, 16), (16, 0), (16, 16)]
    assert _error_of_mean(apart, 16) == pytest.approx(1 / 2)
    overlapping = [(y, x) for y in (0, 2, 4, 6) for x in (0, 2, 4, 6)]
    # Means of windows over white noise: how far they lie from zero, and from each other.
    noise = np.random.default_rng(0).standard_normal((4000, 22, 22))
    means = np.array([noise[:, y : y + 16, x : x + 16].mean(axis=(1, 2)) for y, x in overlapping])  # (window, trial)
    error, spread = means.mean(axis=0).std(), np.sqrt(means.var(axis=0, ddof=1).mean())
    assert _error_of_mean(overlapping, 16) == pytest.approx(error / spread, rel=0.05)


@pytest.mark.parametrize(("side", "shift_px"), [(44, (0.0, 0.0)), (80, (0.6, 0.0))])  # of errors of 0.6 and of 0.4
def test_a_shift_that_windows_do_not_agree_on_is_not_significant(side: int, shift_px: tuple[float, float]) -> None:
    shift = estimate_shift(simulate(6, side, shift_px, noise=0.1), RESPONSE)
    assert np.hypot(shift.dy_px, shift.dx_px) > 0.2
    assert shift.peak > 0.3
    assert not shift.significant


@pytest.mark.parametrize(("dy_px", "significant"), [(0.05, False), (0.15, True)])
def test_a_shift_below_a_tenth_of_a_fine_pixel_is_not_compensated_however_certain(
    dy_px: float, *, significant: bool
) -> None:
    shift = estimate_shift(simulate(2, 60, (dy_px, 0.0), noise=0.001), RESPONSE)
    assert shift.dy_px == pytest.approx(dy_px, abs=0.01)
    assert shift.significant == significant


def test_windows_mostly_without_data_are_not_compared() -> None:
    pair = simulate(2, 80, (0.3, -0.7))
    whole = estimate_shift(pair, RESPONSE)
    pair.hs[:, :32] = np.nan  # of windows of 42 rows from row 5, 14, 24 and 33
    some = estimate_shift(pair, RESPONSE)
    assert (whole.windows, some.windows) == (16, 8)
    assert (some.dy_px, some.dx_px) == pytest.approx((0.3, -0.7), abs=0.1)


def test_bands_that_the_hsi_does_not_see_are_left_out() -> None:
    pair = simulate(2, 60, (0.4, 0.4))
    infrared = np.random.default_rng(1).random((1, *pair.ms.shape[1:])).astype(np.float32)
    more = SimulatedPair(grid=pair.grid, hs=pair.hs, ms=np.concatenate([pair.ms, infrared]))
    assert estimate_shift(more, np.vstack([RESPONSE, np.zeros(3)])) == estimate_shift(pair, RESPONSE)
