"""Fuse an archive: search, pair, fuse each pair. One bad scene never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from scenefuse.archive.bounds import Bounds
from scenefuse.archive.pair_search import find_in_archive, unpaired_record
from scenefuse.archive.pairing import Pairing, PairRule
from scenefuse.archive.search import SkippedItem
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.dask_lane import SchedulerLostError
from scenefuse.engine.lanes import Lane
from scenefuse.engine.lease import LeaseHeldError
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.protocols import Event, Observer
from scenefuse.errors import SceneFuseError
from scenefuse.pipeline.failures import PairFailure, PairWork, record_failure
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.opening import require_config
from scenefuse.pipeline.planning import cluster_spec
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.output import require_output


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """The outcome for each pair of an archive."""

    pairing: Pairing
    """Pairs found, and why the other scenes have no partner."""
    skipped: tuple[SkippedItem, ...] = ()
    """Items that could not be read."""
    products: tuple[FusedProduct, ...] = ()
    """Products that exist now, whether made by this batch or earlier."""
    failures: tuple[PairFailure, ...] = ()
    """Pairs that failed."""
    busy: tuple[PairFailure, ...] = ()
    """Pairs that another process was working on, left to it."""

    def facts(self) -> dict[str, Any]:
        """The report in JSON types."""
        return {
            "pairs": len(self.pairing.pairs),
            "products": [product.facts() for product in self.products],
            "failures": [asdict(failure) for failure in self.failures],
            "busy": [asdict(failure) for failure in self.busy],
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
    """Fuse every pair of the sources into out, without remaking existing products.

    A failed pair is recorded for `refill` (`failures.jsonl` in out, one JSON object per line) and does not stop the
    others. A pair that another process is working on is left to it. Errors that would stop every pair are raised up
    front: an unknown method, or an output that is not ours or not writable. Workers start with the first pair that
    needs them.

    Args:
        sources: One or more catalogues, STAC APIs, item collections or known archives; HSI and MSI may come from
            different ones.
        out: Where products go: a folder, or s3://bucket/prefix.
        rule: What makes two scenes a pair; None for the defaults.
        config: Options of each fusion; None for the defaults.
        bounds: Where to search, and when the HSI was acquired (its partner may lie outside by the rule's
            max_gap_hours); None for everywhere and always.
        observer: Receives progress events.
    """
    config, observer = config or RunConfig(), observer or NullObserver()
    out = place_at(out)
    require_ready(out, config)
    listed = [sources] if isinstance(sources, str | Path) else sources
    pairing, skipped = find_in_archive(
        [str(source) for source in listed], rule or PairRule(), bounds=bounds, allow_hosts=config.allow_host
    )
    return replace(fuse_pairs(pairing, out=out, config=config, observer=observer), skipped=skipped)


def require_ready(out: Place, config: RunConfig) -> None:
    """Raise errors that would stop every pair: an unknown method; an output that is not ours, full or not writable."""
    require_config(config)
    require_output(out)
    out.free_bytes()


def fuse_pairs(pairing: Pairing, *, out: Place, config: RunConfig, observer: Observer) -> BatchReport:
    """Fuse each pair and notify the observer of each product or failure with an event `pair`."""
    products: list[FusedProduct] = []
    failures: list[PairFailure] = []
    busy: list[PairFailure] = []
    with ExitStack() as stack:
        workers = _Workers(cluster_spec(config), stack)
        for number, pair in enumerate(pairing.pairs, start=1):
            call = partial(fuse, pair.hs, pair.ms, out=out, config=config, lane=workers)
            try:
                made = attempt_pair(call, PairWork.of(pair, config), out=out, observer=observer)
            except _NoWorkersError as error:
                raise error.reason from None
            if isinstance(made, FusedProduct):
                products.append(made)
            else:
                (busy if made.kind == LeaseHeldError.kind else failures).append(made)
            facts: dict[str, Any] = {"number": number, "pairs": len(pairing.pairs)}
            if isinstance(made, FusedProduct):
                facts |= {"status": made.status}
            else:
                facts |= {"status": made.kind, "cause": made.cause}
            observer.notify(Event(kind="pair", facts={"hs_id": pair.hs.id, "ms_id": pair.ms.id, **facts}))
    return BatchReport(pairing=pairing, products=tuple(products), failures=tuple(failures), busy=tuple(busy))


class _NoWorkersError(Exception):
    """Workers could not be started, which stops the whole batch and is no pair's failure."""

    def __init__(self, reason: SceneFuseError) -> None:
        super().__init__(reason)
        self.reason = reason


class _Workers:
    """Workers shared by all pairs, started on first use: finding finished products needs none."""

    def __init__(self, spec: ClusterSpec, stack: ExitStack) -> None:
        """The stack closes the workers."""
        self._spec, self._stack = spec, stack
        self._lane: Lane | None = None

    def __call__(self) -> Lane:
        if self._lane is None:
            try:
                self._lane = self._stack.enter_context(open_lane(self._spec))
            except SceneFuseError as error:
                raise _NoWorkersError(error) from error
        return self._lane


def attempt_pair(
    call: Callable[..., FusedProduct], work: PairWork, *, out: Place, observer: Observer
) -> FusedProduct | PairFailure:
    """Return the product that call makes or, if it fails in any way, the failure, recorded in out.

    A pair that another process works on has not failed, and nothing is recorded. The loss of the scheduler is recorded
    and raised, because every later pair would fail like this one.
    """
    try:
        return call(observer=observer)
    except _NoWorkersError:
        raise
    except Exception as error:  # noqa: BLE001 - a bug in one pair must not stop the archive; it is recorded
        failure, lost = work.because(error), error if isinstance(error, SchedulerLostError) else None
    if failure.kind != LeaseHeldError.kind:
        record_failure(out, failure, observer)
    if lost is not None:
        raise lost
    return failure
