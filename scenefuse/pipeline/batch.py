"""Fusing an archive: search, pair, fuse each pair; one bad scene never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scenefuse.archive.bounds import Bounds
from scenefuse.archive.pair_search import find_in_archive, unpaired_record
from scenefuse.archive.pairing import Pairing, PairRule
from scenefuse.archive.search import SkippedItem
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import open_lane
from scenefuse.engine.dask_lane import SchedulerLostError
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import Event, Observer
from scenefuse.pipeline.failures import PairFailure, record_failure, work_of
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.opening import require_config
from scenefuse.pipeline.planning import cluster_spec
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.output import require_output


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """What became of an archive's pairs."""

    pairing: Pairing
    """Pairs that belong together, and why the other scenes do not."""
    skipped: tuple[SkippedItem, ...] = ()
    """Items of the archive that could not be read."""
    products: tuple[FusedProduct, ...] = ()
    """Products that are there now, made by this batch or found."""
    failures: tuple[PairFailure, ...] = field(default=())
    """Pairs that failed."""

    def facts(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        return {
            "pairs": len(self.pairing.pairs),
            "products": [product.facts() for product in self.products],
            "failures": [asdict(failure) for failure in self.failures],
            "unpaired": [unpaired_record(entry) for entry in self.pairing.unpaired],
            "skipped_items": [asdict(entry) for entry in self.skipped],
        }


def batch(
    sources: str | Path | Sequence[str | Path],
    *,
    out: str | Path | Place,
    rule: PairRule | None = None,
    config: RunConfig | None = None,
    bounds: Bounds | None = None,
    observer: Observer | None = None,
) -> BatchReport:
    """Fuse every pair of the sources into out; products that are there already are found, not made again.

    sources: one or several catalogues, STAC APIs, item collections or known archives; HSI and MSI may be in different.
    A pair that fails is recorded (`failures.jsonl` in out, one JSON object a line, for refill) and the rest goes on.
    What no pair could get past is refused before the first: an unknown method, an output that is not ours or not
    writable.
    """
    config, observer = config or RunConfig(), observer or NullObserver()
    require_config(config)
    out = place_at(out)
    require_output(out)
    out.free_bytes()
    listed = [sources] if isinstance(sources, str | Path) else sources
    pairing, skipped = find_in_archive(
        [str(source) for source in listed], rule or PairRule(), bounds=bounds, allow_hosts=config.allow_host
    )
    products: list[FusedProduct] = []
    failures: list[PairFailure] = []
    if pairing.pairs:
        with open_lane(cluster_spec(config)) as lane:
            for pair in pairing.pairs:
                call = partial(fuse, pair.hs, pair.ms, out=out, config=config, lane=lane)
                made = attempt_pair(call, work_of(pair, config), out=out, observer=observer)
                if isinstance(made, PairFailure):
                    failures.append(made)
                else:
                    products.append(made)
    return BatchReport(pairing=pairing, skipped=skipped, products=tuple(products), failures=tuple(failures))


def attempt_pair(
    call: Callable[..., FusedProduct], work: PairFailure, *, out: Place, observer: Observer
) -> FusedProduct | PairFailure:
    """The product that the call makes; or, whatever stops it, the record of the failure, which is kept in out.

    A scheduler that went away is no failure of this pair alone, and is raised: every later one would end like it.
    """
    try:
        return call(observer=observer)
    except Exception as error:  # noqa: BLE001 - a bug in one pair must not stop the archive; it is recorded
        failure, lost = work.because(error), error if isinstance(error, SchedulerLostError) else None
    record_failure(out, failure, observer)
    observer.notify(Event(kind="warning", facts={"message": f"{failure.hs_id} with {failure.ms_id}: {failure.cause}"}))
    if lost is not None:
        raise lost
    return failure
