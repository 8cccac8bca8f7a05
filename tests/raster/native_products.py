"""Files laid out as ASI delivers PRISMA's L2D and LP DAAC delivers EMIT's L2A, small."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer

SWATH = "HDFEOS/SWATHS/PRS_L2D_HCO"
UTM = "EPSG:32632"
SCALES = {"Vnir": (0.0, 1.2), "Swir": (-0.05, 0.9)}
"""Reflectance at DN 0 and 65535, by detector."""


def write_prisma(
    path: Path,
    dn: dict[str, NDArray[np.uint16]],
    *,
    corner: tuple[float, float] = (6e5, 5e6),
    at: str = "centres",
    gsd_m: float = 30.0,
    spans_nm: dict[str, tuple[float, float]] | None = None,
) -> Path:
    """dn: (band, y, x) by detector, bands of falling wavelength, the last VNIR and the first SWIR one without data.

    corner: outer north-west corner of the image; at: whether the corner attributes are the corner pixels' centres;
    spans_nm: longest and shortest wavelength by detector.
    """
    spans_nm = spans_nm or {"Vnir": (1010.0, 402.0), "Swir": (2505.0, 920.0)}
    rows, columns = dn["Vnir"].shape[1:]
    centre_x = corner[0] + gsd_m * (np.arange(columns) + 0.5)
    centre_y = corner[1] - gsd_m * (np.arange(rows) + 0.5)
    inwards = gsd_m / 2 if at == "centres" else 0.0
    longitude, latitude = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform(
        *np.meshgrid(centre_x, centre_y)
    )
    with h5py.File(path, "w") as file:
        attributes = {
            "Epsg_Code": np.int64(32632),
            "Product_ULcorner_easting": corner[0] + inwards,
            "Product_ULcorner_northing": corner[1] - inwards,
            "Product_LRcorner_easting": corner[0] + gsd_m * columns - inwards,
            "Product_LRcorner_northing": corner[1] - gsd_m * rows + inwards,
        }
        for detector, (low, high) in SCALES.items():
            count = len(dn[detector])
            flags = np.ones(count, np.uint8)
            flags[-1 if detector == "Vnir" else 0] = 0
            centres = np.linspace(*spans_nm[detector], count) * flags  # 0 where there is no band
            attributes |= {
                f"List_Cw_{detector}": centres.astype(np.float32),
                f"List_Fwhm_{detector}": np.full(count, 11.0, np.float32),
                f"List_Cw_{detector}_Flags": flags,
                f"L2Scale{detector}Min": np.float32(low),
                f"L2Scale{detector}Max": np.float32(high),
            }
            file[f"{SWATH}/Data Fields/{detector.upper()}_Cube"] = dn[detector].transpose(1, 0, 2)
        file[f"{SWATH}/Geolocation Fields/Latitude"] = latitude.astype(np.float32)
        file[f"{SWATH}/Geolocation Fields/Longitude"] = longitude.astype(np.float32)
        file.attrs.update(attributes)
    return path


EMIT_STEP_DEG = 0.000542232520256367
"""EMIT's map."""


def write_emit(
    path: Path,
    image: NDArray[np.float32],
    lines: NDArray[np.int32],
    samples: NDArray[np.int32],
    *,
    corner: tuple[float, float] = (8.0, 47.0),
    name: str = "reflectance",
) -> Path:
    """image: (line, sample, band); lines, samples: (y, x) counted from 1 on a map with its north-west corner there.

    name: `reflectance`, or `mask` for the other file of a product.
    """
    count = image.shape[2]
    transform = Affine(EMIT_STEP_DEG, 0, corner[0], 0, -EMIT_STEP_DEG, corner[1])
    good = np.ones(count, np.uint8)
    good[count // 2] = 0
    with h5py.File(path, "w") as file:
        chunks = tuple(min(size, 16) for size in image.shape)
        file.create_dataset(name, data=image, chunks=chunks, compression="gzip")
        file["location/glt_x"], file["location/glt_y"] = samples, lines
        file["sensor_band_parameters/wavelengths"] = np.linspace(381, 2493, count, dtype=np.float32)
        file["sensor_band_parameters/fwhm"] = np.full(count, 8.5, np.float32)
        file["sensor_band_parameters/good_wavelengths"] = good
        file.attrs["geotransform"] = np.array(transform.to_gdal())
        file.attrs["spatial_ref"] = CRS.from_epsg(4326).to_wkt()
    return path
