from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from scenefuse.engine.retry import GivenUpError, RetryPolicy
from scenefuse.errors import TransientError
from scenefuse.product import levels
from scenefuse.product.levels import make_overviews
from scenefuse.product.overviews import halve
from scenefuse.product.shards import open_level
from tests.product.making import large_spec, random_scene, write_scene


def _mean_of_valid(pixels: NDArray[np.int16]) -> NDArray[np.float64]:
    """The same by numpy's nanmean over blocks."""
    bands, rows, columns = pixels.shape
    padded = np.full((bands, rows + rows % 2, columns + columns % 2), np.nan)
    padded[:, :rows, :columns] = np.where(pixels == -32768, np.nan, pixels)
    blocks = padded.reshape(bands, padded.shape[1] // 2, 2, padded.shape[2] // 2, 2)
    count = np.isfinite(blocks).sum(axis=(2, 4))
    return np.where(count == 0, -32768, np.nansum(blocks, axis=(2, 4)) / np.maximum(count, 1))


def test_overviews_are_means_of_valid_pixels_across_shards_and_odd_edges(tmp_path: Path) -> None:
    spec = large_spec()
    store = tmp_path / "fused.zarr"
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    make_overviews(tmp_path, spec)
    group = zarr.open_group(store, mode="r")
    below = np.asarray(group["reflectance"])
    for factor in spec.overview_factors:
        level = np.asarray(group[f"overviews/{factor}/reflectance"])
        expected = _mean_of_valid(below)
        assert level.shape == expected.shape
        assert np.abs(level - expected).max() <= 0.5
        np.testing.assert_array_equal(level == -32768, expected == -32768)
        below = level
    assert (below == -32768).any()


def test_halves_round_up_and_lone_pixels_count_alone() -> None:
    pixels = np.array([[[1, 2, -5], [1, 1, -32768], [-3, -4, -32768]]], np.int16)
    np.testing.assert_array_equal(halve(pixels, -32768), [[[1, -5], [-3, -32768]]])


def test_building_overviews_again_writes_the_same_bytes(tmp_path: Path) -> None:
    spec = large_spec()
    store = tmp_path / "fused.zarr"
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    make_overviews(tmp_path, spec)
    first = {path: path.read_bytes() for path in store.glob("overviews/*/reflectance/c/**/*") if path.is_file()}
    make_overviews(tmp_path, spec)
    assert first == {path: path.read_bytes() for path in store.glob("overviews/*/reflectance/c/**/*") if path.is_file()}
    assert len(first) == 3 * 2 + 2 * 1


def test_a_store_that_is_away_is_a_failure_that_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "RetryPolicy", lambda: RetryPolicy(backoff_s=0.0))  # its pauses add up to 85 s
    spec = large_spec()
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    (tmp_path / "fused.zarr").rename(tmp_path / "away")
    for read in (lambda: open_level(tmp_path / "fused.zarr", 1), lambda: make_overviews(tmp_path, spec)):
        with pytest.raises((TransientError, GivenUpError), match="is not there"):
            read()
