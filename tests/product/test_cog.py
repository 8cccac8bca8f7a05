from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rio_cogeo.cogeo import cog_validate

from scenefuse.engine.lanes import Call, InProcessLane
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.errors import TransientError, WorkError
from scenefuse.place.store import StorePlace
from scenefuse.product.cog import check_part, write_part
from scenefuse.product.commit import finish_data
from scenefuse.product.levels import make_overviews, write_cog
from scenefuse.product.overviews import build_overview
from scenefuse.product.quality_cog import write_quality_cog
from scenefuse.product.shards import open_level
from tests.object_store import Proxy
from tests.product.making import GRID, SPEC, large_spec, random_scene, write_scene


def test_overviews_of_flags_hold_no_flag_that_no_pixel_has(tmp_path: Path) -> None:
    spec = large_spec()
    fused, quality = random_scene(spec)
    quality[:] = np.random.default_rng(0).choice([0, int(QualityFlag.NEAR_NODATA)], quality.shape)
    write_scene(tmp_path, np.nan_to_num(fused), quality, spec=spec)
    with rasterio.open(write_quality_cog(tmp_path, spec).local_path(), overview_level=0) as level:
        assert level.shape == spec.level_shape(2)
        assert set(np.unique(level.read(1))) == {0, QualityFlag.NEAR_NODATA}


