from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenefuse.tiles.tiling import Tiling, lattice_px, round_core_px, round_halo_px


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    lattice = draw(st.integers(1, 12))
    return Tiling(
        fine_shape=(draw(st.integers(1, 60)), draw(st.integers(1, 60))),
        core_px=lattice * draw(st.integers(1, 12)),
        halo_px=lattice * draw(st.integers(0, 30)),
        lattice_px=lattice,
    )


@given(tilings())
def test_cores_cover_every_pixel_exactly_once(tiling: Tiling) -> None:
    count = np.zeros(tiling.fine_shape, dtype=int)
    for tile in tiling:
        count[tile.core.slices] += 1
    assert (count == 1).all()


@given(tilings())
def test_every_window_has_the_same_size_and_an_origin_on_the_lattice(tiling: Tiling) -> None:
    for tile in tiling:
        assert tile.read.shape == (tiling.window_px, tiling.window_px)
        assert tile.read.y0 % tiling.lattice_px == 0
        assert tile.read.x0 % tiling.lattice_px == 0
        assert tile.read == tiling.tile(tile.iy, tile.ix).read


@given(tilings())
def test_the_window_holds_the_core_and_its_halo(tiling: Tiling) -> None:
    for tile in tiling:
        tile.core.grow(tiling.halo_px).within(tile.read)
        assert (tile.core.y0, tile.core.x0) == (tile.iy * tiling.core_px, tile.ix * tiling.core_px)


@given(tilings(), st.integers(1, 40))
def test_groups_hold_every_tile_once_in_order(tiling: Tiling, size: int) -> None:
    groups = tiling.groups(size)
    assert [tile for group in groups for tile in group] == list(tiling)
    assert all(len(group) <= size for group in groups)
    assert len(tiling) == tiling.counts[0] * tiling.counts[1]


@given(st.integers(1, 3000), st.integers(1, 120))
def test_a_rounded_core_is_whole_lattices_and_whole_inner_chunks(target: int, lattice: int) -> None:
    core = round_core_px(target, lattice)
    step = np.lcm(lattice, 16)
    assert core % lattice == 0
    assert core % 16 == 0
    assert core == step or abs(core - target) <= step / 2


@given(st.integers(0, 3000), st.integers(1, 120))
def test_a_halo_is_rounded_up_by_less_than_a_lattice(halo: int, lattice: int) -> None:
    assert 0 <= round_halo_px(halo, lattice) - halo < lattice
    assert round_halo_px(halo, lattice) % lattice == 0


def test_the_lattice_of_a_stride_8_network_at_ratio_3_with_20_m_bands_is_24_px() -> None:
    assert lattice_px(model_lattice_px=8, ratio=3, ms_band_ratio=2) == 24


def test_the_core_at_ratio_3_is_528_px() -> None:
    assert round_core_px(512, 3) == 528


@pytest.mark.parametrize("change", [{"core_px": 10}, {"halo_px": 4}, {"halo_px": -3}, {"fine_shape": (0, 5)}])
def test_an_impossible_tiling_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"multiple|impossible"):
        Tiling(**{"fine_shape": (9, 9), "core_px": 6, "halo_px": 3, "lattice_px": 3, **change})  # type: ignore[arg-type]


def test_a_tile_outside_the_tiling_is_refused() -> None:
    with pytest.raises(IndexError, match="outside a tiling of 2 x 1"):
        Tiling(fine_shape=(9, 6), core_px=6, halo_px=0, lattice_px=3).tile(0, 1)
