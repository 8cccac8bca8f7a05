from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from scenefuse.errors import WorkError
from scenefuse.product import cog
from scenefuse.product.cog import write_cog, write_quality_cog
from scenefuse.product.overviews import build_overviews
from tests.product.making import GRID, SPEC, random_scene, write_scene


def test_the_cog_is_valid_and_holds_the_stores_pixels(committed: Path) -> None:
    assert cog_validate(committed / "fused.tif", strict=True) == (True, [], [])
    stored = np.asarray(zarr.open_group(committed / "fused.zarr", mode="r")["reflectance"])
    with rasterio.open(committed / "fused.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), stored)
        assert dataset.nodata == -32768
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform == Affine(*GRID.fine_transform)
        assert dataset.profile["interleave"] == "band"
        assert set(dataset.scales) == {1e-4}
        assert set(dataset.offsets) == {0.0}


def test_bands_of_the_cog_say_their_wavelengths(committed: Path) -> None:
    with rasterio.open(committed / "fused.tif") as dataset:
        assert dataset.descriptions == tuple(SPEC.band_label(index) for index in range(12))
        assert dataset.descriptions[4] == "band 4 (0.6500 um)"
        assert dataset.tags(5) == {"wavelength": "0.65", "wavelength_units": "um", "fwhm": "0.008"}
        assert dataset.colorinterp[4] == ColorInterp.red
        assert dataset.colorinterp[2] == ColorInterp.green
        assert dataset.colorinterp[1] == ColorInterp.blue


def test_overviews_of_the_cog_are_valid_means_like_the_stores(tmp_path: Path) -> None:
    spec = replace(SPEC, grid=replace(GRID, coarse_shape=(352, 208)), bands=SPEC.bands[:2])  # sides divisible by 4
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    build_overviews(tmp_path / "fused.zarr", spec)
    path = write_cog(tmp_path, spec)
    assert cog_validate(path, strict=True) == (True, [], [])
    assert cog_validate(write_quality_cog(tmp_path, spec), strict=True) == (True, [], [])
    ours = np.asarray(zarr.open_group(tmp_path / "fused.zarr", mode="r")["overviews/2/reflectance"])
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4]
        theirs = dataset.read(out_shape=ours.shape)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fused.tif", "fused.zarr", "quality.tif"]


def test_the_same_store_gives_the_same_cog(committed: Path, product: Path) -> None:
    write_cog(product, SPEC)
    assert (product / "fused.tif").read_bytes() == (committed / "fused.tif").read_bytes()


def test_a_copy_with_other_pixels_is_noticed_and_not_kept(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (product / "fused.tif").unlink()

    def zeros(stage: Path, part: Path, **options: object) -> None:
        assert options["copy_src_overviews"]
        with rasterio.open(stage) as source, rasterio.open(part, "w", **source.profile):
            pass

    monkeypatch.setattr(cog, "gdal_copy", zeros)
    with pytest.raises(WorkError, match=r"fused\.tif\..*part differs|differs from fused\.zarr"):
        write_cog(product, SPEC)
    assert not list(product.glob("*.tif*")) or [file.name for file in product.glob("*.tif*")] == ["quality.tif"]
    assert not list(product.glob(".*.part"))


def test_the_quality_cog_holds_the_flags(committed: Path) -> None:
    assert cog_validate(committed / "quality.tif", strict=True) == (True, [], [])
    with rasterio.open(committed / "quality.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), random_scene()[1])
        assert dataset.dtypes == ("uint8",)
        assert dataset.nodata is None
