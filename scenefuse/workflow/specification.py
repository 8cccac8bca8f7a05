"""Specification of a workflow, read from its file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.bounds import BBox, Bounds, parse_time
from scenefuse.archive.known import known_archives
from scenefuse.archive.pairing import PairRule
from scenefuse.config import RunConfig, parse, read_toml
from scenefuse.errors import UsageError
from scenefuse.place.location import own_path
from scenefuse.publish.catalogue import catalogue_at
from scenefuse.publish.destination import Catalogue
from scenefuse.workflow.schedule import ScheduleSpec
from scenefuse.workflow.span import is_span, parse_span

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+=@,-]{0,99}")
_TABLES = ("source", "pairs", "fuse", "output", "schedule")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Where to search for scenes: HSIs acquired between since and until, and MSIs that may match them."""

    catalogs: tuple[str, ...]
    """Catalogues, STAC APIs or names from catalogs/; HSI and MSI may be in different ones."""
    bbox: tuple[float, ...] = ()
    """West, south, east, north in degrees; empty for everywhere."""
    since: str | None = None
    """First day or time of the HSI's acquisition, ISO 8601, or how long before each pass: `10d`; None for no bound."""
    until: str | None = None
    """Last day or time of the HSI's acquisition, ISO 8601, or how long before each pass: `3d`; None for no bound."""

    def __post_init__(self) -> None:
        if not self.catalogs:
            raise UsageError("catalogs is empty", "there is nothing to search", "Name a catalogue or a STAC API")
        if len(self.bbox) not in (0, 4):
            raise UsageError(f"bbox has {len(self.bbox)} numbers", "it is not a box", "Give west, south, east, north")
        self.bounds(datetime.now(UTC))

    @property
    def box(self) -> BBox | None:
        """West, south, east, north in degrees; None for everywhere."""
        if not self.bbox:
            return None
        west, south, east, north = self.bbox
        return west, south, east, north

    def bounds(self, now: datetime) -> Bounds:
        """The area and time that a pass beginning now searches; spans count back from now."""
        since, until = (
            now - parse_span(name, text)
            if text is not None and is_span(text)
            else parse_time(name, text, day_ends=name == "until")
            for name, text in (("since", self.since), ("until", self.until))
        )
        return Bounds(bbox=self.box, since=since, until=until)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """Where products go."""

    products: str
    """Folder that receives the products and their catalogue."""
    publish_to: str | None = None
    """Static catalogue (folder, s3:// URL) or STAC API (https:// URL) of finished products; None publishes nothing."""
    asset_root: str | None = None
    """URL under which readers find the folders of published products; required for an API."""

    def catalogue(self, allow_hosts: tuple[str, ...]) -> Catalogue | None:
        """The catalogue for finished products, None if nothing is published; UsageError if publish_to is invalid."""
        if self.publish_to is None:
            return None
        return catalogue_at(self.publish_to, asset_root=self.asset_root, policy=AccessPolicy(allow_hosts=allow_hosts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """The content of a workflow file."""

    name: str
    """Name in logs and reports, and file name of the record of its passes."""
    source: SourceSpec
    """`[source]`."""
    output: OutputSpec
    """`[output]`."""
    rule: PairRule = field(default_factory=PairRule)
    """`[pairs]`: which scenes belong together, by collection or by metadata."""
    fuse: RunConfig = field(default_factory=RunConfig)
    """`[fuse]`: how to fuse them."""
    schedule: ScheduleSpec | None = None
    """`[schedule]`: when passes are due under `serve`; None if they are started otherwise."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"the workflow's name {self.name!r}",
                "the record of its passes cannot be named after it",
                "Give a name of letters, digits and _+=@,- only, of at most 100 characters",
            )


def read_workflow(path: Path) -> Workflow:
    """Read a workflow from a TOML file; relative paths in it start from its folder and are made absolute."""
    tables = read_toml(path)
    unknown = set(tables) - {"name", *_TABLES}
    if unknown:
        raise UsageError(
            f"unknown table {min(unknown)!r} in {path}",
            "it would have no effect",
            f"Known: name, {', '.join(f'[{table}]' for table in _TABLES)}",
        )
    for required in ("source", "output"):
        if required not in tables:
            raise UsageError(f"{path} has no [{required}]", "there is nothing to do", f"Add a table [{required}]")
    source = parse(SourceSpec, tables["source"], where=f"{path} [source]")
    output = parse(OutputSpec, tables["output"], where=f"{path} [output]")
    folder = path.resolve().parent
    fuse = _weights_beside(folder, parse(RunConfig, tables.get("fuse", {}), where=f"{path} [fuse]"))
    output = replace(
        output,
        products=_beside(folder, output.products),
        publish_to=output.publish_to and _beside(folder, output.publish_to),
    )
    output.catalogue(fuse.allow_host)  # raises before any work
    return Workflow(
        name=str(tables.get("name", path.stem)),
        source=replace(source, catalogs=tuple(_located(folder, catalog) for catalog in source.catalogs)),
        output=output,
        rule=parse(PairRule, tables.get("pairs", {}), where=f"{path} [pairs]"),
        fuse=fuse,
        schedule=parse(ScheduleSpec, tables["schedule"], where=f"{path} [schedule]") if "schedule" in tables else None,
    )


def _located(folder: Path, href: str) -> str:
    """A catalogue's path, resolved from the file's folder; the name of a known archive stays unchanged."""
    return href if href in {archive.name for archive in known_archives()} else _beside(folder, href)


def _weights_beside(folder: Path, config: RunConfig) -> RunConfig:
    """The options with the path of weights made absolute; a name on the shelf stays unchanged."""
    if config.weights is None or not (path := folder / own_path(config.weights)).is_file():
        return config
    return replace(config, weights=str(path.resolve()))


def _beside(folder: Path, href: str) -> str:
    """A path, resolved from the file's folder; URLs and absolute paths stay unchanged."""
    return href if "://" in href else str((folder / own_path(href)).resolve())
