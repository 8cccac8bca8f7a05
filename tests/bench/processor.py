"""How a worker on a processor should compute: each network on one window, with two threads, channels last, or in bf16.

    python -m tests.bench.processor [--quick] [--bands 217 10] [--json tests/bench/results/processor-xeon.json]

More threads change the last bits (engine/precision.py), so they would have to be much faster than as many workers of
one thread each, which `python -m tests.bench.tiling --models conv aelf-t --sizes 4 --workers` compares. bfloat16
would have to be much faster to be worth what it costs in the result, and a product that depends on the processor.
Weights with their channels last (convolutions then give images of that layout, whatever they are given) would have to
be faster with a satellite's bands, the result put back band by band, as it is stored.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from scenefuse.engine.precision import repeatable
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.network import FusionNetwork
from scenefuse.sensors.band import Band
from tests.bench.machine import machine
from tests.bench.tiling.models import OWN_NETWORKS, random_network, ref_of
from tests.bench.tiling.scene import BANDS, RATIO

ROUNDS = 3


def measure(name: str, *, side_px: int, bands: tuple[int, int] = BANDS) -> dict[str, Any]:
    """Median seconds of a window of side_px fine pixels by the way of computing, taken in turn; the cost of bf16."""
    hs_bands, ms_bands = (tuple(Band(name=f"band {i}") for i in range(count)) for count in bands)
    network = random_network(ref_of(name, hs_bands, ms_bands, RATIO)).eval()
    turned = deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs lack it
    coarse_px = side_px // RATIO + 2 * UPSAMPLE_MARGIN
    draw = torch.Generator().manual_seed(0)
    hs = torch.rand((1, bands[0], coarse_px, coarse_px), generator=draw)
    ms = torch.rand((1, bands[1], side_px, side_px), generator=draw)
    ways: dict[str, Callable[[], Tensor]] = {
        "one_thread": lambda: _plain(network, hs, ms, threads=1),
        "two_threads": lambda: _plain(network, hs, ms, threads=2),
        "channels_last": lambda: _plain(turned, hs, ms, threads=1).contiguous(),
        "bf16": lambda: _bf16(network, hs, ms),
    }
    results = {way: compute() for way, compute in ways.items()}  # the first call of each is not counted
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, compute in ways.items():
            began = perf_counter()
            compute()
            seconds[way].append(perf_counter() - began)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    return {
        "network": name,
        "window_px": side_px,
        "bands": bands,
        **{f"{way}_s": value for way, value in medians.items()},
        "threads_speedup": medians["one_thread"] / medians["two_threads"],
        "channels_last_speedup": medians["one_thread"] / medians["channels_last"],
        "channels_last_max_difference": float((results["channels_last"] - results["one_thread"]).abs().max()),
        "bf16_speedup": medians["one_thread"] / medians["bf16"],
        "bf16_max_difference": float((results["bf16"] - results["one_thread"]).abs().max()),
    }


def _plain(network: FusionNetwork, hs: Tensor, ms: Tensor, *, threads: int) -> Tensor:
    """In float32."""
    with repeatable("cpu", "fp32"):
        torch.set_num_threads(threads)  # until the block ends
        fused: Tensor = network(hs, ms)
        return fused


def _bf16(network: FusionNetwork, hs: Tensor, ms: Tensor) -> Tensor:
    """As a run with --precision bf16: one thread, the engine's layout."""
    with repeatable("cpu", "bf16"):
        fused: Tensor = network(*(image.to(memory_format=torch.channels_last) for image in (hs, ms)))
        return fused.float()


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network on a small window: shows that it runs")
    parser.add_argument("--bands", type=int, nargs=2, default=BANDS, help="of the HSI and the MSI")
    parser.add_argument("--json", type=Path, help="where the records go")
    given = parser.parse_args()
    names, side_px = (("aelf-t",), 64) if given.quick else (("conv", *OWN_NETWORKS), 256)
    records = []
    for name in names:
        record = measure(name, side_px=side_px, bands=tuple(given.bands))
        records.append(record)
        print(  # noqa: T201 - a benchmark prints its figures
            f"{name}: two threads are {record['threads_speedup']:.2f} times as fast as one,"
            f" channels last {record['channels_last_speedup']:.2f} times,"
            f" bf16 {record['bf16_speedup']:.2f} times as fast as fp32",
            flush=True,
        )
        if given.json is not None:
            given.json.write_text(json.dumps({"machine": machine(), "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
