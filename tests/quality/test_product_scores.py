"""Scores of a stored product, streamed over its cores, against scores of the whole image by other libraries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from skimage.metrics import structural_similarity

from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.models.state import SceneState
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.reading import StoredProduct, open_product
from scenefuse.quality.product_scores import score_with_reference, score_without_reference
from scenefuse.sensors.band import Band
from scenefuse.simulate.sampling import sample, sample_reach_px
from tests.models.classical_pairs import mirrored
from tests.product.making import ITEM_ID, PAIR, PROVENANCE, RUN, SPEC, random_scene, write_scene

Image = NDArray[np.float32]
WHOLE = Window(y0=0, y1=SPEC.grid.fine_shape[0], x0=0, x1=SPEC.grid.fine_shape[1])


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> StoredProduct:
    folder = tmp_path_factory.mktemp("output") / ITEM_ID
    receipts = write_scene(folder, *random_scene())
    finish_data(folder, SPEC, cog=False)
    commit(folder, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN, receipts=receipts)
    return open_product(folder)


def write_truth(
    path: Path,
    truth: Image | NDArray[np.int16],
    *,
    origin: tuple[float, float],
    bands: tuple[Band, ...] = SPEC.bands,
    epsg: int = 32633,
) -> str:
    """A float GeoTIFF with wavelengths as band tags, its first pixel's corner at origin (x, y)."""
    profile = {
        "driver": "GTiff",
        "dtype": truth.dtype.name,
        "count": len(truth),
        "height": truth.shape[1],
        "width": truth.shape[2],
        "crs": CRS.from_epsg(epsg).to_wkt(),
        "transform": Affine(10.0, 0.0, origin[0], 0.0, -10.0, origin[1]),
        "nodata": float("nan") if truth.dtype.kind == "f" else None,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(truth)
        for number, band in enumerate(bands, start=1):
            file.update_tags(number, wavelength=band.wavelength_nm, wavelength_units="nanometers", fwhm=band.fwhm_nm)
    return str(path)


def wider_truth(product: StoredProduct, rows: int, columns: int) -> Image:
    """The product with noise, and rows and columns of other ground above and left of it."""
    random = np.random.default_rng(1)
    shape = (len(product.bands), WHOLE.y1 + rows, WHOLE.x1 + columns)
    truth = random.random(shape, dtype=np.float32)
    own = np.nan_to_num(product.read(WHOLE), nan=0.3)
    truth[:, rows:, columns:] = own + 0.01 * random.standard_normal(own.shape, dtype=np.float32)
    return truth


def test_what_is_read_is_what_was_written_within_half_a_step(product: StoredProduct) -> None:
    fused, _ = random_scene()
    found = product.read(WHOLE)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(fused))
    np.testing.assert_allclose(found, fused, atol=0.5001e-4)
    assert product.ratio == SPEC.grid.ratio
    assert [band.wavelength_nm for band in product.bands] == [band.wavelength_nm for band in SPEC.bands]


