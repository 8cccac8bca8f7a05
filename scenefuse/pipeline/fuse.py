"""Fusing one pair: open, plan, prepare, fuse tile by tile, commit. Interrupted anywhere, the same call resumes."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import psutil
import torch

from scenefuse import __version__
from scenefuse.archive.access import redact
from scenefuse.archive.scene import Scene
from scenefuse.config import RunConfig
from scenefuse.engine.budget import PlanRequest, RunPlan, plan_run, size_text
from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.lanes import Lane
from scenefuse.engine.lease import Lease
from scenefuse.engine.ledger import Ledger
from scenefuse.engine.observers import NullObserver, RecordingObserver, TeeObserver
from scenefuse.engine.precision import choose_device
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.protocols import Event, Observer
from scenefuse.engine.run import FusionJob, RunReport, fuse_scene
from scenefuse.engine.state_file import load_state, save_state
from scenefuse.errors import DataError, ResourceError, SceneFuseError, WorkError
from scenefuse.models.observation import observation_stages
from scenefuse.models.state import SceneState
from scenefuse.pipeline.opening import OpenedPair, open_aligned
from scenefuse.product.catalog import link_item
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.identity import NUMERICS, InputFile, Method, item_id, product_identity, public_href
from scenefuse.product.layout import lay_out
from scenefuse.product.output import require_output
from scenefuse.product.provenance import Plan, Provenance, RunRecord
from scenefuse.product.shards import ZarrSink
from scenefuse.product.spec import ProductSpec
from scenefuse.product.stac_item import read_item

Status = Literal["done", "resumed", "found"]

STATE = "state.safetensors"
"""Name of the frozen scene state in the product's folder."""
LEDGER = "ledger.jsonl"
"""Name of the list of finished tiles in the product's folder."""
LIBRARIES = ("torch", "numpy", "scipy", "zarr", "rasterio")
"""Libraries whose versions the provenance names, besides scenefuse's own: those that make numbers or bytes."""
CLUSTER_WORKER_BYTES = 4 * 2**30
"""Memory of a worker of a running cluster when --memory-limit does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedProduct:
    """A product that is there."""

    status: Status
    """`done` now, `resumed` and finished now, or `found` from before."""
    item: Path
    """Its STAC item; the product's folder is around it."""
    shape: tuple[int, int, int]
    """Bands, rows and columns."""
    gsd_m: float
    """Pixel size of the product in metres."""
    seconds: float
    """Wall time of this call."""
    notes: tuple[str, ...] = ()
    """What people should know: resolution given up, shift removed, bands dropped."""

    @property
    def folder(self) -> Path:
        """The product's folder."""
        return self.item.parent

    def facts(self) -> dict[str, Any]:
        """The product as JSON can hold it."""
        return {
            "status": self.status,
            "item_id": self.folder.name,
            "item": str(self.item),
            "shape": list(self.shape),
            "gsd_m": self.gsd_m,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One product that is to be made: what of, how, where."""

    opened: OpenedPair
    """The aligned pair with its method."""
    config: RunConfig
    """How it is asked for."""
    identity: str
    """What makes it the product that it is, hexadecimal."""
    folder: Path
    """The product's folder, named after its item."""
    plan: RunPlan
    """How the scene is cut, and what that costs."""

    @property
    def spec(self) -> ProductSpec:
        """The product's arrays."""
        cube = self.opened.cube
        return ProductSpec(
            item_id=self.folder.name, grid=cube.grid, bands=cube.hs_bands, core_px=self.plan.tiling.core_px
        )


def fuse(
    hs: str | Path | Scene,
    ms: str | Path | Scene,
    *,
    out: str | Path,
    config: RunConfig | None = None,
    observer: Observer | None = None,
    lane: Lane | None = None,
) -> FusedProduct:
    """Fuse a hyperspectral with a multispectral scene into out/<item id>/.

    hs, ms: path or URL of a STAC item, path of a raster file, or a Scene. lane: workers that are up already; None
    starts those that config asks for. A product that is there is found; one that was interrupted, or that lacks
    the COG now asked for, is finished.
    Raises SceneFuseError: exit code 4 before any work, 3 (WorkError) after it began.
    """
    began = time.monotonic()
    started = datetime.now(UTC)
    config, observer = config or RunConfig(), observer or NullObserver()
    order = plan_fusion(hs, ms, out=Path(out), config=config)
    item = order.folder / f"{order.folder.name}.json"
    lacks_cog = "cog" in config.format and not (order.folder / "fused.tif").is_file()
    if item.is_file() and not lacks_cog:
        link_item(order.folder.parent, read_item(order.folder))  # a run may have ended between the item and its links
        return _product(order, "found", item, began)
    recorder = RecordingObserver()
    watching = TeeObserver(observer, recorder)
    with ExitStack() as stack:
        lane = lane or stack.enter_context(open_lane(cluster_spec(config)))
        lease = stack.enter_context(_claimed(order.folder))
        store = lay_out(order.folder, order.spec)
        watching.notify(Event(kind="begin", facts={"item_id": order.folder.name}))
        state = _state(order, lane, watching)
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
        finish_began = time.monotonic()
        finish_data(order.folder, order.spec, cog="cog" in config.format)
        seconds = time.monotonic() - finish_began
        watching.notify(Event(kind="stage", facts={"stage": "overviews, COG, quicklook", "seconds": seconds}))
        lease.check()
        commit(
            order.folder,
            order.spec,
            pair=order.opened.pair,
            provenance=_provenance(order, state),
            run=_run_record(order, report, recorder, started),
            receipts=[receipt for tile in report.finished.values() for receipt in tile.receipts],
        )
    return _product(order, "resumed" if report.skipped else "done", item, began)


def plan_fusion(hs: str | Path | Scene, ms: str | Path | Scene, *, out: Path, config: RunConfig) -> Order:
    """What fuse with the same arguments would do; reads the registration's sample, writes nothing."""
    opened = open_aligned(_name(hs), _name(ms), config)
    identity = product_identity(input_files(opened), method_of(opened), number_options(config, opened))
    folder = out / item_id(opened.pair.hs.id, opened.pair.ms.id, opened.card.name, identity)
    order = Order(opened=opened, config=config, identity=identity, folder=folder, plan=_plan(opened, config, out))
    require_output(out, order.spec.item_id)
    return order


@contextmanager
def _claimed(folder: Path) -> Iterator[Lease]:
    """The product's folder under a lease; a refusal before the first tile leaves nothing that was not there before.

    What the system refuses in between, a full disk for example, becomes a WorkError: the same call resumes.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Lease(folder / ".lease") as lease:
            try:
                yield lease
            except SceneFuseError as error:
                if made and error.exit_code == DataError.exit_code and not (folder / LEDGER).exists():
                    shutil.rmtree(folder)
                raise
    except SceneFuseError:
        for path in made[1:]:
            with suppress(OSError):  # another run has put something there
                path.rmdir()
        raise
    except OSError as error:
        raise WorkError(
            f"{error.filename or folder}: {error.strerror or error}",
            "the product is not finished, and no reader sees it",
            "Remove the obstacle and run the same command again: what is finished is kept",
        ) from error


def cluster_spec(config: RunConfig) -> ClusterSpec:
    """The workers that the configuration asks for."""
    return ClusterSpec(
        workers=config.workers,
        scheduler=config.scheduler,
        memory_limit_bytes=config.memory_limit_bytes(),
        device=choose_device(config.device),
    )


def number_options(config: RunConfig, opened: OpenedPair) -> dict[str, Any]:
    """The options that change numbers: with inputs and method they make the product's identity."""
    return {
        "precision": config.precision,
        "device": opened.model.device,
        "halo": config.halo,
        "core_px": config.core_px,
        "hs_scale": config.hs_scale,
        "ms_scale": config.ms_scale,
        "drop_bands": sorted(config.drop_bands),
        "register": config.register,
    }


def input_files(opened: OpenedPair) -> tuple[InputFile, ...]:
    """The files that were read, as identity and provenance name them."""
    scenes = {"hsi": opened.pair.hs.id, "msi": opened.pair.ms.id}
    return tuple(
        InputFile(
            role=file.role,
            scene_id=scenes[file.role],
            key=PurePosixPath(file.href).name,
            href=public_href(file.href),
            checksum=f"{file.checksum_kind}:{file.checksum}",
        )
        for file in opened.cube.inputs
    )


def _name(source: str | Path | Scene) -> str | Scene:
    return str(source) if isinstance(source, Path) else source


def method_of(opened: OpenedPair) -> Method:
    """The method as identity and provenance name it."""
    card = opened.card
    return Method(name=card.name, source=card.source, weights_sha256=card.weights_sha256, options=dict(card.options))


def _plan(opened: OpenedPair, config: RunConfig, out: Path) -> RunPlan:
    """The plan, refused when memory or disk do not hold it or the place cannot be written."""
    workers = cluster_spec(config)
    on_cluster = config.scheduler is not None
    memory = workers.memory_limit_bytes or (CLUSTER_WORKER_BYTES if on_cluster else workers.worker_memory_bytes)
    cuda = workers.device == "cuda"
    request = PlanRequest(
        workers=workers.worker_count,
        worker_memory_bytes=memory,
        device=workers.device,
        device_memory_bytes=torch.cuda.get_device_properties(0).total_memory if cuda else None,
        precision=config.precision,
        halo=config.halo,
        core_px=config.core_px,
        free_disk_bytes=writable_bytes(out),
    )
    plan = plan_run(opened.cube, opened.card, request)
    if (
        "cog" in config.format
        and request.free_disk_bytes is not None
        and 3 * plan.write_bytes > request.free_disk_bytes
    ):
        raise ResourceError(
            f"{out} has {size_text(request.free_disk_bytes)} free, store and COG need up to "
            f"{size_text(3 * plan.write_bytes)} while they are made",
            "the COG could not be written after all the work",
            "Free some space, give another --out, or use --format zarr",
        )
    return plan


def writable_bytes(out: Path) -> int:
    """Free bytes where out is or will be; a ResourceError when nothing can be written there."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    probe = place / f".scenefuse-{socket.gethostname()}-{time.monotonic_ns()}.probe"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ResourceError(
            f"{place} cannot be written ({error.strerror})", "no product can be put there", "Choose another --out"
        ) from error
    return int(psutil.disk_usage(str(place)).free)


def _state(order: Order, lane: Lane, observer: Observer) -> SceneState:
    """The frozen state of the scene: the one saved before, or a new one, saved."""
    path = order.folder / STATE
    if path.is_file():
        return load_state(path)
    cube = order.opened.cube
    stages = observation_stages(cube.hs_bands, cube.ms_bands, cube.grid.ratio)
    state = prepare(cube, Preparation(stages=stages, model=order.opened.model), lane=lane, observer=observer)
    save_state(path, state)
    return state


def _provenance(order: Order, state: SceneState) -> Provenance:
    plan, opened = order.plan, order.opened
    return Provenance(
        item_id=order.folder.name,
        identity=order.identity,
        inputs=input_files(opened),
        method=method_of(opened),
        plan=Plan(
            core_px=plan.tiling.core_px,
            halo_px=plan.tiling.halo_px,
            lattice_px=plan.tiling.lattice_px,
            tiling="exact",
            precision=plan.precision,
            device=plan.device,
            batch=plan.batch,
            instruction_set=instruction_set(plan.device),
        ),
        numerics=NUMERICS,
        software=software_versions(),
        options=number_options(order.config, opened),
        grid=opened.facts(),
        state_sha256=state.sha256,
    )


def software_versions() -> dict[str, str]:
    """Versions of scenefuse and of the libraries that make numbers or bytes, by name."""
    return {"scenefuse": __version__, **{name: metadata.version(name) for name in LIBRARIES}}


def instruction_set(device: str) -> str:
    """The processor's, as torch names it: `AVX512`; of a GPU its compute capability: `sm_90`."""
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"sm_{major}{minor}"
    return str(torch.backends.cpu.get_cpu_capability())


def _run_record(order: Order, report: RunReport, recorder: RecordingObserver, started: datetime) -> RunRecord:
    pair = order.opened.pair
    return RunRecord(
        started=started,
        finished=datetime.now(UTC),
        host=socket.gethostname(),
        hrefs={"hsi": redact(pair.hs.href), "msi": redact(pair.ms.href)},
        facts={
            "plan": order.plan.facts(),
            "run": report.facts(),
            "stages": recorder.facts("stage"),
            "warnings": recorder.facts("warning"),
            "retries": recorder.facts("retry"),
        },
    )


def _product(order: Order, status: Status, item: Path, began: float) -> FusedProduct:
    grid = order.opened.cube.grid
    pixel_m = abs(grid.fine_transform[0])
    return FusedProduct(
        status=status,
        item=item,
        shape=(len(order.opened.cube.hs_bands), *grid.fine_shape),
        gsd_m=pixel_m,
        seconds=time.monotonic() - began,
        notes=(*order.opened.notes(), *order.plan.notes),
    )
