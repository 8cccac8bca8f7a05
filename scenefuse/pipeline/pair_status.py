"""Status of pairs under an output, from names and records alone: opens, starts and writes nothing."""

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
from scenefuse.pipeline.failures import PairFailure, PairWork, read_failures
from scenefuse.place.place import Place
from scenefuse.product.files import LEASE
from scenefuse.product.finished import read_finished
from scenefuse.product.identity import NUMERICS
from scenefuse.product.provenance import Provenance

_READERS = 16
"""Pairs checked at the same time: each check waits for a disk or an object store."""

PairState = Literal["done", "running", "failed", "begun", "due"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStatus:
    """Status of one pair."""

    pair: ScenePair
    """The pair."""
    standing: PairState
    """`done`: its product exists; `running`: a process works on it now; `failed`: the last attempt failed; `begun`: it
    was interrupted and will resume where it stopped; `due`: nothing of it exists."""
    item_id: str | None = None
    """Id of the product if it exists, is running or was begun."""
    failure: PairFailure | None = None
    """Record of the last attempt if it failed."""

    def facts(self) -> dict[str, Any]:
        """The status in JSON types."""
        failure = self.failure and {name: getattr(self.failure, name) for name in ("kind", "cause", "retryable", "at")}
        ids = {"hs_id": self.pair.hs.id, "ms_id": self.pair.ms.id}
        return {**ids, "standing": self.standing, "item_id": self.item_id, "failure": failure}


def pair_statuses(pairs: Sequence[ScenePair], *, out: Place, config: RunConfig) -> tuple[PairStatus, ...]:
    """Return the status of each pair; changes nothing.

    A product counts as the pair's if it was made from both scenes by this method, with this release's numerics and the
    requested options, from files whose checksums, if known without opening them, are unchanged. Not checked
    are which weights a network would take from the shelf, whether a remote file without a checksum changed, and whether
    an item was corrected whose files stayed the same.
    """
    names = out.names()
    records = {failure.key: failure for failure in read_failures(out)}
    by_pair: dict[str, list[str]] = {}
    for name in names:
        by_pair.setdefault(name.rpartition("_")[0], []).append(name)

    def of_pair(pair: ScenePair) -> PairStatus:
        work = PairWork.of(pair, config)
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
    """Whether a run with this configuration would accept the product as its own."""
    provenance = read_finished(folder, cog="cog" in config.format)
    return (
        provenance is not None
        and provenance.numerics == NUMERICS
        and _has_options(provenance.options, config)
        and all(_is_made_of(provenance, role, assets) for role, assets in _assets(pair, config))
    )


def _has_options(options: Mapping[str, Any], config: RunConfig) -> bool:
    """Whether a product has the requested options; what `auto` resolves to is not checked."""
    asked = {name: getattr(config, name) for name in ("halo", "core_px", *INPUT_OPTIONS, "adapt")}
    asked |= {name: sorted(getattr(config, name)) for name in ("drop_bands", "drop_ms_bands")}
    asked |= {name: getattr(config, name) for name in ("precision", "device") if getattr(config, name) != "auto"}
    return all(options.get(name) == value for name, value in asked.items())


def _assets(pair: ScenePair, config: RunConfig) -> Iterator[tuple[str, tuple[Asset, ...]]]:
    """The files of each side that a run would read."""
    for role, scene in (("hsi", pair.hs), ("msi", pair.ms)):
        yield role, (*scene.assets, *(mask.asset for mask in scene.clouds if config.mask_clouds))


def _is_made_of(provenance: Provenance, role: str, assets: Sequence[Asset]) -> bool:
    """Whether the product was made from these files of one side, as far as known checksums show."""
    made_of = {file.key: file.checksum for file in provenance.inputs if file.role == role}
    for asset in assets:
        recorded = made_of.get(PurePosixPath(asset.href.partition("?")[0]).name)
        try:
            told = told_checksum(asset)
        except OSError:  # out of reach: the run will report it, the product still counts
            continue
        if recorded is not None and told is not None and told != recorded:
            return False
    return True
