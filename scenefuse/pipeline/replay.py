"""Recompute tiles of a product from its provenance and state, and compare them with the stored ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from math import floor
from pathlib import Path
from typing import Any, cast

from scenefuse.archive.access import trusted_path
from scenefuse.config import INPUT_OPTIONS, RunConfig, parse, weights_folder
from scenefuse.cube.pair import PairCube
from scenefuse.engine.cluster import ClusterSpec, open_lane
from scenefuse.engine.device import choose_device
from scenefuse.engine.group import GroupTask, fuse_group
from scenefuse.engine.loop import batched
from scenefuse.engine.observers import NullObserver
from scenefuse.engine.precision import Precision
from scenefuse.engine.protocols import Event, Observer
from scenefuse.engine.retry import GivenUpError, RetryPolicy, TaskFailure, Work, results_in_order, work_off
from scenefuse.engine.software import INSTRUCTION_SET
from scenefuse.errors import DataError, MismatchError, ResourceError
from scenefuse.grid.resample import NO_PHASE
from scenefuse.models.shelf import find_by_digest
from scenefuse.models.state import SceneState
from scenefuse.pipeline.adapt import FOLDER
from scenefuse.pipeline.opening import OpenedPair, open_aligned, require_pair, scene_of
from scenefuse.pipeline.planning import method_of, product_inputs
from scenefuse.place.href import is_url
from scenefuse.place.place import Place
from scenefuse.product.adapted_weights import find_weights
from scenefuse.product.comparison import ComparingSink, CoreComparison
from scenefuse.product.files import STATE, STORE
from scenefuse.product.folder import product_folder
from scenefuse.product.identity import NUMERICS, ProductMethod, product_identity
from scenefuse.product.provenance import Provenance, RunRecord, read_provenance, read_run
from scenefuse.product.reading import read_state
from scenefuse.product.spec import ProductSpec
from scenefuse.sensors.sensor import Role
from scenefuse.tiles.tiling import Tile, Tiling

SAMPLE_TILES = 4
"""Tiles of a sample, spread evenly over the scene."""
GROUP_TILES = 2
"""Tiles per task, unless a batch has more."""
MOVED = "Give the scenes as they were with --hs and --ms"
"""Cure for inputs that have moved or changed since the product was made."""
_ROLES: tuple[Role, Role] = ("hsi", "msi")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """Comparison of a product with its recomputed tiles."""

    product: str
    """Item id."""
    tiles: int
    """Tiles of the product."""
    cores: tuple[CoreComparison, ...]
    """Comparisons of the recomputed tiles, row by row."""
    changed: tuple[str, ...]
    """What differs from the provenance: versions, instruction set, batch, numerics; empty if bytes must be equal."""
    allowed_steps: int = 1
    """Steps by which values may differ when something has changed: one, or the recorded drift of bf16 or fp16."""

    @property
    def differing_fraction(self) -> float:
        """Share of compared values that differ, 0 to 1."""
        return sum(core.differing for core in self.cores) / max(1, sum(core.values for core in self.cores))

    @property
    def most_steps(self) -> int:
        """Largest difference in integer steps of 1e-4 reflectance."""
        return max((core.most_steps for core in self.cores), default=0)

    @property
    def ok(self) -> bool:
        """True if all tiles are identical or, when something has changed, within allowed_steps with equal flags."""
        if all(core.identical for core in self.cores):
            return True
        within = self.most_steps <= self.allowed_steps
        return bool(self.changed) and within and not any(core.quality_differing for core in self.cores)

    def facts(self) -> dict[str, Any]:
        """The report in JSON types."""
        return {
            "product": self.product,
            "ok": self.ok,
            "tiles": self.tiles,
            "recomputed": len(self.cores),
            "differing_fraction": self.differing_fraction,
            "most_steps": self.most_steps,
            "allowed_steps": self.allowed_steps if self.changed else 0,
            "changed": list(self.changed),
            "cores": [asdict(core) for core in self.cores],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareTask:
    """A group of tiles to recompute and compare; results collect in the process that runs it. Picklable."""

    group: GroupTask
    """The tiles to fuse."""
    sink: ComparingSink
    """Compares them with the stored tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedGroup:
    """A group of recomputed tiles."""

    cores: tuple[CoreComparison, ...]
    """Their comparisons, in the order of the task."""
    made_by: Mapping[str, str]
    """Software that recomputed them: versions by name, and the instruction set."""


