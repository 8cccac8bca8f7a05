"""Bad input: refused before any output, with the value, the consequence, the cure and the exit code of the design."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from scipy.io import loadmat

from scenefuse.config import RunConfig
from scenefuse.errors import DataError
from scenefuse.pipeline.planning import plan_fusion
from tests.cli import scenes
from tests.cli.command import Command, assert_explained
from tests.delivered import LANDSAT, write_landsat, write_sentinel2

Pair = tuple[Path, Path]


def assert_refused(scenefuse: Command, hs: object, ms: object, *said: str, options: tuple[object, ...] = ()) -> None:
    """`fuse` ends with 4, says all that, and makes nothing."""
    out = Path(str(hs)).parent / "not-made" / "products"
    ended = scenefuse("fuse", hs, ms, "--out", out, "--workers", 1, "--format", "zarr", "--json", *options)
    assert_explained(ended, DataError.exit_code, *said)
    assert not out.parent.exists()


def test_an_image_without_crs_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = scenes.write_hs(tmp_path / "nowhere.tif", crs=None)
    ms = scenes.write_ms(tmp_path / "nowhere10.tif", crs=None)
    for call in ((hs, pair[1], hs), (pair[0], ms, ms)):
        assert_refused(scenefuse, *call[:2], f"{call[2]} has no CRS", "cannot be placed on the ground", "assign")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_without_geotransform_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = scenes.write_hs(tmp_path / "afloat.tif", transform=Affine.identity())
    assert_refused(scenefuse, hs, pair[1], "afloat.tif has the geotransform", "georeference it")


def test_a_pair_without_overlap_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    far = scenes.write_ms(tmp_path / "far.tif", corner=(scenes.WEST + 50_000, scenes.NORTH))
    assert_refused(scenefuse, pair[0], far, "hs.tif", "far.tif", "nothing to fuse", "footprints overlap")


def test_an_overlap_of_less_than_a_coarse_pixel_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    side = scenes.COARSE_PX * 30.0
    touching = scenes.write_ms(tmp_path / "touching.tif", corner=(scenes.WEST + side - 20, scenes.NORTH))
    assert_refused(scenefuse, pair[0], touching, "no whole HSI pixel in common", "nothing to fuse")


def test_a_single_band_of_a_delivered_product_is_not_to_be_scaled_by_hand(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    transform = Affine(10, 0, scenes.WEST, 0, -10, scenes.NORTH)
    reflectance = np.full((4, 60, 60), 0.25, np.float32)
    landsat = write_landsat(tmp_path, reflectance, transform)
    safe = write_sentinel2(tmp_path, reflectance, transform)
    for folder, band in ((landsat, f"{LANDSAT}_SR_B4.TIF"), (safe, "**/*_B04_10m.jp2")):
        (file,) = folder.glob(band)
        assert_refused(scenefuse, pair[0], file, "gives a scale", f"Give the product, {folder}, whose scale and offset")


def test_a_hyperspectral_image_of_one_band_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = scenes.write_hs(tmp_path / "single.tif", scenes.hs_cube()[:1], wavelengths_nm=scenes.HS_NM[:1])
    assert_refused(scenefuse, hs, pair[1], "single has 1 usable band", "no spectrum", "swapped")


def test_a_multispectral_image_that_is_not_finer_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    coarse = scenes.write_ms(tmp_path / "coarse.tif", scenes.ms_cube()[:, ::6, ::6], gsd_m=60.0)
    equal = scenes.write_ms(tmp_path / "equal.tif", scenes.ms_cube()[:, ::3, ::3], gsd_m=30.0)
    assert_refused(scenefuse, pair[0], coarse, "30 m", "60 m", "ratio of 0.5", "no detail to add", "swapped")
    assert_refused(scenefuse, pair[0], equal, "a ratio of 1:", "not the finer", "at most half its pixel size")


def test_a_ratio_between_one_and_two_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    ms = scenes.write_ms(tmp_path / "twenty.tif", scenes.ms_cube()[:, ::2, ::2], gsd_m=20.0)
    assert_refused(scenefuse, pair[0], ms, "ratio of 1.5", "less than a ratio of 2", "at most half")


def test_exchanged_items_are_refused_whatever_their_grids(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs, ms = scenes.write_pair_items(tmp_path, pair)
    assert_refused(scenefuse, ms, hs, "ms is multispectral (4 bands)", "and hs hyperspectral", "swapped")


def test_exchanged_images_are_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs, ms = (shutil.copy(path, tmp_path / path.name) for path in pair)
    assert_refused(scenefuse, ms, hs, "10 m", "30 m", "check that HS and MS are not swapped")


def test_one_image_given_as_both_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = shutil.copy(pair[0], tmp_path / "both.tif")
    assert_refused(scenefuse, hs, hs, "both.tif", "given as HS and as MS", "two images")


@pytest.mark.parametrize("value", [np.nan, -9999.0])
def test_an_image_of_no_data_alone_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path, value: float) -> None:
    hs = scenes.write_hs(tmp_path / "empty.tif", np.full_like(scenes.hs_cube(), value), nodata=value)
    ms = scenes.write_ms(tmp_path / "blank.tif", np.full_like(scenes.ms_cube(), value), nodata=value)
    assert_refused(scenefuse, hs, pair[1], "empty holds no data in its 32 usable bands", "nothing to fuse", "no-data")
    assert_refused(scenefuse, pair[0], ms, "blank holds no data in its 4 usable bands", "nothing to fuse")


@pytest.mark.usefixtures("no_workers")
def test_a_pair_without_common_data_leaves_nothing_behind(scenefuse: Command, tmp_path: Path) -> None:
    hs, ms = scenes.hs_cube(), scenes.ms_cube()
    hs[:, :, 8:], ms[:, :, :30] = np.nan, np.nan
    west, east = scenes.write_hs(tmp_path / "west.tif", hs), scenes.write_ms(tmp_path / "east.tif", ms)
    assert_refused(scenefuse, west, east, "No pixel has data in both images", "no-data", "overlap of the pair")


@pytest.mark.parametrize("kept", [0, 4, 300, 0.5, 0.99])
def test_a_truncated_geotiff_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path, kept: float) -> None:
    whole = pair[0].read_bytes()
    hs = tmp_path / "cut.tif"
    hs.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    assert_refused(scenefuse, hs, pair[1], "cut")


def test_a_damaged_block_in_the_middle_is_refused_and_leaves_nothing(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}
    ms = scenes.write_ms(tmp_path / "holed.tif", **options)
    with rasterio.open(ms) as file:
        start = int(file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    with ms.open("r+b") as raw:
        raw.seek(start)
        raw.write(b"\xff" * 32)
    hs = shutil.copy(pair[0], tmp_path / "hs.tif")
    assert_refused(scenefuse, hs, ms, "holed.tif", "cannot be read", "fetch the file again")


def write_envi(path: Path, cube: NDArray[np.float32], **lies: object) -> Path:
    """An ENVI file beside a header whose values may be other than the data's."""
    count, lines, samples = cube.shape
    path.write_bytes(cube.astype("<f4").tobytes())
    keys = {
        "samples": samples,
        "lines": lines,
        "bands": count,
        "header offset": 0,
        "data type": 4,
        "interleave": "bsq",
        "byte order": 0,
        "map info": f"{{UTM, 1, 1, {scenes.WEST}, {scenes.NORTH}, 30, 30, 33, North, WGS-84, units=Meters}}",
        "wavelength units": "Nanometers",
        "wavelength": "{" + ", ".join(f"{nm:.1f}" for nm in np.linspace(430, 2400, count)) + "}",
    } | lies
    path.with_suffix(".hdr").write_text("ENVI\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()))
    return path


def test_a_matlab_file_is_refused_with_a_cure_that_helps(
    scenefuse: Command, pair: Pair, test_data: Path, tmp_path: Path
) -> None:
    hs = tmp_path / "roi.mat"
    shutil.copy(test_data / "bad" / "salton_sea_roi.mat", hs)
    with pytest.raises(RasterioIOError):
        rasterio.open(hs)
    assert_refused(scenefuse, hs, pair[1], "roi.mat is MATLAB", "write its array as a GeoTIFF with CRS")


@pytest.mark.parametrize("name", ["field.hdr", "field.bsq.hdr"])
def test_an_envi_header_means_its_data_file(scenefuse: Command, pair: Pair, tmp_path: Path, name: str) -> None:
    data = write_envi(tmp_path / "field.bsq", scenes.hs_cube())
    header = data.with_suffix(".hdr").rename(tmp_path / name)
    planned = [
        scenefuse("plan", given, pair[1], "--out", tmp_path / "out", "--json").document for given in (data, header)
    ]
    assert planned[0]["item_id"] == planned[1]["item_id"]
    assert_refused(scenefuse, data, header, "is given as HS and as MS")


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"bands": 64, "wavelength units": "unknown", "wavelength": "{1}"}, "where its header promises 64 bands"),
        ({"lines": 400}, "400 lines"),
        ({"bands": 33}, "where its header promises 33 bands"),
        ({"bands": 31}, "'wavelength' has 32 values for 31 bands"),
        ({"bands": 0}, "0 bands"),
        ({"bands": -3}, "-3 bands"),
        ({"bands": "1e400"}, "'bands' is 1e400"),
        ({"bands": "many"}, "'bands' holds 'many'"),
        ({"lines": 2_000_000}, "2000000 x 20 pixels"),
        ({"data type": 77}, "data type 77"),
    ],
)
def test_a_header_that_lies_is_refused(
    scenefuse: Command, pair: Pair, tmp_path: Path, lie: dict[str, object], said: str
) -> None:
    hs = write_envi(tmp_path / "liar.bsq", scenes.hs_cube(), **lie)
    assert_refused(scenefuse, hs, pair[1], "liar", said)


