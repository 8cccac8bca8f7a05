"""The shelf: trained weights by name and version.

    <shelf>/<name>/<version>/weights.safetensors    the tensors
    <shelf>/<name>/<version>/weights.json           their card
    <shelf>/<name>/<version>/item.json              their STAC item (MLM extension), for catalogues and people

There are two shelves: the user's, to which `scenefuse train --name` writes, and the one shipped with the package.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from scenefuse.config import weights_folder
from scenefuse.errors import ModelError
from scenefuse.models.ref import ModelRef
from scenefuse.models.weights import WeightsCard, fits, read_card
from scenefuse.place.location import own_path
from scenefuse.place.shipped import shipped_folder
from scenefuse.words import counted

_log = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
"""File name of the tensors on a shelf; the card has the suffix .json."""
ITEM = "item.json"
"""File name of the STAC item on a shelf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelved:
    """Weights on a shelf."""

    name: str
    """Name: `aelf-t-enmap-sentinel-2`."""
    version: int
    """Version, from 1."""
    path: Path
    """The safetensors file."""
    card: WeightsCard
    """Their card."""

    @property
    def label(self) -> str:
        """Name and version in the form --weights accepts: `aelf-t-enmap-sentinel-2@1`."""
        return f"{self.name}@{self.version}"


def shelves() -> tuple[Path, ...]:
    """The user's shelf, then the shipped one."""
    return weights_folder(), shipped_folder("catalogs") / "weights"


def shelved(folders: Sequence[Path] | None = None) -> tuple[Shelved, ...]:
    """All weights on the shelves: the user's first, then the shipped ones, each by name with the newest version first.

    Weights with an unreadable card are skipped with a warning in the log.
    """
    return tuple(entry for folder in folders or shelves() for entry in _on(folder))


def find_by_name(text: str) -> Shelved | None:
    """The weights called `name@version`, or the newest called `name`; None when there are none."""
    name, _, version = text.partition("@")
    places = [place for folder in shelves() for place in _places(folder) if place.name == name]
    wanted = [place for place in places if version in ("", str(place.version))]
    newest = max(wanted, key=lambda place: place.version, default=None)
    return None if newest is None else newest.read()


def find_by_digest(sha256: str) -> Shelved | None:
    """The weights with that digest; None when there are none."""
    return next((entry for entry in shelved() if entry.card.sha256 == sha256), None)


def find_fitting(ref: ModelRef) -> Shelved:
    """The newest weights of the reference's network for its bands and ratio; refuses if none or several names fit."""
    found: dict[str, Shelved] = {}
    for entry in shelved():
        best = found.get(entry.name)
        if fits(entry.card, ref) and (best is None or entry.version > best.version):
            found[entry.name] = entry
    if len(found) > 1:
        raise ModelError(
            f"{len(found)} weights for {ref.name} fit this pair: {', '.join(sorted(found))}",
            "it is not clear which one is meant",
            "Name one with --weights",
        )
    if not found:
        others = sorted({entry.label for entry in shelved() if entry.card.architecture == ref.name})
        on_shelf = f"; for other bands or ratios there are {', '.join(others)}" if others else ""
        raise ModelError(
            f"no weights of {ref.name} for {len(ref.hs_bands)} HSI and {counted(len(ref.ms_bands), 'MSI band')} at "
            f"ratio {ref.ratio}{on_shelf}",
            "an untrained network never makes a product",
            "Give --weights, train some with scenefuse train, or use a method without weights",
        )
    return next(iter(found.values()))


def resolve(text: str) -> Path:
    """The safetensors file at a path, or with a name on a shelf."""
    path = own_path(text)
    if path.is_file():
        return path
    entry = find_by_name(text)
    if entry is None:
        known = ", ".join(sorted({entry.label for entry in shelved()})) or "none"
        raise ModelError(
            f"{text} is not a file, and no weights on the shelf have that name",
            "the network has no weights",
            f"Give the path of a safetensors file, or one of the shelf's: {known}",
        )
    return entry.path


def place_for(name: str, folder: Path) -> tuple[Path, int]:
    """The folder of that name's next version on a shelf, not yet created, and the version."""
    version = max((place.version for place in _places(folder) if place.name == name), default=0) + 1
    return folder / name / str(version), version


def _on(folder: Path) -> Iterator[Shelved]:
    """Weights on one shelf that have a readable card."""
    for place in sorted(_places(folder), key=lambda place: (place.name, -place.version)):
        try:
            yield place.read()
        except ModelError as error:
            _log.warning("%s is left out: %s", place.path, error)


class _Place(NamedTuple):
    """Location of weights on a shelf, whether or not their card can be read."""

    name: str
    version: int
    path: Path

    def read(self) -> Shelved:
        """The weights with their card."""
        return Shelved(name=self.name, version=self.version, path=self.path, card=read_card(self.path))


def _places(folder: Path) -> list[_Place]:
    """Locations of all weights on one shelf."""
    return [
        _Place(path.parent.parent.name, int(path.parent.name), path)
        for path in folder.glob(f"*/*/{WEIGHTS}")
        if path.parent.name.isdecimal() and not path.parent.parent.name.startswith(".")
    ]


def with_weights(ref: ModelRef, weights: str | None) -> ModelRef:
    """The reference with the weights at that path or of that name; None picks the weights on the shelf that fit."""
    if weights is not None:
        return replace(ref, weights=str(resolve(weights)))
    entry = find_fitting(ref)
    return replace(ref, weights=str(entry.path), weights_sha256=entry.card.sha256)
