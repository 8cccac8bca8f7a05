"""An ENVI header: its bands and radiometry, and a check that its data file is as long as it promises."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from scenefuse.errors import DataError
from scenefuse.raster.raster_file import check_size, damaged
from scenefuse.words import counted

HEADER_MAGIC = b"ENVI"
GZIP_MAGIC = b"\x1f\x8b"
HEADER_SUFFIXES = (".hdr", ".HDR")
"""Endings of a header's name that GDAL finds; the second comes from programs on Windows."""
DATA_SUFFIXES = ("", ".bsq", ".bil", ".bip", ".dat", ".img", ".raw", ".bin")
NM_PER_UNIT = {
    "nanometers": 1.0,
    "nanometer": 1.0,
    "nanometres": 1.0,
    "nanometre": 1.0,
    "nm": 1.0,
    "micrometers": 1e3,
    "micrometer": 1e3,
    "micrometres": 1e3,
    "micrometre": 1e3,
    "microns": 1e3,
    "micron": 1e3,
    "um": 1e3,
    "\N{MICRO SIGN}m": 1e3,
    "\N{GREEK SMALL LETTER MU}m": 1e3,
}
"""Nanometres per supported wavelength unit, in lower case."""
_BYTES = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 9: 16, 12: 2, 13: 4, 14: 8, 15: 8}
_MAP_INFO_ITEMS = 7
"""Least items of `map info` that give a georeference: projection, tie point (column, row, x, y) and pixel size."""
_SCALED = re.compile(r"reflectance\s*\[\s*\*\s*([0-9.]+)\s*\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnviHeader:
    """The keys of an ENVI header, in lower case, and their text."""

    path: Path
    """The header file."""
    keys: dict[str, str]
    """Key to text; braces removed."""

    def text(self, key: str) -> str | None:
        """The text of a key; None when absent or empty."""
        return self.keys.get(key) or None

    def items(self, key: str) -> tuple[str, ...]:
        """The comma-separated items of a list; empty when the key is absent."""
        text = self.text(key)
        return tuple(item.strip() for item in text.split(",")) if text else ()

    def number(self, key: str) -> int | None:
        """A whole number; None when the key is absent."""
        text = self.text(key)
        if text is None:
            return None
        value = self._float(key, text)
        if not value.is_integer():  # also infinity and NaN
            raise DataError(f"{self.path}: {key!r} is {text}", "a whole number was expected", "correct the header")
        return int(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...] | None:
        """One number per band; None when the key is absent, DataError when their count is not the bands'."""
        items = self.items(key)
        if not items:
            return None
        if len(items) != count:
            raise DataError(
                f"{self.path}: {key!r} has {counted(len(items), 'value')} for {counted(count, 'band')}",
                "it is not clear which value belongs to which band",
                "correct the header",
            )
        return tuple(self._float(key, item) for item in items)

    def _float(self, key: str, text: str) -> float:
        try:
            return float(text)
        except ValueError as error:
            raise DataError(
                f"{self.path}: {key!r} holds {text!r}", "a number was expected", "correct the header"
            ) from error

    def _factor(self, key: str, text: str) -> float:
        """DN per unit reflectance."""
        value = self._float(key, text)
        if not 0 < value < math.inf:
            raise DataError(
                f"{self.path}: {key!r} gives {text} stored values per unit reflectance",
                "reflectance cannot be derived from the stored numbers",
                "correct the header",
            )
        return value

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, lines, samples."""
        sizes = tuple(self.number(key) for key in ("bands", "lines", "samples"))
        if None in sizes:
            raise DataError(
                f"{self.path} lacks one of the keys bands, lines, samples", "it is not an ENVI header", "correct it"
            )
        bands, lines, samples = (int(size or 0) for size in sizes)
        return bands, lines, samples

    @property
    def tie_point(self) -> tuple[float, float, float, float] | None:
        """Row and column of a point, from the outer corner of the first pixel, and its x and y on the map.

        None without `map info`, which counts them from 1; a part of an image keeps the point of the whole, which may
        then lie outside it.
        """
        told = self.items("map info")
        if len(told) < _MAP_INFO_ITEMS:
            return None
        column, row, x, y = (self._float("map info", item) for item in told[1:5])
        return row - 1, column - 1, x, y

    def wavelengths_nm(self, key: str) -> tuple[float | None, ...] | None:
        """`wavelength` or `fwhm` in nanometres; None when the key is absent or the header names no supported unit.

        None for a band whose value is not above 0: PRISMA has 0 for dead bands.
        """
        bands = self.shape[0]
        unit = (self.text("wavelength units") or "").lower()
        values = self.numbers(key, bands)
        if values is None or unit not in NM_PER_UNIT:
            return None
        return tuple(value * NM_PER_UNIT[unit] if value > 0 else None for value in values)

    def scales(self) -> tuple[tuple[float, ...], tuple[float, ...], str] | None:
        """Scale and offset per band, and which key gives them; None when none does.

        Tried in this order: `data reflectance gain values` with their offsets (beside these, `data gain values` are
        for radiance); `data gain values` with theirs; `reflectance scale factor` (DN per unit reflectance); a plot
        title or description with `reflectance [* 10000]`, as ENVI's plots show it.
        """
        bands = self.shape[0]
        for kind in ("data reflectance", "data"):
            gains = self.numbers(f"{kind} gain values", bands)
            if gains is not None:
                offsets = self.numbers(f"{kind} offset values", bands) or (0.0,) * bands
                return gains, offsets, f"the header's {kind} gain values"
        factor = self.text("reflectance scale factor")
        if factor is not None:
            scale = 1 / self._factor("reflectance scale factor", factor)
            return (scale,) * bands, (0.0,) * bands, f"the header's reflectance scale factor {factor}"
        for key in ("z plot titles", "description"):
            found = _SCALED.search(self.text(key) or "")
            if found:
                scale = 1 / self._factor(key, found[1])
                return (scale,) * bands, (0.0,) * bands, f"the header's {key}: {found[0]!r}"
        return None


def read_header(path: Path) -> EnviHeader:
    """Read a header's keys; comments (;) are dropped, lists over several lines joined."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines()[1:] if not line.lstrip().startswith(";")]
    keys: dict[str, str] = {}
    for found in re.finditer(r"^\s*([^={}\n]+?)[ \t]*=(\s*\{[^}]*\}|[^\n]*)", "\n".join(lines), re.MULTILINE):
        value = found[2].strip()
        keys[found[1].lower()] = " ".join(value.strip("{}").split())
    return EnviHeader(path=path, keys=keys)


def find_header(data: Path) -> Path | None:
    """The header beside a data file (`a.bsq.hdr` or `a.hdr`, or with `.HDR`); None when there is none."""
    names = [
        place for suffix in HEADER_SUFFIXES for place in (data.with_name(data.name + suffix), data.with_suffix(suffix))
    ]
    for candidate in names:
        if candidate != data and candidate.is_file():
            with candidate.open("rb") as file:
                if file.read(4) == HEADER_MAGIC:
                    return candidate
    return None


def find_data(header: Path) -> Path:
    """The data file beside a header: the first that has no other header of its own."""
    for suffix in (*DATA_SUFFIXES, *map(str.upper, DATA_SUFFIXES)):
        candidate = header.with_suffix(suffix)
        if candidate != header and candidate.is_file() and find_header(candidate) == header:
            return candidate
    raise DataError(
        f"{header} is an ENVI header without its data file",
        "there are no pixels to read",
        "put the data file beside it",
    )


def check_length(header: EnviHeader, data: Path) -> None:
    """Refuse a data file that is shorter than its header says (GDAL would read zeros)."""
    bands, lines, samples = header.shape
    check_size(data, bands, (lines, samples))
    code = header.number("data type") or 0
    if code not in _BYTES:
        raise DataError(f"{header.path}: data type {code} is unknown", "the pixels cannot be decoded", "correct it")
    promised = (header.number("header offset") or 0) + bands * lines * samples * _BYTES[code]
    compressed = header.number("file compression") == 1
    held = _unpacked_bytes(data, promised) if compressed else data.stat().st_size
    if held < promised:
        raise damaged(
            data,
            f"holds {held} bytes where its header promises {bands} bands x {lines} lines x {samples} samples "
            f"x {_BYTES[code]} bytes = {promised}",
        )


def _unpacked_bytes(data: Path, promised: int) -> int:
    """Unpacked size of a gzip file in bytes: its trailer's if that agrees with promised, else counted."""
    with data.open("rb") as file:
        if file.read(2) != GZIP_MAGIC:
            raise damaged(data, "is not gzip-compressed, as its header says")
        file.seek(max(0, data.stat().st_size - 4))
        if int.from_bytes(file.read(4), "little") == promised % 2**32:
            return promised
    held = 0
    try:
        with gzip.open(data) as stream:
            while held < promised and (chunk := stream.read(2**20)):
                held += len(chunk)
    except (EOFError, OSError, zlib.error):
        return held
    return held
