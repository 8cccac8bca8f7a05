"""InputFile: a file that pixels come from, with what distinguishes one product from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scenefuse.archive.remote import RemoteFile
from scenefuse.archive.scene import Asset
from scenefuse.place.href import is_url, redact
from scenefuse.raster.raster_file import RasterFile
from scenefuse.sensors.sensor import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file that a product's pixels come from, with what identity and provenance need."""

    href: str
    """Where it is, redacted."""
    role: Role
    """Which side of the pair it belongs to."""
    size_bytes: int
    """Its size; for a store, the sum of its files."""
    checksum_kind: Literal["file:checksum", "size+mtime", "size+etag"]
    """What the checksum is."""
    checksum: str
    """The multihash from metadata, `<bytes>+<nanoseconds since 1970>` or `<bytes>+<the server's tag>`."""
    path: Path | None = None
    """Its local path; None for a remote file, whose reader itself checks whether it changed."""
    version: str = ""
    """`<bytes>+<nanoseconds since 1970>` of a local file when it was opened, whatever its metadata say; else empty."""

    @property
    def evidence(self) -> str:
        """`<kind>:<checksum>`, by which identities, provenance and the cards of weights know the file's content."""
        return f"{self.checksum_kind}:{self.checksum}"

    def changed(self) -> bool:
        """True when the local file is no longer the one that was opened; FileNotFoundError when it is gone."""
        return self.path is not None and _version(self.path) != self.version


def input_files(asset: Asset, raster: RasterFile, role: Role) -> tuple[InputFile, ...]:
    """The asset's file and the side files that were read with it.

    A checksum from metadata counts only if the file also has the size that they give, if any.
    """
    files = []
    for path in (raster.path, *raster.sidecars):
        kind: Literal["size+mtime", "size+etag"] = "size+mtime"
        here = None if isinstance(path, RemoteFile) else path
        if isinstance(path, RemoteFile):
            kind, version = "size+etag", f"{path.size_bytes}+{path.tag}"
        else:
            version = _version(path)
        size_bytes = int(version.partition("+")[0])
        is_described = path == raster.path and asset.size_bytes in {None, size_bytes}
        stated = asset.checksum if is_described else None
        files.append(
            InputFile(
                href=redact(asset.href) if path == raster.path else str(path),
                role=role,
                size_bytes=size_bytes,
                checksum_kind=kind if stated is None else "file:checksum",
                checksum=version if stated is None else stated,
                path=here,
                version="" if here is None else version,
            )
        )
    return tuple(files)


def told_checksum(asset: Asset) -> str | None:
    """The evidence that the asset's file will have as an input, found without opening it; None when unknown.

    For a remote file only the metadata's checksum is known, and it is trusted.
    """
    if is_url(asset.href):
        return None if asset.checksum is None else f"file:checksum:{asset.checksum}"
    version = _version(Path(asset.href))
    described = asset.checksum is not None and asset.size_bytes in {None, int(version.partition("+")[0])}
    return f"file:checksum:{asset.checksum}" if described else f"size+mtime:{version}"


def _version(path: Path) -> str:
    """`<bytes>+<nanoseconds since 1970 of the last change>`; for a folder, the sum and the latest of its files."""
    found = [file.stat() for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path.stat()]
    return f"{sum(stat.st_size for stat in found)}+{max((stat.st_mtime_ns for stat in found), default=0)}"
