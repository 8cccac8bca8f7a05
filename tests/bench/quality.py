"""Quality and time of every method without weights, under one protocol on the same scenes.

    python -m tests.bench.quality [--quick] [--json tests/bench/results/quality.json]

Real scenes come from SCENEFUSE_TEST_DATA. Seconds are preparation and fusion of the whole image on one thread, the
median of three runs in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from scenefuse.grid.window import Window
from scenefuse.models.registry import weightless_names
from scenefuse.quality.methods import fuse_trial, score_part
from tests.bench.machine import machine
from tests.bench.scenes import trials

COLUMNS = ("psnr_db", "sam_deg", "ergas", "ssim")


def measure(root: Path, *, quick: bool) -> list[dict[str, Any]]:
    """One record per scene and method."""
    torch.set_num_threads(1)
    runs = 1 if quick else 3
    records = []
    with tempfile.TemporaryDirectory() as work:
        for trial in trials(root, Path(work), quick=quick):
            rows, columns = trial.truth.shape[1:]
            facts = {"scene": trial.name, "shape": [len(trial.hs_bands), len(trial.ms_bands), rows, columns]}
            whole = Window(y0=0, y1=rows, x0=0, x1=columns)
            rounds = [[fuse_trial(trial, name) for name in weightless_names()] for _ in range(runs)]
            for name, same in zip(weightless_names(), zip(*rounds, strict=True), strict=True):
                seconds = statistics.median(fusion.seconds for fusion in same)
                scores = score_part(same[0].fused, trial.truth, whole, ratio=trial.ratio).scores()
                records.append({**facts, "method": name, **scores, "seconds": seconds})
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Markdown: a row per scene and method, PSNR dB / SAM degrees / ERGAS / SSIM / seconds."""
    lines = ["| scene | method | PSNR (dB) | SAM (deg) | ERGAS | SSIM | seconds |", "|---|---|---|---|---|---|---|"]
    for record in records:
        values = " | ".join(f"{record[name]:.3f}" for name in COLUMNS)
        lines.append(f"| {record['scene']} | {record['method']} | {values} | {record['seconds']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small scene: shows that the benchmark runs")
    parser.add_argument("--json", type=Path, help="where the records go")
    arguments = parser.parse_args()
    root = Path(os.environ.get("SCENEFUSE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    records = measure(root, quick=arguments.quick)
    print(table(records))  # noqa: T201 - a benchmark prints its table
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
