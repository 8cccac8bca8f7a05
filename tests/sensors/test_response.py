"""Spectral response."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from scenefuse.errors import DataError
from scenefuse.sensors.band import Band
from scenefuse.sensors.response import estimate_fwhm, response_matrix
from scenefuse.sensors.sensor import Sensor, find_sensor


def _sensor(name: str) -> Sensor:
    found = find_sensor(name)
    assert found is not None
    return found


def test_weights_are_the_integral_of_the_msi_band_over_the_cell_of_the_hsi_band() -> None:
    hs = [Band(name=str(nm), wavelength_nm=float(nm), fwhm_nm=10.0) for nm in range(400, 601, 10)]
    ms = [Band(name="green", wavelength_nm=503.0, fwhm_nm=40.0)]
    found = response_matrix(hs, ms)

    def response(nm: float) -> float:
        return float(0.5 ** ((nm - 503.0) / 20.0) ** 2)  # a half at half the FWHM

    expected = np.array([integrate.quad(response, nm - 5, nm + 5)[0] for nm in range(400, 601, 10)])
    whole = integrate.quad(response, 300, 700)[0]
    assert found.matrix[0] == pytest.approx(expected / expected.sum())
    assert found.coverage[0] == pytest.approx(expected.sum() / whole)


@pytest.mark.parametrize("hs", ["EnMAP", "PRISMA", "EMIT", "Hyperion"])
@pytest.mark.parametrize("ms", ["Sentinel-2A", "Landsat-8", "GF-2", "WorldView-3"])
def test_rows_sum_to_one_for_every_pair_of_sensors(hs: str, ms: str) -> None:
    found = response_matrix(_sensor(hs).bands, _sensor(ms).bands)
    assert found.matrix.min() >= 0
    assert found.matrix.sum(axis=1) == pytest.approx(np.ones(len(_sensor(ms).bands)))


def test_coverage_tells_bands_outside_the_hsi_from_bands_inside() -> None:
    found = response_matrix(_sensor("DESIS").bands, _sensor("Sentinel-2A").bands)
    by_name = dict(zip((band.name for band in _sensor("Sentinel-2A").bands), found.coverage, strict=True))
    assert by_name["B03"] > 0.99
    assert by_name["B11"] < 1e-6


def test_a_water_vapour_gap_is_not_covered() -> None:
    cirrus = Band(name="cirrus", wavelength_nm=1425.0, fwhm_nm=20.0)
    assert response_matrix(_sensor("EnMAP").bands, [cirrus]).coverage[0] < 0.1
    assert response_matrix(_sensor("EMIT").bands, [cirrus]).coverage[0] > 0.99


@given(st.permutations(range(40)))
def test_the_order_of_the_hsi_bands_does_not_matter(order: list[int]) -> None:
    hs = [Band(name=str(i), wavelength_nm=400.0 + 10 * i + (i % 3), fwhm_nm=10.0) for i in range(40)]
    ms = [Band(name="red", wavelength_nm=660.0, fwhm_nm=50.0)]
    straight = response_matrix(hs, ms).matrix
    shuffled = response_matrix([hs[i] for i in order], ms).matrix
    assert shuffled == pytest.approx(straight[:, order])


def test_a_gaussian_msi_band_sees_a_smooth_spectrum_as_its_true_response_does(test_data: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = test_data / "srf/sentinel2/Sentinel-2_MSI_Spectral_Responses.xlsx"
    with closing(openpyxl.load_workbook(path, read_only=True)) as book:
        rows = list(book["Spectral Responses (S2A)"].iter_rows(min_row=2, values_only=True))
    table = np.array([[float(value or 0) for value in row[:14]] for row in rows])
    wavelength_nm, true = table[:, 0], table[:, 1:]
    spectrum = 0.2 + 0.1 * np.tanh((wavelength_nm - 720) / 40) + 0.05 * np.sin(wavelength_nm / 180)
    expected = (true * spectrum[:, None]).sum(axis=0) / true.sum(axis=0)
    hs = _sensor("EMIT").bands
    hs_pixel = np.interp([band.wavelength_nm or 0 for band in hs], wavelength_nm, spectrum)
    found = response_matrix(hs, _sensor("Sentinel-2A").bands).matrix @ hs_pixel
    assert found == pytest.approx(expected, abs=0.004)


def test_hsi_bands_without_fwhm_take_the_distance_to_the_nearer_neighbour() -> None:
    bands = [
        Band(name="a", wavelength_nm=400.0),
        Band(name="c", wavelength_nm=425.0),
        Band(name="b", wavelength_nm=410.0),
    ]
    assert [band.fwhm_nm for band in estimate_fwhm(bands)] == [10.0, 15.0, 10.0]


def test_an_msi_band_without_fwhm_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="no FWHM for the band nir"):
        response_matrix(_sensor("EMIT").bands, [Band(name="nir", wavelength_nm=835.0)])


def test_a_band_without_wavelength_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="mystery"):
        response_matrix([Band(name="mystery")], [Band(name="red", wavelength_nm=660.0)])
    with pytest.raises(DataError, match="wavelength"):
        response_matrix(_sensor("EMIT").bands, [Band(name="red")])
