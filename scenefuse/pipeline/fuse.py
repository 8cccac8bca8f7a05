"""Fuse one pair: open, plan, prepare, fuse tile by tile, commit. After an interruption the same call resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from scenefuse.archive.scene import Scene
from scenefuse.config import RunConfig
from scenefuse.engine.cluster import open_lane
from scenefuse.engine.lanes import Lane
from scenefuse.engine.lease import Lease, LeaseHeldError
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.observers import NullObserver, RecordingObserver, TeeObserver
from scenefuse.engine.prepare import prepare
from scenefuse.engine.protocols import Event, Observer
from scenefuse.engine.run import FusionJob, fuse_scene
from scenefuse.engine.state_file import load_state, save_state
from scenefuse.errors import DataError, SceneFuseError, WorkError
from scenefuse.models.state import SceneState
from scenefuse.pipeline.adapt import adapt
from scenefuse.pipeline.failures import PairWork, forget_failure, record_failure
from scenefuse.pipeline.opening import open_to_fuse
from scenefuse.pipeline.phases import Phases
from scenefuse.pipeline.planning import (
    STATES,
    Order,
    cluster_spec,
    is_finished,
    known_states,
    order_of,
)
from scenefuse.pipeline.records import model_item_of, provenance_of, recorded_hrefs, run_record
from scenefuse.pipeline.report import make_report
from scenefuse.place.place import Place
from scenefuse.product.adapted_weights import keep_weights
from scenefuse.product.catalog import link_item
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.files import LEASE, LEDGER, REPORT, STATE
from scenefuse.product.layout import lay_out
from scenefuse.product.model_item import write_model_item
from scenefuse.product.provenance import read_provenance
from scenefuse.product.report_file import has_report, put_report
from scenefuse.product.self_check import CheckingSink, SelfCheck, check_product
from scenefuse.product.shards import ZarrSink
from scenefuse.product.stac_item import read_item
from scenefuse.product.succession import succeed

Status = Literal["done", "resumed", "found"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedProduct:
    """A finished product."""

    status: Status
    """`done`: made by this call; `resumed`: finished by this call; `found`: made by an earlier one."""
    location: Place
    """Its STAC item, inside the product's folder."""
    shape: tuple[int, int, int]
    """Bands, rows and columns."""
    gsd_m: float
    """Pixel size of the product in metres."""
    seconds: float
    """Wall time of this call."""
    checks: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Self-checks of the run that made it: seams, drift against float32."""
    report: Place | None = None
    """Its report; None if it has none."""
    notes: tuple[str, ...] = ()
    """What users should know: resolution given up, shift removed, bands dropped, earlier versions replaced."""

    @property
    def item_id(self) -> str:
        """Its STAC item id."""
        return self.location.parent.name

    @property
    def item(self) -> Path:
        """Its local STAC item; DataError if the product is on an object store."""
        return self.location.local_path()

    @property
    def folder(self) -> Path:
        """Its local folder; DataError if the product is on an object store."""
        return self.item.parent

    def facts(self) -> dict[str, Any]:
        """The product in JSON types."""
        return {
            "status": self.status,
            "item_id": self.item_id,
            "item": str(self.location),
            "shape": list(self.shape),
            "gsd_m": self.gsd_m,
            "seconds": round(self.seconds, 3),
            "checks": dict(self.checks),
            "report": None if self.report is None else str(self.report),
            "notes": list(self.notes),
        }


def fuse(
    hs: str | Path | Scene,
    ms: str | Path | Scene,
    *,
    out: str | Path | Place,
    config: RunConfig | None = None,
    observer: Observer | None = None,
    lane: Lane | Callable[[], Lane] | None = None,
) -> FusedProduct:
    """Fuse a hyperspectral scene with a multispectral scene into out/<item id>/.

    Returns an existing product as it is; finishes one that was interrupted or that lacks the requested COG.

    Args:
        hs: Hyperspectral scene: path or URL of a STAC item or raster, a delivered product's folder, or a Scene.
        ms: Multispectral scene, in the same forms.
        out: Where products go: a folder, or s3://bucket/prefix.
        config: Options of the run; None for the defaults.
        observer: Receives progress events.
        lane: Running workers, or a function that returns them on demand; None starts workers as config specifies.

    Raises:
        SceneFuseError: Exit code 4 before any work; 3 (WorkError) once work has begun, recorded for refill.
    """
    began = time.monotonic()
    started = datetime.now(UTC)
    config, observer = config or RunConfig(), observer or NullObserver()
    phases = Phases()
    phases.begin("open")
    opened = open_to_fuse(hs, ms, config)
    if config.adapt is not None:
        phases.begin("adapt")
        opened = adapt(opened, config)
    order = order_of(opened, out=out, config=config)
    work = PairWork.of(order.opened.pair, config)
    try:
        product = _made(order, observer, lane, started, phases)
    except WorkError as error:
        record_failure(order.folder.parent, work.because(error), observer)
        raise
    forget_failure(order.folder.parent, work)
    return replace(product, seconds=time.monotonic() - began)


def _made(
    order: Order,
    observer: Observer,
    workers: Lane | Callable[[], Lane] | None,
    started: datetime,
    phases: Phases,
) -> FusedProduct:
    """Find the product, finish it, or make it from the start."""
    config = order.config
    if (found := _found(order)) is not None:
        told = () if not config.report or found.report is not None else _reported(order, observer)
        return replace(found, report=_report_of(order.folder), notes=(*found.notes, *told))
    recorder = RecordingObserver()
    watching = TeeObserver(observer, recorder)
    with ExitStack() as stack:
        if workers is None:
            lane: Lane = stack.enter_context(open_lane(cluster_spec(config)))
        else:
            lane = workers() if callable(workers) else workers
        lease = stack.enter_context(_claimed(order.folder))
        if (found := _found(order)) is not None:  # another process made it while our workers started
            return found
        store = lay_out(order.folder, order.spec)
        watching.notify(Event(kind="begin", facts={"item_id": order.folder.name, "dashboard": lane.dashboard}))
        for message in order.opened.warnings():
            watching.notify(Event(kind="warning", facts={"message": message}))
        phases.begin("prepare")
        state = _state(order, lane, watching)
        _require_same_files(order)
        phases.begin("tiles")
        job = FusionJob(
            source=order.opened.cube,
            model=order.opened.model,
            state=state,
            sink=ZarrSink(store=store, spec=order.spec),
            plan=order.plan,
            identity=order.identity,
        )
        with Ledger(order.folder / LEDGER, job.sha256, lease=lease) as ledger:
            report = fuse_scene(job, lane=lane, ledger=ledger, observer=watching)
        phases.begin("check")
        checks = _checked(order, job, store, lane, watching)
        _require_same_files(order)
        phases.begin("finish")
        finish_data(order.folder, order.spec, cog="cog" in config.format, lane=lane, observer=watching)
        seconds = phases.end()["finish"]
        watching.notify(Event(kind="phase", facts={"phase": "overviews, COG, quicklook", "seconds": seconds}))
        lease.check()
        if config.adapt is not None:
            keep_weights(order.folder, Path(str(order.opened.model.ref.weights)))
        write_model_item(order.folder, model_item_of(order))
        commit(
            order.folder,
            order.spec,
            pair=order.opened.pair,
            provenance=replace(provenance_of(order, state, report), checks=checks.facts()),
            run=run_record(order, report, recorder, started, phases.end()),
            receipts=[receipt for tile in report.finished.values() for receipt in tile.receipts],
        )
        more = [*_succeeded(order), *(_reported(order, watching, lease=lease) if config.report else ())]
    return _product(order, "resumed" if report.skipped else "done", more)


def _found(order: Order) -> FusedProduct | None:
    """The product if it exists with every requested file."""
    if not is_finished(order.folder, order.config):
        return None
    link_item(order.folder.parent, read_item(order.folder))  # an earlier run may have stopped between item and links
    return _product(order, "found", _succeeded(order))


class ChangedInputError(WorkError):
    """A local input file changed while it was being read."""

    retryable = True


def _require_same_files(order: Order) -> None:
    """Raise if an input changed during the run, and remove what may mix both versions."""
    for file in order.opened.cube.inputs:
        try:
            changed = file.changed()
        except OSError as error:
            raise WorkError(
                f"{file.path}: {error.strerror}",
                "it is not certain that all tiles were made from the same file",
                "Put it back and run the same command again: what is finished is kept",
            ) from error
        if changed:
            order.folder.clear(last=LEASE)
            known_states(order).forget()
            raise ChangedInputError(
                f"{file.path} changed while it was read",
                "the product would mix two versions, so what was made of it is removed",
                "Run the same command again when the file is complete",
            )


def _succeeded(order: Order) -> tuple[str, ...]:
    """Deprecate products of earlier versions of the same two items; return a note for each.

    Only STAC items are considered: a bare file has no id that would make it a version of an earlier file.
    """
    pair = order.opened.pair
    if not (pair.hs.is_stac and pair.ms.is_stac):
        return ()
    return tuple(
        f"replaces {name}, made of earlier inputs: deprecated" for name in succeed(order.folder, recorded_hrefs(order))
    )


def _reported(order: Order, observer: Observer, *, lease: Lease | None = None) -> tuple[str, ...]:
    """Put the report beside the product; if that fails, return a note: the product is complete without it.

    lease: the lease on the product's folder if this run holds it.
    """
    try:
        made = make_report(order.folder, source=order.opened.cube)
        with Lease(order.folder / LEASE) if lease is None else nullcontext(lease) as held:
            held.check()
            put_report(order.folder, made.html)
    except LeaseHeldError:
        return ()  # the holder makes the report
    except Exception as error:  # noqa: BLE001 - a faulty report must not fail its product
        note = f"no report: {error if isinstance(error, SceneFuseError) else repr(error)}"
        observer.notify(Event(kind="warning", facts={"message": note}))
        return (note,)
    return ()


def _report_of(folder: Place) -> Place | None:
    return folder / REPORT if has_report(folder) else None


def _checked(order: Order, job: FusionJob, store: Place, lane: Lane, observer: Observer) -> SelfCheck:
    """Check the finished tiles (seams, drift against float32) and warn about what is wrong."""
    sink = CheckingSink(store=store, spec=order.spec)
    checks = check_product(job, order.opened.card, sink, lane=lane, observer=observer)
    for message in checks.warnings():
        observer.notify(Event(kind="warning", facts={"message": message}))
    return checks


@contextmanager
def _claimed(folder: Place) -> Iterator[Lease]:
    """Hold the product's folder under a lease; a DataError before the first tile removes whatever this run created.

    A later I/O error, a full disk for example, becomes a WorkError: the same call resumes.
    """
    made: Sequence[Place] = ()
    began = False
    try:
        made = folder.make()
        with Lease(folder / LEASE) as lease:
            try:
                yield lease
            except SceneFuseError as error:
                if error.exit_code == DataError.exit_code:
                    began = _has_begun(folder)
                    if made and not began:
                        folder.clear(last=LEASE)
                raise
    except SceneFuseError as error:
        if began:
            raise WorkError(error.value, error.consequence, error.cure) from error
        if len(made) > 1 and not began and folder.parent.names() == [STATES]:  # this run made the output, alone
            (folder.parent / STATES).clear()
        for place in made[1:]:
            place.unmake()
        raise
    except OSError as error:
        raise WorkError(
            f"{error.filename or folder}: {error.strerror or error}",
            "the product is not finished, and not visible to readers",
            "Remove the obstacle and run the same command again: what is finished is kept",
        ) from error


def _has_begun(folder: Place) -> bool:
    """Whether tiles may be finished; assumed of a place that no longer answers: it did when the folder was claimed."""
    try:
        return (folder / LEDGER).exists()
    except (SceneFuseError, OSError):
        return True


def _state(order: Order, lane: Lane, observer: Observer) -> SceneState:
    """The frozen state of the scene: loaded if saved before, else prepared and saved."""
    path = order.folder / STATE
    if path.is_file():
        return load_state(path)
    cube = order.opened.cube
    state = prepare(cube, order.preparation, lane=lane, observer=observer, known=known_states(order))
    save_state(path, state)
    return state


def _product(order: Order, status: Status, more: Sequence[str]) -> FusedProduct:
    grid, item = order.opened.cube.grid, order.folder / f"{order.folder.name}.json"
    return FusedProduct(
        status=status,
        location=item,
        shape=(len(order.opened.cube.hs_bands), *grid.fine_shape),
        gsd_m=grid.fine_gsd_m,
        seconds=0.0,
        checks=read_provenance(item.parent).checks,
        report=_report_of(item.parent),
        notes=(*order.opened.notes(), *order.plan.notes, *more),
    )
