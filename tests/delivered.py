"""Products laid out as DLR, ESA and USGS deliver them, small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

UTM = "EPSG:32632"
ENMAP = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T165614Z"
DESIS = "DESIS-HSI-L2A-DT0485529167_001-20200620T092154-V0210"
SENTINEL2 = "S2B_MSIL2A_20220724T103629_N0510_R008_T32TQM_20240706T135021"
LANDSAT = "LC09_L2SP_193024_20220725_20230406_02_T1"


def write_enmap(
    folder: Path,
    dn: NDArray[np.int16],
    wavelengths_nm: Sequence[float],
    transform: Affine,
    *,
    product: str = ENMAP,
    level: str = "L2A",
    gain: float = 1e-4,
) -> Path:
    """The product's folder. dn: (band, y, x), -32768 for no data; bands of 9.5 nm."""
    folder /= product
    folder.mkdir(parents=True)
    bands, rows, columns = dn.shape
    with rasterio.open(
        folder / f"{product}-SPECTRAL_IMAGE.TIF", "w", driver="GTiff", count=bands, height=rows, width=columns,
        dtype="int16", crs=UTM, transform=transform, tiled=True, blockxsize=64, blockysize=64, compress="deflate",
    ) as file:  # fmt: skip
        file.write(dn)
    described = _enmap_bands if product.startswith("ENMAP") else _desis_bands
    (folder / f"{product}-METADATA.{'XML' if product.startswith('ENMAP') else 'xml'}").write_text(
        f"<?xml version='1.0' encoding='UTF-8'?>\n<level_X><base><level>{level}</level></base><specific>"
        f"<bandCharacterisation>{described(wavelengths_nm, gain)}</bandCharacterisation>"
        "<interiorOrientation><band><bandNumber>1</bandNumber></band></interiorOrientation>"
        "<backgroundValue>-32768</backgroundValue></specific></level_X>\n"
    )
    return folder


def _enmap_bands(wavelengths_nm: Sequence[float], gain: float) -> str:
    return "".join(
        f'<bandID number="{number}"><wavelengthCenterOfBand>{nm}</wavelengthCenterOfBand><FWHMOfBand>9.5</FWHMOfBand>'
        f"<GainOfBand>{gain}</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for number, nm in enumerate(wavelengths_nm, start=1)
    )


def _desis_bands(wavelengths_nm: Sequence[float], gain: float) -> str:
    return "".join(
        f"<band><bandNumber>{number}</bandNumber><wavelengthWidthOfBand>9.5</wavelengthWidthOfBand>"
        f"<wavelengthCenterOfBand>{nm}</wavelengthCenterOfBand><response>0.1,0.9</response>"
        f"<gainOfBand>{gain}</gainOfBand><offsetOfBand>0</offsetOfBand></band>"
        for number, nm in enumerate(wavelengths_nm, start=1)
    )


def write_sentinel2(
    folder: Path, reflectance: NDArray[np.float32], transform: Affine, *, cloudy: NDArray[np.bool_] | None = None
) -> Path:
    """The SAFE of four bands at 10 m, each at 20 m, too, and SCL. reflectance: (4, y, x), sides even.

    cloudy: (y / 2, x / 2), where SCL says cloud.
    """
    folder /= f"{SENTINEL2}.SAFE"
    granule = folder / "GRANULE" / "L2A_T32TQM_A028100_20220724T104342" / "IMG_DATA"
    for gsd in (10, 20):
        (granule / f"R{gsd}m").mkdir(parents=True)
    dn = np.rint((reflectance + 0.1) * 1e4).astype(np.uint16)
    coarse, transform_20m = dn[:, ::2, ::2], transform @ Affine.scale(2)
    for name, band, band_20m in zip(("B02", "B03", "B04", "B08"), dn, coarse, strict=True):
        _write_jp2(granule / "R10m" / f"T32TQM_20220724T103629_{name}_10m.jp2", band, transform)
        _write_jp2(granule / "R20m" / f"T32TQM_20220724T103629_{name}_20m.jp2", band_20m, transform_20m)
    scl = np.full(coarse.shape[1:], 4, np.uint8)
    if cloudy is not None:
        scl[cloudy] = 9
    _write_jp2(granule / "R20m" / "T32TQM_20220724T103629_SCL_20m.jp2", scl, transform_20m)
    (folder / "MTD_MSIL2A.xml").write_text("<n1:Level-2A_User_Product/>")
    return folder


def _write_jp2(path: Path, dn: NDArray[np.unsignedinteger], transform: Affine) -> None:
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", count=1, height=dn.shape[0], width=dn.shape[1], dtype=dn.dtype, crs=UTM,
        transform=transform, QUALITY="100", REVERSIBLE="YES",
    ) as file:  # fmt: skip
        file.write(dn, 1)


def write_landsat(folder: Path, reflectance: NDArray[np.float32], transform: Affine) -> Path:
    """The product's folder, of bands 2 to 5. reflectance: (4, y, x)."""
    folder /= LANDSAT
    folder.mkdir(parents=True)
    for number, band in enumerate(reflectance, start=2):
        dn = np.rint((band + 0.2) / 2.75e-5).astype(np.uint16)
        with rasterio.open(
            folder / f"{LANDSAT}_SR_B{number}.TIF", "w", driver="GTiff", count=1, height=dn.shape[0],
            width=dn.shape[1], dtype="uint16", crs=UTM, transform=transform,
        ) as file:  # fmt: skip
            file.write(dn, 1)
    for other in ("ST_B10", "QA_PIXEL", "SR_QA_AEROSOL"):
        (folder / f"{LANDSAT}_{other}.TIF").write_bytes(b"II*\0")
    (folder / f"{LANDSAT}_MTL.txt").write_text(
        'GROUP = IMAGE_ATTRIBUTES\n    DATE_ACQUIRED = 2022-07-25\n    SCENE_CENTER_TIME = "10:04:22.1234560Z"\n'
    )
    return folder
