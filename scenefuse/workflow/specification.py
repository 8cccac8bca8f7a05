"""What an operator wants done, read from a workflow file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.bounds import BBox
from scenefuse.archive.known import known_archives
from scenefuse.archive.pairing import PairRule
from scenefuse.config import RunConfig, parse, read_toml
from scenefuse.errors import UsageError
from scenefuse.place.location import own_path
from scenefuse.publish.catalogue import catalogue_at
from scenefuse.publish.destination import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Where scenes are looked for."""

    catalogs: tuple[str, ...]
    """Catalogues, STAC APIs or names from catalogs/; HSI and MSI may live in different ones."""
    bbox: tuple[float, ...] = ()
    """West, south, east, north in degrees; empty for everywhere."""
    since: str | None = None
    """First day or time of acquisition, ISO 8601; None for no bound."""
    until: str | None = None
    """Last day or time of acquisition, ISO 8601; None for no bound."""

    def __post_init__(self) -> None:
        if len(self.bbox) not in (0, 4):
            raise UsageError(f"bbox has {len(self.bbox)} numbers", "it is no box", "Give west, south, east, north")

    @property
    def box(self) -> BBox | None:
        """West, south, east, north in degrees; None for everywhere."""
        if not self.bbox:
            return None
        west, south, east, north = self.bbox
        return west, south, east, north


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """Where products go."""

    products: str
    """Folder that receives the products and their catalogue."""
    publish_to: str | None = None
    """Static catalogue (folder, s3:// URL) or STAC API (https:// URL) of finished products; None publishes nothing."""
    asset_root: str | None = None
    """URL under which readers find the folders of what is published; an API needs it."""

    def catalogue(self, allow_hosts: tuple[str, ...]) -> Catalogue | None:
        """What finished products are published into; UsageError when it is none."""
        if self.publish_to is None:
            return None
        return catalogue_at(self.publish_to, asset_root=self.asset_root, policy=AccessPolicy(allow_hosts=allow_hosts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One workflow file."""

    name: str
    """Name in logs and reports."""
    source: SourceSpec
    """`[source]`."""
    output: OutputSpec
    """`[output]`."""
    rule: PairRule = field(default_factory=PairRule)
    """`[pairs]`: which scenes belong together, by collection or by metadata."""
    fuse: RunConfig = field(default_factory=RunConfig)
    """`[fuse]`: how they are fused."""


def read_workflow(path: Path) -> Workflow:
    """The workflow of a TOML file; relative paths in it are made absolute from its folder."""
    tables = read_toml(path)
    unknown = set(tables) - {"name", "source", "output", "pairs", "fuse"}
    if unknown:
        raise UsageError(
            f"unknown table {min(unknown)!r} in {path}",
            "it would have no effect",
            "Known: name, [source], [pairs], [fuse], [output]",
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
    output.catalogue(fuse.allow_host)  # refused before any work
    return Workflow(
        name=str(tables.get("name", path.stem)),
        source=replace(source, catalogs=tuple(_located(folder, catalog) for catalog in source.catalogs)),
        output=output,
        rule=parse(PairRule, tables.get("pairs", {}), where=f"{path} [pairs]"),
        fuse=fuse,
    )


def _located(folder: Path, href: str) -> str:
    """A catalogue's path from the file's folder; the name of a known archive as it is."""
    return href if href in {archive.name for archive in known_archives()} else _beside(folder, href)


def _weights_beside(folder: Path, config: RunConfig) -> RunConfig:
    """The options with the path of weights made absolute; a name on the shelf stays as it is."""
    if config.weights is None or not (folder / config.weights).is_file():
        return config
    return replace(config, weights=str((folder / config.weights).resolve()))


def _beside(folder: Path, href: str) -> str:
    """A path from the file's folder; URLs and absolute paths as they are."""
    return href if "://" in href else str((folder / own_path(href)).resolve())
