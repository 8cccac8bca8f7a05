"""The header of a tiled TIFF: fields copied from a file that GDAL wrote, for tiles stored after it.

Entries are copied byte for byte, except the tiles' offsets and sizes, which are written here. Little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate

from scenefuse.raster.tiff_directory import (
    LENGTH,
    LONG,
    REDUCED_IMAGE,
    SUBFILE,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
    WIDTH,
    Directory,
    Entry,
    Form,
    read_directories,
    read_form,
)

_CLASSIC = Form(order="<", big=False)
_BIG = Form(order="<", big=True)
_HEADS = {_CLASSIC: b"II*\0", _BIG: b"II+\0\x08\0\0\0"}
"""Byte order and version; the offset of the first directory follows, then the directory itself."""
_CLASSIC_BYTES = 2**32
"""File sizes below this are within reach of classic TIFF offsets."""
_ALIGNED_BYTES = 8

_OF_EVERY_LEVEL = frozenset({WIDTH, LENGTH, 258, 259, 262, 277, 284, 317, 322, 323, 338, 339, 42113})
"""Tags that an overview shares with its image: pixel coding and the no-data value."""


def read_image(data: bytes) -> Directory:
    """Fields of the first image of a little-endian TIFF, without the tile locations; ValueError for any other file."""

    def read(first: int, end: int) -> bytes:
        return data[first:end]

    form = read_form(read)
    if form.order != _BIG.order:
        raise ValueError("a big-endian TIFF, whose fields cannot stand in a little-endian one")
    return tuple(
        entry for entry in next(read_directories(read, form)) if entry.tag not in (TILE_OFFSETS, TILE_BYTE_COUNTS)
    )


def overview_directory(image: Directory, rows: int, columns: int) -> Directory:
    """The directory of an overview with that many rows and columns."""
    size = {WIDTH: columns, LENGTH: rows}
    kept = [
        _long(entry.tag, [size[entry.tag]]) if entry.tag in size else entry
        for entry in image
        if entry.tag in _OF_EVERY_LEVEL
    ]
    return (_long(SUBFILE, [REDUCED_IMAGE]), *kept)


def cog_header(directories: Sequence[Directory], tile_bytes: Sequence[Sequence[int]]) -> bytes:
    """Everything in a cloud-optimised TIFF before its first tile: directories in order, the image's first.

    tile_bytes: sizes of each directory's tiles, in TIFF order. The tiles of the last directory follow the header, then
    those of the one before it, and so on to the image's. Classic TIFF if 4 GiB suffice, else BigTIFF.
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
    form: Form,
    directories: Sequence[Directory],
    tile_bytes: Sequence[Sequence[int]],
    offsets: Sequence[Sequence[int]],
) -> bytes:
    """Pack the header; its length does not depend on the offsets."""
    header = bytearray(_HEADS[form])
    header += struct.pack(form.offset, len(header) + form.width)
    for number, (directory, sizes, places) in enumerate(zip(directories, tile_bytes, offsets, strict=True), start=1):
        located = Entry(
            tag=TILE_OFFSETS,
            type=form.offset_type,
            count=len(places),
            data=struct.pack(f"<{len(places)}{form.offset[-1]}", *places),
        )
        entries = sorted((*directory, located, _long(TILE_BYTE_COUNTS, sizes)), key=lambda entry: entry.tag)
        header += _block(form, entries, start=len(header), last=number == len(directories))
    return bytes(header)


def _block(form: Form, entries: Sequence[Entry], *, start: int, last: bool) -> bytes:
    """One directory at `start`, then the values that do not fit in its entries, padded to a multiple of 8 bytes."""
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
    return Entry(tag=tag, type=LONG, count=len(values), data=struct.pack(f"<{len(values)}I", *values))
