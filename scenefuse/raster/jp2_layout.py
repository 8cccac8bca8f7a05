"""Where the tiles of a JPEG 2000 file lie, so that they can be fetched before GDAL reads them.

ISO/IEC 15444-1: annex A defines the codestream's markers, annex I the boxes around it. A tile is stored as tile-parts,
each with a header that gives its tile (Isot) and its length (Psot), so that one leads to the next. A list of all
lengths in the main header (TLM) saves following them one by one; it is used only if each entry leads to such a header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from scenefuse.archive.remote import Span
from scenefuse.errors import DataError
from scenefuse.grid.window import Window

ReadBytes = Callable[[int, int], bytes]
"""Returns the file's bytes in [first, end)."""
FetchSpans = Callable[[Iterable[Span]], None]
"""Fetches the spans, many at once."""

_SOC, _SIZ, _TLM, _SOT, _EOC = 0xFF4F, 0xFF51, 0xFF55, 0xFF90, 0xFFD9
_SOT_BYTES = 12
"""Least size of a tile-part's header: marker, Lsot, Isot, Psot, TPsot, TNsot."""
_MOST_BOX_BYTES = 64 * 2**20
"""Largest total of all boxes but the codestream's: place, colours, metadata."""
_MOST_HEADER_BYTES = 16 * 2**20
"""Largest main header of the codestream."""
_MOST_TILES = 65_535
"""The standard's limit."""
_MOST_PARTS = 2**20
"""Most tile-parts that are followed; the standard's limit, 255 a tile, is higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jp2Layout:
    """The tiles of an image."""

    shape: tuple[int, int]
    """Rows and columns of the image."""
    tile_shape: tuple[int, int]
    """Rows and columns of a tile."""
    is_plain: bool
    """True when image and tiles begin at pixel (0, 0) and all bands are full size, so a window determines its tiles."""
    parts: tuple[tuple[Span, ...], ...]
    """Where the parts of each tile lie; tiles by row, then column."""

    def spans(self, window: Window) -> Iterator[Span]:
        """Byte spans of a window's tiles, for all bands; of all tiles where is_plain is False."""
        height, width = self.tile_shape
        across = -(-self.shape[1] // width)
        for index, parts in enumerate(self.parts):
            y, x = (side * place for side, place in zip((height, width), divmod(index, across), strict=True))
            meets = window.y0 - height < y < window.y1 and window.x0 - width < x < window.x1
            if meets or not self.is_plain:
                yield from parts


def read_jp2_layout(read: ReadBytes, fetch: FetchSpans, size_bytes: int, name: str) -> Jp2Layout:
    """Read the layout of a JP2 file or bare codestream, and with it all of its headers.

    DataError when the tile-parts of any tile cannot be followed to the last one: a truncated file is refused here.
    """

    def within(first: int, end: int) -> bytes:
        if end > size_bytes:
            raise ValueError(f"bytes {first} to {end} are needed of a file of {size_bytes}")
        return read(first, end)

    try:
        first, end = _codestream(within, size_bytes)
        segments, begins = _main_header(within, first, end)
        return _layout(within, fetch, segments, (begins, end - 2))
    except (struct.error, LookupError, ValueError, ArithmeticError) as error:
        raise DataError(
            f"{name} is damaged, cut short or of an unusual kind ({error})",
            "the positions of its tiles are unknown",
            "fetch it again, or convert it with gdal_translate -of COG",
        ) from error


def _codestream(read: ReadBytes, size_bytes: int) -> Span:
    """Where the codestream lies: in box jp2c, else the whole file. Reads all other boxes, as GDAL will look at them."""
    if struct.unpack(">H", read(0, 2)) == (_SOC,):
        return 0, size_bytes
    found: Span | None = None
    place, left_bytes = 0, _MOST_BOX_BYTES
    while place < size_bytes:
        length, kind = struct.unpack(">I4s", read(place, place + 8))
        content = place + 8
        if length == 1:
            (length,) = struct.unpack(">Q", read(content, content + 8))
            content += 8
        end = size_bytes if length == 0 else place + length
        if not content <= end <= size_bytes:
            raise ValueError(f"box {kind!r} of bytes {place} to {end} in a file of {size_bytes}")
        if kind == b"jp2c":
            found = found or (content, end)
        else:
            left_bytes -= end - place
            if left_bytes < 0:
                raise ValueError(f"boxes of more than {_MOST_BOX_BYTES / 2**20:.0f} MiB")
            read(place, end)
        place = end
    if found is None:
        raise ValueError("no codestream")
    return found


def _main_header(read: ReadBytes, first: int, end: int) -> tuple[list[tuple[int, bytes]], int]:
    """The main header's segments, by marker, and where the first tile-part begins."""
    if struct.unpack(">H", read(first, first + 2)) != (_SOC,):
        raise ValueError("a codestream that does not begin as one")
    if struct.unpack(">H", read(end - 2, end)) != (_EOC,):
        raise ValueError("a codestream without its end")
    segments: list[tuple[int, bytes]] = []
    place = first + 2
    while True:
        if place + 4 > min(end, first + _MOST_HEADER_BYTES):
            raise ValueError("a main header without an end")
        marker, length = struct.unpack(">HH", read(place, place + 4))
        if marker == _SOT:
            return segments, place
        if marker < 0xFF00 or length < 2 or place + 2 + length > end:
            raise ValueError(f"marker {marker:04x} of {length} bytes at byte {place}")
        segments.append((marker, read(place + 4, place + 2 + length)))
        place += 2 + length


def _layout(read: ReadBytes, fetch: FetchSpans, segments: list[tuple[int, bytes]], tiles: Span) -> Jp2Layout:
    """The layout from the main header's segments and the headers of the tile-parts, which fill the span tiles."""
    _, x1, y1, x0, y0, width, height, tile_x0, tile_y0, bands = struct.unpack_from(">HIIIIIIIIH", dict(segments)[_SIZ])
    sampling = dict(segments)[_SIZ][36 : 36 + 3 * bands]
    down, across = -(-(y1 - tile_y0) // height), -(-(x1 - tile_x0) // width)
    if not 0 < down * across <= _MOST_TILES or not (x0 < x1 and y0 < y1) or len(sampling) != 3 * bands:
        raise ValueError(f"an image of {y1 - y0} x {x1 - x0} pixels and {down} x {across} tiles")
    parts: list[list[Span]] = [[] for _ in range(down * across)]
    promised = [1] * len(parts)
    for index, total, span in _listed(read, fetch, segments, tiles) or _followed(read, tiles):
        parts[index].append(span)
        promised[index] = max(promised[index], total)
    for index, (spans, count) in enumerate(zip(parts, promised, strict=True)):
        if len(spans) < count:
            raise ValueError(f"{len(spans)} of {count} parts of tile {index}")
    return Jp2Layout(
        shape=(y1 - y0, x1 - x0),
        tile_shape=(height, width),
        is_plain=(x0, y0, tile_x0, tile_y0) == (0, 0, 0, 0) and set(sampling[1::3] + sampling[2::3]) == {1},
        parts=tuple(tuple(spans) for spans in parts),
    )


_Part = tuple[int, int, Span]
"""Index of its tile, the tile's number of parts (0 where this part does not give it), and where the part lies."""


def _part_at(read: ReadBytes, place: int, end: int) -> _Part:
    """The tile-part that begins at a byte; end: where the codestream ends."""
    if place + _SOT_BYTES > end:
        raise ValueError(f"the tile-part at byte {place} of a codestream that ends at {end}")
    marker, length, index, size, _, total = struct.unpack(">HHHIBB", read(place, place + _SOT_BYTES))
    if (marker, length) != (_SOT, 10) or (0 < size < _SOT_BYTES + 2) or place + size > end:
        raise ValueError(f"no tile-part that ends by byte {end} begins at byte {place}")
    return index, total, (place, place + size if size else end)


def _followed(read: ReadBytes, tiles: Span) -> list[_Part]:
    """The tile-parts, followed from one to the next to the end of the codestream."""
    found: list[_Part] = []
    place, end = tiles
    while place < end:
        found.append(_part_at(read, place, end))
        place = found[-1][2][1]
        if len(found) > _MOST_PARTS:
            raise ValueError(f"more than {_MOST_PARTS} tile-parts")
    return found


def _listed(read: ReadBytes, fetch: FetchSpans, segments: list[tuple[int, bytes]], tiles: Span) -> list[_Part] | None:
    """The tile-parts that the main header lists; None when it lists none, or lists them wrongly."""
    lists = sorted((content[0], content) for marker, content in segments if marker == _TLM and len(content) > 2)
    places = [tiles[0]]
    for _, content in lists:
        index_bytes, size_bytes = content[1] >> 4 & 3, 4 if content[1] >> 6 & 1 else 2
        step = index_bytes + size_bytes
        for at in range(2, len(content) - step + 1, step):
            places.append(places[-1] + int.from_bytes(content[at + index_bytes : at + step]))
    starts = places[:-1]
    if not starts or len(starts) > _MOST_PARTS or places[-1] != tiles[1]:
        return None
    fetch([(start, start + _SOT_BYTES) for start in starts])
    try:
        found = [_part_at(read, start, tiles[1]) for start in starts]
    except ValueError:
        return None
    ends = [span[1] for _, _, span in found]
    return found if ends[:-1] == starts[1:] else None
