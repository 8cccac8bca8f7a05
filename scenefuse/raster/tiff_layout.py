"""Where the blocks of a TIFF lie, so that they can be fetched before GDAL reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scenefuse.archive.remote import Span
from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from scenefuse.raster.tiff_directory import (
    LENGTH,
    REDUCED_IMAGE,
    SUBFILE,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
    TRANSPARENCY_MASK,
    WIDTH,
    Directory,
    ReadBytes,
    read_directories,
    read_form,
)

_COMPRESSION, _SAMPLES, _ROWS_PER_STRIP, _PLANES, _TILE_WIDTH, _TILE_LENGTH = 259, 277, 278, 284, 322, 323
_OFFSETS, _COUNTS = (TILE_OFFSETS, 273), (TILE_BYTE_COUNTS, 279)
"""Tags of the blocks' offsets and of their sizes: for tiles, else for strips."""
_SEPARATE_PLANES = 2
_UNCOMPRESSED = 1
_MOST_DIRECTORY_BYTES = 256 * 2**20
"""Most bytes of all directories with their values: about ten million blocks. Fields may name the same bytes again."""
_LEAD_BYTES = 16
"""Bytes right before and after a block that GDAL may read as well (its own COG marks)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """The tiles or strips of one image of a file."""

    shape: tuple[int, int]
    """Rows and columns of the image."""
    block_shape: tuple[int, int]
    """Rows and columns of a block."""
    planes: int
    """1 when a block holds all bands, else the number of bands, stored one after the other."""
    offsets: Sequence[int]
    """Where each block begins, by plane, then row, then column; 0 for a missing block."""
    sizes: Sequence[int]
    """Bytes of each block."""

    def spans(self, window: Window, bands: Sequence[int]) -> Iterator[Span]:
        """Byte spans that GDAL may read for the bands (counted from 0) of a window."""
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
    """What is read of a file at full resolution."""

    image: Blocks
    """Blocks of its pixels."""
    mask: Blocks | None
    """Blocks of the mask beside them; None without one."""


def read_layout(read: ReadBytes, size_bytes: int, name: str) -> TiffLayout:
    """Read the layout of a TIFF, and with it every byte that describes it.

    read: returns the file's bytes in [first, end); size_bytes: the file's size; name: its name, for messages.
    DataError when it is not a TIFF whose directories can be followed.
    """
    left_bytes = _MOST_DIRECTORY_BYTES

    def read_within(first: int, end: int) -> bytes:
        nonlocal left_bytes
        left_bytes -= end - first
        if end > size_bytes:
            raise ValueError(f"a field of bytes {first} to {end} in a file of {size_bytes}")
        if left_bytes < 0:
            raise ValueError(f"directories of more than {_MOST_DIRECTORY_BYTES / 2**20:.0f} MiB")
        return read(first, end)

    try:
        form = read_form(read_within)
        directories = [_fields(directory, form.order) for directory in read_directories(read_within, form)]
        return _layout(directories, size_bytes)
    except (struct.error, LookupError, ValueError, ArithmeticError) as error:
        raise DataError(
            f"{name} is damaged or of an unusual kind ({type(error).__name__}: {error})",
            "the positions of its pixels are unknown",
            "fetch it again, or convert it with gdal_translate -of COG",
        ) from error


def _fields(directory: Directory, order: str) -> dict[int, Sequence[int]]:
    """The whole numbers of a directory by their tags."""
    values = {entry.tag: entry.whole_numbers(order) for entry in directory}
    return {tag: numbers for tag, numbers in values.items() if numbers is not None}


def _layout(directories: Sequence[Mapping[int, Sequence[int]]], size_bytes: int) -> TiffLayout:
    kinds = [directory.get(SUBFILE, (0,))[0] for directory in directories]
    of_image = [kind & TRANSPARENCY_MASK and not kind & REDUCED_IMAGE for kind in kinds]
    masks = [directory for directory, is_mask in zip(directories, of_image, strict=True) if is_mask]
    image = _blocks(directories[0], size_bytes)
    return TiffLayout(image=image, mask=_blocks(masks[0], size_bytes) if masks else None)


def _blocks(directory: Mapping[int, Sequence[int]], size_bytes: int) -> Blocks:
    rows, columns = directory[LENGTH][0], directory[WIDTH][0]
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
    compressed = directory.get(_COMPRESSION, (_UNCOMPRESSED,))[0] != _UNCOMPRESSED
    if expected == 1 and _TILE_WIDTH not in directory and not (compressed and sizes[0]):
        # Some writers give their only strip a size of 0 or too little; libtiff ignores it and reads what the rows need.
        sizes = (max(0, size_bytes - offsets[0]),)
    return Blocks(shape=(rows, columns), block_shape=block_shape, planes=planes, offsets=offsets, sizes=sizes)
