"""A recomputed core against the stored one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.product.comparison import ComparingSink
from scenefuse.product.files import STORE
from scenefuse.tiles.tiling import Tiling
from tests.product.making import SPEC, random_scene, write_scene


def test_no_data_on_one_side_counts_as_the_whole_range_and_a_flag_alone_is_no_value(tmp_path: Path) -> None:
    fused, quality = random_scene()
    write_scene(tmp_path, fused, quality)
    tile = Tiling(fine_shape=SPEC.grid.fine_shape, core_px=SPEC.core_px, halo_px=0, lattice_px=1).tile(0, 0)
    now, flags = fused[:, *tile.core.slices].copy(), quality[tile.core.slices].copy()
    sink = ComparingSink(store=tmp_path / STORE, spec=SPEC)
    sink.encode(tile, now.copy(), flags.copy())
    now[2, 5, 5] += 3e-4
    flags[7, 7] = QualityFlag.NEAR_EDGE
    sink.encode(tile, now.copy(), flags.copy())
    now[:, 0, 0], flags[0, 0] = np.nan, QualityFlag.NODATA
    sink.encode(tile, now, flags)
    found = [(core.differing, core.most_steps, core.quality_differing, core.identical) for core in sink.found]
    assert found == [(0, 0, 0, True), (1, 3, 1, False), (1 + len(SPEC.bands), 65535, 2, False)]
    assert {core.values for core in sink.found} == {now.size}