def test_the_cog_is_valid_and_holds_the_stores_pixels(committed: Path) -> None:
    assert cog_validate(committed / "fused.tif", strict=True) == (True, [], [])
    stored = np.asarray(open_level(committed / "fused.zarr", 1))
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
        assert dataset.tags(5, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.65", "FWHM_UM": "0.008"}
        assert dataset.colorinterp[4] == ColorInterp.red
        assert dataset.colorinterp[2] == ColorInterp.green
        assert dataset.colorinterp[1] == ColorInterp.blue


def test_a_cog_beyond_the_visible_has_no_colours(tmp_path: Path) -> None:
    """Its first band is nearest to red, green and blue: as all three it would be blue alone."""
    spec = replace(SPEC, bands=tuple(replace(band, wavelength_nm=1000.0 + n) for n, band in enumerate(SPEC.bands[:4])))
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    finish_data(tmp_path, spec, cog=True)
    with rasterio.open(tmp_path / "fused.tif") as dataset:
        assert {ColorInterp.red, ColorInterp.green, ColorInterp.blue}.isdisjoint(dataset.colorinterp)


def test_overviews_of_the_cog_are_valid_and_the_stores(tmp_path: Path) -> None:
    spec = replace(SPEC, grid=replace(GRID, coarse_shape=(352, 208)), bands=SPEC.bands[:2])  # sides divisible by 4
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    finish_data(tmp_path, spec, cog=True)
    assert cog_validate(tmp_path / "fused.tif", strict=True) == (True, [], [])
    assert cog_validate(tmp_path / "quality.tif", strict=True) == (True, [], [])
    with rasterio.open(tmp_path / "fused.tif") as dataset:
        assert dataset.overviews(1) == [2, 4]
        theirs = {factor: dataset.read(out_shape=(2, *spec.level_shape(factor))) for factor in (1, 2, 4)}
    for factor, level in theirs.items():
        np.testing.assert_array_equal(level, np.asarray(open_level(tmp_path / "fused.zarr", factor)))
    names = ["fused.tif", "fused.zarr", "quality.tif", "quicklook.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_overviews_agree_with_those_that_gdal_averages(tmp_path: Path) -> None:
    spec = replace(SPEC, grid=replace(GRID, coarse_shape=(352, 208)), bands=SPEC.bands[:2])
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    finish_data(tmp_path, spec, cog=True)
    with rasterio.open(tmp_path / "fused.tif") as dataset:
        ours = dataset.read(out_shape=(2, *spec.level_shape(2)))
        profile = {name: dataset.profile[name] for name in ("count", "dtype", "height", "width", "nodata", "transform")}
        with rasterio.open(tmp_path / "plain.tif", "w", driver="GTiff", **profile) as plain:
            plain.write(dataset.read())
    with rasterio.open(tmp_path / "plain.tif", "r+") as plain:
        plain.build_overviews([2], Resampling.average)
    with rasterio.open(tmp_path / "plain.tif") as plain:
        assert np.abs(ours.astype(int) - plain.read(out_shape=ours.shape)).max() <= 1


UNEVEN = replace(SPEC, grid=replace(GRID, coarse_shape=(683, 342)), bands=SPEC.bands[:2], core_px=256)
"""2049 x 1026 fine pixels: 1025 x 513 at 1/2, 513 x 257 at 1/4, 257 x 129 at 1/8, of several cores each."""


def _gdal_overviews(path: Path, image: Path) -> Path:
    """The image as a plain TIFF whose overviews GDAL averages."""
    with rasterio.open(image) as dataset:
        pixels, factors = dataset.read(), dataset.overviews(1)
        profile = {name: dataset.profile[name] for name in ("count", "dtype", "height", "width", "nodata", "transform")}
    with rasterio.open(path, "w", driver="GTiff", **profile) as plain:
        plain.write(pixels)
    with rasterio.open(path, "r+") as plain:
        plain.build_overviews(factors, Resampling.average)
    return path


def _overview(path: Path, level: int) -> tuple[NDArray[Any], Affine]:
    """Pixels of an overview, and where GDAL takes them to be."""
    with rasterio.open(path, overview_level=level) as dataset:
        return dataset.read(), dataset.transform


def test_overviews_lie_where_readers_take_them_to_be_whatever_the_sides(tmp_path: Path) -> None:
    """A reader stretches an overview over the image. The bands are places: a step of 10 for each pixel."""
    rows, columns = UNEVEN.grid.fine_shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    ramps = np.stack([x, y]) * np.float32(10 * UNEVEN.scale)
    write_scene(tmp_path, ramps, np.zeros((rows, columns), np.uint8), spec=UNEVEN)
    finish_data(tmp_path, UNEVEN, cog=True)
    path = tmp_path / "fused.tif"
    assert cog_validate(path, strict=True) == (True, [], [])
    plain = _gdal_overviews(tmp_path / "plain.tif", path)
    for level, factor in enumerate((2, 4, 8)):
        ours, transform = _overview(path, level)
        theirs, place = _overview(plain, level)
        assert (ours.shape, transform) == (theirs.shape, place)
        down, across = np.indices(ours.shape[1:]) + 0.5
        expected = np.stack([across * transform.a, down * -transform.e]) / GRID.fine_gsd_m - 0.5
        shifts = [np.abs(pixels / 10 - expected).max() / factor for pixels in (ours, theirs)]
        assert max(shifts) < 0.07, "a mean of unequal shares lies up to 1/16 of a pixel off, in GDAL's, too"


@pytest.mark.parametrize("coarse_shape", [(683, 342), (342, 171), (173, 7)])
def test_uneven_overviews_are_those_that_gdal_averages(tmp_path: Path, coarse_shape: tuple[int, int]) -> None:
    spec = replace(UNEVEN, grid=replace(GRID, coarse_shape=coarse_shape))
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    finish_data(tmp_path, spec, cog=True)
    plain = _gdal_overviews(tmp_path / "plain.tif", tmp_path / "fused.tif")
    ours, theirs = (_overview(path, 0)[0].astype(int) for path in (tmp_path / "fused.tif", plain))
    assert np.abs(ours - theirs).max() <= 1
    np.testing.assert_array_equal(ours == -32768, theirs == -32768)


@pytest.mark.parametrize(
    ("core_px", "tile_px"), [(512, 512), (528, 528), (480, 480), (1056, 528), (1440, 480), (96, 96)]
)
def test_tiles_of_the_cog_divide_a_core(core_px: int, tile_px: int) -> None:
    assert replace(SPEC, core_px=core_px).cog_tile_px == tile_px


def test_a_core_of_several_tiles_gives_the_same_pixels(tmp_path: Path) -> None:
    spec = replace(SPEC, grid=replace(GRID, coarse_shape=(400, 351)), bands=SPEC.bands[:2], core_px=768)
    assert spec.cog_tile_px == 384
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    finish_data(tmp_path, spec, cog=True)
    assert cog_validate(tmp_path / "fused.tif", strict=True) == (True, [], [])
    with rasterio.open(tmp_path / "fused.tif") as dataset:
        assert dataset.block_shapes == [(384, 384)] * 2
        np.testing.assert_array_equal(dataset.read(), np.asarray(open_level(tmp_path / "fused.zarr", 1)))


def test_the_same_store_gives_the_same_cog(committed: Path, product: Path) -> None:
    finish_data(product, SPEC, cog=True)
    assert (product / "fused.tif").read_bytes() == (committed / "fused.tif").read_bytes()


class RecordingLane(InProcessLane):
    """A lane in this process that keeps the names of its calls."""

    def __init__(self, *, on_this_machine: bool) -> None:
        super().__init__()
        self.on_this_machine = on_this_machine
        self.steps: set[str] = set()

    def submit(self, call: Call) -> None:
        self.steps.add(call.key.partition("-")[0])
        super().submit(call)


@pytest.fixture(scope="module")
def finished_in_a_folder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of a large scene with its COG, made in a folder, by its path."""
    folder, spec = tmp_path_factory.mktemp("folder"), large_spec()
    write_scene(folder, *random_scene(spec), spec=spec)
    finish_data(folder, spec, cog=True)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("near", [True, False])
def test_on_a_store_the_cog_is_made_where_its_parts_are_and_put_once(
    proxy: Proxy, prefix: StorePlace, finished_in_a_folder: dict[str, bytes], *, near: bool
) -> None:
    spec, lane = large_spec(), RecordingLane(on_this_machine=near)
    write_scene(prefix, *random_scene(spec), spec=spec)
    finish_data(prefix, spec, cog=True, lane=lane)
    assert lane.steps == ({"overview", "part", "check"} if near else {"overview"})
    assert {key: (prefix / key).read() for key in prefix.files()} == finished_in_a_folder
    assert len([path for method, path in proxy.requests if method == "PUT" and "fused.tif" in path]) == 1


def test_workers_on_other_machines_make_the_cog_of_a_shared_folder(tmp_path: Path) -> None:
    spec, lane = large_spec(), RecordingLane(on_this_machine=False)
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    finish_data(tmp_path, spec, cog=True, lane=lane)
    assert lane.steps == {"overview", "part", "check"}


def test_a_part_with_other_pixels_is_noticed_and_nothing_is_kept(product: Path, tmp_path: Path) -> None:
    (product / "fused.tif").unlink()
    parts = list(make_overviews(product, SPEC, parts_in=tmp_path))
    data = parts[3].path.read_bytes()
    first, second = parts[3].tile_bytes[:2]
    parts[3].path.write_bytes(data[first : first + second] + data[:first] + data[first + second :])
    parts[3] = replace(parts[3], tile_bytes=(second, first, *parts[3].tile_bytes[2:]))  # two bands change places
    with pytest.raises(WorkError, match=r"fused\.tif differs from fused\.zarr in core \(1, 1\)"):
        write_cog(product, SPEC, parts)
    assert [file.name for file in product.glob("*.tif*")] == ["quality.tif"]
    assert not list(product.glob(".*.part"))


def test_a_folder_of_parts_that_went_away_passes_and_is_told(product: Path, tmp_path: Path) -> None:
    """As where the disk of a product is away for a while: not a bug, and tried again."""
    with pytest.raises(TransientError, match=r"went away while it was in use.*Put the folder back"):
        write_part(product, SPEC, next(SPEC.level_cores(1)), tmp_path / "away")
    part = write_part(product, SPEC, next(SPEC.level_cores(1)), tmp_path)
    with pytest.raises(TransientError, match="went away"):
        check_part(tmp_path / "away" / "fused.tif", SPEC, part)


def test_a_shard_that_is_not_there_is_no_data_to_nobody(product: Path, tmp_path: Path) -> None:
    """Where the folder is away while a core is coded, the COG would be made of nothing, and read back as such."""
    shard = product / "fused.zarr/reflectance/c/0/0/0"
    shard.rename(tmp_path / "away")
    core = next(SPEC.level_cores(1))
    with pytest.raises(TransientError, match="is not there"):
        write_part(product, SPEC, core, tmp_path)
    with pytest.raises(TransientError, match="is not there"):
        build_overview(product, SPEC, next(SPEC.level_cores(2)))
    with pytest.raises(TransientError, match="is not there"):
        np.asarray(open_level(product / "fused.zarr", 1))
    (tmp_path / "away").rename(shard)
    assert write_part(product, SPEC, core, tmp_path).core == core


def test_a_shard_that_is_put_back_is_read_by_who_missed_it(prefix: StorePlace) -> None:
    spec = large_spec()  # of whose shards zarr reads single chunks
    write_scene(prefix, *random_scene(spec), spec=spec)
    level, shard = open_level(prefix / "fused.zarr", 1), prefix / "fused.zarr/reflectance/c/0/0/0"
    data = shard.read()
    shard.discard()
    with pytest.raises(TransientError, match="is not there"):
        np.asarray(level[:, :9, :9])
    shard.put(data)
    np.testing.assert_array_equal(level[:, :9, :9], np.asarray(open_level(prefix / "fused.zarr", 1))[:, :9, :9])


def test_the_quality_cog_holds_the_flags(committed: Path) -> None:
    assert cog_validate(committed / "quality.tif", strict=True) == (True, [], [])
    with rasterio.open(committed / "quality.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), random_scene()[1])
        assert dataset.dtypes == ("uint8",)
        assert dataset.dataset_mask().all()  # flags of pixels without data are data


def test_beside_a_product_no_pixel_is_called_good(committed: Path) -> None:
    """GDAL fills what lies outside with the no-data value of the file, odc-stac with that of the item, else with 0."""
    with (
        rasterio.open(committed / "quality.tif") as dataset,
        WarpedVRT(dataset, transform=dataset.transform, height=310, width=198) as wider,
    ):
        flags = wider.read(1)
        assert wider.nodata == dataset.nodata
    np.testing.assert_array_equal(flags[:300], random_scene()[1])
    assert (flags[300:] & QualityFlag.NODATA == QualityFlag.NODATA).all()
    assert sum(QualityFlag) < flags[300:].min(), "no combination of flags is taken for it"
    item = json.loads((committed / f"{committed.name}.json").read_text())
    assert item["assets"]["quality"]["nodata"] == flags[-1, -1]
