"""The header of a tiled TIFF: read from a file that GDAL wrote, written for tiles that are stored after it.

A directory's entries are copied byte for byte; only where its tiles lie is our own. TIFF 6.0 section 2, and BigTIFF
as in libtiff's bigtiffdesign: the same with 64-bit counts and offsets. Little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

WIDTH, LENGTH, SUBFILE = 256, 257, 254
"""Tags: columns, rows, and what kind of image a directory describes."""
_TILE_OFFSETS, _TILE_BYTE_COUNTS = 324, 325
_LONG, _LONG8 = 4, 16
_CLASSIC_BYTES = 2**32
"""Files that classic offsets can reach."""
_ALIGNED_BYTES = 8
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8, 18: 8}
"""Size of one value of each type."""

_OF_EVERY_LEVEL = frozenset({WIDTH, LENGTH, 258, 259, 262, 277, 284, 317, 322, 323, 338, 339, 42113})
"""Tags that an overview has in common with its image: how pixels are coded, and what means no data."""
_REDUCED_IMAGE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One field of a directory."""

    tag: int
    """What it says."""
    type: int
    """Of its values."""
    count: int
    """Values."""
    data: bytes
    """The values, little endian."""


Directory = tuple[Entry, ...]
"""The fields of one image except where its tiles are, by ascending tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How counts and offsets are written."""

    head: bytes
    """Byte order and version; the offset of the first directory follows, and then that directory."""
    count: str
    """Entries of a directory, for struct."""
    entry: str
    """Tag, type and count of an entry, for struct; its value or offset follows."""
    offset: str
    """An offset, for struct."""
    offset_type: int
    """TIFF type of an offset."""

    @property
    def width(self) -> int:
        """Bytes of an offset, and of the largest value that stands in its entry."""
        return struct.calcsize(self.offset)


_CLASSIC = _Form(head=b"II*\0", count="<H", entry="<HHI", offset="<I", offset_type=_LONG)
_BIG = _Form(head=b"II+\0\x08\0\0\0", count="<Q", entry="<HHQ", offset="<Q", offset_type=_LONG8)


def read_directory(data: bytes) -> Directory:
    """The first directory of a little-endian BigTIFF, tile offsets and sizes left out."""
    if not data.startswith(_BIG.head):
        raise ValueError(f"a file that begins with {data[:8]!r} is no little-endian BigTIFF")
    (start,) = struct.unpack_from("<Q", data, 8)
    (count,) = struct.unpack_from(_BIG.count, data, start)
    entries = []
    for place in range(start + 8, start + 8 + 20 * count, 20):
        tag, kind, values = struct.unpack_from(_BIG.entry, data, place)
        size = values * _VALUE_BYTES[kind]
        at = place + 12 if size <= _BIG.width else struct.unpack_from("<Q", data, place + 12)[0]
        if tag not in (_TILE_OFFSETS, _TILE_BYTE_COUNTS):
            entries.append(Entry(tag=tag, type=kind, count=values, data=data[at : at + size]))
    return tuple(entries)


def overview_directory(image: Directory, rows: int, columns: int) -> Directory:
    """The directory of an overview of that many rows and columns."""
    size = {WIDTH: columns, LENGTH: rows}
    kept = [
        _long(entry.tag, [size[entry.tag]]) if entry.tag in size else entry
        for entry in image
        if entry.tag in _OF_EVERY_LEVEL
    ]
    return (_long(SUBFILE, [_REDUCED_IMAGE]), *kept)


def cog_header(directories: Sequence[Directory], tile_bytes: Sequence[Sequence[int]]) -> bytes:
    """All of a cloud-optimised TIFF before its first tile: directories in their order, the image's first.

    tile_bytes: sizes of each directory's tiles, in TIFF's order. After the header come the tiles of the last
    directory, then those of the one before it, the image's at the end. Classic where 4 GiB hold it, else BigTIFF.
    """
    stored = sum(map(sum, tile_bytes))
    blank = [[0] * len(sizes) for sizes in tile_bytes]
    form = _CLASSIC if len(_packed(_CLASSIC, directories, tile_bytes, blank)) + stored < _CLASSIC_BYTES else _BIG
    start = len(_packed(form, directories, tile_bytes, blank))
    offsets: list[list[int]] = []
    for sizes in reversed(tile_bytes):
        *places, start = accumulate(sizes, initial=start)
        offsets.insert(0, places)
    return _packed(form, directories, tile_bytes, offsets)


def _packed(
    form: _Form,
    directories: Sequence[Directory],
    tile_bytes: Sequence[Sequence[int]],
    offsets: Sequence[Sequence[int]],
) -> bytes:
    """The header; its length does not depend on the offsets."""
    header = bytearray(form.head)
    header += struct.pack(form.offset, len(header) + form.width)
    for number, (directory, sizes, places) in enumerate(zip(directories, tile_bytes, offsets, strict=True), start=1):
        located = Entry(
            tag=_TILE_OFFSETS,
            type=form.offset_type,
            count=len(places),
            data=struct.pack(f"<{len(places)}{form.offset[-1]}", *places),
        )
        entries = sorted((*directory, located, _long(_TILE_BYTE_COUNTS, sizes)), key=lambda entry: entry.tag)
        header += _block(form, entries, start=len(header), last=number == len(directories))
    return bytes(header)


def _block(form: _Form, entries: Sequence[Entry], *, start: int, last: bool) -> bytes:
    """One directory at `start`, then the values that do not fit its entries, up to a multiple of 8 bytes."""
    table, values = bytearray(struct.pack(form.count, len(entries))), bytearray()
    values_at = start + len(table) + len(entries) * (struct.calcsize(form.entry) + form.width) + form.width
    for entry in entries:
        table += struct.pack(form.entry, entry.tag, entry.type, entry.count)
        if len(entry.data) <= form.width:
            table += entry.data.ljust(form.width, b"\0")
            continue
        values += bytes(-(values_at + len(values)) % _ALIGNED_BYTES)
        table += struct.pack(form.offset, values_at + len(values))
        values += entry.data
    values += bytes(-(values_at + len(values)) % _ALIGNED_BYTES)
    table += struct.pack(form.offset, 0 if last else values_at + len(values))
    return bytes(table + values)


def _long(tag: int, values: Sequence[int]) -> Entry:
    return Entry(tag=tag, type=_LONG, count=len(values), data=struct.pack(f"<{len(values)}I", *values))
