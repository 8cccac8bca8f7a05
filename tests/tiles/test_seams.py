from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from scenefuse.grid.window import Window
from scenefuse.tiles.seams import SEAM_PX, at_seam, seam_tiles
from scenefuse.tiles.tiling import Tiling


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    lattice = draw(st.sampled_from([1, 3, 6, 8, 40]))
    return Tiling(
        fine_shape=(draw(st.integers(1, 3000)), draw(st.integers(1, 3000))),
        core_px=lattice * draw(st.integers(max(1, 64 // lattice), 600 // lattice)),
        halo_px=lattice * draw(st.integers(0, 10)),
        lattice_px=lattice,
    )


@given(tilings(), st.integers(0, 300), st.integers(1, 5))
@example(Tiling(fine_shape=(1, 57), core_px=64, halo_px=0, lattice_px=1), 0, 1)
def test_windows_lie_across_seams_on_the_lattice_and_are_no_larger_than_the_tilings(
    tiling: Tiling, reach_px: int, count: int
) -> None:
    tiles = seam_tiles(tiling, reach_px=reach_px, count=count)
    assert 1 <= len(tiles) <= count
    assert len({tile.core for tile in tiles}) == len(tiles)
    for tile in tiles:
        assert tile.core == tile.core.clip(tiling.fine_shape)
        tile.core.within(tile.read)
        assert tile.read.y0 % tiling.lattice_px == tile.read.x0 % tiling.lattice_px == 0
        assert tile.read.shape[0] % tiling.lattice_px == 0
        assert tile.read.shape[0] <= max(tiling.window_px, 2 * (tiling.halo_px + tiling.lattice_px))
        assert at_seam(tile.core, tiling.core_px, tiling.fine_shape).any() == (len(tiling) > 1)


def test_pixels_at_a_seam_are_those_on_both_sides_of_it() -> None:
    near = at_seam(Window(y0=50, y1=80, x0=0, x1=20), 64, (128, 20))
    rows = np.arange(50, 80)
    np.testing.assert_array_equal(near.all(axis=1), (rows >= 64 - SEAM_PX) & (rows < 64 + SEAM_PX))
    assert not near[:6].any(), "the scene's own edge is no seam"
    assert not at_seam(Window(y0=100, y1=128, x0=0, x1=20), 64, (128, 20)).any(), "nor its last one, on the lattice"
    assert not at_seam(Window(y0=40, y1=60, x0=0, x1=20), 64, (60, 20)).any(), "nor one that ends before it"


def test_the_sample_has_the_first_and_the_last_crossing() -> None:
    tiling = Tiling(fine_shape=(1000, 1000), core_px=100, halo_px=10, lattice_px=10)
    tiles = seam_tiles(tiling, reach_px=20, count=4)
    centres = [((tile.core.y0 + tile.core.y1) // 2, (tile.core.x0 + tile.core.x1) // 2) for tile in tiles]
    assert centres[0] == (100, 100)
    assert centres[-1] == (900, 900)
    assert len(tiles) == 4


def test_a_window_is_not_so_small_that_convolutions_take_another_path() -> None:
    tiling = Tiling(fine_shape=(96, 96), core_px=48, halo_px=24, lattice_px=8)
    (tile,) = seam_tiles(tiling, reach_px=0, count=1)
    assert tile.core.shape == (48, 48)
    assert tile.read.shape == (64, 64)
