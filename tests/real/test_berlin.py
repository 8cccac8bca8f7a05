"""Berlin: EnMAP and an airborne MSI, ENVI with gzip, grids that do not nest, a shift between the two."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize
from skimage.measure import block_reduce
from skimage.registration import phase_cross_correlation

from scenefuse.archive.source import load_scene
from scenefuse.engine.state_file import load_state
from scenefuse.product.verify import verify
from tests.real.products import (
    Image,
    Product,
    band_entry,
    fuse_by_command,
    fuse_here,
    needed,
    stored_bytes,
    write_item,
)

pytestmark = pytest.mark.slow

HS = "EnMAP_BerlinUrbanGradient_177"
RAW = "EnMAP_BerlinUrbanGradient_raw244"
MS = "HighResolution_BerlinUrbanGradient"
MS_NM, MS_FWHM_NM = (484.3, 558.4, 646.5, 804.6), (14.8, 15.2, 15.3, 16.2)
INNER = (slice(16, -16), slice(16, -16))
INFRARED = tuple(f"band {number}" for number in (*range(91, 128), *range(144, 169), *range(195, 240)))
"""Bands to leave out where 70 show as much as 177."""


@pytest.fixture(scope="module")
def berlin(test_data: Path) -> Path:
    folder = test_data / "pairs" / "berlin"
    for name in (HS, RAW, MS):
        needed(folder / f"{name}.bsq")
    return folder


@pytest.fixture(scope="module")
def product(berlin: Path, tmp_path_factory: pytest.TempPathFactory) -> Product:
    out = tmp_path_factory.mktemp("berlin")
    return fuse_here(berlin / f"{HS}.bsq", berlin / f"{MS}.bsq", out, format=("zarr", "cog"))


@pytest.fixture
def copied(berlin: Path, tmp_path: Path) -> Path:
    """The pair in a folder that may be written to."""
    for name in (HS, MS):
        for suffix in (".bsq", ".hdr"):
            shutil.copyfile(berlin / f"{name}{suffix}", tmp_path / f"{name}{suffix}")
    return tmp_path


def read_raster(path: Path) -> tuple[Image, Affine]:
    """Reflectance (band, y, x), NaN = no data, and the grid, by rasterio."""
    with rasterio.open(path) as dataset:
        stored = dataset.read().astype(np.float64)
        return np.where(stored == -99, np.nan, stored / 1e4), dataset.transform


def placed(image: Image, transform: Affine, product: Product, how: Resampling, *, grid: Affine | None = None) -> Image:
    """The image on the product's grid (or another of its size) by map coordinates, by rasterio's warper."""
    target = np.full((len(image), *product.integers.shape[1:]), np.nan)
    reproject(
        image, target, src_transform=transform, dst_transform=grid or product.transform, src_crs="EPSG:32633",
        dst_crs="EPSG:32633", src_nodata=np.nan, dst_nodata=np.nan, resampling=how,
    )  # fmt: skip
    return target


def seen_by_msi(cube: Image, wavelengths_nm: Image) -> Image:
    """The cube through Gaussian responses of the MSI's bands."""
    centre, fwhm = np.array(MS_NM)[:, np.newaxis], np.array(MS_FWHM_NM)[:, np.newaxis]
    response = np.exp(-4 * np.log(2) * ((wavelengths_nm - centre) / fwhm) ** 2)
    return np.asarray(np.tensordot(response / response.sum(axis=1, keepdims=True), cube, axes=1))


