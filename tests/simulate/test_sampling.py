from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from scenefuse.grid.resample import degrade, degrade_reach_px
from scenefuse.simulate.sampling import sample, sample_reach_px


@given(ratio=st.integers(1, 6), sigma_px=st.floats(0.4, 3))
def test_sampling_without_shift_is_degrade(ratio: int, sigma_px: float) -> None:
    reach = sample_reach_px(ratio, sigma_px)
    assert reach == degrade_reach_px(ratio, sigma_px)
    fine = np.random.default_rng(0).random((2, 4 * ratio + 2 * reach, 5 * ratio + 2 * reach), np.float32)
    np.testing.assert_allclose(
        sample(fine, ratio=ratio, sigma_px=sigma_px), degrade(fine, ratio, sigma_px), rtol=2e-6, atol=2e-6
    )


@given(ratio=st.integers(2, 4), south=st.floats(-1, 1), east=st.floats(-1, 1))
def test_a_ramp_is_sampled_where_the_shift_says(ratio: int, south: float, east: float) -> None:
    reach = sample_reach_px(ratio, 1.5, (south, east))
    rows, columns = np.mgrid[0 : 4 * ratio + 2 * reach, 0 : 5 * ratio + 2 * reach].astype(np.float32) - reach + 0.5
    seen = sample(np.stack([rows, columns]), ratio=ratio, sigma_px=1.5, shift_px=(south, east))
    centres = (np.arange(5) + 0.5) * ratio
    np.testing.assert_allclose(seen[0, :, 0], centres[:4] + south, atol=5e-3)
    np.testing.assert_allclose(seen[1, 0], centres + east, atol=5e-3)


def test_sampling_is_scipys_gaussian_at_the_centres() -> None:
    fine = np.random.default_rng(1).random((1, 45, 45), np.float32)
    reach = sample_reach_px(3, 1.5)
    seen = sample(fine[:, 15 - reach : 30 + reach, 15 - reach : 30 + reach], ratio=3, sigma_px=1.5)
    expected = gaussian_filter(fine[0].astype(np.float64), 1.5, truncate=5)[16:30:3, 16:30:3]
    np.testing.assert_allclose(seen[0], expected, atol=2e-4)


def test_sampling_without_blur_keeps_the_grid() -> None:
    fine = np.ones((1, 4, 4), np.float32)
    assert sample(fine, ratio=1, sigma_px=0.0) is fine
    with pytest.raises(ValueError, match="keeps the grid"):
        sample(fine, ratio=2, sigma_px=0.0)
