"""How far pairs are under an output, told from names and records alone: nothing is opened, started or written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from scenefuse.archive.scene import Asset, ScenePair
from scenefuse.config import INPUT_OPTIONS, RunConfig
from scenefuse.cube.input_file import told_checksum
from scenefuse.engine.lease import live_owner
from scenefuse.pipeline.failures import PairFailure, read_failures, work_of
from scenefuse.place.place import Place
from scenefuse.product.files import LEASE
from scenefuse.product.finished import read_finished
from scenefuse.product.identity import NUMERICS
from scenefuse.product.provenance import Provenance

_READERS = 16
"""Places that are looked at at the same time: each look waits for a disk, or for a store's answer."""

PairState = Literal["done", "running", "failed", "begun", "due"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStatus:
    """How far one pair is."""

    pair: ScenePair
    """The pair."""
    standing: PairState
    """`done`: its product is there; `running`: somebody works on it now; `failed`: the last attempt did; `begun`: it
    was broken off, and will go on where it stopped; `due`: nothing of it is there."""
    item_id: str | None = None
    """The product's id where it is there or begun."""
    failure: PairFailure | None = None
    """The record of the last attempt, where that failed."""

    def facts(self) -> dict[str, Any]:
        """The standing as JSON can hold it."""
        failure = self.failure and {name: getattr(self.failure, name) for name in ("kind", "cause", "retryable", "at")}
        ids = {"hs_id": self.pair.hs.id, "ms_id": self.pair.ms.id}
        return {**ids, "standing": self.standing, "item_id": self.item_id, "failure": failure}


def pair_statuses(pairs: Sequence[ScenePair], *, out: Place, config: RunConfig) -> tuple[PairStatus, ...]:
    """How far each pair is; changes nothing.

    A product counts as the pair's when it is of both scenes by this method, of this release's numbers, of the options
    that are asked for, and of files that have, as far as that is told without opening them, the same checksums. Which
    weights a network would take from the shelf, and whether a remote file without a checksum changed, is not told.
    """
    names = out.names()
    records = {failure.key: failure for failure in read_failures(out)}
    by_pair: dict[str, list[str]] = {}
    for name in names:
        by_pair.setdefault(name.rpartition("_")[0], []).append(name)

    def of_pair(pair: ScenePair) -> PairStatus:
        work = work_of(pair, config)
        candidates = by_pair.get(f"{pair.hs.id}_{pair.ms.id}_{config.model}", ())
        return _standing(pair, [out / name for name in candidates], records.get(work.key), config)

    with ThreadPoolExecutor(_READERS) as pool:
        return tuple(pool.map(of_pair, pairs))


def _standing(pair: ScenePair, folders: Sequence[Place], failure: PairFailure | None, config: RunConfig) -> PairStatus:
    begun: Place | None = None
    for folder in folders:
        if (folder / f"{folder.name}.json").is_file():
            if _is_as_asked(folder, pair, config):
                return PairStatus(pair=pair, standing="done", item_id=folder.name)
        elif live_owner(folder / LEASE) is not None:
            return PairStatus(pair=pair, standing="running", item_id=folder.name)
        else:
            begun = folder
    item_id = None if begun is None else begun.name
    if failure is not None:
        return PairStatus(pair=pair, standing="failed", item_id=item_id, failure=failure)
    return PairStatus(pair=pair, standing="due" if begun is None else "begun", item_id=item_id)


def _is_as_asked(folder: Place, pair: ScenePair, config: RunConfig) -> bool:
    """Whether the product there is what a run with this configuration would find."""
    provenance = read_finished(folder, cog="cog" in config.format)
    return (
        provenance is not None
        and provenance.numerics == NUMERICS
        and _has_options(provenance.options, config)
        and all(_is_made_of(provenance, role, assets) for role, assets in _assets(pair, config))
    )


def _has_options(options: Mapping[str, Any], config: RunConfig) -> bool:
    """Whether a product's options are those that are asked for; what `auto` became is not told here."""
    asked = {name: getattr(config, name) for name in ("halo", "core_px", *INPUT_OPTIONS, "adapt")}
    asked |= {name: sorted(getattr(config, name)) for name in ("drop_bands", "drop_ms_bands")}
    asked |= {name: getattr(config, name) for name in ("precision", "device") if getattr(config, name) != "auto"}
    return all(options.get(name) == value for name, value in asked.items())


def _assets(pair: ScenePair, config: RunConfig) -> Iterator[tuple[str, tuple[Asset, ...]]]:
    """The files of each side that a run would read."""
    for role, scene in (("hsi", pair.hs), ("msi", pair.ms)):
        yield role, (*scene.assets, *(mask.asset for mask in scene.clouds if config.mask_clouds))


def _is_made_of(provenance: Provenance, role: str, assets: Sequence[Asset]) -> bool:
    """Whether the files of one side are those that the product was made of, as far as that is told."""
    made_of = {file.key: file.checksum for file in provenance.inputs if file.role == role}
    for asset in assets:
        recorded = made_of.get(PurePosixPath(asset.href.partition("?")[0]).name)
        try:
            told = told_checksum(asset)
        except OSError:  # it is away: the run will say so, the product stands
            continue
        if recorded is not None and told is not None and told != recorded:
            return False
    return True
