from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenefuse.grid.pair_grid import RATIOS
from scenefuse.grid.resample import (
    degrade,
    degrade_reach_px,
    degrade_taps,
    keys_cubic,
    upsample,
    upsample_taps,
)


@pytest.mark.parametrize("ratio", RATIOS)
def test_taps_sum_to_one_and_mirror_each_other(ratio: int) -> None:
    taps = upsample_taps(ratio)
    assert taps.shape == (ratio, 5)
    assert taps.dtype == np.float32
    np.testing.assert_allclose(taps.sum(axis=1, dtype=np.float64), 1, atol=2e-7)
    np.testing.assert_allclose(taps, taps[::-1, ::-1], atol=1e-7)
    for sigma_px in (0.3 * ratio, 0.5 * ratio):
        weights = degrade_taps(ratio, sigma_px)
        assert len(weights) == ratio + 2 * degrade_reach_px(ratio, sigma_px)
        np.testing.assert_allclose(weights.sum(dtype=np.float64), 1, atol=2e-7)
        np.testing.assert_array_equal(weights, weights[::-1])


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_upsample_equals_the_direct_two_dimensional_sum_of_the_cubic_kernel(ratio: int) -> None:
    coarse = np.random.default_rng(1).random((2, 9, 10)).astype(np.float32)
    expected = np.zeros((2, 5 * ratio, 6 * ratio))
    for y in range(5 * ratio):
        for x in range(6 * ratio):
            cy, cx = (y + 0.5) / ratio - 0.5 + 2, (x + 0.5) / ratio - 0.5 + 2
            wy, wx = keys_cubic(np.arange(9) - cy), keys_cubic(np.arange(10) - cx)
            expected[:, y, x] = np.einsum("bij,i,j->b", coarse, wy, wx)
    np.testing.assert_allclose(upsample(coarse, ratio), expected, atol=1e-6)


def test_upsample_agrees_with_torch_bicubic_with_antialias() -> None:
    # torch's antialiased bicubic has a = -0.5 and half-pixel centres, as here; the plain one has a = -0.75.
    coarse = np.random.default_rng(2).random((3, 12, 14)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(coarse)[None], scale_factor=4, mode="bicubic", align_corners=False, antialias=True
    )[0].numpy()
    np.testing.assert_allclose(upsample(coarse, 4), theirs[:, 8:-8, 8:-8], atol=2e-6)


def test_upsample_keeps_a_plane_exact() -> None:
    y, x = np.mgrid[0:10, 0:11].astype(np.float32)
    plane = (0.01 * y + 0.02 * x)[np.newaxis]
    fine = upsample(plane, 3)
    fy, fx = (np.mgrid[0:18, 0:21] + 0.5) / 3 - 0.5 + 2
    np.testing.assert_allclose(fine[0], 0.01 * fy + 0.02 * fx, atol=1e-6)


@settings(max_examples=25)
@given(st.sampled_from([2, 3, 6, 8]), st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), st.integers(1, 6))
def test_upsample_of_a_window_equals_the_window_of_the_upsample(ratio: int, y0: int, x0: int, h: int, w: int) -> None:
    coarse = np.random.default_rng(3).random((2, 16, 16)).astype(np.float32)
    coarse[:, 7, 6] = np.nan
    whole = upsample(coarse, ratio)
    part = upsample(coarse[:, y0 : y0 + h + 4, x0 : x0 + w + 4], ratio)
    cut = whole[:, y0 * ratio : (y0 + h) * ratio, x0 * ratio : (x0 + w) * ratio]
    assert np.array_equal(part, cut, equal_nan=True)


def test_a_hole_keeps_its_size_when_upsampled() -> None:
    coarse = np.full((1, 9, 9), 0.25, np.float32)
    coarse[0, 4, 4] = np.nan
    fine = upsample(coarse, 3)
    assert np.isnan(fine[0, 6:9, 6:9]).all()
    assert np.isnan(fine).sum() == 9
    np.testing.assert_allclose(fine[~np.isnan(fine)], 0.25, atol=1e-7)


@pytest.mark.parametrize(("ratio", "sigma_px"), [(3, 1.3), (5, 2.0)])
def test_degrade_at_odd_ratios_equals_scipy_gaussian_at_the_coarse_centres(ratio: int, sigma_px: float) -> None:
    reach = degrade_reach_px(ratio, sigma_px)
    fine = np.random.default_rng(4).random((1, 6 * ratio + 2 * reach, 7 * ratio + 2 * reach)).astype(np.float32)
    radius = (len(degrade_taps(ratio, sigma_px)) - 1) // 2
    blurred = scipy.ndimage.gaussian_filter(fine[0].astype(float), sigma_px, radius=radius)
    first = reach + ratio // 2
    expected = blurred[first : first + 6 * ratio : ratio, first : first + 7 * ratio : ratio]
    np.testing.assert_allclose(degrade(fine, ratio, sigma_px)[0], expected, atol=1e-6)


