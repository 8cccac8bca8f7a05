"""Quality flags of a whole product, counted core by core; numpy over the whole array is the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.reading import StoredProduct, open_product
from scenefuse.quality.flags import FlagCount, count_flags
from tests.product.making import ITEM_ID, PAIR, PROVENANCE, RUN, SPEC, random_scene, write_scene


@pytest.fixture(scope="module")
def flags() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """(300, 198) any combination of flags, rare ones too."""
    rng = np.random.default_rng(3)
    shape = SPEC.shape[1:]
    found = np.zeros(shape, np.uint8)
    for flag in (QualityFlag.NEAR_EDGE, QualityFlag.NEAR_NODATA, QualityFlag.CLIPPED):
        found[rng.random(shape) < 0.01] |= np.uint8(flag)
    found[:20, :7] = QualityFlag.NODATA | QualityFlag.NEAR_EDGE
    return found


@pytest.fixture(scope="module")
def product(
    flags: np.ndarray[tuple[int, int], np.dtype[np.uint8]], tmp_path_factory: pytest.TempPathFactory
) -> StoredProduct:
    folder = tmp_path_factory.mktemp("output") / ITEM_ID
    fused, _ = random_scene()
    write_scene(folder, np.nan_to_num(fused, nan=0.5), flags)
    finish_data(folder, SPEC, cog=False)
    commit(folder, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN)
    return open_product(folder)


@pytest.mark.parametrize("factor", [1, 2, 7, 64, 1000])
def test_counts_and_picture_are_those_of_the_whole_array(
    product: StoredProduct, flags: np.ndarray[tuple[int, int], np.dtype[np.uint8]], factor: int
) -> None:
    found = count_flags(product, factor)
    assert (found.pixels, found.good) == (flags.size, int((flags == 0).sum()))
    for flag in QualityFlag:
        assert found.by_flag[str(flag.name).lower()] == int(((flags & flag) != 0).sum())
    rows, columns = (-(-side // factor) for side in flags.shape)
    padded = np.zeros((rows * factor, columns * factor), np.uint8)
    padded[: flags.shape[0], : flags.shape[1]] = flags
    blocks = padded.reshape(rows, factor, columns, factor)
    assert np.array_equal(found.picture, np.bitwise_or.reduce(np.bitwise_or.reduce(blocks, axis=3), axis=1))


def test_counts_are_what_json_can_hold(product: StoredProduct) -> None:
    count: FlagCount = count_flags(product, 1)
    assert set(count.facts()) == {"pixels", "good", "by_flag"}
    assert all(type(value) is int for value in (count.pixels, count.good, *count.by_flag.values()))
