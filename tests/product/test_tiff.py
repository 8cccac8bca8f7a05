"""Headers that we write, read by GDAL; those that GDAL writes, read by us."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rio_cogeo.cogeo import cog_validate

from scenefuse.product import tiff
from scenefuse.product.commit import finish_data
from scenefuse.product.shards import open_level
from scenefuse.product.tiff import read_image
from tests.product.making import large_spec, random_scene, write_scene


@pytest.mark.parametrize(("classic_bytes", "version"), [(2**32, 42), (0, 43)])
def test_both_forms_are_valid_and_hold_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classic_bytes: int, version: int
) -> None:
    monkeypatch.setattr(tiff, "_CLASSIC_BYTES", classic_bytes)
    spec = large_spec()
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    finish_data(tmp_path, spec, cog=True)
    path = tmp_path / "fused.tif"
    assert int.from_bytes(path.read_bytes()[2:4], "little") == version
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), np.asarray(open_level(tmp_path / "fused.zarr", 1)))
        assert dataset.overviews(1) == list(spec.overview_factors)
        assert dataset.descriptions == tuple(spec.band_label(index) for index in range(2))
    for level in range(len(spec.overview_factors)):
        with rasterio.open(path, overview_level=level) as dataset:
            assert dataset.nodata == spec.nodata
            assert dataset.read().any()


def test_tiles_beyond_4_gib_have_64_bit_offsets() -> None:
    sizes = [[2**31, 2**31, 5], [7]]
    header = tiff.cog_header([(), ()], sizes)
    assert header[2] == 43
    last_level, image = len(header), len(header) + 7
    for offset in (last_level, image, image + 2**31, image + 2**32):
        assert offset.to_bytes(8, "little") in header


@pytest.mark.parametrize("build", [{"bigtiff": "yes"}, {"bigtiff": "no"}, {"endianness": "big"}])
def test_fields_are_copied_from_little_endian_files_of_both_forms(tmp_path: Path, build: dict[str, str]) -> None:
    path = tmp_path / "image.tif"
    profile = {"driver": "GTiff", "height": 16, "width": 16, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=Affine(10, 0, 5, 0, -10, 5), **profile, **build) as dataset:
        dataset.write(np.ones((1, 16, 16), np.uint8))
    if build == {"endianness": "big"}:
        with pytest.raises(ValueError, match="big-endian"):
            read_image(path.read_bytes())
        return
    fields = {entry.tag: entry for entry in read_image(path.read_bytes())}
    assert [list(fields[tag].whole_numbers("<") or ()) for tag in (256, 257)] == [[16], [16]]
    assert np.frombuffer(fields[33922].data).tolist() == [0, 0, 0, 5, 5, 0]
    assert {324, 325}.isdisjoint(fields)


def test_a_file_that_is_no_tiff_is_told() -> None:
    with pytest.raises(ValueError, match="no TIFF"):
        read_image(b"\x89PNG\r\n\x1a\n")