def replay(
    folder: str | Path | Place,
    *,
    every_tile: bool = False,
    hrefs: tuple[str | Path, str | Path] | None = None,
    config: RunConfig | None = None,
    observer: Observer | None = None,
) -> ReplayReport:
    """Recompute a sample of tiles, or every tile, and compare them with the store.

    Args:
        folder: The product: its folder, s3://bucket/prefix/<item id>, or its item.
        every_tile: Replay all tiles instead of a sample.
        hrefs: Where HSI and MSI are now, if they have moved; None takes them from run.json.
        config: Supplies scheduler, workers, memory_limit, allow_host and, if given, the path of a network's weights.
            All options that change pixel values come from the provenance.
        observer: Receives progress events.
    """
    folder = product_folder(folder)
    config, observer = config or RunConfig(), observer or NullObserver()
    opened, provenance = reopen(folder, hrefs=hrefs, config=config)
    state, plan, cube = _state(folder, provenance), provenance.plan, opened.cube
    tiling = Tiling(
        fine_shape=cube.grid.fine_shape, core_px=plan.core_px, halo_px=plan.halo_px, lattice_px=plan.lattice_px
    )
    spec = ProductSpec(item_id=provenance.item_id, grid=cube.grid, bands=cube.hs_bands, core_px=plan.core_px)
    chosen = tuple(tiling) if every_tile else _sample(tuple(tiling))
    groups = _groups(tiling, chosen, plan.batch)
    sink = ComparingSink(store=folder / STORE, spec=spec)
    with open_lane(_workers(opened, config, len(chosen))) as lane, lane.sharing(state) as digest:
        task = GroupTask(
            tiles=chosen,
            source=cube,
            sink=sink,
            model=opened.model,
            state_sha256=digest,
            precision=cast("Precision", plan.precision),
            batch=plan.batch,
            encoders=1 if opened.model.device == "cuda" else 0,  # one keeps comparisons in tile order
        )
        works = [
            Work(
                name=f"replay-{provenance.identity[:24]}-{number}",
                function=compare_group,
                argument=CompareTask(group=replace(task, tiles=group), sink=sink),
                facts={"product": folder.name, "group": number},
            )
            for number, group in enumerate(groups)
        ]
        observer.notify(Event(kind="plan", facts={"item_id": folder.name, "tiles": sum(map(len, groups))}))
        ended = work_off(works, lane, retry_policy=RetryPolicy(), observer=observer)
        compared: list[ComparedGroup] = results_in_order(works, ended, _stopped_by)
    cores = tuple(sorted(chain(*(some.cores for some in compared)), key=lambda core: (core.iy, core.ix)))
    return ReplayReport(
        product=folder.name,
        tiles=len(tiling),
        cores=cores,
        changed=_changes(provenance, read_run(folder), [some.made_by for some in compared]),
        allowed_steps=_allowed_steps(provenance, scale=spec.scale),
    )


def reopen(
    folder: Place, *, hrefs: tuple[str | Path, str | Path] | None, config: RunConfig
) -> tuple[OpenedPair, Provenance]:
    """Open the product's pair as it was opened then; MismatchError if an input has changed."""
    provenance = _provenance_of(folder)
    opened = _opened(folder, provenance, hrefs, _config_of(provenance, folder, config))
    _require_same_inputs(opened, method_of(opened), provenance, folder)
    return opened, provenance


