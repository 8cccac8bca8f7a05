"""Plan a fusion: the opened pair, its product's identity and folder, how the scene is cut. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scenefuse.archive.scene import Scene
from scenefuse.config import INPUT_OPTIONS, RunConfig
from scenefuse.engine.allowance import available_cores
from scenefuse.engine.budget import PlanRequest, RunPlan, plan_run, size_text
from scenefuse.engine.cluster import ClusterSpec
from scenefuse.engine.device import choose_device, device_memory_bytes
from scenefuse.engine.known_states import KnownStates
from scenefuse.engine.precision import choose_precision
from scenefuse.engine.prepare import Preparation, preparation_seconds
from scenefuse.errors import ResourceError
from scenefuse.models.observation import observation_stages
from scenefuse.pipeline.opening import OpenedPair, open_to_fuse
from scenefuse.place.href import is_url
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.commit import finish_seconds
from scenefuse.product.finished import read_finished
from scenefuse.product.identity import ProductInput, ProductMethod, item_id, product_identity
from scenefuse.product.layout import laid_out_core_px
from scenefuse.product.output import require_output
from scenefuse.product.spec import ProductSpec
from scenefuse.product.stac_item import footprint
from scenefuse.words import counted

STATES = ".states"
"""Name of the folder, beside the products, of scene states kept for later runs."""
CLUSTER_WORKER_BYTES = 4 * 2**30
"""Memory assumed for a running cluster's worker without --memory-limit."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Order:
    """One product to make: from what, how, and where."""

    opened: OpenedPair
    """The aligned pair with its method."""
    config: RunConfig
    """Options of the run."""
    identity: str
    """Hash of everything that determines its pixels, hexadecimal."""
    folder: Place
    """The product's folder, named after its item."""
    plan: RunPlan
    """How the scene is cut, and its cost."""

    def __repr__(self) -> str:
        """One line with what is made and its cost; all fields would fill pages of a notebook."""
        plan = self.plan
        need = f"{size_text(plan.worker_bytes)} of memory each, up to {size_text(plan.write_bytes)} written"
        work = f"{counted(plan.tiles, 'tile')}, {counted(plan.workers, 'worker')}"
        return f"Order({self.folder}: {self.opened.cube!r}, {work}, {need})"

    @property
    def spec(self) -> ProductSpec:
        """The product's arrays."""
        cube = self.opened.cube
        return ProductSpec(
            item_id=self.folder.name,
            grid=cube.grid,
            bands=cube.hs_bands,
            core_px=self.plan.tiling.core_px,
            acquired=self.opened.pair.hs.acquired,
        )

    @property
    def preparation(self) -> Preparation:
        """What to determine about the scene before its first tile."""
        cube = self.opened.cube
        stages = observation_stages(cube.hs_bands, cube.ms_bands, cube.grid.ratio)
        return Preparation(stages=stages, model=self.opened.model)

    def seconds(self) -> dict[str, float]:
        """Rough seconds of a run's main phases, by their names in run.json, from typical rates.

        Excludes opening, adapting, starting workers, the seam check and the report.
        """
        workers = self.plan.workers
        return {
            "prepare": preparation_seconds(self.opened.cube, self.preparation, workers=workers),
            "tiles": self.plan.seconds,
            "finish": finish_seconds(self.spec, cog="cog" in self.config.format, workers=workers),
        }


def plan_fusion(
    hs: str | Path | Scene, ms: str | Path | Scene, *, out: str | Path | Place, config: RunConfig | None = None
) -> Order:
    """What `fuse` with the same arguments would do and cost. Reads only the registration's sample; writes nothing.

    With config.adapt the network is planned unadapted: the product's identity is known only after adapting.

    Args:
        hs: Hyperspectral scene, as for `fuse`.
        ms: Multispectral scene, as for `fuse`.
        out: Where products would go.
        config: Options of the run; None for the defaults.
    """
    config = config or RunConfig()
    return order_of(open_to_fuse(hs, ms, config), out=out, config=config)


def order_of(opened: OpenedPair, *, out: str | Path | Place, config: RunConfig) -> Order:
    """The order for an opened pair."""
    identity = product_identity(
        product_inputs(opened),
        method_of(opened),
        number_options(config, opened),
        readings=opened.cube.readings(),
    )
    out = place_at(out)
    folder = out / item_id(opened.pair.hs.id, opened.pair.ms.id, opened.card.name, identity)
    order = Order(opened=opened, config=config, identity=identity, folder=folder, plan=_plan(opened, config, folder))
    require_output(out, order.spec.item_id)
    footprint(order.spec)
    return order


