"""Sensor cards: what is known about an instrument before any of its files is opened."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from scenefuse.sensors.band import Band

Role = Literal["hsi", "msi"]
"""Side of a pair: the image with many narrow bands and coarse pixels, or the one with few broad bands and fine ones."""

DEFAULT_MTF_NYQUIST = 0.3
"""MTF at Nyquist where none is published: the middle of the range measured for such instruments (0.2 to 0.4)."""

_CARD_KEYS = {
    "name", "aliases", "role", "source", "product", "product_marks", "scale", "offset",
    "nodata", "mtf_nyquist", "mtf_source", "bands", "detectors",
}  # fmt: skip
_BAND_KEYS = {"name", "wavelength_nm", "fwhm_nm", "gsd_m", "mtf_nyquist"}
_DETECTOR_KEYS = {
    "name_prefix", "first_number", "gsd_m", "wavelength_nm", "fwhm_nm", "first_nm", "last_nm", "count",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """An instrument: its bands, its blur, and how its usual product encodes reflectance."""

    name: str
    """Display name: `EnMAP HSI`."""
    aliases: tuple[str, ...]
    """Names in STAC `platform`, `instruments`, `constellation` or in file headers; no two sensors share one."""
    role: Role
    """Side of a pair that it can take."""
    bands: tuple[Band, ...]
    """All bands in the product's order, with nominal wavelength, FWHM and GSD."""
    mtf_nyquist: tuple[float, ...]
    """MTF at the Nyquist frequency of the band's own GSD, one per band, 0 to 1."""
    mtf_source: str
    """Where the MTF comes from."""
    product: str
    """The product that scale, offset and nodata describe."""
    source: str
    """Where the bands come from."""
    product_marks: tuple[str, ...] = ()
    """Strings that occur in the ids of that product: `L2SP`; empty when scale, offset and nodata are not given."""
    scale: float | None = None
    """Reflectance per DN; None when it differs from file to file."""
    offset: float | None = None
    """Reflectance at DN 0; None when it differs from file to file."""
    nodata: float | None = None
    """DN that means no data; None when it differs from file to file."""

    def __post_init__(self) -> None:
        if len(self.mtf_nyquist) != len(self.bands):
            raise ValueError(f"{self.name}: {len(self.mtf_nyquist)} MTF values for {len(self.bands)} bands")
        if not all(0 < mtf < 1 for mtf in self.mtf_nyquist):
            raise ValueError(f"{self.name}: MTF at Nyquist must lie between 0 and 1")

    def describes(self, *texts: str | None) -> bool:
        """True if an id or processing level identifies the product whose encoding this card gives."""
        plain = [_plain(text) for text in texts if text]
        return any(_plain(mark) in text for mark in self.product_marks for text in plain)

    def match(self, band: Band) -> Band | None:
        """The card's band for a product's band: by name, else the nearest within half its FWHM; None if there is none.

        A name counts only if the wavelengths, where known, do not contradict it (`band 5` of a subset).
        """
        near = [card for card in self.bands if _agree(card, band)]
        named = [card for card in near if _plain(card.name) == _plain(band.name)]
        if named:
            return named[0]
        if band.wavelength_nm is None or not near:
            return None
        wavelength_nm = band.wavelength_nm
        return min(near, key=lambda card: abs((card.wavelength_nm or 0.0) - wavelength_nm))

    def mtf_of(self, band: Band) -> float:
        """MTF at Nyquist of the card's band for this band; DEFAULT_MTF_NYQUIST if the card has none."""
        card = self.match(band)
        return DEFAULT_MTF_NYQUIST if card is None else self.mtf_nyquist[self.bands.index(card)]


def sensors() -> tuple[Sensor, ...]:
    """All sensors with a card, sorted by name."""
    return _registry()[0]


def find_sensor(*names: str | None) -> Sensor | None:
    """The sensor of the first name that is an alias, ignoring case and punctuation; None if none is.

    A name that fits several instruments (`EO-1`, `Sentinel-2`, `msi`) is no sensor's alias: nothing is guessed.
    """
    by_alias = _registry()[1]
    return next((by_alias[_plain(name)] for name in names if name and _plain(name) in by_alias), None)


@cache
def _registry() -> tuple[tuple[Sensor, ...], Mapping[str, Sensor]]:
    """All sensors, and the sensor of each alias."""
    folder = files("scenefuse.sensors") / "cards"
    cards = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    found = [_read_card(tomllib.loads((folder / name).read_text(encoding="utf-8")), name) for name in cards]
    by_alias: dict[str, Sensor] = {}
    for sensor in found:
        for alias in {_plain(text) for text in (sensor.name, *sensor.aliases)}:
            if alias in by_alias:
                raise ValueError(f"{alias} is an alias of {by_alias[alias].name} and of {sensor.name}")
            by_alias[alias] = sensor
    return tuple(sorted(found, key=lambda sensor: sensor.name)), by_alias


def _read_card(card: dict[str, Any], where: str) -> Sensor:
    """The sensor that a card describes."""
    _refuse_unknown(card, _CARD_KEYS, where)
    bands: list[Band] = []
    mtf: list[float] = []
    whole = card.get("mtf_nyquist", DEFAULT_MTF_NYQUIST)
    for row in card.get("bands", ()):
        _refuse_unknown(row, _BAND_KEYS, where)
        mtf.append(row.get("mtf_nyquist", whole))
        bands.append(Band(**{key: value for key, value in row.items() if key != "mtf_nyquist"}))
    for detector in card.get("detectors", ()):
        _refuse_unknown(detector, _DETECTOR_KEYS, where)
        bands += _detector_bands(detector)
    mtf += [whole] * (len(bands) - len(mtf))
    return Sensor(
        name=card["name"],
        aliases=tuple(card["aliases"]),
        role=card["role"],
        bands=tuple(bands),
        mtf_nyquist=tuple(mtf),
        mtf_source=card["mtf_source"],
        product=card["product"],
        source=card["source"],
        product_marks=tuple(card.get("product_marks", ())),
        scale=card.get("scale"),
        offset=card.get("offset"),
        nodata=card.get("nodata"),
    )


def _detector_bands(detector: dict[str, Any]) -> list[Band]:
    """Bands of one detector, from lists or from a linear rule (first_nm, last_nm, count)."""
    if "count" in detector:
        centres = np.linspace(detector["first_nm"], detector["last_nm"], detector["count"]).round(1).tolist()
        widths = [detector["fwhm_nm"]] * detector["count"]
    else:
        centres, widths = detector["wavelength_nm"], detector["fwhm_nm"]
    first = detector["first_number"]
    return [
        Band(name=f"{detector['name_prefix']}{first + i}", wavelength_nm=centre, fwhm_nm=width, gsd_m=detector["gsd_m"])
        for i, (centre, width) in enumerate(zip(centres, widths, strict=True))
    ]


def _refuse_unknown(table: dict[str, Any], known: set[str], where: str) -> None:
    """Raise if a card has an unknown key."""
    unknown = set(table) - known
    if unknown:
        raise ValueError(f"sensor card {where}: unknown keys {sorted(unknown)}")


def _agree(card: Band, band: Band) -> bool:
    """True if the wavelengths do not contradict each other: within half the card's FWHM, or one is unknown."""
    if card.wavelength_nm is None or band.wavelength_nm is None:
        return True
    return abs(card.wavelength_nm - band.wavelength_nm) <= (card.fwhm_nm or 0.0) / 2


def _plain(name: str) -> str:
    """The name in lower-case letters and digits only, numbers without leading zeros: `B02` and `b2` are equal."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[^a-z0-9]", "", name.lower()))
