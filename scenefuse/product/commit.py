"""From finished shards to a product: what has no item does not exist for readers, so the item comes last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from scenefuse.archive.scene import ScenePair
from scenefuse.engine.protocols import ShardReceipt
from scenefuse.errors import WorkError
from scenefuse.product.catalog import link_item
from scenefuse.product.cog import write_cog, write_quality_cog
from scenefuse.product.durable import PART, json_bytes, write_durably
from scenefuse.product.manifest import ManifestLine, measure, write_manifest
from scenefuse.product.overviews import build_overviews
from scenefuse.product.provenance import Provenance, RunRecord, write_provenance, write_run
from scenefuse.product.quicklook import write_quicklook
from scenefuse.product.shards import shard_key, shard_keys
from scenefuse.product.spec import STORE, ProductSpec
from scenefuse.product.stac_item import build_item


def finish_data(folder: Path, spec: ProductSpec, *, cog: bool) -> None:
    """Nothing; overviews, `quality.tif`, `quicklook.png` and, if asked for, `fused.tif` are made from the shards.

    Done again, it makes the same files again. Needs every shard of the product.
    """
    _require(folder, {shard_key(name, *place) for name in ("reflectance", "quality") for place in _places(spec)})
    build_overviews(folder / STORE, spec)
    write_quality_cog(folder, spec)
    write_quicklook(folder, spec)
    if cog:
        write_cog(folder, spec)


def commit(
    folder: Path,
    spec: ProductSpec,
    *,
    pair: ScenePair,
    provenance: Provenance,
    run: RunRecord,
    receipts: Iterable[ShardReceipt] = (),
) -> Path:
    """The product's item, written last: manifest, provenance, run, item, then the catalogue's links.

    For the holder of the commit lease, after finish_data and the report. receipts are the ledger's: a shard that
    is not what its receipt says stops the commit. Interrupted anywhere, it can be repeated with the same result.
    """
    (folder / f"{spec.item_id}.json").unlink(missing_ok=True)  # data under an old item may have changed
    _remove_parts(folder)
    _require(folder, set(shard_keys(spec)))
    lines = measure(folder / STORE)
    _compare(lines, receipts)
    finished = replace(provenance, item_id=spec.item_id, manifest_sha256=write_manifest(folder, lines))
    write_provenance(folder, finished)
    write_run(folder, run)
    item = build_item(folder, spec, pair=pair, provenance=finished, finished=run.finished)
    path = folder / f"{spec.item_id}.json"
    write_durably(path, json_bytes(item))
    link_item(folder.parent, item)
    return path


def _places(spec: ProductSpec) -> list[tuple[int, int]]:
    rows, columns = spec.shard_counts()
    return [(iy, ix) for iy in range(rows) for ix in range(columns)]


def _remove_parts(folder: Path) -> None:
    """Nothing; what crashed writers left is gone. Nobody else writes: the caller holds the lease."""
    for path in folder.rglob(f".*{PART}"):
        path.unlink(missing_ok=True)


def _require(folder: Path, keys: set[str]) -> None:
    missing = sorted(key for key in keys if not (folder / STORE / key).is_file())
    if missing:
        raise WorkError(
            f"{len(missing)} of {len(keys)} shards of {folder.name} are missing, the first {missing[0]}",
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
            f"{len(wrong)} shards are not what the ledger says, the first {wrong[0]}",
            "they were changed or damaged after they were written",
            "run the same command again: it computes them again",
        )