def reopen_inputs(folder: Place, *, hrefs: tuple[str | Path, str | Path] | None, config: RunConfig) -> PairCube:
    """Open the product's two images on the grids of its method, as `reopen` does, without weights and device."""
    provenance = _provenance_of(folder)
    seen = {name: value for name, value in provenance.options.items() if name in INPUT_OPTIONS}
    recorded = parse(RunConfig, {**seen, "model": "bicubic", "device": "cpu"}, where="the product's provenance")
    nested = not any(provenance.grid["grid"].get("phase_px", NO_PHASE))
    opened = _opened(folder, provenance, hrefs, replace(recorded, allow_host=config.allow_host), nested=nested)
    _require_same_inputs(opened, provenance.method, provenance, folder)
    return opened.cube


def compare_group(task: CompareTask) -> ComparedGroup:
    """Recompute the group's tiles and compare them."""
    sink = replace(task.sink, found=[])
    report = fuse_group(replace(task.group, sink=sink))
    return ComparedGroup(cores=tuple(sink.found), made_by=report.tiles[0].made_by)


def _provenance_of(folder: Place) -> Provenance:
    if not folder.is_folder():
        raise DataError(f"{folder} is not a folder", "there is no product in it", "give the product's folder")
    return read_provenance(folder)


def _opened(
    folder: Place,
    provenance: Provenance,
    hrefs: tuple[str | Path, str | Path] | None,
    options: RunConfig,
    *,
    nested: bool = False,
) -> OpenedPair:
    """Open the pair at hrefs, or at the locations in run.json if hrefs is None; nested as in open_aligned."""
    ids = {file.role: file.scene_id for file in provenance.inputs}
    if hrefs is None:
        run = read_run(folder)
        for href in run.hrefs.values():
            if not is_url(href) and not trusted_path(href).exists():
                raise DataError(f"{href} does not exist", "there is no scene to read", MOVED)
        hs, ms = (scene_of(run.hrefs[role], options, root=run.roots.get(role), item_id=ids[role]) for role in _ROLES)
    else:
        require_pair(hrefs, "hrefs")
        hs, ms = (scene_of(href, options, item_id=ids[role]) for role, href in zip(_ROLES, hrefs, strict=True))
    return open_aligned(hs, ms, options, nested=nested)


def _state(folder: Place, provenance: Provenance) -> SceneState:
    """The state stored with the product; MismatchError if its digest is not that of the provenance."""
    state = read_state(folder)
    if state.sha256 != provenance.state_sha256:
        raise MismatchError(
            f"{folder / STATE} has digest {state.sha256[:12]}, the provenance says {provenance.state_sha256[:12]}",
            "the tiles would be computed from another state",
            "Fetch the product again, or fuse the pair again",
        )
    return state


def _workers(opened: OpenedPair, config: RunConfig, tiles: int) -> ClusterSpec:
    """The workers that config specifies; none if it specifies nothing and there are few tiles."""
    asked = config.workers is not None or config.scheduler is not None
    return ClusterSpec(
        workers=config.workers if asked or tiles > SAMPLE_TILES else 0,  # quicker than starting workers
        scheduler=config.scheduler,
        memory_limit_bytes=config.memory_limit_bytes(),
        device=opened.model.device,
    )


def _stopped_by(work: Work, failure: TaskFailure) -> GivenUpError:
    what = f"a tile of {work.facts['product']} failed: {failure.cause}"
    return GivenUpError(what, "it cannot be compared", "Run again", failure)


