"""What a sample of a large scene costs: fused with what 64 of its blocks tell, and with what all of them tell.

    python -m tests.bench.sampling [--quick] [--side-px 3072] [--json tests/bench/results/sampling.json]

One simulated pair at ratio 3 with known truth. Each method that measures blocks is prepared twice the way of a
product, and both states fuse the same windows, spread evenly over the scene. --quick: a scene of 36 blocks, of which
a sample takes 16.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scenefuse.config import RunConfig
from scenefuse.cube.pair import PairCube
from scenefuse.cube.truth import Truth, open_truth
from scenefuse.demo.archive import truth_path, write_site
from scenefuse.demo.catalogue import item_path, write_catalogue
from scenefuse.demo.plan import DemoScene, plan_sites
from scenefuse.demo.size import DemoSize
from scenefuse.engine.precision import repeatable
from scenefuse.engine.prepare import Preparation, prepare
from scenefuse.engine.resident import ModelHandle, resident_model
from scenefuse.engine.sampling import BLOCK_PX, Sampling, block_sample
from scenefuse.engine.windows import read_model_window
from scenefuse.grid.window import Window
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.models.observation import observation_stages
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.models.state import SceneState
from scenefuse.pipeline.opening import open_aligned
from tests.bench.machine import machine

METHODS = ("gsa", "sfim", "mtf-glp-hs", "cnmf", "hysure-l2")
"""Those that measure blocks of the scene."""
WINDOW_PX = 192
"""Side of a window that is fused and scored, fine pixels."""
WINDOWS = 4
"""Windows along each side of the scene."""
HALO_PX = 48
"""What is fused around a window and not scored: whole coarse pixels, more than any of METHODS reaches."""
QUICK_SIDE_PX = DemoSize.MEDIUM.fine_px
COLUMNS = ("psnr_db", "sam_deg", "ergas")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A pair and its truth."""

    cube: PairCube
    """The pair."""
    truth: Truth
    """What the fused image should be."""

    def windows(self) -> Iterator[Window]:
        """Windows in even rows and columns, origins on coarse pixels, none at the scene's border."""
        sides = self.cube.grid.fine_shape
        step = self.cube.grid.ratio
        places = [
            [step * round((side - WINDOW_PX) * (i + 0.5) / WINDOWS / step) for i in range(WINDOWS)] for side in sides
        ]
        for y0 in places[0]:
            for x0 in places[1]:
                yield Window(y0=y0, y1=y0 + WINDOW_PX, x0=x0, x1=x0 + WINDOW_PX)


def make_ground(folder: Path, side_px: int, seed: int) -> Ground:
    """The demo's first pair, cut to a square of side_px fine pixels."""
    site = plan_sites(DemoSize.MEDIUM if side_px <= DemoSize.MEDIUM.fine_px else DemoSize.LARGE, seed)[0]
    if site.hs is None or site.ms is None:
        raise LookupError("the demo's first site has a pair")
    site = replace(site, hs=_cut(site.hs, side_px), ms=_cut(site.ms, side_px))
    (folder / "truth").mkdir()
    write_site(folder, site, seed)
    write_catalogue(folder, site.scenes)
    hs, ms = (str(item_path(folder, scene)) for scene in site.scenes)
    cube = open_aligned(hs, ms, RunConfig(model="bicubic")).cube
    return Ground(cube=cube, truth=open_truth(str(truth_path(folder, site)), cube.fine_raster, cube.hs_bands))


def measure(ground: Ground, name: str, sampling: Sampling) -> dict[str, Any]:
    """Scores of a method prepared by a sampling, and what the preparation took."""
    cube = ground.cube
    ref = ModelRef(name=name, hs_bands=cube.hs_bands, ms_bands=cube.ms_bands, ratio=cube.grid.ratio)
    handle = ModelHandle(ref=ref, load=load_model)
    stages = observation_stages(cube.hs_bands, cube.ms_bands, cube.grid.ratio)
    began = time.perf_counter()
    state = prepare(cube, Preparation(stages=stages, model=handle, sampling=sampling))
    seconds = time.perf_counter() - began
    sums = ReferenceSums(ratio=cube.grid.ratio)
    for window in ground.windows():
        fused = _fuse(cube, handle, window, state)
        sums = sums.add(fused, ground.truth.read(window))
    sample = block_sample(cube.grid.coarse_shape, sampling)
    return {
        "method": name,
        "blocks": len(sample) if sample else _blocks(cube.grid.coarse_shape),
        "of_blocks": _blocks(cube.grid.coarse_shape),
        **{key: value for key, value in sums.scores().items() if key in COLUMNS},
        "prepare_s": round(seconds, 1),
    }


def _fuse(cube: PairCube, handle: ModelHandle, window: Window, state: SceneState) -> np.ndarray[Any, Any]:
    model = resident_model(handle)
    around = window.grow(HALO_PX)
    if model.card.halo_px > HALO_PX:
        raise ValueError(f"{handle.ref.name} needs a halo of {model.card.halo_px} px, HALO_PX is {HALO_PX}")
    seen = read_model_window(cube, around, state)
    with repeatable("cpu", "fp32"):
        fused = model.fuse(torch.from_numpy(seen.hs)[None], torch.from_numpy(seen.ms)[None], state)
    return np.asarray(fused[0][:, *window.within(around)].numpy())


def _cut(scene: DemoScene, side_px: int) -> DemoScene:
    extent = scene.extent
    return replace(scene, extent=Window(y0=extent.y0, y1=extent.y0 + side_px, x0=extent.x0, x1=extent.x0 + side_px))


def _blocks(coarse_shape: tuple[int, int]) -> int:
    rows, columns = (-(-side // BLOCK_PX) for side in coarse_shape)
    return rows * columns


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: a row per method and sample."""
    lines = ["| method | blocks | PSNR (dB) | SAM (deg) | ERGAS | prepared in (s) |", "|---|---|---|---|---|---|"]
    for record in records:
        values = " | ".join(f"{record[name]:.3f}" for name in COLUMNS)
        lines.append(
            f"| {record['method']} | {record['blocks']} of {record['of_blocks']} | {values} | {record['prepare_s']} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller scene: shows that the benchmark runs")
    parser.add_argument("--side-px", type=int, default=3072, help="side of the scene, fine pixels, a multiple of 6")
    parser.add_argument("--seed", type=int, default=0, help="of the landscape")
    parser.add_argument("--json", type=Path, help="where the records go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    side_px = QUICK_SIDE_PX if arguments.quick else arguments.side_px
    samplings = [Sampling(blocks=16) if arguments.quick else Sampling(), Sampling(blocks=10**9)]
    records = []
    with tempfile.TemporaryDirectory() as folder:
        ground = make_ground(Path(folder), side_px, arguments.seed)
        for name in METHODS[:2] if arguments.quick else METHODS:
            for sampling in samplings:
                records.append({"side_px": side_px, "seed": arguments.seed, **measure(ground, name, sampling)})
                print(table(records[-1:]).splitlines()[-1], flush=True)  # noqa: T201 - a benchmark prints its table
    print(table(records))  # noqa: T201
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
