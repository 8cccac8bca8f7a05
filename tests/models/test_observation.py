from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenefuse.errors import UsageError
from scenefuse.models.base import FusionModel
from scenefuse.models.observation import nominal_response, observation_stages
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.models.state import SceneState
from scenefuse.sensors.band import Band
from tests.models.classical_pairs import bands, drawn_pair, drawn_scene, observe
from tests.models.whole import freeze_whole

WAVELENGTHS_NM = np.linspace(450, 850, 12)


def known_bands() -> tuple[tuple[Band, ...], tuple[Band, ...]]:
    hs = tuple(Band(name=f"h{nm:.0f}", wavelength_nm=float(nm), fwhm_nm=36.0) for nm in WAVELENGTHS_NM)
    ms = tuple(Band(name=f"m{nm}", wavelength_nm=float(nm), fwhm_nm=90.0) for nm in (490, 600, 720, 800))
    return hs, ms


def bicubic(hs: tuple[Band, ...], ms: tuple[Band, ...]) -> FusionModel:
    return load_model(ModelRef(name="bicubic", hs_bands=hs, ms_bands=ms, ratio=4))


def state_of(sigma_px: float, *, known: bool = True, gain: float = 1.0, offset: float = 0.0) -> SceneState:
    hs_bands, ms_bands = known_bands()
    srf, _ = nominal_response(hs_bands, ms_bands)
    hs, ms = observe(drawn_scene(128), 4, sigma_px, srf)
    if not known:
        hs_bands, ms_bands = bands(12, "h"), bands(4, "m")
    return freeze_whole(bicubic(hs_bands, ms_bands), hs, (gain * ms + offset).astype(np.float32))


@pytest.mark.parametrize("sigma_px", [0.9, 1.2, 2.0, 2.6])
def test_the_point_spread_is_found_within_three_percent(sigma_px: float) -> None:
    state = state_of(sigma_px)
    assert state.facts["psf_source"] == "estimated"
    assert state.facts["psf_sigma_px"] == pytest.approx(sigma_px, rel=0.03)


@pytest.mark.parametrize("sigma_px", [1.2, 2.0])
def test_without_wavelengths_response_and_point_spread_are_found_from_the_pair(sigma_px: float) -> None:
    state = state_of(sigma_px, known=False)
    srf = state.arrays["srf"]
    assert state.facts["srf_source"] == ["estimated"] * 4
    assert (srf >= 0).all()
    np.testing.assert_allclose(srf.sum(axis=1), 1.0)
    assert state.facts["psf_sigma_px"] == pytest.approx(sigma_px, rel=0.05)
    assert (state.arrays["observation/correlation"] > 0.99).all()


def test_gain_and_offset_of_the_msi_are_recorded() -> None:
    state = state_of(2.0, gain=1.2, offset=0.03)
    np.testing.assert_allclose(state.arrays["observation/gain"], 1.2, rtol=0.02)
    np.testing.assert_allclose(state.arrays["observation/offset"], 0.03, atol=0.01)


def test_a_band_outside_the_hsi_is_estimated_and_says_so() -> None:
    hs, ms = known_bands()
    ms = (*ms[:3], replace(ms[3], wavelength_nm=1600.0))
    matrix, usable = nominal_response(hs, ms)
    assert usable == (True, True, True, False)
    assert not matrix[3].any()


@pytest.mark.parametrize(("wavelength_nm", "usable"), [(858.0, True), (880.0, False)])
def test_a_nominal_response_is_used_where_the_hsi_covers_half_of_it(wavelength_nm: float, *, usable: bool) -> None:
    hs, ms = known_bands()  # the HSI's last band ends at 868 nm: under 0.6 and under 0.38 of a Gaussian 90 nm wide
    _, found = nominal_response(hs, (*ms[:3], replace(ms[3], wavelength_nm=wavelength_nm)))
    assert found == (True, True, True, usable)


def test_a_known_point_spread_is_taken_and_an_absurd_one_refused() -> None:
    hs, ms = drawn_pair(4, coarse_side=20)
    state = freeze_whole(bicubic(bands(12, "h"), bands(4, "m")), hs, ms, psf_sigma_px=1.7)
    assert (state.facts["psf_sigma_px"], state.facts["psf_source"]) == (1.7, "given")
    with pytest.raises(UsageError, match="is plausible"):
        observation_stages(bands(12, "h"), bands(4, "m"), 4, psf_sigma_px=9.0)


def test_a_scene_without_contrast_falls_to_the_nominal_point_spread_and_says_so() -> None:
    hs, ms = np.full((12, 20, 20), 0.2, np.float32), np.full((4, 80, 80), 0.2, np.float32)
    state = freeze_whole(bicubic(bands(12, "h"), bands(4, "m")), hs, ms)
    assert state.facts["psf_source"] == "nominal"


@settings(max_examples=10)
@given(cut=st.integers(4, 20))
def test_sums_over_two_blocks_are_the_sums_over_the_scene(cut: int) -> None:
    from scenefuse.models.base import SceneWindow
    from tests.models.classical_pairs import mirrored

    hs, ms = drawn_pair(4, coarse_side=24)
    stages = observation_stages(bands(12, "h"), bands(4, "m"), 4)
    state = SceneState(arrays={"hs_mean": hs.mean(axis=(1, 2)), "ms_mean": ms.mean(axis=(1, 2))})
    margin = stages[0].margin
    wide_hs, wide_ms = mirrored(hs, margin), mirrored(ms, margin * 4)

    def block(y0: int, y1: int) -> dict[str, np.ndarray]:
        coarse, fine = wide_hs[:, y0 : y1 + 2 * margin], wide_ms[:, y0 * 4 : (y1 + 2 * margin) * 4]
        valid = (np.ones(image.shape[1:], bool) for image in (coarse, fine))
        window = SceneWindow(hs=coarse, ms=fine, hs_valid=next(valid), ms_valid=next(valid), margin=margin, ratio=4)
        return stages[0].measure(window, state)

    whole, top, bottom = block(0, 24), block(0, cut), block(cut, 24)
    for name, value in whole.items():
        np.testing.assert_allclose(top[name] + bottom[name], value, rtol=1e-9, atol=1e-9)
