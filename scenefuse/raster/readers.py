"""Open a raster with the reader for its format, which is recognised by content."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.document import read_start
from scenefuse.archive.remote import RemoteFile, open_remote
from scenefuse.archive.selection import is_zarr_group
from scenefuse.errors import DataError
from scenefuse.place.href import is_url
from scenefuse.raster.dlr_metadata import with_dlr_metadata
from scenefuse.raster.envi_header import HEADER_MAGIC, find_data, find_header
from scenefuse.raster.gdal_file import open_envi, open_geotiff, open_jp2
from scenefuse.raster.raster_file import RasterFile

TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
JP2_MAGICS = (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")
"""First bytes of a JP2 file, and of a bare codestream."""
HDF5_MAGIC = b"\x89HDF"
_MATLAB, _PACKED = "MATLAB", "a packed archive"
_KNOWN_OTHERS = {b"CDF\x01": "NetCDF", b"\x89PNG": "PNG", b"MATL": _MATLAB, b"<VRT": "GDAL VRT"}


def open_raster(href: str, policy: AccessPolicy | None = None) -> RasterFile:
    """Open the raster at href with the reader for its format; DataError when it cannot be read.

    policy: which hosts and redirects are followed to a remote file; None for the public ones over https.
    """
    if is_url(href):
        return _open_remote(open_remote(href, policy or AccessPolicy()))
    path = local_path(href)
    if path.is_dir():
        if is_zarr_group(path):
            from scenefuse.raster.zarr_file import open_zarr  # imports xarray and pandas

            return open_zarr(path)
        raise _unreadable(path, "a folder without a Zarr store")
    start = read_start(path, len(JP2_MAGICS[0]))
    for magics, open_one in _READERS:
        if start.startswith(magics):
            return open_one(path)
    magic = start[:4]
    if magic == HEADER_MAGIC:
        return open_envi(find_data(path), path)
    header = find_header(path)
    if header is not None:
        return open_envi(path, header)
    packed = tarfile.is_tarfile(path) or zipfile.is_zipfile(path)
    raise _unreadable(path, _PACKED if packed else _KNOWN_OTHERS.get(magic, f"a file that begins with {magic!r}"))


def _open_tiff(path: Path | RemoteFile) -> RasterFile:
    """A GeoTIFF; one of DLR's products with the metadata beside it."""
    return with_dlr_metadata(open_geotiff(path))


def _open_hdf5(path: Path | RemoteFile) -> RasterFile:
    """The product of an instrument that delivers HDF5, recognised by its content."""
    from scenefuse.raster.emit_file import IMAGE, LINES, MASK, open_emit, open_emit_mask  # imports h5py
    from scenefuse.raster.hdf5_file import Hdf5File
    from scenefuse.raster.prisma_file import SWATHS, open_prisma

    file = Hdf5File(path)
    if file.has(SWATHS):
        return open_prisma(file)
    if file.has(IMAGE) and file.has(LINES):
        return open_emit(file)
    if file.has(MASK) and file.has(LINES):
        return open_emit_mask(file)
    raise DataError(
        f"{path} is HDF5, but neither EMIT's L2A reflectance nor PRISMA's L2D",
        "it is not known where the file stores its bands and their georeference",
        "give EMIT_L2A_RFL_*.nc or PRS_L2D_*.he5, or convert it, for example with gdal_translate -of COG",
    )


_READERS: tuple[tuple[tuple[bytes, ...], Callable[[Path | RemoteFile], RasterFile]], ...] = (
    (TIFF_MAGICS, _open_tiff),
    (JP2_MAGICS, open_jp2),
    ((HDF5_MAGIC,), _open_hdf5),
)
"""Readers of the single-file formats, by the file's first bytes."""


def _open_remote(file: RemoteFile) -> RasterFile:
    """A remote GeoTIFF, JPEG 2000 or HDF5; the other formats consist of several files."""
    start = file.read((0, min(len(JP2_MAGICS[0]), file.size_bytes))) if file.size_bytes else b""
    for magics, open_one in _READERS:
        if start.startswith(magics):
            return open_one(file)
    magic = start[:4]
    raise DataError(
        f"{file} is {_KNOWN_OTHERS.get(magic, f'a file that begins with {magic!r}')}",
        "over the network only GeoTIFF, JPEG 2000, EMIT's netCDF and PRISMA's HE5 can be read",
        "copy it to this machine, or convert it with gdal_translate -of COG",
    )


def local_path(href: str) -> Path:
    """The local file or folder that href, a path or file:// URL, names; DataError when there is none."""
    parts = urlsplit(href)
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(href)
    if not path.exists():
        raise DataError(f"{path} does not exist", "there is nothing to read", "check the path")
    return path


def _unreadable(path: Path, what: str) -> DataError:
    """The error for a format without a reader."""
    cure = "convert it, for example with gdal_translate -of COG"
    if what == _MATLAB:
        cure = "write its array as a GeoTIFF with CRS, place and wavelengths, which GDAL cannot read from it"
    if what == _PACKED:
        cure = "unpack it, and give the product's folder or its image"
    return DataError(
        f"{path} is {what}", "only GeoTIFF, JPEG 2000, ENVI, Zarr, EMIT's netCDF and PRISMA's HE5 can be read", cure
    )
