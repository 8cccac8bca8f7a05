"""Whether a worker should compute with more threads than one: each network on one window, with one and with two.

    python -m tests.bench.threads [--quick] [--json tests/bench/results/threads.json]

More threads change the last bits (engine/precision.py), so they would have to be much faster than as many workers of
one thread each, which `python -m tests.bench.tiling --models conv aelf-t --sizes 4 --workers` compares.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from scenefuse.models.base import UPSAMPLE_MARGIN
from tests.bench.machine import machine
from tests.bench.tiling.models import OWN_NETWORKS, random_network, ref_of
from tests.bench.tiling.scene import BANDS, RATIO, MemorySource

THREADS = (1, 2)
ROUNDS = 3


def measure(name: str, *, side_px: int) -> dict[str, Any]:
    """Median seconds of a window of side_px fine pixels by the number of threads, taken in turn."""
    nothing = np.empty((0, 0, 0), np.float32)
    source = MemorySource(hs=nothing, ms=nothing)
    network = random_network(ref_of(name, source.hs_bands, source.ms_bands, RATIO)).eval()
    coarse_px = side_px // RATIO + 2 * UPSAMPLE_MARGIN
    draw = torch.Generator().manual_seed(0)
    hs = torch.rand((1, BANDS[0], coarse_px, coarse_px), generator=draw)
    ms = torch.rand((1, BANDS[1], side_px, side_px), generator=draw)
    seconds: dict[int, list[float]] = {threads: [] for threads in THREADS}
    before = torch.get_num_threads()
    try:
        with torch.inference_mode():
            network(hs, ms)
            for _ in range(ROUNDS):
                for threads in THREADS:
                    torch.set_num_threads(threads)
                    began = perf_counter()
                    network(hs, ms)
                    seconds[threads].append(perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    one, two = (statistics.median(seconds[threads]) for threads in THREADS)
    return {"network": name, "window_px": side_px, "one_thread_s": one, "two_threads_s": two, "speedup": one / two}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network on a small window: shows that it runs")
    parser.add_argument("--json", type=Path, help="where the records go")
    given = parser.parse_args()
    names, side_px = (("aelf-t",), 64) if given.quick else (("conv", *OWN_NETWORKS), 256)
    records = [measure(name, side_px=side_px) for name in names]
    for record in records:
        print(f"{record['network']}: two threads are {record['speedup']:.2f} times as fast as one")  # noqa: T201
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine(), "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
