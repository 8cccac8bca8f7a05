"""Sensor cards."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio

from scenefuse.sensors import sensor as module
from scenefuse.sensors.band import Band
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST, find_sensor, sensors


def test_every_card_has_a_role_that_fits_its_bands() -> None:
    for sensor in sensors():
        assert (sensor.role == "hsi") == (len(sensor.bands) >= 30), sensor.name
        assert all(band.wavelength_nm and band.fwhm_nm and band.gsd_m for band in sensor.bands), sensor.name
        assert len({band.name for band in sensor.bands}) == len(sensor.bands), sensor.name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EnMAP", "EnMAP HSI"),
        ("enmap", "EnMAP HSI"),
        ("PRISMA", "PRISMA HYC"),
        ("sentinel-2a", "Sentinel-2A MSI"),
        ("Sentinel-2B", "Sentinel-2B MSI"),
        ("sentinel-2c", "Sentinel-2C MSI"),
        ("landsat-8", "Landsat-8/9 OLI"),
        ("LANDSAT_9", "Landsat-8/9 OLI"),
        ("HLS S30", "HLS S30"),
        ("HLSL30", "HLS L30"),
        ("hyperion", "EO-1 Hyperion"),
        ("ali", "EO-1 ALI"),
        ("GF2", "GF-2 PMS"),
        ("WV03", "WorldView-3"),
        ("DESIS", "DESIS"),
        ("EMIT", "EMIT"),
    ],
)
def test_a_sensor_is_found_by_the_names_that_archives_use(name: str, expected: str) -> None:
    found = find_sensor(None, "no such platform", name)
    assert found is not None
    assert found.name == expected


@pytest.mark.parametrize("name", ["EO-1", "sentinel-2", "msi", "", "oli"])
def test_a_name_that_fits_several_sensors_finds_none(name: str) -> None:
    assert find_sensor(name) is None


def test_enmap_bands_are_those_of_a_real_product(test_data: Path) -> None:
    card = find_sensor("EnMAP")
    assert card is not None
    with rasterio.open(test_data / "satellite/enmap_potsdam/enmap_potsdam_tile_160_128.tif") as tile:
        tags = [tile.tags(index) for index in tile.indexes]
    assert np.allclose([b.wavelength_nm or 0.0 for b in card.bands], [float(t["wavelength"]) for t in tags], atol=0.06)
    assert np.allclose([b.fwhm_nm or 0.0 for b in card.bands], [float(t["fwhm"]) for t in tags], atol=0.06)


def test_harmonised_bands_look_where_landsat_s_do() -> None:
    oli, s30, l30 = (find_sensor(name) for name in ("Landsat-8", "HLS S30", "HLS L30"))
    assert oli is not None
    assert s30 is not None
    assert l30 is not None
    assert [(b.wavelength_nm, b.fwhm_nm) for b in l30.bands] == [(b.wavelength_nm, b.fwhm_nm) for b in oli.bands[:7]]
    seen = {band.name: (band.wavelength_nm, band.fwhm_nm) for band in s30.bands}
    adjusted = ("B01", "B02", "B03", "B04", "B8A", "B11", "B12")
    assert [seen[name] for name in adjusted] == [(b.wavelength_nm, b.fwhm_nm) for b in oli.bands[:7]]


def test_hyperion_bands_follow_the_published_centres() -> None:
    card = find_sensor("Hyperion")
    assert card is not None
    by_name = {band.name: band.wavelength_nm for band in card.bands}
    assert len(by_name) == 242
    assert by_name["band 8"] == pytest.approx(426.8, abs=0.2)  # USGS list of band centres
    assert by_name["band 57"] == pytest.approx(925.4, abs=0.2)
    assert by_name["band 79"] == pytest.approx(932.6, abs=0.2)
    assert by_name["band 224"] == pytest.approx(2395.5, abs=0.2)


def test_hyperspectral_bands_rise_within_a_detector() -> None:
    for sensor in sensors():
        if sensor.role == "hsi":
            steps = [(b.wavelength_nm or 0) - (a.wavelength_nm or 0) for a, b in pairwise(sensor.bands)]
            assert sum(step <= 0 for step in steps) <= 1, sensor.name


def test_a_band_is_matched_by_name_then_by_wavelength() -> None:
    s2 = find_sensor("Sentinel-2A")
    assert s2 is not None

    def matched(**facts: object) -> str | None:
        band = s2.match(Band(**facts))  # type: ignore[arg-type]
        return band.name if band else None

    assert matched(name="B2") == "B02"
    assert matched(name="nir", wavelength_nm=842.0) == "B08"
    assert matched(name="nir08", wavelength_nm=865.0) == "B8A"
    assert matched(name="B02", wavelength_nm=2200.0) == "B12"
    assert matched(name="thermal", wavelength_nm=10900.0) is None
    assert matched(name="blue") is None


def test_the_mtf_of_an_unknown_band_is_the_documented_default() -> None:
    s2 = find_sensor("Sentinel-2A")
    assert s2 is not None
    assert s2.mtf_of(Band(name="B05")) == 0.38
    assert s2.mtf_of(Band(name="thermal", wavelength_nm=10900.0)) == DEFAULT_MTF_NYQUIST


def test_a_card_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown keys"):
        module._read_card({"name": "x", "colour": "blue"}, "x.toml")


def test_a_card_describes_only_the_product_whose_encoding_it_gives() -> None:
    landsat = find_sensor("Landsat-8")
    assert landsat is not None
    assert landsat.describes("LC08_L2SP_107018_20181001", None)
    assert landsat.describes("landsat-c2l2-sr")
    assert not landsat.describes("LC08_L1TP_107018_20181001_20181001_01_RT")
