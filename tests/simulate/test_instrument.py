from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.simulate.instrument import enmap_like, enmap_truth, sentinel2_like
from scenefuse.simulate.library import library
from scenefuse.simulate.materials import WAVELENGTH_NM


def test_spectrometer_has_enmaps_bands_without_water_vapour() -> None:
    part = enmap_like()
    nm = np.array([band.wavelength_nm for band in part.bands])
    assert 195 <= len(nm) <= 225
    assert sum(part.bad) == 4
    assert not ((nm > 1362) & (nm < 1440)).any()
    assert not ((nm > 1800) & (nm < 1930)).any()
    assert (np.diff(nm) < 0).sum() == 1  # the detectors overlap: one step back
    assert len({band.name for band in part.bands}) == len(part.bands)


def test_imager_has_sentinel_2s_ten_bands_at_their_pixel_sizes() -> None:
    fine, coarse = sentinel2_like()
    assert [band.name for band in fine.bands] == ["B02", "B03", "B04", "B08"]
    assert [band.name for band in coarse.bands] == ["B05", "B06", "B07", "B8A", "B11", "B12"]
    assert {band.gsd_m for band in fine.bands} == {10.0}
    assert {band.gsd_m for band in coarse.bands} == {20.0}


def test_narrow_bands_show_the_spectrum_at_their_centre() -> None:
    part = enmap_like()
    nm = np.array([band.wavelength_nm for band in part.bands], np.float64)
    for corner, spectrum in enumerate(library().spectra):
        assert np.abs(part.spectra[:, corner] - np.interp(nm, WAVELENGTH_NM, spectrum)).max() < 0.012


def test_flat_topped_response_has_the_fwhm_that_metadata_state() -> None:
    band = sentinel2_like()[0].bands[0]
    assert band.wavelength_nm is not None
    assert band.fwhm_nm is not None
    inside = np.abs(WAVELENGTH_NM - band.wavelength_nm) <= band.fwhm_nm / 2
    box = library().spectra[:, inside].mean(axis=1)
    np.testing.assert_allclose(sentinel2_like()[0].spectra[0], box, atol=0.01)


def test_noise_has_the_stated_ratio_at_the_reference_and_grows_with_the_signal() -> None:
    part = enmap_like()
    bands = range(10, 14)
    rng = np.random.default_rng(0)
    spread = [
        part.noisy(np.full((4, 120, 120), level, np.float32), bands, rng).std(axis=(1, 2)) for level in (0.0, 0.3, 0.6)
    ]
    np.testing.assert_allclose(0.3 / spread[1], part.snr[10:14], rtol=0.03)
    np.testing.assert_allclose((spread[0] / spread[1]) ** 2, 0.3, atol=0.02)
    np.testing.assert_allclose((spread[2] / spread[1]) ** 2, 1.7, atol=0.08)


def test_encoding_is_undone_by_scale_and_offset_and_never_hits_no_data() -> None:
    for part in (enmap_like(), *sentinel2_like()):
        reflectance = np.array([-9.0, -0.05, 0.0, 0.31415, 1.0, 9.0, np.nan], np.float32)
        numbers = part.encode(reflectance)
        assert numbers.dtype == np.dtype(part.dtype)
        np.testing.assert_allclose(numbers[1:5] * part.scale + part.offset, reflectance[1:5], atol=0.51e-4)
        assert numbers[-1] == part.nodata
    assert (enmap_like().encode(np.array([-9.0, 9.0], np.float32)) != enmap_like().nodata).all()


def test_truth_is_the_spectrometer_without_blur_and_noise() -> None:
    truth, coarse = enmap_truth(), enmap_like()
    assert (truth.ratio, truth.sigma_px) == (1, 0.0)
    assert replace(truth, ratio=3, sigma_px=coarse.sigma_px, snr=coarse.snr).bands == coarse.bands
    reflectance = np.full((2, 3, 3), 0.2, np.float32)
    np.testing.assert_array_equal(truth.noisy(reflectance, range(2), np.random.default_rng(0)), reflectance)


def test_blur_from_the_fine_grid_and_the_fine_pixel_itself_add_up_to_the_mtf() -> None:
    own_variance = 0.35**2 + 1 / 12  # aperture and square pixel, fine pixels
    assert np.sqrt(enmap_like().sigma_px ** 2 + own_variance) == pytest.approx(psf_sigma_px(0.25, 3))