def test_a_truncated_envi_file_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = write_envi(tmp_path / "cut.bsq", scenes.hs_cube())
    os.truncate(hs, 40_000)
    assert_refused(scenefuse, hs, pair[1], "cut.bsq", "holds 40000 bytes", "= 51200", "fetch the file again")


def test_an_item_that_lies_about_the_bands_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    scenes.write_hs(tmp_path / "hs.tif", scenes.hs_cube()[:30], wavelengths_nm=scenes.HS_NM[:30])
    item = scenes.write_item(tmp_path / "item.json", href="./hs.tif")
    assert_refused(scenefuse, item, pair[1], "describes 32 bands", "has 30", "correct the item")


def test_the_jasper_ridge_header_that_says_224_bands_is_refused(
    scenefuse: Command, pair: Pair, test_data: Path, tmp_path: Path
) -> None:
    """The .mat says nBand = 224 and holds 198 (noisy ones are gone): as ENVI with its own header it must not pass."""
    stored = loadmat(test_data / "bad" / "jasperRidge2_R198_nBand224_variant.mat")
    said, rows, columns = (int(stored[key].item()) for key in ("nBand", "nRow", "nCol"))
    pixels = stored["Y"]  # (band, x * y), column-major
    assert (said, len(pixels)) == (224, 198)
    cube = pixels.reshape(len(pixels), columns, rows).transpose(0, 2, 1) / float(stored["maxValue"].item())
    wavelengths = "{" + ", ".join(f"{nm:.1f}" for nm in np.linspace(380, 2500, said)) + "}"
    hs = write_envi(tmp_path / "jasper.bsq", cube.astype(np.float32), bands=said, wavelength=wavelengths)
    assert_refused(scenefuse, hs, pair[1], "jasper.bsq", "224 bands x 100 lines x 100 samples", "header")


