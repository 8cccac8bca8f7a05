from __future__ import annotations

import numpy as np
import pytest

from scenefuse.grid.window import Window
from scenefuse.simulate.ground import map_ground
from scenefuse.simulate.landscape import Landscape
from scenefuse.simulate.library import Material, library
from scenefuse.simulate.site import varied_window

WHOLE = Window(y0=-40, y1=56, x0=300, x1=390)


@pytest.mark.parametrize("landscape", [Landscape(seed=0), Landscape(seed=5, season=0.7, cloud_fraction=0.5)])
def test_a_landscape_is_the_same_in_two_windows_as_in_one(landscape: Landscape) -> None:
    whole = landscape.abundances(WHOLE)
    for part in (Window(y0=-40, y1=3, x0=300, x1=390), Window(y0=3, y1=56, x0=311, x1=390)):
        np.testing.assert_array_equal(landscape.abundances(part), whole[(slice(None), *part.within(WHOLE))])


def test_seed_season_and_clouds_change_what_is_seen() -> None:
    window = Window(y0=0, y1=150, x0=0, x1=150)
    first = Landscape(seed=1).abundances(window)
    np.testing.assert_array_equal(first, Landscape(seed=1).abundances(window))
    for other in (Landscape(seed=2), Landscape(seed=1, season=1.0), Landscape(seed=1, cloud_fraction=0.8)):
        assert not np.array_equal(first, other.abundances(window))


def test_abundances_are_shares_but_for_light_and_double_scattering() -> None:
    abundances = Landscape(seed=0).abundances(WHOLE)
    linear = np.delete(abundances, library().first[Material.SOIL_UNDER_CROP], axis=0)
    assert abundances.min() >= 0
    assert linear.sum(axis=0).mean() == pytest.approx(1, abs=0.05)
    assert linear.sum(axis=0).max() < 1.5


def test_borders_have_mixed_pixels_and_fields_have_pure_ones() -> None:
    landscape = Landscape(seed=0)
    window = varied_window(0, within=Window(y0=0, y1=600, x0=0, x1=600), side_px=200)
    abundances = landscape.abundances(window)
    by_material = np.add.reduceat(abundances, library().first, axis=0)
    by_material[Material.CROP] += by_material[Material.SOIL] + by_material[Material.SOIL_UNDER_CROP]
    by_material[[Material.SOIL, Material.SOIL_UNDER_CROP, Material.SHADE]] = 0
    purest = by_material.max(axis=0) / by_material.sum(axis=0)
    assert 0.1 < (purest < 0.95).mean() < 0.7


def test_a_site_shows_water_wood_fields_and_houses() -> None:
    window = varied_window(3, within=Window(y0=0, y1=852, x0=0, x1=852), side_px=252)
    assert window.shape == (252, 252)
    y_m, x_m = (np.linspace(10.0 * a, 10.0 * b, 120) for a, b in ((window.y0, window.y1), (window.x0, window.x1)))
    found = set(np.unique(map_ground(3, y_m, x_m, season=0.0).material).tolist())
    assert {
        Material.WATER,
        Material.CROP,
        Material.GRASS,
        Material.BROADLEAF,
        Material.ASPHALT,
        Material.TILE_ROOF,
    } <= found


def test_ripening_turns_green_crops_to_straw() -> None:
    window = Window(y0=0, y1=200, x0=0, x1=200)
    corners = library().corners[Material.STRAW]
    straw = slice(library().first[Material.STRAW], library().first[Material.STRAW] + corners[0] * corners[1])
    early, late = (Landscape(seed=4, season=season).abundances(window)[straw].sum() for season in (0.0, 1.0))
    assert late > 1.5 * early


def test_clouds_cover_about_the_share_that_is_asked_for() -> None:
    cloud = library().first[Material.CLOUD]
    cover = [
        Landscape(seed=seed, cloud_fraction=0.5).abundances(Window(y0=0, y1=200, x0=0, x1=200))[cloud]
        for seed in range(3)
    ]
    assert 0.3 < (np.stack(cover) > 0.5).mean() < 0.75


def test_an_impossible_season_is_refused() -> None:
    with pytest.raises(ValueError, match="season"):
        Landscape(seed=0, season=2.0)
