"""A plan trusts what a card says of memory: no network needs more on this processor, and none a quarter of it only."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from scenefuse.engine.group import peak_rss_bytes
from scenefuse.engine.precision import repeatable
from scenefuse.models.architectures import build_model
from scenefuse.models.base import UPSAMPLE_MARGIN

RATIO, MS_BANDS = 4, 4
SMALL_PX = 32


@pytest.mark.bench
@pytest.mark.parametrize(
    ("name", "bands", "side_px"),
    [
        ("aelf", 60, 192),
        ("aelf-t", 217, 256),
        ("cofusion", 60, 192),
        ("mossfuse", 60, 192),
        ("smifnet", 60, 192),
        *(("s3rnet", bands, 96) for bands in (60, 217)),
    ],
)
def test_a_window_needs_no_more_than_the_network_says(name: str, bands: int, side_px: int) -> None:
    call = [sys.executable, "-m", "tests.models.test_network_memory", name, str(bands), str(side_px)]
    done = subprocess.run(call, capture_output=True, text=True, check=True, timeout=300)
    network = build_model(name, hs_bands=bands, ms_bands=MS_BANDS, ratio=RATIO)
    said = network.activation_bytes_per_pixel
    assert said / 4 < float(done.stdout) <= said


def measured(name: str, bands: int, side_px: int) -> float:
    """Bytes per fine pixel by which a window raises the peak of this process, which has seen a small one."""
    network = build_model(name, hs_bands=bands, ms_bands=MS_BANDS, ratio=RATIO).eval()
    network.fold()

    def fuse(side: int) -> None:
        coarse = side // RATIO + 2 * UPSAMPLE_MARGIN
        with repeatable("cpu", "fp32"):
            network(torch.rand(1, bands, coarse, coarse), torch.rand(1, MS_BANDS, side, side))

    fuse(SMALL_PX)
    before = peak_rss_bytes()
    fuse(side_px)
    return (peak_rss_bytes() - before) / side_px**2


if __name__ == "__main__":
    print(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))  # noqa: T201 - read by the test
