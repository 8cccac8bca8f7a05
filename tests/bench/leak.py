"""Whether workers grow with the groups that they fuse: the resident size of one worker, group after group.

    python -m tests.bench.leak [--quick] [--json tests/bench/results/leak.json]

A real product of small tiles from GeoTIFFs by one worker of a real cluster, 512 groups. The slope is that of a line
through the resident sizes after the first fifth, where libraries still fill their pools; the late one is that of the
second half of these.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from scenefuse.config import RunConfig
from scenefuse.engine.protocols import Event
from scenefuse.pipeline.fuse import fuse
from tests.bench.machine import machine
from tests.pipeline.making import write_pair


@dataclass(kw_only=True)
class Scale:
    """An Observer that weighs the worker after each of its groups."""

    sizes: dict[int, list[int]] = field(default_factory=dict)
    """Resident bytes by process."""

    def notify(self, event: Event) -> None:
        if event.kind == "group":
            pid = int(event.facts["pid"])
            self.sizes.setdefault(pid, []).append(psutil.Process(pid).memory_info().rss)


def measure(*, coarse_px: int) -> dict[str, Any]:
    """Sizes in MiB and the slope in KiB per group."""
    with tempfile.TemporaryDirectory() as folder:
        pair = write_pair(Path(folder) / "pair", ratio=4, coarse_shape=(coarse_px, coarse_px), holes="swath")
        scale, began = Scale(), time.perf_counter()
        config = RunConfig(model="gsa", core_px=48, format=("zarr",), workers=1)
        fuse(pair.hs, pair.ms, out=Path(folder) / "out", config=config, observer=scale)
        seconds = time.perf_counter() - began
    (sizes,) = scale.sizes.values()
    settled = np.array(sizes[len(sizes) // 5 :]) / 2**20
    late = settled[len(settled) // 2 :]
    return {
        "groups": len(sizes),
        "seconds": round(seconds, 1),
        "first_mib": round(sizes[0] / 2**20, 1),
        "settled_mib": round(float(settled[0]), 1),
        "last_mib": round(float(settled[-1]), 1),
        "peak_mib": round(max(sizes) / 2**20, 1),
        "slope_kib_per_group": slope_kib(settled),
        "late_slope_kib_per_group": slope_kib(late),
        "every_32nd_mib": [round(size / 2**20, 1) for size in sizes[::32]],
    }


def slope_kib(sizes_mib: NDArray[np.float64]) -> float:
    """Growth per group in KiB, of the straight line that fits best."""
    return round(float(np.polyfit(np.arange(len(sizes_mib)), sizes_mib, 1)[0]) * 1024, 2)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a dozen groups: shows that the benchmark runs")
    parser.add_argument("--json", type=Path, help="where the record goes")
    given = parser.parse_args()
    record = measure(coarse_px=120 if given.quick else 768)
    print(json.dumps(record))  # noqa: T201 - a benchmark prints its figures
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine(), "records": [record]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