def test_bands_of_nan_are_dropped_by_name_and_recorded(pair: Pair, tmp_path: Path) -> None:
    cube = scenes.hs_cube()
    cube[[3, 17]] = np.nan
    opened = plan_fusion(
        scenes.write_hs(tmp_path / "gaps.tif", cube), pair[1], out=tmp_path / "out", config=RunConfig(workers=1)
    ).opened
    assert len(opened.cube.hs_bands) == 30
    assert [name for name, _ in opened.cube.hs_image.dropped] == ["band 4", "band 18"]
    assert {entry["band"] for entry in opened.facts()["hs"]["dropped"]} == {"band 4", "band 18"}
    left_out = "2 of 32 HSI bands left out: 2 no data in the sampled windows (band 4, band 18)"
    assert left_out in opened.notes()


def test_too_few_bands_besides_those_of_nan_are_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    cube = scenes.hs_cube()
    cube[1:] = np.nan
    hs = scenes.write_hs(tmp_path / "gone.tif", cube)
    assert_refused(scenefuse, hs, pair[1], "gone has 1 usable band (", "31 bands left out: no data")


def test_the_salton_sea_loses_its_twenty_bands_of_nan(test_data: Path, tmp_path: Path) -> None:
    """salton_sea_roi.mat has no georeference: it is placed beside a made-up MSI of a third of its pixel size."""
    stored = loadmat(test_data / "bad" / "salton_sea_roi.mat")
    cube = next(value for value in stored.values() if isinstance(value, np.ndarray) and value.ndim == 3)
    cube = cube.transpose(2, 0, 1).astype(np.float32)
    dead = np.isnan(cube).all(axis=(1, 2))
    assert dead.sum() == 20
    hs = scenes.write_hs(tmp_path / "salton.tif", cube, wavelengths_nm=np.linspace(380, 2500, len(cube)))
    fine = np.nan_to_num(cube[[20, 30, 50]]).repeat(3, axis=1).repeat(3, axis=2)
    ms = scenes.write_ms(tmp_path / "ms.tif", fine, wavelengths_nm=np.array([560.0, 660.0, 840.0]))
    config = RunConfig(workers=1, register=False)
    image = plan_fusion(hs, ms, out=tmp_path / "out", config=config).opened.cube.hs_image
    assert [name for name, _ in image.dropped] == [f"band {i + 1}" for i in np.flatnonzero(dead)]
    assert len(image.bands) == len(cube) - 20


