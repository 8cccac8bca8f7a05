"""How exact tiles are: each network in its full size, cores of 64 to 512 px, beside one window that holds them all.

    python -m tests.bench.exactness [--quick] [--json tests/bench/results/exactness.json]

Weights are random, with noise on every one, so that no part is switched off by its first value; statistics are frozen
to two patches; float32, one thread. A tile is cut out of the window with its halo and fused alone. Its core must be
the window's own: bit for bit with all that can influence a pixel as its halo (`full`), within 1e-6 of full scale 1
with the halo of the card (`default`). About 40 minutes.
"""

from __future__ import annotations

import argparse
import json
from math import lcm
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor

from scenefuse.engine.precision import repeatable
from scenefuse.models.architectures import ARCHITECTURES, build_model
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.network import FusionNetwork
from tests.bench.machine import machine

BANDS = 31, 4
"""Of the HSI and the MSI."""
CORES_PX = (64, 128, 256, 512)
RATIOS = (3, 4)
PATCH_PX = 48
"""Side of the patches that statistics come from."""
NOISE = 0.01
"""Standard deviation of what is added to each weight, about half of what most have. With twice as much, networks
amplify far pixels as no trained one does (AELF: 9e-6 at the default halo)."""
BAR = 1e-6
"""Largest difference that the default halo may leave."""


def measure(name: str, ratio: int, cores_px: tuple[int, ...]) -> list[dict[str, Any]]:
    """A record for each core and halo: the largest difference from the window, and whether it is within its bar."""
    network = _network(name, ratio)
    step = lcm(network.lattice_px, ratio)
    halos_px = {kind: -(-px // step) * step for kind, px in _halos_px(network).items()}
    cores_px = tuple(-(-px // step) * step for px in cores_px)
    side_px = max(cores_px) + 2 * (halos_px["full"] + step)
    hs, ms = _scene(ratio, side_px)
    records = []
    with repeatable("cpu", "fp32"):
        whole = network(hs, ms)
        for core_px in cores_px:
            start = (side_px - core_px) // 2 // step * step
            core = slice(start, start + core_px)
            for kind, halo_px in halos_px.items():
                began = process_time()
                tile = network(*_cut(hs, ms, start - halo_px, core_px + 2 * halo_px, ratio))
                inner = slice(halo_px, halo_px + core_px)
                difference = float((tile[..., inner, inner] - whole[..., core, core]).abs().max())
                records.append(
                    {
                        "network": name,
                        "ratio": ratio,
                        "core_px": core_px,
                        "halo": kind,
                        "halo_px": halo_px,
                        "difference": difference,
                        "passed": difference <= (0.0 if kind == "full" else BAR),
                        "cpu_seconds": process_time() - began,
                    }
                )
    return records


def _halos_px(network: FusionNetwork) -> dict[str, int]:
    return {"default": min(network.halo_px, network.support_px), "full": network.support_px}


def _network(name: str, ratio: int) -> FusionNetwork:
    """The network with its statistics frozen."""
    torch.manual_seed(0)
    network = build_model(name, hs_bands=BANDS[0], ms_bands=BANDS[1], ratio=ratio).eval()
    network.fold()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(NOISE * torch.randn_like(parameter))
        with network.statistics.recording() as sums:
            network(*_scene(ratio, -(-PATCH_PX // (step := lcm(network.lattice_px, ratio))) * step, items=2))
    network.statistics.freeze(sums, like=next(network.parameters()))
    return network


def _scene(ratio: int, side_px: int, items: int = 1) -> tuple[Tensor, Tensor]:
    """Noise, in which no pixel stands for another: hs with its margin (n, 31, y, x), ms (n, 4, y, x)."""
    draw = torch.Generator().manual_seed(side_px)
    coarse_px = side_px // ratio + 2 * UPSAMPLE_MARGIN
    sizes = (BANDS[0], coarse_px), (BANDS[1], side_px)
    hs, ms = (torch.rand((items, bands, px, px), generator=draw) for bands, px in sizes)
    return hs, ms


def _cut(hs: Tensor, ms: Tensor, start_px: int, side_px: int, ratio: int) -> tuple[Tensor, Tensor]:
    """A window of both images, the hs with its margin."""
    fine = slice(start_px, start_px + side_px)
    coarse = slice(start_px // ratio, (start_px + side_px) // ratio + 2 * UPSAMPLE_MARGIN)
    return hs[..., coarse, coarse].contiguous(), ms[..., fine, fine].contiguous()


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network and core: shows that the benchmark runs")
    parser.add_argument("--json", type=Path, help="where the records go")
    given = parser.parse_args()
    cases = [("aelf-t", 4)] if given.quick else [(name, ratio) for name in ARCHITECTURES for ratio in RATIOS]
    records: list[dict[str, Any]] = []
    print("| network | ratio | core (px) | halo (px) | largest difference | |\n|---|---|---|---|---|---|")  # noqa: T201
    for name, ratio in cases:
        found = measure(name, ratio, CORES_PX[:1] if given.quick else CORES_PX)
        for record in found:
            verdict = "pass" if record["passed"] else "FAIL"
            halo = f"{record['halo_px']}, {record['halo']}"
            print(  # noqa: T201 - a benchmark prints its table
                f"| {name} | {ratio} | {record['core_px']} | {halo} | {record['difference']:.2g} | {verdict} |",
                flush=True,
            )
        records += found
        if given.json is not None:
            given.json.write_text(json.dumps({"machine": machine(), "threads": 1, "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
