"""What readers find in a product is what was computed: through xarray, rasterio and rio-cogeo, not our own reader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 -- the accessor .rio
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from rio_cogeo.cogeo import cog_validate

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.protocols import EncodedShard
from scenefuse.pipeline import fuse as module
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.product.shards import ZarrSink
from scenefuse.tiles.tiling import Tile
from tests.pipeline.making import HS_NM, MS_GSD_M, NODATA, ORIGIN_M, Cores, Image, write_pair

STEP = 1e-4
"""Reflectance per integer."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A product and the float32 cores it was made from."""

    product: FusedProduct
    computed: Image
    quality: NDArray[np.uint8]


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Fused:
    folder = tmp_path_factory.mktemp("read-back")
    pair = write_pair(folder, ratio=3, coarse_shape=(190, 61), holes="swath")
    cores = Cores()

    class KeepingSink(ZarrSink):
        def encode(self, tile: Tile, fused: Image, quality: NDArray[np.uint8]) -> tuple[EncodedShard, ...]:
            cores.encode(tile, fused, quality)
            return super().encode(tile, fused, quality)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ZarrSink", KeepingSink)
        config = RunConfig(model="sfim", core_px=96)
        product = fuse(pair.hs, pair.ms, out=folder / "out", config=config, lane=InProcessLane())
    computed, quality = cores.assembled(product.shape[1:])
    assert len(cores.found) > 4
    assert 0.05 < np.isnan(computed).mean() < 0.5
    return Fused(product=product, computed=computed, quality=quality)


def assert_nearest_integers(stored: NDArray[np.int16], computed: Image) -> None:
    """Stored are the nearest integers but for float32's rounding, and no data where nothing is computed."""
    steps = np.where(np.isnan(computed), NODATA, computed.astype(np.float64) / STEP)
    np.testing.assert_allclose(stored, steps, rtol=0, atol=0.504)


def test_xarray_reads_the_computed_pixels_with_crs_wavelengths_and_places(fused: Fused) -> None:
    path = fused.product.folder / "fused.zarr"
    raw = xr.open_zarr(path, mask_and_scale=False)["reflectance"]
    assert_nearest_integers(raw.to_numpy(), fused.computed)
    dataset = xr.open_zarr(path, decode_coords="all")
    cube = dataset["reflectance"]
    np.testing.assert_array_equal(np.isnan(cube), np.isnan(fused.computed))
    assert float(np.nanmax(np.abs(cube.to_numpy() - fused.computed))) <= 0.504 * STEP
    np.testing.assert_array_equal(dataset["quality"], fused.quality)
    assert cube.dims == ("band", "y", "x")
    assert cube.rio.crs == rasterio.CRS.from_epsg(32633)
    np.testing.assert_array_equal(cube["wavelength_nm"], HS_NM)
    assert cube["band"].to_numpy().tolist() == [f"B{band:02d}" for band in range(1, 13)]
    assert "time" not in dataset.variables  # two bare files: nothing says when
    west, north = ORIGIN_M
    np.testing.assert_array_equal(cube["x"], west + MS_GSD_M * (np.arange(cube.shape[2]) + 0.5))
    np.testing.assert_array_equal(cube["y"], north - MS_GSD_M * (np.arange(cube.shape[1]) + 0.5))


def test_rasterio_reads_the_computed_pixels_with_crs_wavelengths_and_names(fused: Fused) -> None:
    path = fused.product.folder / "fused.tif"
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert_nearest_integers(dataset.read(), fused.computed)
        assert dataset.nodata == NODATA
        assert set(dataset.scales) == {STEP}
        assert CRS.from_wkt(dataset.crs.to_wkt()) == CRS.from_epsg(32633)
        assert dataset.transform == Affine(MS_GSD_M, 0, ORIGIN_M[0], 0, -MS_GSD_M, ORIGIN_M[1])
        assert [name.split()[0] for name in dataset.descriptions] == [f"B{band:02d}" for band in range(1, 13)]
        tags = [dataset.tags(band) for band in range(1, 13)]
        wavelengths_nm = [float(tag["wavelength"]) * 1e3 for tag in tags]
        assert {tag["wavelength_units"] for tag in tags} == {"um"}
        np.testing.assert_allclose(wavelengths_nm, HS_NM, rtol=1e-5)
    with rasterio.open(fused.product.folder / "quality.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), fused.quality)
