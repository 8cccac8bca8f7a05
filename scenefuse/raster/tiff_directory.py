"""The directories of a TIFF as stored: which fields an image has, and their values byte for byte.

TIFF 6.0 section 2, and BigTIFF as in libtiff's bigtiffdesign: the same with 64-bit counts and offsets. Callers
interpret the fields: `tiff_layout` finds an image's blocks by them, the product's COG copies them.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

SUBFILE, WIDTH, LENGTH, SUB_DIRECTORIES = 254, 256, 257, 330
"""Tags: the kind of image that a directory describes, columns, rows, and sub-directories."""
TILE_OFFSETS, TILE_BYTE_COUNTS = 324, 325
REDUCED_IMAGE, TRANSPARENCY_MASK = 1, 4
"""Bits of the kind of image."""
LONG, LONG8 = 4, 16
"""Types of values: 32 and 64 bits."""

_VALUES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "2I", 6: "b", 7: "c", 8: "h", 9: "i", 10: "2i", 11: "f", 12: "d"}
_VALUES |= {13: "I", 16: "Q", 17: "q", 18: "Q"}
"""Format of one value, for struct, by type."""
_ORDERS = {b"II": "<", b"MM": ">"}
_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"
_VERSIONS = {42: False, 43: True}
"""Whether a version is BigTIFF."""
_MOST_DIRECTORIES = 64
"""Most directories of a file; one with more is taken for damaged. A COG has one for each overview and mask."""

ReadBytes = Callable[[int, int], bytes]
"""Returns the bytes of a file in [first, end)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a file stores counts and offsets."""

    order: str
    """Byte order, as struct writes it: `<` or `>`."""
    big: bool
    """True for BigTIFF."""

    @property
    def count(self) -> str:
        """Format of a directory's number of entries, for struct."""
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        """Format of an entry's tag, type and count, for struct; its value or offset follows."""
        return self.order + ("HHQ" if self.big else "HHI")

    @property
    def offset(self) -> str:
        """Format of an offset, for struct."""
        return self.order + ("Q" if self.big else "I")

    @property
    def offset_type(self) -> int:
        """TIFF type of an offset."""
        return LONG8 if self.big else LONG

    @property
    def width(self) -> int:
        """Bytes of an offset, and of the largest value stored in its entry itself."""
        return struct.calcsize(self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One field of a directory."""

    tag: int
    """TIFF's number for the field."""
    type: int
    """TIFF's number for the type of its values."""
    count: int
    """Number of values."""
    data: bytes
    """The values, in the file's byte order."""

    def whole_numbers(self, order: str) -> Sequence[int] | None:
        """The values, given the file's byte order; None when they are not whole numbers of 0 or more.

        They take no more memory than in the file: there may be millions. ValueError when some are missing.
        """
        kind = _VALUES[self.type]
        if kind not in "BHIQ":
            return None
        values = array(kind)
        values.frombytes(self.data)
        if len(values) != self.count:
            raise ValueError(f"{len(values)} of {self.count} values of field {self.tag}")
        if order != _NATIVE_ORDER:
            values.byteswap()
        return values


Directory = tuple[Entry, ...]
"""The fields of one image, by ascending tag."""


def read_form(read: ReadBytes) -> Form:
    """Read how a file stores counts and offsets from its first bytes; ValueError when it is not a TIFF."""
    order = _ORDERS.get(head := read(0, 2))
    if order is None:
        raise ValueError(f"a file that begins with {head!r} is no TIFF")
    (version,) = struct.unpack(f"{order}H", read(2, 4))
    if version not in _VERSIONS:
        raise ValueError(f"version {version}, where a TIFF has 42 or 43")
    return Form(order=order, big=_VERSIONS[version])


def read_directories(read: ReadBytes, form: Form) -> Iterator[Directory]:
    """The directories of the file's chain and their sub-directories, the first image's first.

    A damaged file raises ValueError, LookupError or struct.error; read's own errors pass through.
    """
    (first,) = struct.unpack(form.offset, read(form.width, 2 * form.width))
    waiting: list[int] = [first]
    seen: set[int] = set()
    while waiting:
        place = waiting.pop(0)
        if not place or place in seen:
            continue
        seen.add(place)
        if len(seen) > _MOST_DIRECTORIES:
            raise ValueError(f"more than {_MOST_DIRECTORIES} directories")
        directory, following = _read_directory(read, form, place)
        for entry in directory:
            if entry.tag == SUB_DIRECTORIES:
                waiting += entry.whole_numbers(form.order) or ()
        if len(waiting) > _MOST_DIRECTORIES:
            raise ValueError(f"more than {_MOST_DIRECTORIES} directories")
        waiting.append(following)
        yield directory


def _read_directory(read: ReadBytes, form: Form, place: int) -> tuple[Directory, int]:
    """The directory at a place, and the place of the next one (0: none)."""
    first = place + struct.calcsize(form.count)
    (count,) = struct.unpack(form.count, read(place, first))
    head = struct.calcsize(form.entry)
    end = first + count * (head + form.width)
    table = read(first, end)
    entries = []
    for start in range(0, len(table), head + form.width):
        tag, kind, values = struct.unpack_from(form.entry, table, start)
        inline = table[start + head : start + head + form.width]
        size = values * struct.calcsize("=" + _VALUES[kind])
        at = struct.unpack(form.offset, inline)[0] if size > form.width else 0
        entries.append(Entry(tag=tag, type=kind, count=values, data=read(at, at + size) if at else inline[:size]))
    (following,) = struct.unpack(form.offset, read(end, end + form.width))
    return tuple(entries), following
