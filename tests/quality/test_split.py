"""Which pixels score a network that learnt from the very scene: held-out blocks, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scenefuse.errors import DataError
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.grid.window import Window
from scenefuse.quality.split import honest_pixels, unseen_blocks

GRID = PairGrid(
    crs_wkt="",
    fine_transform=(1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    coarse_shape=(40, 30),
    ratio=2,
    case="ms-grid",
    hs_gsd_m=2.0,
    ms_gsd_m=1.0,
    hs_resampled=False,
    ms_resampled=False,
)
FILES = ("size+mtime:1+1", "size+mtime:2+2")


def training(protocol: str, *, files: tuple[str, ...] = FILES, block_px: int = 10) -> dict[str, Any]:
    scene = {"inputs": list(files), "block_px": block_px, "guard_px": 1, "block_origin_px": [0, 0]}
    return {"scenes": [scene], "recipe": {"protocol": protocol, "patch_px": 4}}


def test_blocks_learnt_at_reduced_resolution_are_those_of_the_hsis_pixels() -> None:
    rows, columns = ((20, 40), (60, 80)), ((20, 40),)
    wanted = {Window(y0=a, y1=b, x0=c, x1=d) for a, b in rows for c, d in columns}
    assert set(unseen_blocks(training("wald"), FILES, GRID) or ()) == wanted


def test_blocks_learnt_at_full_resolution_are_fine_pixels() -> None:
    blocks = unseen_blocks(training("truth"), FILES, GRID) or ()
    assert Window(y0=10, y1=20, x0=10, x1=20) in blocks
    assert len(blocks) == 4 * 3


def test_a_scene_that_was_not_learnt_from_has_no_split() -> None:
    assert unseen_blocks(training("wald"), ("size+mtime:3+3", "size+mtime:4+4"), GRID) is None
    assert unseen_blocks({"data": "made up"}, FILES, GRID) is None


def test_an_image_learnt_from_with_another_partner_is_seen_everywhere() -> None:
    assert unseen_blocks(training("wald", files=(FILES[0], "size+mtime:9+9")), FILES, GRID) == ()
    assert unseen_blocks(training("wald"), FILES[:1], None) == ()


def test_a_truth_learnt_from_with_other_scenes_is_seen_everywhere() -> None:
    learnt = {**training("truth"), "truths": [["truth.tif", "sha256:ab"]]}
    others = ("size+mtime:3+3", "size+mtime:4+4")
    assert unseen_blocks(learnt, others, GRID, truths=("sha256:ab",)) == ()
    assert unseen_blocks({"base": learnt}, others[:1], None, truths=("sha256:ab",)) == ()
    assert unseen_blocks(learnt, others, GRID, truths=("sha256:cd",)) is None
    assert unseen_blocks(learnt, FILES, GRID, truths=("sha256:ab",)) == unseen_blocks(training("truth"), FILES, GRID)


def test_adapted_weights_have_seen_the_whole_pair_and_what_they_came_from() -> None:
    adapted = {"inputs": list(FILES), "base": {}}
    assert unseen_blocks(adapted, FILES, GRID) == ()
    elsewhere = {"inputs": ["size+mtime:7+7"], "base": training("wald")}
    assert unseen_blocks(elsewhere, FILES, GRID) == unseen_blocks(training("wald"), FILES, GRID)


def test_pixels_of_the_truth_count_where_they_lie_whole_in_a_block() -> None:
    ground = Window(y0=4, y1=24, x0=0, x1=12)
    mask = honest_pixels("scene", [("net", (Window(y0=7, y1=15, x0=2, x1=9),))], ground, 2)
    wanted = np.zeros((10, 6), bool)
    wanted[2:5, 1:4] = True  # rows 8 to 14, columns 2 to 8 of the fine grid
    np.testing.assert_array_equal(mask, wanted)


def test_of_two_networks_only_what_neither_has_seen_counts() -> None:
    one, other = Window(y0=0, y1=6, x0=0, x1=6), Window(y0=3, y1=9, x0=3, x1=9)
    mask = honest_pixels("scene", [("a", (one,)), ("b", (other,))], Window(y0=0, y1=9, x0=0, x1=9), 1)
    assert mask is not None
    assert np.argwhere(mask).min() == 3
    assert int(mask.sum()) == 9


def test_a_network_that_has_seen_every_pixel_is_refused() -> None:
    with pytest.raises(DataError, match="net learnt from scene"):
        honest_pixels("scene", [("net", ())], Window(y0=0, y1=9, x0=0, x1=9), 1)
