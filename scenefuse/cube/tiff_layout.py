"""Where in a TIFF its directories and its blocks lie, so that they can be fetched before GDAL asks for them.

TIFF 6.0 section 2, and BigTIFF as in libtiff's bigtiffdesign: the same with 64-bit counts and offsets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scenefuse.archive.remote import Span
from scenefuse.errors import DataError
from scenefuse.grid.window import Window

_TYPES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "2I", 6: "b", 7: "c", 8: "h", 9: "i", 10: "2i", 11: "f", 12: "d"}
_TYPES |= {13: "I", 16: "Q", 17: "q", 18: "Q"}
_SUBFILE, _WIDTH, _LENGTH, _SAMPLES, _ROWS_PER_STRIP, _PLANES, _SUB_DIRECTORIES = 254, 256, 257, 277, 278, 284, 330
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_OFFSETS, _COUNTS = (324, 273), (325, 279)
"""Of tiles, else of strips."""
_REDUCED, _MASK = 1, 4
"""Bits of the kind of subfile."""
_SEPARATE_PLANES = 2
_MOST_DIRECTORIES = 64
_MOST_FIELD_BYTES = 256 * 2**20
_LEAD_BYTES = 16
"""GDAL may look at what stands right before a block, and right after it (its own marks of a COG)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The tiles or strips of one image of a file."""

    shape: tuple[int, int]
    """Rows and columns of the image."""
    block_shape: tuple[int, int]
    """Of a block."""
    planes: int
    """1 where a block holds all bands, else the number of bands, one after the other."""
    offsets: Sequence[int]
    """Where each block begins: by plane, then row, then column. 0 for one that is not there."""
    sizes: Sequence[int]
    """Bytes of each."""

    def spans(self, window: Window, bands: Sequence[int]) -> Iterator[Span]:
        """Bytes that GDAL may read for the bands, counted from 0, of a window."""
        (height, width), (block_height, block_width) = self.shape, self.block_shape
        down, across = -(-height // block_height), -(-width // block_width)
        for plane in sorted(set(bands)) if self.planes > 1 else (0,):
            for row in range(max(0, window.y0) // block_height, min(down, -(-window.y1 // block_height))):
                for column in range(max(0, window.x0) // block_width, min(across, -(-window.x1 // block_width))):
                    index = (plane * down + row) * across + column
                    offset, size = self.offsets[index], self.sizes[index]
                    if offset and size:
                        yield max(0, offset - _LEAD_BYTES), offset + size + _LEAD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLayout:
    """What of a file is read at full resolution."""

    image: Blocks
    """Its pixels."""
    mask: Blocks | None
    """The mask beside them."""


def read_layout(read: Callable[[int, int], bytes], size_bytes: int, name: str) -> TiffLayout:
    """The layout of the TIFF of which read gives the bytes from first to before end; every byte that says it is read.

    size_bytes: the file's; name: its, for messages. DataError when it is no TIFF that can be followed.
    """

    def read_within(first: int, end: int) -> bytes:
        if end > size_bytes or end - first > _MOST_FIELD_BYTES:
            raise ValueError(f"a field of bytes {first} to {end} in a file of {size_bytes}")
        return read(first, end)

    try:
        return _layout(list(_directories(read_within)))
    except (struct.error, LookupError, ValueError, ArithmeticError) as error:
        raise DataError(
            f"{name} is damaged or of an unusual kind ({type(error).__name__}: {error})",
            "the places of its pixels are not known",
            "fetch it again, or convert it with gdal_translate -of COG",
        ) from error


def _layout(directories: Sequence[Mapping[int, Sequence[int]]]) -> TiffLayout:
    kinds = [directory.get(_SUBFILE, (0,))[0] for directory in directories]
    masks = [d for kind, d in zip(kinds, directories, strict=True) if kind & _MASK and not kind & _REDUCED]
    return TiffLayout(image=_blocks(directories[0]), mask=_blocks(masks[0]) if masks else None)


def _blocks(directory: Mapping[int, Sequence[int]]) -> Blocks:
    rows, columns = directory[_LENGTH][0], directory[_WIDTH][0]
    if _TILE_WIDTH in directory:
        block_shape = directory[_TILE_LENGTH][0], directory[_TILE_WIDTH][0]
    else:
        block_shape = min(rows, directory.get(_ROWS_PER_STRIP, (rows,))[0]), columns
    separate = directory.get(_PLANES, (1,))[0] == _SEPARATE_PLANES
    planes = directory.get(_SAMPLES, (1,))[0] if separate else 1
    offsets, sizes = (directory[tags[0] if tags[0] in directory else tags[1]] for tags in (_OFFSETS, _COUNTS))
    expected = planes * -(-rows // block_shape[0]) * -(-columns // block_shape[1])
    if not len(offsets) == len(sizes) == expected:
        raise ValueError(f"{len(offsets)} offsets and {len(sizes)} sizes of {expected} blocks")
    return Blocks(shape=(rows, columns), block_shape=block_shape, planes=planes, offsets=offsets, sizes=sizes)


def _directories(read: Callable[[int, int], bytes]) -> Iterator[dict[int, Sequence[int]]]:
    """The whole-numbered fields of each directory of the file's chain and of their sub-directories."""
    order = {b"II": "<", b"MM": ">"}[read(0, 2)]
    big = struct.unpack(f"{order}H", read(2, 4))[0] == 43
    form = _Form(order=order, big=big)
    waiting = [form.offset(read, 8 if big else 4)]
    seen: set[int] = set()
    while waiting:
        place = waiting.pop(0)
        if not place or place in seen:
            continue
        seen.add(place)
        if len(seen) > _MOST_DIRECTORIES:
            raise ValueError(f"more than {_MOST_DIRECTORIES} directories")
        fields, after = form.directory(read, place)
        waiting += [*fields.get(_SUB_DIRECTORIES, ()), after]
        yield fields


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How numbers stand in a file."""

    order: str
    """Of bytes, for struct."""
    big: bool
    """BigTIFF."""

    @property
    def word(self) -> int:
        """Bytes of an offset."""
        return 8 if self.big else 4

    def offset(self, read: Callable[[int, int], bytes], place: int) -> int:
        """The offset that stands there."""
        (found,) = self._numbers("Q" if self.big else "I", read(place, place + self.word))
        return int(found)

    def directory(self, read: Callable[[int, int], bytes], place: int) -> tuple[dict[int, Sequence[int]], int]:
        """The whole-numbered fields of the directory there, and where the next one is (0: nowhere)."""
        head, entry = (8, 20) if self.big else (2, 12)
        (count,) = self._numbers("Q" if self.big else "H", read(place, place + head))
        first = place + head
        table = read(first, first + count * entry)
        fields: dict[int, Sequence[int]] = {}
        for start in range(0, count * entry, entry):
            tag, kind = self._numbers("2H", table[start : start + 4])
            (number,) = self._numbers("Q" if self.big else "I", table[start + 4 : start + 4 + self.word])
            inline = table[start + 4 + self.word : start + entry]
            size = number * struct.calcsize("=" + _TYPES[kind])
            where = 0 if size <= self.word else self._numbers("Q" if self.big else "I", inline)[0]
            data = read(where, where + size) if where else inline[:size]
            if _TYPES[kind] in "BHIQ":
                fields[tag] = self._numbers(f"{number}{_TYPES[kind]}", data)
        return fields, self.offset(read, first + count * entry)

    def _numbers(self, kinds: str, data: bytes) -> tuple[Any, ...]:
        return struct.unpack(self.order + kinds, data)
