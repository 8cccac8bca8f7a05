from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenefuse.errors import DataError
from scenefuse.product.spec import ProductSpec
from scenefuse.sensors.band import Band
from tests.product.making import GRID, SPEC, large_spec


@given(cores=st.integers(1, 80), bands=st.integers(1, 300))
def test_inner_chunks_divide_the_shard_and_stay_small(cores: int, bands: int) -> None:
    spec = ProductSpec(
        item_id="a", grid=GRID, bands=tuple(Band(name=f"b{n}") for n in range(bands)), core_px=16 * cores
    )
    assert all(shard % chunk == 0 for shard, chunk in zip(spec.shard_shape, spec.chunk_shape, strict=True))
    assert spec.shard_shape[1:] == (16 * cores, 16 * cores)
    assert spec.chunk_shape[0] <= 16
    assert 16 <= spec.chunk_shape[1] <= 128
    assert 0 <= spec.shard_shape[0] - bands < spec.shard_shape[0] / spec.chunk_shape[0]


@pytest.mark.parametrize("item_id", ["../a", "a/b", "a..b", "", ".hidden", "a\\b", "a b", "a\n", "x" * 201])
def test_item_ids_that_are_not_plain_folder_names_are_refused(item_id: str) -> None:
    with pytest.raises(DataError, match="item id"):
        replace(SPEC, item_id=item_id)


def test_a_rotated_grid_is_refused_before_anything_is_laid_out() -> None:
    grid = replace(GRID, fine_transform=(8.0, 6.0, 400_000.0, 6.0, -8.0, 5_800_000.0))
    with pytest.raises(DataError, match=r"rotated: .* Warp the MSI"):
        replace(SPEC, grid=grid)


def test_overviews_halve_until_the_longer_side_is_below_512_px() -> None:
    assert SPEC.overview_factors == ()
    spec = large_spec()
    assert spec.grid.fine_shape == (1059, 621)
    assert spec.overview_factors == (2, 4)
    assert spec.level_shape(4) == (265, 156)
    just = replace(SPEC, grid=replace(GRID, coarse_shape=(10, 256), ratio=2))
    assert (just.grid.fine_shape, just.overview_factors) == ((20, 512), (2,))


@pytest.mark.parametrize(("core_px", "tile_px"), [(16, 16), (528, 528), (1008, 336), (1040, 1040)])
def test_a_tile_of_the_cog_divides_the_core_and_is_nearest_to_512_px_by_ratio(core_px: int, tile_px: int) -> None:
    assert replace(SPEC, core_px=core_px).cog_tile_px == tile_px


def test_band_labels_carry_the_wavelength_in_micrometres() -> None:
    assert SPEC.band_label(4) == "band 4 (0.6500 um)"
    assert replace(SPEC, bands=(Band(name="B1"),)).band_label(0) == "B1"


def test_a_core_that_is_no_multiple_of_16_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        replace(SPEC, core_px=100)
