"""Turn finished shards into a product. Readers see only what has an item, so the item is written last."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scenefuse.archive.scene import ScenePair
from scenefuse.engine.lanes import Lane
from scenefuse.engine.protocols import Observer, ShardReceipt
from scenefuse.errors import WorkError
from scenefuse.place.durable import json_bytes
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.catalog import link_item
from scenefuse.product.files import STORE
from scenefuse.product.levels import make_overviews, write_cog
from scenefuse.product.manifest import ManifestLine, measure, write_manifest
from scenefuse.product.provenance import Provenance, RunRecord, write_provenance, write_run
from scenefuse.product.quality_cog import write_quality_cog
from scenefuse.product.quicklook import write_quicklook
from scenefuse.product.shards import shard_key, shard_keys
from scenefuse.product.spec import ProductSpec
from scenefuse.product.stac_item import build_item
from scenefuse.words import counted

_FINISHED_BYTES_PER_S = {False: 1e8, True: 4e7}
"""Rough bytes of a product that one core finishes per second: overviews alone, or (True) with the COG as well, which
is coded once more and read back."""


def finish_data(
    folder: Path | Place, spec: ProductSpec, *, cog: bool, lane: Lane | None = None, observer: Observer | None = None
) -> None:
    """Make overviews, `quality.tif`, `quicklook.png` and, if requested, `fused.tif` from the shards.

    Running it again produces the same files. Every shard of the product must be there, and nobody else may write to
    the folder. Without a lane, everything runs in this process.
    """
    folder = place_at(folder)
    _require(folder, {shard_key(name, *core) for name in ("reflectance", "quality") for core in _cores(spec)})
    if cog:
        folder.sweep()  # parts of the COG that a killed run left behind
        with folder.scratch() as scratch:
            parts = make_overviews(folder, spec, parts_in=scratch, lane=lane, observer=observer)
            write_cog(folder, spec, parts, lane=lane, observer=observer)
    else:
        make_overviews(folder, spec, lane=lane, observer=observer)
    write_quality_cog(folder, spec)
    write_quicklook(folder, spec)


def finish_seconds(spec: ProductSpec, *, cog: bool, workers: int) -> float:
    """Rough duration of `finish_data` on that many workers, from typical rates."""
    bands, rows, columns = spec.shape
    alone = rows * columns * (2 * bands + 1) / _FINISHED_BYTES_PER_S[cog]
    return alone / min(workers, math.prod(spec.shard_counts()))


def commit(
    folder: Path | Place,
    spec: ProductSpec,
    *,
    pair: ScenePair,
    provenance: Provenance,
    run: RunRecord,
    receipts: Iterable[ShardReceipt] = (),
) -> Place:
    """Commit the product and return its item: manifest, provenance, run, item, then the catalogue's links.

    For the holder of the commit lease, after finish_data. receipts come from the ledger: a shard that differs from
    its receipt stops the commit. After an interruption at any point, it can be repeated with the same result.
    """
    folder = place_at(folder)
    item = folder / f"{spec.item_id}.json"
    item.discard()  # data under an old item may have changed
    folder.sweep()
    _require(folder, set(shard_keys(spec)))
    lines = measure(folder / STORE)
    _compare(lines, receipts)
    finished = replace(provenance, item_id=spec.item_id, manifest_sha256=write_manifest(folder, lines))
    write_provenance(folder, finished)
    write_run(folder, run)
    document = build_item(folder, spec, pair=pair, provenance=finished, finished=run.finished)
    write_item(item, document)
    link_item(folder.parent, document)
    return item


def write_item(item: Place, document: dict[str, Any]) -> None:
    """Write the item, which makes the product visible to readers."""
    item.put(json_bytes(document))


def _cores(spec: ProductSpec) -> list[tuple[int, int]]:
    rows, columns = spec.shard_counts()
    return [(iy, ix) for iy in range(rows) for ix in range(columns)]


def _require(folder: Place, keys: set[str]) -> None:
    missing = sorted(keys.difference((folder / STORE).files()))
    if missing:
        raise WorkError(
            f"{folder.name} lacks {len(missing)} of {counted(len(keys), 'shard')}, the first {missing[0]}",
            "the product would have holes",
            "run the same command again: it computes what is missing",
        )


def _compare(lines: Iterable[ManifestLine], receipts: Iterable[ShardReceipt]) -> None:
    found = {line.key: (line.size_bytes, line.sha256) for line in lines}
    wrong = sorted(
        receipt.key for receipt in receipts if found.get(receipt.key) != (receipt.size_bytes, receipt.sha256)
    )
    if wrong:
        raise WorkError(
            f"{counted(len(wrong), 'shard')} differ from the ledger, the first {wrong[0]}",
            "they were changed or damaged after they were written",
            "run the same command again: it recomputes them",
        )