def own_pixels(product: Product, berlin: Path) -> Image:
    """The HSI's pixels under the product, found by its map coordinates less the shift that it names."""
    hs, transform = read_raster(berlin / f"{HS}.bsq")
    corner = product.transform @ (-shift_px(product)[1], -shift_px(product)[0])
    column, row = ~transform @ corner
    assert (column, row) == pytest.approx((round(column), round(row)), abs=1e-3)
    rows, columns = (side // 8 for side in product.integers.shape[1:])
    return hs[:, round(row) : round(row) + rows, round(column) : round(column) + columns]


def shift_px(product: Product) -> tuple[float, float]:
    down, right = product.facts["grid"]["shift_px"]
    return down, right


def correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def edges(band: Image) -> Image:
    return np.asarray(np.hypot(*np.gradient(band)))


def test_the_pair_as_given_becomes_a_product_with_all_bands_on_an_eighth_of_the_hsi_grid(product: Product) -> None:
    assert product.integers.shape == (177, 78 * 8, 59 * 8)
    assert product.wavelengths_nm[[0, -1]] == pytest.approx((460, 2409))
    assert product.item["properties"]["scenefuse:ratio"] == 8
    notes = " ".join(product.notes)
    assert "do not nest (ratio 8.333)" in notes
    assert "1.04 times its own pixel" in notes
    assert "map coordinates follow the MSI" in notes
    assert verify(product.folder).ok
    with rasterio.open(product.folder / "fused.tif") as cog:
        assert cog.transform.almost_equals(product.transform, 1e-6)
        np.testing.assert_array_equal(cog.read([1, 90, 177]), product.integers[[0, 89, 176]])


@pytest.mark.slow
@pytest.mark.bench
def test_the_command_makes_the_same_product(product: Product, berlin: Path, tmp_path: Path) -> None:
    options = ("--workers", "1", "--format", "zarr,cog")
    commanded = fuse_by_command(berlin / f"{HS}.bsq", berlin / f"{MS}.bsq", tmp_path, *options)
    assert stored_bytes(commanded) == stored_bytes(product)
    assert (commanded.folder / "fused.tif").read_bytes() == (product.folder / "fused.tif").read_bytes()
    assert commanded.notes == product.notes


def test_fused_bands_lie_on_the_msi_to_a_twentieth_of_a_pixel(product: Product, berlin: Path) -> None:
    msi, transform = read_raster(berlin / f"{MS}.bsq")
    msi = placed(msi, transform, product, Resampling.cubic)
    seen = seen_by_msi(product.reflectance, product.wavelengths_nm)
    for ours, theirs in zip(seen, msi, strict=True):
        found = phase_cross_correlation(theirs[INNER], ours[INNER], upsample_factor=100, normalization=None)[0]
        assert np.abs(found).max() <= 0.05  # measured: 0.00 in all four bands
        assert correlation(ours, theirs) > 0.98
    # With the HSI's own map coordinates in their place, the measure sees the shift between the two.
    down, right = shift_px(product)
    own_grid = product.transform @ Affine.translation(-right, -down)
    msi = placed(read_raster(berlin / f"{MS}.bsq")[0], transform, product, Resampling.cubic, grid=own_grid)
    found = phase_cross_correlation(msi[2][INNER], seen[2][INNER], upsample_factor=100, normalization=None)[0]
    assert found == pytest.approx((down, right), abs=0.1)


def test_the_shift_between_the_two_images_is_real(product: Product, berlin: Path) -> None:
    """By correlation alone, over blurs from 9 to 15 m and for each band, it is -0.8 to -1.0 and -0.5 to -0.7 px."""
    hs, hs_transform = read_raster(berlin / f"{HS}.bsq")
    msi, ms_transform = read_raster(berlin / f"{MS}.bsq")
    seen = seen_by_msi(hs, product.wavelengths_nm)[:, 3:76, 3:56]
    rows, columns = np.mgrid[3:76, 3:56] + 0.5
    x, y = hs_transform @ (columns, rows)
    for position in (0, 2, 3):
        blurred = gaussian_filter(msi[position], 12 / 3.6)
        found_m, best = likest((x, y), blurred, ms_transform, seen[position])
        assert found_m / 3.75 == pytest.approx(shift_px(product), abs=0.15)
        assert best > 0.97


def likest(ground: tuple[Image, Image], blurred: Image, transform: Affine, seen: Image) -> tuple[Image, float]:
    """Metres (down, right) by which the blurred image is to be read beside the ground to be most like seen."""

    def unlike(metres: Image) -> float:
        column, row = ~transform @ (ground[0] + metres[1], ground[1] - metres[0])
        return -correlation(map_coordinates(blurred, (row - 0.5, column - 0.5), order=3), seen)

    simplex = np.array([(0.0, 0.0), (4.0, 0.0), (0.0, 4.0)])
    found = minimize(
        unlike, np.zeros(2), method="Nelder-Mead", options={"xatol": 0.01, "fatol": 1e-6, "initial_simplex": simplex}
    )
    return found.x, -float(found.fun)


def test_edges_are_those_of_the_msi(product: Product, berlin: Path) -> None:
    msi, transform = read_raster(berlin / f"{MS}.bsq")
    hs, hs_transform = read_raster(berlin / f"{HS}.bsq")
    red = int(np.abs(product.wavelengths_nm - 660).argmin())
    expected = edges(placed(msi[2:3], transform, product, Resampling.cubic)[0][INNER])
    smooth = placed(hs[red : red + 1], hs_transform, product, Resampling.cubic)[0]
    assert correlation(edges(product.reflectance[red][INNER]), expected) > 0.98  # measured: 0.997
    assert correlation(edges(smooth[INNER]), expected) < 0.4  # measured: 0.24


def test_spectra_of_homogeneous_areas_are_the_hsi_s_within_its_noise(product: Product, berlin: Path) -> None:
    """Over the quietest tenth of the coarse pixels, what the product shows through the PSF that was found.

    Noise is what the other bands do not explain of one (1 / diag of the inverse covariance, as in HySime): 0.9 % of
    the mean in the median. Measured: RMSE 0.7 of it in the median band, 1.1 in the worst; 0.6 % of the mean; 0.4 deg.
    """
    hs = own_pixels(product, berlin)
    msi, transform = read_raster(berlin / f"{MS}.bsq")
    msi = placed(msi, transform, product, Resampling.cubic)
    mean = block_reduce(msi, (1, 8, 8), np.mean)
    variance = block_reduce(msi**2, (1, 8, 8), np.mean) - mean**2
    roughness = (np.sqrt(np.maximum(variance, 0)) / mean).mean(axis=0)[3:-3, 3:-3]
    quiet = roughness <= np.quantile(roughness, 0.1)
    sigma_px = state_fact(product, "psf_sigma_px")
    blurred = np.stack([gaussian_filter(band, sigma_px) for band in product.reflectance])
    centred = (blurred[:, 3::8] + blurred[:, 4::8]) / 2  # the centre of 8 pixels lies between two
    seen = (centred[:, :, 3::8] + centred[:, :, 4::8]) / 2
    ours, theirs = seen[:, 3:-3, 3:-3][:, quiet], hs[:, 3:-3, 3:-3][:, quiet]
    pixels = hs.reshape(177, -1)
    unexplained = 1 / np.diag(np.linalg.inv(np.cov(pixels)))
    noise = np.sqrt(unexplained * pixels.shape[1] / (pixels.shape[1] - 177))
    error = np.sqrt(((ours - theirs) ** 2).mean(axis=1))
    cosine = (ours * theirs).sum(axis=0) / (np.linalg.norm(ours, axis=0) * np.linalg.norm(theirs, axis=0))
    assert np.median(error / noise) < 1.0
    assert (error / noise).max() < 1.5
    assert np.median(error / theirs.mean(axis=1)) < 0.01
    assert np.degrees(np.median(np.arccos(cosine))) < 0.6


def state_fact(product: Product, name: str) -> float:
    """A fact of the frozen state that the product was made with."""
    return float(load_state(product.folder / "state.safetensors").facts[name])


def test_no_data_is_where_either_input_has_none_and_the_border_has_data(copied: Path, tmp_path: Path) -> None:
    """As of an orthorectified swath: slanted borders in both, a hole, and one band that lacks a corner."""
    rows, columns = np.mgrid[:80, :60]
    plant(copied / f"{HS}.bsq", (columns < 4 + rows // 10) | ((rows - 40) ** 2 + (columns - 30) ** 2 < 9), bands=None)
    rows, columns = np.mgrid[:660, :494]
    plant(copied / f"{MS}.bsq", columns > 470 - rows // 20, bands=None)
    plant(copied / f"{MS}.bsq", (rows > 640) & (columns < 90), bands=[3])
    made = fuse_here(
        copied / f"{HS}.bsq", copied / f"{MS}.bsq", tmp_path / "out", model="bicubic", core_px=128, drop_bands=INFRARED
    )
    assert len(made.integers) == 70
    hs, hs_transform = read_raster(copied / f"{HS}.bsq")
    msi, ms_transform = read_raster(copied / f"{MS}.bsq")
    down, right = shift_px(made)
    moved = hs_transform @ Affine.translation(right / 8, down / 8)
    expected = np.isnan(placed(hs, moved, made, Resampling.nearest)).any(axis=0)
    expected |= np.isnan(placed(msi, ms_transform, made, Resampling.nearest)).any(axis=0)
    assert 0.1 < expected.mean() < 0.4
    for band in made.reflectance:
        np.testing.assert_array_equal(np.isnan(band), expected)


def plant(path: Path, where: NDArray[np.bool_], *, bands: list[int] | None) -> None:
    """Write no-data into an ENVI file, which becomes an uncompressed one."""
    with rasterio.open(path) as dataset:
        pixels = dataset.read()
    pixels[(slice(None) if bands is None else bands, *np.nonzero(where))] = -99
    path.write_bytes(pixels.astype("<i2").tobytes())
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("file compression = 1", "file compression = 0"))


def test_stac_items_name_the_same_pair(product: Product, copied: Path) -> None:
    hs, ms = berlin_items(copied)
    scenes = load_scene(str(hs)), load_scene(str(ms))
    assert [scene.role for scene in scenes] == ["hsi", "msi"]
    assert [len(scene.assets[0].bands) for scene in scenes] == [177, 4]
    assert scenes[0].assets[0].bands[40].wavelength_nm == pytest.approx(product.wavelengths_nm[40])


@pytest.mark.slow
def test_by_stac_items_the_product_has_the_same_pixels_and_links_its_sources(copied: Path, tmp_path: Path) -> None:
    hs, ms = berlin_items(copied)
    before = sorted(path.name for path in copied.iterdir())
    names = header_words(copied / f"{HS}.hdr", "band names")
    in_item = tuple(f"band {number}" for number, name in enumerate(names, 1) if name in INFRARED)
    made = fuse_here(hs, ms, tmp_path / "out", model="gsa", drop_bands=in_item)
    files = copied / f"{HS}.bsq", copied / f"{MS}.bsq"
    of_files = fuse_here(*files, tmp_path / "out", model="gsa", drop_bands=INFRARED)
    assert made.folder != of_files.folder
    np.testing.assert_array_equal(made.integers, of_files.integers)
    assert made.transform == of_files.transform
    derived = [link["href"] for link in made.item["links"] if link["rel"] == "derived_from"]
    assert sorted(Path(href).name for href in derived) == sorted([hs.name, ms.name, "model.json"])
    assert sorted(path.name for path in copied.iterdir() if path.name != "out") == before


def berlin_items(folder: Path) -> tuple[Path, Path]:
    """Two STAC items beside the files, with what the headers say in them."""
    hs_nm, hs_fwhm_nm = (header_numbers(folder / f"{HS}.hdr", key) * 1e3 for key in ("wavelength", "fwhm"))
    assets = {
        name: {
            "href": f"{name}.bsq",
            "type": "application/octet-stream",
            "roles": ["data"],
            "nodata": -99,
            "raster:scale": 1e-4,
            "gsd": gsd,
            "bands": [band_entry(f"band {i + 1}", *pair) for i, pair in enumerate(zip(nm, fwhm, strict=True))],
        }
        for name, gsd, nm, fwhm in ((HS, 30, hs_nm, hs_fwhm_nm), (MS, 3.6, MS_NM, MS_FWHM_NM))
    }
    hs, ms = (
        write_item(folder / f"item-{i}.json", {"data": assets[name]}, epsg=32633) for i, name in enumerate(assets)
    )
    return hs, ms


def header_words(path: Path, key: str) -> list[str]:
    """A list of an ENVI header."""
    text = path.read_text().split(f"\n{key} = {{")[1].split("}")[0]
    return [word.strip() for word in text.split(",")]


def header_numbers(path: Path, key: str) -> Image:
    """A list of numbers of an ENVI header."""
    return np.array([float(number) for number in header_words(path, key)])


@pytest.mark.slow
def test_244_bands_out_of_order_come_out_by_wavelength(berlin: Path, tmp_path: Path) -> None:
    made = fuse_here(berlin / f"{RAW}.bsq", berlin / f"{MS}.bsq", tmp_path, model="sfim")
    in_file = header_numbers(berlin / f"{RAW}.hdr", "wavelength") * 1e3
    assert (np.diff(in_file) < 0).any()
    order = np.argsort(in_file, kind="stable")
    assert made.wavelengths_nm == pytest.approx(in_file[order])
    facts = made.facts["hs"]
    assert facts["dropped"] == []  # the file flags no band, and none is without data
    assert [entry["file_band"] for entry in facts["band_map"]] == (order + 1).tolist()
    # Each band, also of the overlap of the two detectors (902-1007 nm), is the file's own band of that number.
    raw, transform = read_raster(berlin / f"{RAW}.bsq")
    column, row = ~transform @ (made.transform @ (-shift_px(made)[1], -shift_px(made)[0]))
    own = raw[order, round(row) :, round(column) :]
    coarse = block_reduce(made.reflectance, (1, 8, 8), np.mean)
    for band in range(80, 102):
        match = [correlation(coarse[band], own[other, :78, :59]) for other in range(244)]
        assert match[band] > 0.95
        assert match[band] >= max(match) - 0.01


@pytest.mark.slow
def test_tiles_equal_the_whole_and_two_workers_equal_one(berlin: Path, tmp_path: Path) -> None:
    pair = (berlin / f"{HS}.bsq", berlin / f"{MS}.bsq")
    tiled, whole = (
        fuse_here(*pair, tmp_path / str(core_px), halo="full", core_px=core_px, drop_bands=INFRARED)
        for core_px in (128, 640)
    )
    assert len(list((tiled.folder / "fused.zarr" / "reflectance").rglob("c/*/*/*"))) == 20
    assert len(list((whole.folder / "fused.zarr" / "reflectance").rglob("c/*/*/*"))) == 1
    np.testing.assert_array_equal(tiled.integers, whole.integers)
    dropped = [word for name in INFRARED for word in ("--drop-band", name)]
    two = fuse_by_command(
        *pair, tmp_path / "two", *dropped, *("--halo", "full", "--core-px", "128", "--workers", "2", "--format", "zarr")
    )
    assert stored_bytes(two) == stored_bytes(tiled)
