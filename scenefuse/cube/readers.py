"""Which reader opens a raster: its format told from its content."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.document import read_start
from scenefuse.archive.remote import RemoteFile, open_remote
from scenefuse.cube.envi_header import HEADER_MAGIC, find_data, find_header
from scenefuse.cube.gdal_file import open_envi, open_geotiff
from scenefuse.cube.raster_file import RasterFile
from scenefuse.errors import DataError
from scenefuse.place.href import is_url

TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")
_MATLAB = "MATLAB"
_KNOWN_OTHERS = {
    b"\x89HDF": "HDF5",
    b"CDF\x01": "NetCDF",
    b"\x00\x00\x00\x0c": "JPEG 2000",
    b"\x89PNG": "PNG",
    b"MATL": _MATLAB,
    b"<VRT": "GDAL VRT",
}


def open_raster(href: str, policy: AccessPolicy | None = None) -> RasterFile:
    """The raster at href, by the reader of the format that its content shows; DataError when it cannot be read.

    policy: which hosts and redirects are followed to a file on the network; None for the public ones over https.
    """
    if is_url(href):
        return _open_remote(open_remote(href, policy or AccessPolicy()))
    path = local_path(href)
    if path.is_dir():
        if any((path / mark).is_file() for mark in ZARR_MARKS):
            from scenefuse.cube.zarr_file import open_zarr  # imports xarray and pandas

            return open_zarr(path)
        raise _unreadable(path, "a folder without a Zarr store")
    magic = read_start(path, 4)
    if magic in TIFF_MAGICS:
        return open_geotiff(path)
    if magic == HEADER_MAGIC:
        return open_envi(find_data(path), path)
    header = find_header(path)
    if header is not None:
        return open_envi(path, header)
    raise _unreadable(path, _KNOWN_OTHERS.get(magic, f"a file that begins with {magic!r}"))


def _open_remote(file: RemoteFile) -> RasterFile:
    """The GeoTIFF on the network: other formats are many files, or cannot be read by parts."""
    magic = file.read((0, min(4, file.size_bytes))) if file.size_bytes else b""
    if magic in TIFF_MAGICS:
        return open_geotiff(file)
    raise DataError(
        f"{file} is {_KNOWN_OTHERS.get(magic, f'a file that begins with {magic!r}')}",
        "over the network GeoTIFFs alone are read",
        "copy it to this machine, or convert it with gdal_translate -of COG",
    )


def local_path(href: str) -> Path:
    """The file or folder on this machine that href, a path or file:// URL, names; DataError when there is none."""
    parts = urlsplit(href)
    path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(href)
    if not path.exists():
        raise DataError(f"{path} does not exist", "there is nothing to read", "check the path")
    return path


def _unreadable(path: Path, what: str) -> DataError:
    """The refusal of a format that no reader knows."""
    cure = "convert it, for example with gdal_translate -of COG"
    if what == _MATLAB:
        cure = "write its array as a GeoTIFF with CRS, place and wavelengths, which GDAL cannot read from it"
    return DataError(f"{path} is {what}", "GeoTIFF, ENVI and Zarr can be read", cure)
