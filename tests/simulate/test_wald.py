from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from scenefuse.errors import DataError
from scenefuse.simulate.wald import WaldProtocol, pair_at_reduced_resolution, pair_from_reference

SRF = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75]])


def _image(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, np.float32)


def test_pair_is_the_reference_blurred_and_sampled_and_seen_through_the_response() -> None:
    reference = _image((4, 24, 30))
    pair = pair_from_reference(reference, SRF, WaldProtocol(ratio=3, sigma_px=1.4))
    blurred = reference.astype(np.float64)
    for axis in (1, 2):
        blurred = gaussian_filter1d(blurred, 1.4, axis=axis, mode="reflect", truncate=5)
    np.testing.assert_allclose(pair.hs, blurred[:, 1::3, 1::3], atol=3e-4)
    np.testing.assert_allclose(pair.ms, np.einsum("mh,hyx->myx", SRF, reference), rtol=1e-6)
    np.testing.assert_array_equal(pair.truth, reference)


def test_rows_that_do_not_fill_a_coarse_pixel_are_cropped() -> None:
    pair = pair_from_reference(_image((4, 26, 31)), SRF, WaldProtocol(ratio=3, sigma_px=1.4))
    assert (pair.hs.shape, pair.ms.shape, pair.truth.shape) == ((4, 8, 10), (2, 24, 30), (4, 24, 30))


def test_noise_has_the_stated_decibels_and_depends_on_the_seed_alone() -> None:
    reference = _image((4, 240, 240))
    clean = pair_from_reference(reference, SRF, WaldProtocol(ratio=2, sigma_px=1))
    noisy, again, other = (
        pair_from_reference(reference, SRF, WaldProtocol(ratio=2, sigma_px=1, hs_snr_db=30, ms_snr_db=40, seed=seed))
        for seed in (5, 5, 6)
    )
    for kind, snr_db in (("hs", 30), ("ms", 40)):
        signal, with_noise = getattr(clean, kind), getattr(noisy, kind)
        power = (signal.astype(np.float64) ** 2).mean(axis=(1, 2))
        spoilt = ((with_noise - signal).astype(np.float64) ** 2).mean(axis=(1, 2))
        np.testing.assert_allclose(10 * np.log10(power / spoilt), snr_db, atol=0.2)
        np.testing.assert_array_equal(with_noise, getattr(again, kind))
        assert not np.array_equal(with_noise, getattr(other, kind))
    np.testing.assert_array_equal(noisy.truth, reference)


def test_real_pair_at_reduced_resolution_has_its_hs_as_truth() -> None:
    hs, ms = _image((4, 13, 12)), _image((2, 39, 36), seed=1)
    pair = pair_at_reduced_resolution(hs, ms, WaldProtocol(ratio=3, sigma_px=1.5))
    np.testing.assert_array_equal(pair.truth, hs[:, :12])
    assert (pair.hs.shape, pair.ms.shape) == ((4, 4, 4), (2, 12, 12))


def test_no_data_stays_no_data_and_spreads_over_the_kernel_only() -> None:
    reference = _image((4, 48, 48))
    reference[:, 0, 0] = np.nan
    pair = pair_from_reference(reference, SRF, WaldProtocol(ratio=3, sigma_px=1, hs_snr_db=30, ms_snr_db=30))
    assert np.isnan(pair.ms[:, 0, 0]).all()
    assert np.isnan(pair.ms).sum() == 2
    assert np.isnan(pair.hs[:, 0, 0]).all()
    assert np.isfinite(pair.hs[:, 3:, 3:]).all()


def test_what_does_not_fit_together_is_refused() -> None:
    protocol = WaldProtocol(ratio=3, sigma_px=1)
    with pytest.raises(DataError, match="spectral response"):
        pair_from_reference(_image((5, 9, 9)), SRF, protocol)
    with pytest.raises(DataError, match="same ground"):
        pair_at_reduced_resolution(_image((4, 9, 9)), _image((2, 30, 30)), protocol)
    with pytest.raises(DataError, match="does not fill"):
        pair_from_reference(_image((4, 2, 9)), SRF, protocol)
    with pytest.raises(ValueError, match="sigma_px"):
        WaldProtocol(ratio=3, sigma_px=0)
