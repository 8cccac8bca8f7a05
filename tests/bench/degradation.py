"""How well MossFuse finds the PSF and the response of a pair from the pair alone, before it learns.

    python -m tests.bench.degradation [--quick] [--json tests/bench/results/degradation.json]

Each real scene is seen through a Gaussian PSF of MTF 0.3 and four broad bands; in harder cases there is noise on both
images, and the fine one is shifted by a distance that nobody is told. Errors are those of the PSF's standard deviation
(the geometric mean of its two axes) and of each response's shape, as the part of its area that lies elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import shift

from scenefuse.models.architectures import build_model
from scenefuse.quality.trial import Trial
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.sensor import DEFAULT_MTF_NYQUIST
from scenefuse.training.degradation import degradation_of, learn_degradation
from scenefuse.training.recipe import CPU_RECIPES
from tests.bench.lesson import Lesson
from tests.bench.machine import machine
from tests.bench.scenes import WALD_SCENES, fine_response, wald_of


@dataclass(frozen=True, slots=True)
class Case:
    """How a pair is seen."""

    ratio: int
    """Coarse pixel size / fine pixel size."""
    snr_db: float = inf
    """Signal to noise of both images."""
    shift_px: tuple[float, float] = (0.0, 0.0)
    """Rows and columns by which the fine image lies too far down and right, fine pixels."""


CASES = (Case(4), Case(8), Case(3), Case(3, snr_db=30.0), Case(3, snr_db=30.0, shift_px=(0.5, -0.3)))
HEAD = ("scene", "ratio", "SNR (dB)", "shift (px)", "sigma (px)", "found", "error (%)", "response elsewhere (%)", "s")


def measure(name: str, root: Path, case: Case) -> dict[str, Any]:
    """One scene seen one way: what was there and what was found."""
    cube, wavelength_nm = WALD_SCENES[name](root)
    trial = seen(wald_of(name, cube, wavelength_nm, ratio=case.ratio), case)
    lesson = Lesson(name=name, learnt=trial, tested=trial)
    side = max(24 // case.ratio, 4) * case.ratio
    recipe = replace(CPU_RECIPES["mossfuse"], patch_px=side)
    torch.manual_seed(0)
    network = build_model("mossfuse", hs_bands=len(trial.hs_bands), ms_bands=len(trial.ms_bands), ratio=case.ratio)
    began = time.process_time()
    learn_degradation(network, (lesson.ground(recipe),), recipe, seed=0)
    seconds = time.process_time() - began
    degradation = degradation_of(network)
    if degradation is None:
        raise TypeError("mossfuse has a degradation")
    sigma_px, found_px = psf_sigma_px(DEFAULT_MTF_NYQUIST, case.ratio), sqrt(prod(degradation.psf_sigmas_px))
    elsewhere = np.abs(degradation.response().detach().numpy() - fine_response(wavelength_nm)).sum(1) / 2
    return {
        "scene": name,
        **asdict(case),
        "sigma_px": sigma_px,
        "found_px": found_px,
        "axes_px": degradation.psf_sigmas_px,
        "error": found_px / sigma_px - 1,
        "response_elsewhere": float(elsewhere.mean()),
        "cpu_seconds": seconds,
    }


def seen(trial: Trial, case: Case) -> Trial:
    """The trial with the case's shift and noise."""
    if any(case.shift_px):
        moved = shift(trial.ms, (0, *case.shift_px), order=3, mode="mirror")
        trial = replace(trial, ms=moved.astype(np.float32))
    return trial.noisy(case.snr_db, seed=0)


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row per scene and case."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for record in records:
        snr = "none" if record["snr_db"] == inf else f"{record['snr_db']:.0f}"
        moved = " / ".join(f"{way:+.1f}" for way in record["shift_px"]) if any(record["shift_px"]) else "none"
        lines.append(
            f"| {record['scene']} | {record['ratio']} | {snr} | {moved} | {record['sigma_px']:.4f} "
            f"| {record['found_px']:.4f} | {100 * record['error']:+.2f} | {100 * record['response_elsewhere']:.1f} "
            f"| {record['cpu_seconds']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one scene, one case: shows that the benchmark runs")
    parser.add_argument("--json", type=Path, help="where the records go")
    arguments = parser.parse_args()
    root = Path(os.environ.get("SCENEFUSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    torch.set_num_threads(1)
    wanted = (
        [("Jasper Ridge", CASES[0])] if arguments.quick else [(name, case) for name in WALD_SCENES for case in CASES]
    )
    records = [measure(name, root, case) for name, case in wanted]
    if arguments.json is not None:
        plain = [{**record, "snr_db": None if record["snr_db"] == inf else record["snr_db"]} for record in records]
        arguments.json.write_text(json.dumps({"machine": machine(), "threads": 1, "records": plain}, indent=1) + "\n")
    print(table(records))  # noqa: T201 - a benchmark prints its table


if __name__ == "__main__":
    main()
