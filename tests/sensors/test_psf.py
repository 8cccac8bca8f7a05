"""Point spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from scenefuse.sensors.psf import psf_sigma_over_own_px, psf_sigma_px


@given(st.floats(0.05, 0.95), st.integers(2, 32))
def test_the_gaussian_has_the_mtf_at_the_coarse_nyquist_frequency(mtf: float, ratio: int) -> None:
    sigma = psf_sigma_px(mtf, ratio)
    assert np.exp(-2 * np.pi**2 * sigma**2 * (1 / (2 * ratio)) ** 2) == pytest.approx(mtf)


def test_a_sine_at_the_coarse_nyquist_frequency_is_damped_to_the_mtf() -> None:
    ratio, mtf = 6, 0.3
    x = np.arange(4096)
    sine = np.cos(2 * np.pi * x / (2 * ratio))
    blurred = ndimage.gaussian_filter1d(sine, psf_sigma_px(mtf, ratio), mode="wrap", truncate=8)
    middle = slice(1000, 3000)
    assert np.abs(blurred[middle]).max() == pytest.approx(mtf, abs=1e-3)


@given(st.floats(0.1, 0.5), st.floats(0.1, 0.5), st.integers(3, 32))
def test_the_own_blur_and_the_added_blur_make_the_target_blur(target: float, own: float, ratio: int) -> None:
    added = psf_sigma_over_own_px(target, ratio, own_mtf_nyquist=own)
    assert added**2 + psf_sigma_px(own, 1) ** 2 == pytest.approx(psf_sigma_px(target, ratio) ** 2)


def test_a_band_blurred_beyond_the_target_needs_no_more_blur() -> None:
    assert psf_sigma_over_own_px(0.3, 3, own_mtf_nyquist=0.3, own_ratio=6) == 0.0


@pytest.mark.parametrize(("mtf", "ratio"), [(0.0, 3), (1.0, 3), (0.3, 0), (float("nan"), 3)])
def test_an_impossible_mtf_or_ratio_is_refused(mtf: float, ratio: float) -> None:
    with pytest.raises(ValueError, match="must"):
        psf_sigma_px(mtf, ratio)