@pytest.mark.parametrize("sigma_px", [1.0, 2.7])
def test_what_degrade_leaves_out_of_the_gaussian_is_less_than_a_ten_thousandth(sigma_px: float) -> None:
    position = np.arange(-40, 41)
    gaussian = np.exp(-0.5 * (position / sigma_px) ** 2)
    outside = np.abs(position) > len(degrade_taps(3, sigma_px)) // 2
    assert gaussian[outside].sum() < 1e-4 * gaussian.sum()


@pytest.mark.parametrize("ratio", [2, 3, 4, 6])
def test_degrade_of_a_plane_is_the_plane_at_the_coarse_centres(ratio: int) -> None:
    sigma_px = 0.45 * ratio
    reach = degrade_reach_px(ratio, sigma_px)
    y, x = np.mgrid[0 : 5 * ratio + 2 * reach, 0 : 6 * ratio + 2 * reach] + 0.5 - reach
    coarse = degrade((0.01 * y - 0.005 * x)[np.newaxis].astype(np.float32), ratio, sigma_px)
    cy, cx = (np.mgrid[0:5, 0:6] + 0.5) * ratio
    np.testing.assert_allclose(coarse[0], 0.01 * cy - 0.005 * cx, atol=2e-6)


@pytest.mark.parametrize("phase_px", [(0.4, -0.3), (-0.5, 0.5)])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_with_a_phase_coarse_pixels_lie_beside_their_grid(ratio: int, phase_px: tuple[float, float]) -> None:
    down, right = phase_px
    cy, cx = (np.mgrid[0:9, 0:10] + 0.5 - 2) * ratio  # centres of the grid's pixels and of 2 more on each side
    plane = (0.01 * (cy + down) - 0.005 * (cx + right)).astype(np.float32)
    fy, fx = np.mgrid[0 : 5 * ratio, 0 : 6 * ratio] + 0.5
    np.testing.assert_allclose(upsample(plane[None], ratio, phase_px)[0], 0.01 * fy - 0.005 * fx, atol=1e-6)


@pytest.mark.parametrize("ratio", [2, 3, 4, 8])
def test_degrade_with_a_phase_measures_a_wave_there_as_a_gaussian_does(ratio: int) -> None:
    sigma_px, (down, right) = 0.45 * ratio, (0.4, -0.5)
    reach = degrade_reach_px(ratio, sigma_px)
    per_px = 2 * np.pi / (4.3 * ratio)  # a period of 4.3 coarse pixels
    y, x = np.mgrid[0 : 7 * ratio + 2 * reach, 0 : 7 * ratio + 2 * reach] + 0.5 - reach
    coarse = degrade(np.sin(per_px * (y + 0.6 * x))[None].astype(np.float32), ratio, sigma_px, (down, right))
    cy, cx = (np.mgrid[0:7, 0:7] + 0.5) * ratio
    passed = np.exp(-0.5 * (per_px * sigma_px) ** 2 * (1 + 0.6**2))  # the Gaussian's Fourier transform
    seen = passed * np.sin(per_px * (cy + down + 0.6 * (cx + right)))
    np.testing.assert_allclose(coarse[0], seen, atol=2e-3)
    assert np.abs(coarse[0] - passed * np.sin(per_px * (cy + 0.6 * cx))).max() > 1e-2


def test_a_phase_of_more_than_half_a_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 0.5 fine pixels, got 0.6"):
        upsample(np.zeros((1, 8, 8), np.float32), 2, (0.0, 0.6))
    with pytest.raises(ValueError, match=r"at most 0.5 fine pixels, got nan"):
        degrade_taps(3, 1.0, float("nan"))


def test_degrade_of_a_window_equals_the_window_of_the_degrade() -> None:
    ratio, sigma_px = 6, 2.7
    reach = degrade_reach_px(ratio, sigma_px)
    fine = np.random.default_rng(5).random((3, 60 + 2 * reach, 66 + 2 * reach)).astype(np.float32)
    whole = degrade(fine, ratio, sigma_px)
    part = degrade(fine[:, 12 : 12 + 30 + 2 * reach, 18 : 18 + 6 + 2 * reach], ratio, sigma_px)
    assert np.array_equal(part, whole[:, 2:7, 3:4])


def test_shapes_that_do_not_fit_are_refused_with_their_numbers() -> None:
    with pytest.raises(ValueError, match="margin of 2"):
        upsample(np.zeros((1, 4, 8), np.float32), 2)
    with pytest.raises(ValueError, match="not whole coarse pixels of 3"):
        degrade(np.zeros((1, 7 + 2 * degrade_reach_px(3, 1.0), 99), np.float32), 3, 1.0)
    with pytest.raises(ValueError, match="sigma_px > 0"):
        degrade_taps(3, 0.0)