def test_streamed_scores_equal_whole_image_scores_on_a_reference_that_covers_more(
    product: StoredProduct, tmp_path: Path
) -> None:
    rows, columns = 7, 4
    truth = wider_truth(product, rows, columns)
    origin = (SPEC.grid.fine_transform[2] - 10 * columns, SPEC.grid.fine_transform[5] + 10 * rows)
    found = score_with_reference(product, write_truth(tmp_path / "truth.tif", truth, origin=origin)).values
    fused, same = product.read(WHOLE), truth[:, rows:, columns:]
    whole = ReferenceSums(ratio=3).add(fused, same).scores()
    assert found == pytest.approx(whole, rel=1e-6)
    valid = np.isfinite(fused[0])
    rmse = float(np.sqrt(np.mean((fused[:, valid] - same[:, valid]).astype(np.float64) ** 2)))
    assert found["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert found["rmse"] == pytest.approx(0.01, rel=0.02)  # the noise that was put in


def test_ssim_over_a_product_without_holes_is_scikit_images(product: StoredProduct, tmp_path: Path) -> None:
    truth = wider_truth(product, 0, 0)
    truth[:, :100] = np.nan  # leaves the rows below the hole
    path = write_truth(tmp_path / "t.tif", truth, origin=(SPEC.grid.fine_transform[2], SPEC.grid.fine_transform[5]))
    found = score_with_reference(product, path).values["ssim"]
    below = slice(100, None)
    pairs = zip(truth[:, below].astype(np.float64), product.read(WHOLE)[:, below].astype(np.float64), strict=True)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    assert found == pytest.approx(np.mean([structural_similarity(t, f, **options) for t, f in pairs]), rel=1e-5)


@pytest.mark.parametrize(("dx", "message"), [(5.0, "does not hold the pixels"), (200.0, "does not hold the pixels")])
def test_a_reference_on_other_pixels_is_refused(
    product: StoredProduct, tmp_path: Path, dx: float, message: str
) -> None:
    origin = (SPEC.grid.fine_transform[2] + dx, SPEC.grid.fine_transform[5])
    path = write_truth(tmp_path / "t.tif", wider_truth(product, 0, 0), origin=origin)
    with pytest.raises(DataError, match=message):
        score_with_reference(product, path)


def test_a_reference_with_the_same_coordinates_in_another_zone_is_refused(
    product: StoredProduct, tmp_path: Path
) -> None:
    origin = (SPEC.grid.fine_transform[2], SPEC.grid.fine_transform[5])
    path = write_truth(tmp_path / "t.tif", wider_truth(product, 0, 0), origin=origin, epsg=32634)
    with pytest.raises(DataError, match=r"is in WGS 84 / UTM zone 34N, and .* in WGS 84 / UTM zone 33N"):
        score_with_reference(product, path)


def test_a_reference_of_integers_without_a_scale_is_refused_with_what_helps(
    product: StoredProduct, tmp_path: Path
) -> None:
    origin = (SPEC.grid.fine_transform[2], SPEC.grid.fine_transform[5])
    truth = wider_truth(product, 0, 0)
    path = write_truth(tmp_path / "t.tif", np.rint(truth / 1e-4).astype(np.int16), origin=origin)
    with pytest.raises(DataError, match="holds int16 values") as refused:
        score_with_reference(product, path)
    assert "--hs-scale" not in str(refused.value), "an option for the HSI, not for its truth"
    with rasterio.open(path, "r+") as file:
        file.scales = (1e-4,) * file.count  # as gdal_edit.py -scale does
    scaled, exact = (
        score_with_reference(product, raster).values
        for raster in (path, write_truth(tmp_path / "exact.tif", truth, origin=origin))
    )
    assert scaled["psnr_db"] == pytest.approx(exact["psnr_db"], abs=1e-3)


def test_a_reference_without_one_of_the_bands_is_refused(product: StoredProduct, tmp_path: Path) -> None:
    origin = (SPEC.grid.fine_transform[2], SPEC.grid.fine_transform[5])
    bands = SPEC.bands[:-1]
    path = write_truth(tmp_path / "t.tif", wider_truth(product, 0, 0)[:-1], origin=origin, bands=bands)
    with pytest.raises(DataError, match=r"no band within 0\.5 nm of band 11"):
        score_with_reference(product, path)


class Inputs:
    """The two images that a perfect product would be consistent with."""

    grid = SPEC.grid
    hs_bands = SPEC.bands
    ms_bands: tuple[Band, ...] = (Band(name="m0", wavelength_nm=600.0), Band(name="m1", wavelength_nm=900.0))

    def __init__(self, hs: Image, ms: Image, ms_bands: tuple[Band, ...] = ms_bands) -> None:
        self._hs, self._ms, self.ms_bands = hs, ms, ms_bands

    def read_hs(self, window: Window) -> Image:
        return self._hs[:, *window.slices]

    def read_ms(self, window: Window) -> Image:
        return self._ms[:, *window.slices]


def test_consistency_is_nought_for_inputs_made_from_the_product_and_the_shift_for_shifted_ones(
    product: StoredProduct,
) -> None:
    srf = np.zeros((2, 12))
    srf[0, :4], srf[1, 6:] = 1 / 4, 1 / 6
    fused = product.read(WHOLE).astype(np.float64)
    # A PSF far narrower than a pixel takes the pixel in the middle of each coarse pixel: ratio 3 has one.
    state = SceneState(arrays={"srf": srf}, facts={"psf_sigma_px": 0.05})
    hs = fused[:, 1::3, 1::3].astype(np.float32)
    ms = np.einsum("mb,byx->myx", srf, fused).astype(np.float32)
    values = score_without_reference(product, Inputs(hs, ms), state).values
    assert values["spectral_consistency_rmse"] == pytest.approx(0.0, abs=1e-6)
    assert values["spatial_consistency_rmse"] == pytest.approx(0.0, abs=1e-6)
    shifted = score_without_reference(product, Inputs(hs + np.float32(0.02), ms - np.float32(0.03)), state).values
    assert shifted["spectral_consistency_rmse"] == pytest.approx(0.02, rel=1e-4)
    assert shifted["spatial_consistency_rmse"] == pytest.approx(0.03, rel=1e-4)


def test_an_hsi_that_lies_beside_the_grid_is_compared_with_the_product_there(product: StoredProduct) -> None:
    srf, phase_px, sigma_px = np.full((2, 12), 1 / 12), (0.4, -0.5), 1.2
    fused = product.read(WHOLE)
    reach = sample_reach_px(3, sigma_px, phase_px)
    hs = sample(mirrored(fused, reach), ratio=3, sigma_px=sigma_px, shift_px=phase_px)
    inputs = Inputs(hs, np.random.default_rng(3).random((2, *WHOLE.shape), np.float32))

    def off(facts: dict[str, object]) -> float:
        state = SceneState(arrays={"srf": srf}, facts={"psf_sigma_px": sigma_px, **facts})
        return score_without_reference(product, inputs, state).values["spectral_consistency_rmse"]

    assert off({"phase_px": list(phase_px)}) < 1e-4
    assert off({}) > 0.01


def test_a_band_that_was_upsampled_to_the_fine_grid_does_not_ask_for_a_soft_product(product: StoredProduct) -> None:
    srf = np.zeros((2, 12))
    srf[0, :4], srf[1, 6:] = 1 / 4, 1 / 6
    state = SceneState(arrays={"srf": srf}, facts={"psf_sigma_px": 1.2})
    hs = np.random.default_rng(3).random((12, *SPEC.grid.coarse_shape), np.float32)
    ms = np.einsum("mb,byx->myx", srf, product.read(WHOLE).astype(np.float64)).astype(np.float32)
    blocks = ms[1].reshape(WHOLE.y1 // 2, 2, WHOLE.x1 // 2, 2).mean(axis=(1, 3))  # what pixels of 20 m show
    soft = np.stack([ms[0], blocks.repeat(2, axis=0).repeat(2, axis=1)])
    sharp_band = Band(name="B02", wavelength_nm=600.0, gsd_m=10.0)
    soft_band = Band(name="B05", wavelength_nm=900.0, gsd_m=20.0)
    values = score_without_reference(product, Inputs(hs, soft, (sharp_band, soft_band)), state).values
    assert values["spatial_consistency_rmse"] == pytest.approx(0.0, abs=1e-6)
    alone = SceneState(arrays={"srf": srf[:1]}, facts={"psf_sigma_px": 1.2})
    sharp_only = score_without_reference(product, Inputs(hs, ms[:1], (sharp_band,)), alone).values
    assert values == pytest.approx(sharp_only, abs=1e-9)  # one band or two through BLAS: not always the same last bits


def test_an_msi_that_the_hsi_does_not_cover_has_no_spatial_consistency(product: StoredProduct) -> None:
    state = SceneState(arrays={"srf": np.zeros((2, 12))}, facts={"psf_sigma_px": 1.2})
    rng = np.random.default_rng(3)
    hs, ms = rng.random((12, *SPEC.grid.coarse_shape), np.float32), rng.random((2, *WHOLE.shape), np.float32)
    values = score_without_reference(product, Inputs(hs, ms), state).values
    assert {name for name, value in values.items() if np.isnan(value)} == {
        "spatial_consistency_rmse",
        "spatial_consistency_cc",
    }


@pytest.mark.parametrize("core_px", [48, 144])
def test_scores_without_a_reference_do_not_depend_on_the_cores(product: StoredProduct, core_px: int) -> None:
    rng = np.random.default_rng(2)
    state = SceneState(arrays={"srf": np.full((2, 12), 1 / 12)}, facts={"psf_sigma_px": 1.2})
    fine = rng.random((2, *WHOLE.shape), np.float32)
    rows, columns = SPEC.grid.coarse_shape
    inputs = Inputs(rng.random((12, rows, columns), np.float32), fine)
    values = score_without_reference(product, inputs, state).values
    others = score_without_reference(replace(product, core_px=core_px), inputs, state).values
    assert values["qnr"] > 0
    assert others == pytest.approx(values, rel=1e-6)


def test_a_folder_without_an_item_is_no_product(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"holds no finished product \({tmp_path.name}\.json is not there\)"):
        open_product(tmp_path)
    (tmp_path / "before.json").touch()
    with pytest.raises(DataError, match=r"not there, but before\.json: .* rename it back"):
        open_product(tmp_path)