def test_real_files_that_are_no_hyperspectral_image_are_refused(
    scenefuse: Command, pair: Pair, test_data: Path, tmp_path: Path
) -> None:
    for path in sorted((test_data / "bad").iterdir()):
        link = tmp_path / path.name
        link.symlink_to(path)
        assert_refused(scenefuse, link, pair[1], path.stem)
        assert_refused(scenefuse, link, link, path.stem)


def test_values_without_a_scale_are_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = scenes.write_hs(tmp_path / "counts.tif", (scenes.hs_cube() * 1e4).astype(np.int16))
    assert_refused(
        scenefuse, hs, pair[1], "counts.tif holds int16 values", "reflectance cannot be derived", "--hs-scale"
    )


def test_bands_without_wavelengths_are_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = scenes.write_hs(tmp_path / "mute.tif", wavelengths_nm=None)
    assert_refused(scenefuse, hs, pair[1], "mute: 32 bands without wavelength", "cannot be sorted", "give wavelengths")


def test_a_band_that_is_not_there_cannot_be_dropped(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = shutil.copy(pair[0], tmp_path / "hs.tif")
    assert_refused(scenefuse, hs, pair[1], "no band named 'B99'", "band 1", options=("--drop-band", "B99"))


def test_a_scene_that_is_not_there_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = shutil.copy(pair[0], tmp_path / "hs.tif")
    assert_refused(scenefuse, hs, tmp_path / "absent.tif", "absent.tif does not exist", "check the path")
    assert_refused(
        scenefuse,
        hs,
        tmp_path,
        "is a folder",
        "it is not a scene",
        "give an item (.json), a raster file, a Zarr group, or",
    )


def test_an_item_whose_asset_is_missing_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    item = scenes.write_item(tmp_path / "item.json", href="./lost.tif")
    assert_refused(scenefuse, item, pair[1], "lost.tif does not exist", "check the path")
    bare = scenes.write_item(tmp_path / "bare.json", href="./lost.tif", assets={})
    assert_refused(scenefuse, bare, pair[1], "bare has no asset with bands", "check its assets")


@pytest.mark.parametrize(
    "href",
    [
        "../outside.tif",
        "/etc/hostname.tif",
        "file:///etc/hostname.tif",
        "a/../../outside.tif",
        "./link.tif",
        "/vsicurl/https://example.com/a.tif",
        "http://169.254.169.254/a.tif",
        "https://127.0.0.1/a.tif",
        "https://[::1]/a.tif",
        "https://localhost/a.tif",
        "ftp://example.com/a.tif",
    ],
)
def test_an_href_outside_the_allowed_roots_is_refused(
    scenefuse: Command, pair: Pair, tmp_path: Path, href: str
) -> None:
    shutil.copy(pair[0], tmp_path / "outside.tif")
    folder = tmp_path / "catalogue"
    item = scenes.write_item(folder / "item.json", href=href)
    (folder / "link.tif").symlink_to(tmp_path / "outside.tif")
    error = "not a public address" if "127" in href or "169" in href or "::1" in href else "not followed"
    shown = href.removeprefix("file://").partition("vsicurl")[0] if error == "not followed" else ""
    assert_refused(scenefuse, item, pair[1], shown, "http" if "169" in href else error)


@pytest.mark.parametrize("item_id", ["../evil", "a/../../evil", "..", "", "/etc/evil", "a\x00b"])
def test_an_item_id_that_is_a_path_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path, item_id: str) -> None:
    shutil.copy(pair[0], tmp_path / "hs.tif")
    item = scenes.write_item(tmp_path / "item.json", href="./hs.tif", item_id=item_id)
    assert_refused(scenefuse, item, pair[1], "the item id", "outside the output", "letters, digits")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hs.tif", "item.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"type": "Feature", ', "line 1, column"),
        ("[1, 2]", "a JSON list, not an object"),
        ("{}", "without stac_version"),
        ('{"type": "Feature", "stac_version": "1.1.0"}', "is not a valid STAC item"),
        ("", "line 1, column 1"),
        (
            '{"type": "Catalog", "stac_version": "1.1.0", "id": "c", "description": "", "links": []}',
            "not a single item",
        ),
    ],
)
def test_a_document_that_is_no_item_is_refused(
    scenefuse: Command, pair: Pair, tmp_path: Path, text: str, said: str
) -> None:
    item = tmp_path / "item.json"
    item.write_text(text, encoding="utf-8")
    assert_refused(scenefuse, item, pair[1], "item.json", said)


