"""Retry what failed under an output: each recorded pair, with the options of its failed run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from scenefuse.config import RunConfig
from scenefuse.engine.cluster import open_lane
from scenefuse.engine.lanes import Lane
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import Observer
from scenefuse.errors import DataError
from scenefuse.pipeline.batch import attempt_pair
from scenefuse.pipeline.failures import PairFailure, forget_failure, read_failures
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.opening import scene_of
from scenefuse.pipeline.planning import cluster_spec
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.output import require_output


@dataclass(frozen=True, slots=True, kw_only=True)
class RefillReport:
    """The outcome for each pair that had failed."""

    products: tuple[FusedProduct, ...] = ()
    """Products that exist now."""
    failures: tuple[PairFailure, ...] = ()
    """Pairs that failed again; their records stay."""

    def facts(self) -> dict[str, Any]:
        """The report in JSON types."""
        return {
            "products": [product.facts() for product in self.products],
            "failures": [asdict(failure) for failure in self.failures],
        }


def refill(
    out: str | Path | Place,
    *,
    machine: RunConfig | None = None,
    observer: Observer | None = None,
) -> RefillReport:
    """Retry each pair recorded in out/failures.jsonl. Finished tiles are kept; pairs that succeed leave the list.

    Args:
        out: The output that holds the products: a folder, or s3://bucket/prefix.
        machine: Supplies scheduler, workers, memory_limit and allow_host; other options are those of the failed run.
        observer: Receives progress events.
    """
    machine, observer = machine or RunConfig(), observer or NullObserver()
    out = place_at(out)
    if not out.is_folder():
        raise DataError(
            f"{out} is not a folder", "nothing can have failed there", "Give the folder that holds the products"
        )
    require_output(out)
    orders = [(record, record.config(machine)) for record in read_failures(out)]
    if orders:
        out.free_bytes()
    products: list[FusedProduct] = []
    failures: list[PairFailure] = []
    for _, members in groupby(sorted(orders, key=_device), key=_device):
        some = list(members)
        with open_lane(cluster_spec(some[0][1])) as lane:
            for record, config in some:
                again = partial(_fuse_again, record, out=out, config=config, lane=lane)
                made = attempt_pair(again, record, out=out, observer=observer)
                if isinstance(made, PairFailure):
                    failures.append(made)
                else:
                    products.append(made)
                    forget_failure(out, record)
    return RefillReport(products=tuple(products), failures=tuple(failures))


def _fuse_again(record: PairFailure, *, out: Place, config: RunConfig, lane: Lane, observer: Observer) -> FusedProduct:
    """Fuse the recorded pair again."""
    hs = scene_of(record.hs_href, config, root=record.hs_root, item_id=record.hs_id)
    ms = scene_of(record.ms_href, config, root=record.ms_root, item_id=record.ms_id)
    return fuse(hs, ms, out=out, config=config, observer=observer, lane=lane)


def _device(order: tuple[PairFailure, RunConfig]) -> str:
    """Device of the order: pairs on the same device share workers."""
    return order[1].device
