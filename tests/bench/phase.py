"""What a fraction of a fine pixel between the grids of a pair costs: taken as it is, removed by a warp, or ignored.

    python -m tests.bench.phase [--quick] [--json tests/bench/results/phase.json]

The HSI is simulated from the truth of real scenes and of the demo's first pair: a Gaussian of MTF 0.3, noise of 50 dB,
on the coarse grid and beside it by 0.4 fine pixels in rows and columns. Every method without weights fuses both, and
the second also warped back, as networks get it, and as if there were no phase. --quick: one small scene.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scenefuse.grid.borders import mirror_indices
from scenefuse.grid.resample import NO_PHASE, Phase
from scenefuse.grid.window import Window
from scenefuse.models.registry import weightless_names
from scenefuse.quality.methods import fuse_trial, score_part
from scenefuse.quality.trial import Trial
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST
from scenefuse.simulate.sampling import sample, sample_reach_px
from scenefuse.simulate.wald import add_noise
from tests.bench.machine import machine
from tests.bench.scenes import first_of_demo, wald_trials

PHASE: Phase = (0.4, 0.4)
SNR_DB = 50.0
BORDER_PX = 16
"""Fine pixels at the border that do not count: beyond it, the mirror image of a shifted scene is another one."""
COLUMNS = ("psnr_db", "sam_deg", "ergas")


def trials(root: Path, work: Path, *, quick: bool) -> Iterator[Trial]:
    """Real scenes at ratio 4, then the demo's first pair at ratio 3; quick: the first one's 48 first pixels."""
    yield from wald_trials(root, quick=quick)
    if not quick:
        yield first_of_demo(work / "archive", seed=0)


def seen_at(trial: Trial, phase_px: Phase) -> Trial:
    """The trial with an HSI made from its truth, beside the coarse grid by the phase."""
    sigma_px = psf_sigma_px(DEFAULT_MTF_NYQUIST, trial.ratio)
    reach = sample_reach_px(trial.ratio, sigma_px, phase_px)
    rows, columns = (mirror_indices(-reach, side + reach, side) for side in trial.truth.shape[1:])
    fine = np.ascontiguousarray(trial.truth[:, rows[:, np.newaxis], columns])
    hs = sample(fine, ratio=trial.ratio, sigma_px=sigma_px, shift_px=phase_px)
    return replace(trial, hs=add_noise(hs, SNR_DB, np.random.default_rng(0)), phase_px=phase_px)


def measure(trial: Trial) -> Iterator[dict[str, Any]]:
    """One record per method and way."""
    nested, beside = seen_at(trial, NO_PHASE), seen_at(trial, PHASE)
    ways = {
        "nested": nested,
        "taken": beside,
        "warped": beside.nested(),
        "ignored": replace(beside, phase_px=NO_PHASE),
    }
    rows, columns = trial.truth.shape[1:]
    inner = Window(y0=BORDER_PX, y1=rows - BORDER_PX, x0=BORDER_PX, x1=columns - BORDER_PX)
    for name in weightless_names():
        for way, shown in ways.items():
            scores = score_part(fuse_trial(shown, name).fused, trial.truth, inner, ratio=trial.ratio).scores()
            yield {"scene": trial.name, "method": name, "way": way, **{key: scores[key] for key in COLUMNS}}


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: a row per scene and method, PSNR / SAM / ERGAS for each way."""
    ways = list(dict.fromkeys(record["way"] for record in records))
    lines = [f"| scene | method | {' | '.join(ways)} |", f"|{'---|' * (2 + len(ways))}"]
    found = {(record["scene"], record["method"], record["way"]): record for record in records}
    for scene, method in dict.fromkeys((record["scene"], record["method"]) for record in records):
        own = (found[scene, method, way] for way in ways)
        cells = (" / ".join(f"{record[name]:.2f}" for name in COLUMNS) for record in own)
        lines.append(f"| {scene} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small scene: shows that the benchmark runs")
    parser.add_argument("--json", type=Path, help="where the records go")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(os.environ.get("SCENEFUSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    with tempfile.TemporaryDirectory() as work:
        records = [record for trial in trials(root, Path(work), quick=arguments.quick) for record in measure(trial)]
    print(table(records))  # noqa: T201 - a benchmark prints its table
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