def _config_of(provenance: Provenance, folder: Place, config: RunConfig) -> RunConfig:
    """The recorded options that change pixel values, with weights' location and trusted hosts from config."""
    weights, digest = config.weights, provenance.method.weights_sha256
    if weights is None and digest is not None:
        entry = find_by_digest(digest)
        path = find_weights(folder, digest, cache=weights_folder() / FOLDER) if entry is None else entry.path
        if path is None:
            raise DataError(
                f"weights {digest[:12]} of {provenance.method.name} are neither on the shelf nor in the product",
                "the tiles cannot be recomputed",
                "Give them with --weights",
            )
        weights = str(path)
    options = {"model": provenance.method.name, **provenance.options, "weights": weights}
    recorded = parse(RunConfig, options, where="the product's provenance")
    try:
        choose_device(recorded.device)
    except ResourceError as error:
        raise ResourceError(
            f"{folder.name} was made on a GPU, and torch sees none here",
            "another kind of device rounds differently, so a difference would prove nothing",
            "Replay it on a machine with one; scenefuse verify checks the product anywhere",
        ) from error
    return replace(recorded, allow_host=config.allow_host)


def _require_same_inputs(opened: OpenedPair, method: ProductMethod, provenance: Provenance, folder: Place) -> None:
    readings = opened.cube.readings()
    identity = product_identity(
        product_inputs(opened), method, provenance.options, readings=readings, numerics=provenance.numerics
    )
    if identity == provenance.identity:
        return
    then = {(file.role, file.key): file.checksum for file in provenance.inputs}
    now = {(file.role, file.key): file.checksum for file in product_inputs(opened)}
    differing = sorted(" ".join(key) for key in then.keys() | now.keys() if then.get(key) != now.get(key))
    if differing:
        what = f"inputs {', '.join(differing)}"
    elif any(bands != provenance.grid[side]["band_map"] for side, bands in readings.items()):
        what = "wavelengths, scale, offset or no-data of bands"
    else:
        what = "the method's options"
    raise MismatchError(
        f"{what} differ from the provenance of {folder.name}",
        "recomputed tiles would belong to another product",
        MOVED,
    )


def _sample(tiles: Sequence[Tile]) -> tuple[Tile, ...]:
    """At most SAMPLE_TILES tiles, spread evenly and including the first and the last."""
    count = min(SAMPLE_TILES, len(tiles))
    places = sorted({round(number * (len(tiles) - 1) / max(1, count - 1)) for number in range(count)})
    return tuple(tiles[place] for place in places)


def _groups(tiling: Tiling, chosen: Sequence[Tile], batch: int) -> list[tuple[Tile, ...]]:
    """Tasks of the chosen tiles and of all tiles that were computed in one batch with them.

    GPU libraries choose algorithms by batch size, so a tile computed alone may differ in the last bit.
    """
    wanted = set(chosen)
    batches = [tiles for tiles in tiling.groups(batch) if not wanted.isdisjoint(tiles)]
    return [tuple(chain.from_iterable(some)) for some in batched(batches, max(1, GROUP_TILES // batch))]


def _allowed_steps(provenance: Provenance, *, scale: float) -> int:
    """Steps that the rounding of other versions or processors may change.

    In fp32 it is one. A lower precision rounds as coarsely as its drift against fp32 shows, which the run measured.
    """
    drift = provenance.checks.get("drift")
    return 1 if drift is None else max(1, floor(drift["max"] / scale + 0.5))


def _changes(provenance: Provenance, run: RunRecord, makers: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """What has changed since the product was made; makers: the software of each process that recomputed it."""
    then = {**provenance.software, INSTRUCTION_SET: provenance.plan.instruction_set}
    changes = [
        f"{'' if name == INSTRUCTION_SET else f'{name} '}{version} then, {now.get(name)} now"
        for now in makers
        for name, version in then.items()
        if now.get(name) != version
    ]
    planned, least = provenance.plan.batch, run.facts.get("run", {}).get("batch", provenance.plan.batch)
    if least < planned:
        changes.append(f"batches of {planned} windows planned, of {least} where memory ran out")
    if provenance.numerics != NUMERICS:
        changes.append(f"numerics {provenance.numerics} then, {NUMERICS} now")
    return tuple(dict.fromkeys(changes))
