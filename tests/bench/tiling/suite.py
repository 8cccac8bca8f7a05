"""What is measured, in which order: rounds in turn over the contestants of a case, medians, differences."""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenefuse.models.registry import weightless_names
from tests.bench.tiling.contest import Case
from tests.bench.tiling.contestants import LANES, Lane, is_installed, is_rival
from tests.bench.tiling.difference import difference
from tests.bench.tiling.measure import FROZEN, PLAIN, Run, alone, measure, ready, reference
from tests.bench.tiling.models import OWN_NETWORKS
from tests.bench.tiling.networks import NETWORKS
from tests.bench.tiling.scene import BenchScene

CORE_PX = 512
"""The product's own choice for such scenes."""
SLOW = ("cnmf", "hysure-l2")
"""Methods without weights that spend their time in arithmetic."""
WHOLE_MPX = 1.0
"""Largest scene of which a whole-image reference is made."""

Names = dict[Lane, tuple[str, ...]]

FULL: Names = {
    "memory": tuple(name for name in LANES["memory"] if name not in {"ours other core", "two forwards"}),
    "zarr": tuple(LANES["zarr"]),
    "cog": ("ours", "ours and COG", "codec", "monai gaussian 0.25"),
}
_CORE = ("forward", "ours", "ours full halo", "stacking", "monai gaussian 0.25", "terratorch tuned", "dask tuned")
_BESIDE = ("ours full halo", "stacking", "monai gaussian 0.25", "terratorch tuned", "dask tuned")
SHORT: Names = {"memory": _CORE}
OWN: Names = {"memory": _CORE, "zarr": ("ours", "codec"), "cog": ("ours", "codec")}
LARGE: Names = {
    "memory": ("ours", "ours other core", "stacking", "monai gaussian 0.25", "terratorch tuned", "dask tuned"),
    "zarr": ("ours", "dask tuned"),
    "cog": ("ours and COG",),
}
WORKERS: Names = {"memory": ("forward", "two forwards"), "cog": ("one worker", "two workers")}
HUGE: Names = {"zarr": ("ours",), "cog": ("ours and COG",)}
WEIGHTLESS: Names = {"cog": ("ours", "codec")}
QUICK: Names = {
    "memory": (*_CORE, "terratorch"),
    "zarr": ("ours", "codec", "dask tuned"),
    "cog": ("ours", "codec"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One case and who runs it."""

    model: str
    """Name of the model."""
    mpx: float
    """Area in 2^20 fine pixels."""
    names: Names
    """Contestants by lane."""
    rounds: int = 1
    """Runs of each; the median counts."""
    once: tuple[str, ...] = ()
    """Contestants that run in the first round only."""
    core_px: int = CORE_PX
    """Side of our cores in fine pixels."""


def quick() -> list[Entry]:
    """Two models on 256 x 256 pixels: shows that the benchmark runs."""
    small = 1 / 16
    return [
        Entry(model="se", mpx=small, names=QUICK, core_px=64),
        Entry(model="bicubic", mpx=small, names=WEIGHTLESS, core_px=64),
    ]


def record() -> list[Entry]:
    """What is recorded: about 20 minutes on two quiet cores."""
    slow = ("monai constant 0.25", "monai gaussian 0.5", "monai merger", "monai merger tuned", "ours and COG")
    return [
        *(Entry(model=name, mpx=1, names=FULL, rounds=3, once=slow) for name in ("per-pixel", "conv")),
        *(Entry(model=name, mpx=1, names=SHORT, rounds=3) for name in ("unet-8", "se", "groupnorm")),
        *(Entry(model=name, mpx=4, names=WEIGHTLESS, rounds=2) for name in weightless_names() if name not in SLOW),
        Entry(model="aelf-t", mpx=1, names=OWN, rounds=2, once=_BESIDE),
        *(Entry(model="conv", mpx=mpx, names=LARGE) for mpx in (4, 16)),
        Entry(model="conv", mpx=4, names=WORKERS, rounds=3),
    ]


def longer() -> list[Entry]:
    """What takes longer and is recorded on demand: about 40 minutes."""
    without_full: Names = {**OWN, "memory": tuple(name for name in _CORE if name != "ours full halo")}
    return [
        Entry(model="mossfuse", mpx=1, names=OWN, rounds=2, once=_BESIDE),
        Entry(model="s3rnet", mpx=1, names=without_full),
        *(Entry(model="per-pixel", mpx=mpx, names=LARGE) for mpx in (4, 16)),
        *(Entry(model=name, mpx=4, names=WEIGHTLESS) for name in SLOW),
        Entry(model="aelf-t", mpx=4, names=WORKERS),
    ]


def huge() -> list[Entry]:
    """Ours alone on scenes of 4, 16 and 64 Mpx, to see what grows: three hours, most of it aelf-t at 64."""
    return [
        *(Entry(model=name, mpx=mpx, names=HUGE, rounds=3) for mpx in (4, 16, 64) for name in ("per-pixel", "conv")),
        *(Entry(model="aelf-t", mpx=mpx, names={"zarr": ("ours",)}, rounds=3) for mpx in (4, 16, 64)),
    ]


def chosen(models: Iterable[str], sizes: Iterable[float], names: Names | None = None) -> list[Entry]:
    """These models at these sizes, three times each, with these contestants or those that make sense there."""
    return [
        Entry(model=model, mpx=mpx, names=names or _names(model, mpx), rounds=3) for mpx in sizes for model in models
    ]


def among(entries: Iterable[Entry], models: list[str] | None, sizes: list[float] | None) -> list[Entry]:
    """The entries of these models and sizes; None is all."""
    return [entry for entry in entries if (not models or entry.model in models) and (not sizes or entry.mpx in sizes)]


def known_models() -> tuple[str, ...]:
    """Every model that can be measured."""
    return (*NETWORKS, *OWN_NETWORKS, *weightless_names())


def run(entries: Iterable[Entry], folder: Path | None = None) -> Iterator[dict[str, Any]]:
    """One record per contestant of each entry; scenes are kept below a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="tiling-") as name:
        for entry in entries:
            yield from _records(entry, Path(name))


def _names(model: str, mpx: float) -> Names:
    if model in weightless_names():
        return WEIGHTLESS
    if mpx > 16:
        return HUGE
    if mpx > WHOLE_MPX:
        return LARGE
    return OWN if model in OWN_NETWORKS else FULL


def _records(entry: Entry, folder: Path) -> Iterator[dict[str, Any]]:
    side = max(64, round(1024 * math.sqrt(entry.mpx) / 64) * 64)
    scene = BenchScene(folder=folder / str(side), side_px=side)
    scene.folder.mkdir(exist_ok=True)
    case = Case(model=entry.model, scene=scene, core_px=entry.core_px)
    facts = alone(ready, case)
    head = {"model": entry.model, "mpx": scene.mpx, "side_px": side}
    wanted = [(lane, name) for lane, names in entry.names.items() for name in names]
    references = _references(case, facts, wanted)
    runs: dict[tuple[Lane, str], list[dict[str, Any]]] = {}
    for number in range(entry.rounds):
        for lane, name in wanted:
            _tell(f"{entry.model} {scene.mpx:g} Mpx, round {number + 1} of {entry.rounds}: {lane}, {name}")
            if is_installed(name) and (number == 0 or name not in entry.once):
                compared = bool(references) or (lane == "memory" and name in {"ours", "ours other core"})
                copied = name == "ours" and "codec" in entry.names[lane]  # the codec writes what ours found
                job = Run(case=case, lane=lane, contestant=name, keep=number == 0 and (compared or copied))
                runs.setdefault((lane, name), []).append(alone(measure, job))
    for kind, figures in references.items():
        yield {**head, "lane": "whole", "contestant": kind, "facts": facts, **figures}
    for lane, name in wanted:
        base = {**head, "lane": lane, "contestant": name, "facts": facts}
        if (lane, name) in runs:
            errors = _errors(case, lane, name, runs[lane, name][0]["cuts"], references, facts)
            yield {**base, **_median(runs[lane, name]), "error": errors}
        else:
            yield {**base, "missing": "not installed"}
    for path in scene.folder.glob(f"image-{entry.model}-*.npy"):
        path.unlink()


def _references(case: Case, facts: dict[str, Any], wanted: list[tuple[Lane, str]]) -> dict[str, dict[str, Any]]:
    """Figures of each whole image, the frozen one with its difference from the plain one; none for large scenes."""
    if case.scene.mpx > WHOLE_MPX or not facts["whole_fits"] or case.model in weightless_names():
        return {}
    kinds = [FROZEN, *([PLAIN] if any(is_rival(name) for _, name in wanted) else [])]
    found = {}
    for kind in kinds:
        _tell(f"{case.model} {case.scene.mpx:g} Mpx: whole, {kind}")
        found[kind] = {**alone(reference, (case, kind)), "error": None}
    if PLAIN in found:
        pair = [case.image_path("whole", kind) for kind in (FROZEN, PLAIN)]
        found[FROZEN]["error"] = {"against": PLAIN, **difference(*pair, cuts=(), edge_px=facts["support_px"])}
    return found


def _errors(
    case: Case, lane: Lane, name: str, cuts: tuple[int, ...], references: dict[str, Any], facts: dict[str, Any]
) -> dict[str, Any] | None:
    """Differences from the whole image; of ours on large scenes, from ours with other cores."""
    image = case.image_path(lane, name)
    other = case.image_path("memory", "ours other core")
    if references:
        # Tuned, dask mirrors the scene's border as we do; with statistics of its own it still is no image of ours.
        mirrored = not is_rival(name) or (name == "dask tuned" and facts["statistics"] == "none")
        against = FROZEN if mirrored else PLAIN
        whole = case.image_path("whole", against)
    elif (lane, name) == ("memory", "ours") and other.exists():
        against, whole = "ours other core", other
    else:
        return None
    if not image.exists():
        return None
    return {"against": against, **difference(image, whole, cuts=cuts, edge_px=facts["support_px"])}


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of times over the rounds, the largest peak, everything else of the first round."""
    times = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key.endswith("_s")}
    peak = max(run["peak_rss_bytes"] for run in runs)
    rounds = {"rounds": len(runs), "wall_rounds_s": [run["wall_s"] for run in runs]}
    return {
        **{key: value for key, value in runs[0].items() if key != "cuts"},
        **times,
        "peak_rss_bytes": peak,
        **rounds,
    }


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - progress