def is_finished(folder: Place, config: RunConfig) -> bool:
    """Whether the product exists with every file that config requests."""
    return read_finished(folder, cog="cog" in config.format) is not None


def known_states(order: Order) -> KnownStates:
    """The states that runs into the same output keep for this scene, whatever the method."""
    opened = order.opened
    options = number_options(order.config, opened)
    seen = {name: options[name] for name in INPUT_OPTIONS} | {"phase_px": list(opened.cube.grid.phase_px)}
    return KnownStates(
        folder=order.folder.parent / STATES,
        scene=product_identity(
            product_inputs(opened), ProductMethod(name="scene"), seen, readings=opened.cube.readings()
        ),
        method=product_identity((), method_of(opened), {"device": opened.model.device}),
    )


def cluster_spec(config: RunConfig) -> ClusterSpec:
    """The workers that config specifies."""
    return ClusterSpec(
        workers=config.workers,
        scheduler=config.scheduler,
        memory_limit_bytes=config.memory_limit_bytes(),
        device=choose_device(config.device),
    )


def number_options(config: RunConfig, opened: OpenedPair) -> dict[str, Any]:
    """The options that change pixel values: with inputs and method they determine the product's identity."""
    return {
        "precision": choose_precision(config.precision, card=opened.card, device=opened.model.device),
        "device": opened.model.device,
        "halo": config.halo,
        "core_px": config.core_px,
        "hs_scale": config.hs_scale,
        "ms_scale": config.ms_scale,
        "drop_bands": sorted(config.drop_bands),
        "drop_ms_bands": sorted(config.drop_ms_bands),
        "mask_clouds": config.mask_clouds,
        "register": config.register,
        **({} if config.adapt is None else {"adapt": config.adapt}),
    }


def product_inputs(opened: OpenedPair) -> tuple[ProductInput, ...]:
    """The input files, as identity and provenance name them."""
    scenes = {"hsi": opened.pair.hs.id, "msi": opened.pair.ms.id}
    return tuple(
        ProductInput(
            role=file.role,
            scene_id=scenes[file.role],
            key=PurePosixPath(file.href).name,
            href=file.href if is_url(file.href) else PurePosixPath(file.href).name,
            checksum=file.evidence,
        )
        for file in opened.cube.inputs
    )


def method_of(opened: OpenedPair) -> ProductMethod:
    """The method as identity and provenance name it."""
    card = opened.card
    return ProductMethod(
        name=card.name, source=card.source, weights_sha256=card.weights_sha256, options=dict(card.options)
    )


def _plan(opened: OpenedPair, config: RunConfig, folder: Place) -> RunPlan:
    """The plan; raises if memory or disk is too small or the place cannot be written.

    What the product's folder already holds counts as free; a finished product needs no space. An unfinished one keeps
    its core size, whatever workers there are now.
    """
    out, finished = folder.parent, is_finished(folder, config)
    free, stored = out.free_bytes(), folder.stored_bytes()
    workers = cluster_spec(config)
    on_cluster = config.scheduler is not None
    memory = workers.memory_limit_bytes or (CLUSTER_WORKER_BYTES if on_cluster else workers.worker_memory_bytes)
    cuda = workers.device == "cuda"
    request = PlanRequest(
        workers=workers.worker_count,
        worker_memory_bytes=memory,
        device=workers.device,
        device_memory_bytes=device_memory_bytes() if cuda else None,
        worker_cores=1 if on_cluster and not cuda else max(1, available_cores() // workers.worker_count),
        precision=config.precision,
        halo=config.halo,
        core_px=config.core_px or laid_out_core_px(folder),
        free_disk_bytes=None if free is None or finished else free + stored,
    )
    plan = plan_run(opened.cube, opened.card, request)
    if "cog" in config.format and not finished:
        # The COG, the parts it is assembled from and, if they share a disk, the store itself.
        files = 2 if request.free_disk_bytes is None else 3
        scratch = out.scratch_bytes() + (0 if free is None else stored)
        if files * plan.write_bytes > scratch:
            raise ResourceError(
                f"{size_text(scratch)} are free where the COG for {out} is assembled, but up to "
                f"{size_text(files * plan.write_bytes)} are needed for it",
                "after all the work the COG could not be written",
                "Free some space, give another --out (or TMPDIR, for a store), or use --format zarr",
            )
    return plan