# --- archives ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def invalid(test_data: Path, tmp_path: Path) -> list[tuple[Path, str]]:
    """Catalogues that are none, and what is said of them."""
    broken = tmp_path / "broken" / "catalog.json"
    broken.parent.mkdir()
    broken.write_text('{"type": "Catalog", "id": "c", "links": [', encoding="utf-8")
    hanging = tmp_path / "hanging" / "catalog.json"
    hanging.parent.mkdir()
    links = [{"rel": "child", "href": "./gone.json"}]
    document = {"type": "Catalog", "stac_version": "1.1.0", "id": "c", "description": "c", "links": links}
    hanging.write_text(json.dumps(document), encoding="utf-8")
    return [
        (broken, "catalog.json, line 1, column 42"),
        (test_data / "stac" / "pystac" / "catalogs__invalid-catalog__catalog.json", "without stac_version"),
        (tmp_path / "absent.json", "absent.json does not exist"),
        (tmp_path / "broken" / "..", "has no catalog.json or collection.json"),
        (hanging, "gone.json"),
    ]


@pytest.mark.parametrize("command", ["search", "pair", "batch"])
def test_a_catalogue_that_is_none_is_refused(
    scenefuse: Command, invalid: list[tuple[Path, str]], tmp_path: Path, command: str
) -> None:
    out = tmp_path / "not-made" / "products"
    options = ("--out", out, "--workers", 1) if command == "batch" else ()
    for path, said in invalid:
        assert_explained(scenefuse(command, path, *options, "--json"), DataError.exit_code, said)
        assert not out.parent.exists()


def test_an_item_that_cannot_be_read_is_named_and_does_not_stop_the_search(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    scenes.archive_of(pair, tmp_path)
    (tmp_path / "torn.json").write_text('{"type": "Fea', encoding="utf-8")
    catalogue = scenes.write_catalogue(tmp_path, [tmp_path / f"{name}.json" for name in ("gone", "hs", "torn", "ms")])
    found = scenefuse("search", catalogue, "--json").document
    assert [scene["id"] for scene in found["scenes"]] == ["hs", "ms"]
    reasons = {entry["href"]: entry["reason"] for entry in found["skipped_items"]}
    assert "gone.json does not exist" in reasons["./gone.json"]
    assert "torn.json, line 1" in reasons["./torn.json"]


def test_too_little_memory_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    hs = shutil.copy(pair[0], tmp_path / "hs.tif")
    assert_refused(
        scenefuse, hs, pair[1], "a worker has 100.0 MiB", "--memory-limit", options=("--memory-limit", "100MiB")
    )
