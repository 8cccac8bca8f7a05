"""GeoTIFF, JPEG 2000 and ENVI through GDAL: one named driver, no side files, directory scans or network of its own."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.windows
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from scenefuse.archive.remote import RemoteFile
from scenefuse.grid.placement import RasterGrid
from scenefuse.grid.transform import moved
from scenefuse.grid.window import Window
from scenefuse.raster.envi_header import NM_PER_UNIT, EnviHeader, check_length, read_header
from scenefuse.raster.mirror_cache import mirrored
from scenefuse.raster.raster_file import FileBand, RasterFile, check_size, damaged, unique_names
from scenefuse.raster.remote_jp2 import RemoteJp2
from scenefuse.raster.remote_tiff import RemoteTiff

Driver = Literal["GTiff", "JP2OpenJPEG", "ENVI"]
Remote = RemoteTiff | RemoteJp2
_OPTIONS = {
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": 64 * 2**20,  # bytes per process; GDAL's default grows with the machine
    "CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO",  # GDAL would write beside gzip-compressed inputs
}
_READDIR = {
    "GTiff": "EMPTY_DIR",
    "JP2OpenJPEG": "EMPTY_DIR",
    "ENVI": "TRUE",
}  # with EMPTY_DIR the ENVI driver does not find its header
_WAVELENGTH_IN_NAME = re.compile(r"\s*\(\s*[0-9.]+\s*(nanometers|micrometers|nm|um|µm)\s*\)\s*$", re.IGNORECASE)


class GdalPixels:
    """Reads windows of one GDAL file; each thread has its own handle, and a pickled copy has none."""

    def __init__(self, path: Path | RemoteFile, driver: Driver) -> None:
        self.path = path
        self.driver: Driver = driver
        self._handles = threading.local()

    def __getstate__(self) -> tuple[Path | RemoteFile, Driver]:
        return self.path, self.driver

    def __setstate__(self, state: tuple[Path | RemoteFile, Driver]) -> None:
        self.path, self.driver = state
        self._handles = threading.local()

    def read(self, bands: Sequence[int], window: Window) -> NDArray[Any]:
        """(band, y, x) stored values in the file's dtype; one GDAL call for all bands."""
        remote = _remote(self.path, self.driver)
        if remote is not None:
            remote.fetch(bands, window)
        # GDAL's threads overwrite each other's results when one call names a band twice (3.10).
        distinct = list(dict.fromkeys(bands))
        indexes = [band + 1 for band in distinct]
        stored = self._read(window, lambda dataset, part: dataset.read(indexes, window=part), remote)
        return stored if len(distinct) == len(bands) else stored[[distinct.index(band) for band in bands]]

    def read_mask(self, window: Window) -> NDArray[Any]:
        """(y, x) uint8 mask stored beside the bands; 0 = no data."""
        remote = _remote(self.path, self.driver)
        if remote is not None:
            remote.fetch_mask(window)
        return self._read(window, lambda dataset, part: dataset.read_masks(1, window=part), remote)

    def _read(
        self,
        window: Window,
        read: Callable[[Any, rasterio.windows.Window], NDArray[Any]],
        remote: Remote | None,
    ) -> NDArray[Any]:
        """Read a window through this thread's handle; remote: what it was fetched into."""
        with _environment(self.driver):
            opened = os.getpid(), remote  # a forked child must not share the parent's file
            if getattr(self._handles, "opened", None) != opened:
                self._handles.dataset = _open(self.path, self.driver, remote)
                self._handles.opened = opened
            height, width = window.shape
            part = rasterio.windows.Window(window.x0, window.y0, width, height)
            try:
                return read(self._handles.dataset, part)
            except RasterioError as error:
                raise damaged(self.path, f"rows {window.y0} to {window.y1} cannot be read ({error})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class GdalMask:
    """An alpha band, or the mask that a TIFF stores beside its bands."""

    pixels: GdalPixels
    """Reads its file."""
    band: int | None
    """The alpha band, counted from 0; None for the mask beside the bands."""

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(y, x) True where all bands are data: mask or alpha is not 0."""
        stored = self.pixels.read_mask(window) if self.band is None else self.pixels.read([self.band], window)[0]
        data: NDArray[np.bool_] = stored != 0
        return data


def open_geotiff(path: Path | RemoteFile) -> RasterFile:
    """A GeoTIFF or COG; DataError when it ends before its last block."""
    remote = _remote(path, "GTiff")
    with _environment("GTiff"), _open(path, "GTiff", remote) as dataset:
        check_size(path, dataset.count, dataset.shape)
        _check_blocks(path, dataset, remote)
        declared = any(scale != 1.0 for scale in dataset.scales) or any(offset != 0.0 for offset in dataset.offsets)
        pixels = GdalPixels(path, "GTiff")
        names = _names([_WAVELENGTH_IN_NAME.sub("", text or "") for text in dataset.descriptions])
        tagged = [_tagged(dataset, i + 1) for i in range(dataset.count)]
        # A band with a wavelength is a measurement: GDAL calls the fourth of four bytes alpha unless told otherwise.
        alphas = [i for i in _alphas(dataset) if "wavelength_nm" not in tagged[i]]
        bands = tuple(
            FileBand(
                name=names[i],
                **tagged[i],
                is_mask=i in alphas,
                scale=dataset.scales[i] if declared else None,
                offset=dataset.offsets[i] if declared else None,
                nodata=dataset.nodatavals[i],
            )
            for i in range(dataset.count)
        )
        return RasterFile(
            path=path,
            format="GeoTIFF",
            grid=_grid(path, dataset),
            dtype=dataset.dtypes[0],
            bands=bands,
            scale_source="the file's band scales and offsets" if declared else None,
            pixels=pixels,
            mask=_mask(dataset, pixels, alphas),
        )


def open_jp2(path: Path | RemoteFile) -> RasterFile:
    """A JPEG 2000 file, as Sentinel-2's bands are distributed; DataError when its last pixel cannot be decoded.

    The format has no scale and no no-data value: these come from the sensor or the caller.
    """
    remote = _remote(path, "JP2OpenJPEG")
    with _environment("JP2OpenJPEG"), _open(path, "JP2OpenJPEG", remote) as dataset:
        check_size(path, dataset.count, dataset.shape)
        rows, columns = dataset.shape
        last = rasterio.windows.Window(columns - 1, rows - 1, 1, 1)
        if remote is not None:
            remote.fetch([dataset.count - 1], Window(y0=rows - 1, y1=rows, x0=columns - 1, x1=columns))
        try:
            dataset.read(dataset.count, window=last)
        except RasterioError as error:
            raise damaged(path, f"its last pixel cannot be decoded ({error})") from error
        pixels = GdalPixels(path, "JP2OpenJPEG")
        names, alphas = _names([text or "" for text in dataset.descriptions]), _alphas(dataset)
        return RasterFile(
            path=path,
            format="JPEG 2000",
            grid=_grid(path, dataset),
            dtype=dataset.dtypes[0],
            bands=tuple(FileBand(name=names[i], is_mask=i in alphas) for i in range(dataset.count)),
            pixels=pixels,
            mask=_mask(dataset, pixels, alphas),
        )


def open_envi(path: Path, header_path: Path) -> RasterFile:
    """An ENVI file, plain or gzip-compressed; DataError when it is shorter than its header says."""
    header = read_header(header_path)
    check_length(header, path)
    count = header.shape[0]
    centres, widths = header.wavelengths_nm("wavelength"), header.wavelengths_nm("fwhm")
    good = header.numbers("bbl", count) or header.numbers("good_wavelengths", count)  # the latter in exports of EMIT
    scales = header.scales()
    given = header.items("band names")
    names = _names(given if len(given) == count else [""] * count)
    unit = header.text("wavelength units")
    unread = header.text("wavelength") is not None and centres is None
    with _environment("ENVI"), _open(path, "ENVI") as dataset:
        bands = tuple(
            FileBand(
                name=names[i],
                wavelength_nm=centres[i] if centres else None,
                fwhm_nm=widths[i] if widths else None,
                bad=good is not None and good[i] == 0,
                scale=scales[0][i] if scales else None,
                offset=scales[1][i] if scales else None,
                nodata=dataset.nodatavals[i],
            )
            for i in range(count)
        )
        return RasterFile(
            path=path,
            format="ENVI",
            grid=_tied(_grid(path, dataset), header),
            dtype=dataset.dtypes[0],
            bands=bands,
            scale_source=scales[2] if scales else None,
            wavelength_note=f"the header's wavelength units are {unit!r}" if unread else None,
            sidecars=(header_path,),
            pixels=GdalPixels(path, "ENVI"),
        )


def _environment(driver: Driver) -> rasterio.Env:
    """GDAL's options while a file of this driver is opened or read."""
    return rasterio.Env(**_OPTIONS, GDAL_DISABLE_READDIR_ON_OPEN=_READDIR[driver])  # type: ignore[no-untyped-call]


def _remote(path: Path | RemoteFile, driver: Driver) -> Remote | None:
    """The reader of a remote file's bytes; None for a local file."""
    if not isinstance(path, RemoteFile):
        return None
    return mirrored(RemoteJp2, path) if driver == "JP2OpenJPEG" else mirrored(RemoteTiff, path)


def _open(path: Path | RemoteFile, driver: Driver, remote: Remote | None = None) -> Any:
    """Open the dataset; a missing georeference is left for the planner to refuse, with the reason."""
    options = {"NUM_THREADS": str(min(4, os.cpu_count() or 1))} if driver == "GTiff" else {}
    local = path if remote is None else remote.mirror.path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(local, driver=driver, **options)
        except RasterioError as error:
            raise damaged(path, f"cannot be opened as {driver} ({error})") from error
    if isinstance(remote, RemoteJp2):
        remote.settle(dataset.block_shapes[0])
    return dataset


def _grid(path: Path | RemoteFile, dataset: Any) -> RasterGrid:
    """The dataset's pixels on the ground."""
    a, b, c, d, e, f = (float(value) + 0.0 for value in tuple(dataset.transform)[:6])  # -0.0 becomes 0.0
    return RasterGrid(
        crs_wkt=dataset.crs.to_wkt() if dataset.crs else "",
        transform=(a, b, c, d, e, f),
        shape=dataset.shape,
        name=str(path),
    )


def _tied(grid: RasterGrid, header: EnviHeader) -> RasterGrid:
    """The grid of an ENVI file, with the header's tie point where it lies on the map.

    GDAL (3.10) goes from there to the first pixel along the map's axes, even if the image's are turned against them.
    """
    a, b, _, d, e, _ = grid.transform
    if (b == d == 0 and e < 0) or header.tie_point is None:
        return grid
    row, column, x, y = header.tie_point
    return replace(grid, transform=moved((a, b, x, d, e, y), -row, -column))


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """The bands' names, made unique; `band <number from 1>` where one is empty."""
    return unique_names([name or f"band {i + 1}" for i, name in enumerate(given)])


def _alphas(dataset: Any) -> list[int]:
    """Bands that the file calls alpha, counted from 0."""
    return [i for i, meaning in enumerate(dataset.colorinterp) if meaning == ColorInterp.alpha]


def _mask(dataset: Any, pixels: GdalPixels, alphas: Sequence[int]) -> GdalMask | None:
    """The mask beside the bands, else the first alpha band: GDAL itself lets alpha mask only 1 or 3 other bands."""
    if _has_mask(dataset):
        return GdalMask(pixels=pixels, band=None)
    return GdalMask(pixels=pixels, band=alphas[0]) if alphas else None


def _has_mask(dataset: Any) -> bool:
    """True when a mask lies beside the bands."""
    flags = dataset.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _tagged(dataset: Any, band: int) -> dict[str, Any]:
    """wavelength_nm, fwhm_nm and bad from a band's tags: the plain ones first, then GDAL's IMAGERY domain."""
    tags = {key.lower(): value for key, value in dataset.tags(band).items()}
    imagery = dataset.tags(band, ns="IMAGERY")
    factor = NM_PER_UNIT.get(tags.get("wavelength_units", "").strip().lower())
    found: dict[str, Any] = {"bad": tags.get("bbl", "1").strip() == "0"}
    for field, key, imagery_key in (
        ("wavelength_nm", "wavelength", "CENTRAL_WAVELENGTH_UM"),
        ("fwhm_nm", "fwhm", "FWHM_UM"),
    ):
        if factor is not None and _positive(tags.get(key)) is not None:
            found[field] = float(tags[key]) * factor
        elif _positive(imagery.get(imagery_key)) is not None:
            found[field] = float(imagery[imagery_key]) * 1e3
    return found


def _positive(text: str | None) -> float | None:
    """The number in the text; None unless it is above 0."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value > 0 else None


def _check_blocks(path: Path | RemoteFile, dataset: Any, remote: Remote | None) -> None:
    """Refuse a TIFF that ends before the last block of one of its bands, or whose last block or mask is damaged."""
    size = path.size_bytes if isinstance(path, RemoteFile) else path.stat().st_size
    block_height, block_width = dataset.block_shapes[0]
    row, column = (dataset.height - 1) // block_height, (dataset.width - 1) // block_width
    for band in range(1, dataset.count + 1):
        start = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
        length = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
        end = None if start is None else int(start) + int(length or 0)
        if end is not None and end > size:
            raise damaged(path, f"ends at byte {size}, the last block of band {band} at byte {end}")
    window = rasterio.windows.Window(column * block_width, row * block_height, 1, 1)
    if remote is not None:
        last = Window(y0=row * block_height, y1=dataset.height, x0=column * block_width, x1=dataset.width)
        remote.fetch([dataset.count - 1], last)
        remote.fetch_mask(last)
    try:
        dataset.read(dataset.count, window=window)
    except RasterioError as error:
        raise damaged(path, f"the last block of band {dataset.count} cannot be read ({error})") from error
    if _has_mask(dataset):
        try:
            dataset.read_masks(1, window=window)
        except RasterioError as error:
            raise damaged(path, f"the last block of its mask cannot be read ({error})") from error
