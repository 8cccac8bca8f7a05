"""Where an input is: its format told from its content, its file, its identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from scenefuse.archive.access import AccessPolicy, is_url
from scenefuse.archive.document import read_start
from scenefuse.archive.remote import RemoteFile, open_remote
from scenefuse.archive.scene import Asset
from scenefuse.cube.envi_header import HEADER_MAGIC, find_data, find_header
from scenefuse.cube.gdal_file import open_envi, open_geotiff
from scenefuse.cube.raster_file import RasterFile
from scenefuse.errors import DataError
from scenefuse.sensors.sensor import Role

TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
ZARR_MARKS = ("zarr.json", ".zgroup", ".zmetadata")
_KNOWN_OTHERS = {b"\x89HDF": "HDF5", b"CDF\x01": "NetCDF", b"\x89PNG": "PNG", b"MATL": "MATLAB", b"<VRT": "GDAL VRT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file that a product's pixels come from, as far as identity and provenance need it."""

    href: str
    """Where it is, without query string or credentials."""
    role: Role
    """Which side of the pair it belongs to."""
    size_bytes: int
    """Its size; of a store, the sum of its files."""
    checksum_kind: Literal["file:checksum", "size+mtime", "size+etag"]
    """What the checksum is."""
    checksum: str
    """The multihash that metadata gives, `<bytes>+<nanoseconds since 1970>` or `<bytes>+<the server's tag>`."""


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


def redacted(href: str) -> str:
    """The href without user, password, query string and fragment."""
    parts = urlsplit(href)
    if len(parts.scheme) <= 1:
        return href
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def input_files(asset: Asset, raster: RasterFile, role: Role) -> tuple[InputFile, ...]:
    """The asset's file and the side files that were read with it."""
    files = []
    for path in (raster.path, *raster.sidecars):
        stated = asset.checksum if path == raster.path else None
        kind: Literal["size+mtime", "size+etag"] = "size+mtime"
        if isinstance(path, RemoteFile):
            kind, size, version = "size+etag", path.size_bytes, path.tag
        else:
            size, version = _size_and_mtime(path)
        files.append(
            InputFile(
                href=redacted(asset.href) if path == raster.path else str(path),
                role=role,
                size_bytes=size,
                checksum_kind=kind if stated is None else "file:checksum",
                checksum=f"{size}+{version}" if stated is None else stated,
            )
        )
    return tuple(files)


def _size_and_mtime(path: Path) -> tuple[int, str]:
    """Bytes, and nanoseconds since 1970 of the last change; of a folder, the sum and the latest of its files."""
    found = [file.stat() for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path.stat()]
    return sum(stat.st_size for stat in found), str(max(stat.st_mtime_ns for stat in found))


def _unreadable(path: Path, what: str) -> DataError:
    """The refusal of a format that no reader knows."""
    return DataError(
        f"{path} is {what}",
        "GeoTIFF, ENVI and Zarr can be read",
        "convert it, for example with gdal_translate -of COG",
    )
