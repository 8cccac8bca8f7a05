"""Paris: Hyperion and ALI of EO-1 on one grid of 30 m, in a MATLAB file without a georeference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.io
from affine import Affine
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from scenefuse.sensors.band import Band
from scenefuse.sensors.sensor import find_sensor
from tests.real.products import Image, Product, fuse_here, needed

GRID = Affine(30.0, 0.0, 450000.0, 0.0, -30.0, 5415000.0)
"""Made up: somewhere in Paris, UTM zone 31 north. The file does not say where it lies; only the sizes are its own."""
RATIO = 3
SIGMA_PX = 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paris:
    """The pair by Wald's protocol: Hyperion is the truth at 30 m, and the HSI is what 90 m would show of it."""

    hs: Path
    ms: Path
    truth: Image


@pytest.fixture(scope="module")
def paris(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Paris:
    folder = tmp_path_factory.mktemp("paris")
    return converted(needed(test_data / "pairs" / "paris" / "paris_data_hs_ms.mat"), folder)


def converted(path: Path, folder: Path) -> Paris:
    """GeoTIFFs of the arrays in HySure's paris_data_hs_ms.mat.

    HSim (72, 72, 128) and MSim (72, 72, 9) are (row, column, band) reflectance as doubles, on one grid. HSim's bands
    are those of Hyperion's 242 that non_del_bands names, counted from 1; MSim's are ALI's nine in order. Both
    get wavelengths from the sensors' cards as band tags, int16 at 1e-4 as encoding, and GRID for a place.
    """
    content = scipy.io.loadmat(path)
    hyperion, ali = find_sensor("Hyperion"), find_sensor("ALI")
    assert hyperion is not None
    assert ali is not None
    truth, msi = (np.moveaxis(content[key], 2, 0) for key in ("HSim", "MSim"))
    hs_bands = [hyperion.bands[number - 1] for number in content["non_del_bands"].ravel().astype(int)]
    low = gaussian_filter(truth, (0, SIGMA_PX, SIGMA_PX), mode="reflect")[:, 1::RATIO, 1::RATIO]
    hs, ms = folder / "hyperion.tif", folder / "ali.tif"
    write(hs, low, hs_bands, GRID @ Affine.scale(RATIO))
    write(ms, msi, list(ali.bands), GRID)
    return Paris(hs=hs, ms=ms, truth=truth)


def write(path: Path, reflectance: Image, bands: list[Band], transform: Affine) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=reflectance.shape[1], width=reflectance.shape[2],
        dtype="int16", nodata=-32768, crs="EPSG:32631", transform=transform,
    ) as dataset:  # fmt: skip
        dataset.write(np.rint(reflectance * 1e4).astype(np.int16))
        dataset.scales = [1e-4] * len(bands)
        for number, band in enumerate(bands, start=1):
            dataset.set_band_description(number, band.name)
            dataset.update_tags(
                number, wavelength=str(band.wavelength_nm), fwhm=str(band.fwhm_nm), wavelength_units="Nanometers"
            )


def psnr(product: Product, truth: Image) -> float:
    """Mean over bands, in dB, each against its own maximum.

    Measured: bicubic 25.8, gsa 28.2, mtf-glp-hs 29.0, hysure-l2 29.4.
    """
    pairs = zip(truth, product.reflectance, strict=True)
    return float(np.mean([peak_signal_noise_ratio(true, ours, data_range=true.max()) for true, ours in pairs]))


@pytest.fixture(scope="module")
def bicubic_db(paris: Paris, tmp_path_factory: pytest.TempPathFactory) -> float:
    return psnr(fuse_here(paris.hs, paris.ms, tmp_path_factory.mktemp("bicubic"), model="bicubic"), paris.truth)


@pytest.mark.parametrize(("model", "gain_db"), [("gsa", 2.0), ("mtf-glp-hs", 2.8), ("hysure-l2", 3.2)])
def test_fusion_is_nearer_to_hyperion_than_interpolation(
    paris: Paris, bicubic_db: float, tmp_path: Path, model: str, gain_db: float
) -> None:
    product = fuse_here(paris.hs, paris.ms, tmp_path, model=model)
    assert product.integers.shape == (128, 72, 72)
    assert product.transform.almost_equals(GRID, 1e-6)
    assert psnr(product, paris.truth) > bicubic_db + gain_db
