"""Networks on a GPU: the same picture as on a CPU, whatever the tile, repeatable, finite in every precision."""

from __future__ import annotations

from math import lcm

import pytest
import torch
from torch import Tensor

from scenefuse.engine.precision import repeatable
from scenefuse.models.architectures import ARCHITECTURES, build_model
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.network import FusionNetwork
from tests.gpu.conftest import Device

pytestmark = pytest.mark.gpu

HS_BANDS, MS_BANDS, RATIO = 31, 4, 4
OTHER_DEVICE = 2e-4
"""Greatest difference of float32 results between two kinds of device, full scale 1."""
OTHER_TILE = 1e-5
"""Greatest difference between a tile and the whole on a GPU, whose libraries choose algorithms by size."""
BF16_RMS = 4e-3
"""Greatest rms drift of bfloat16 against float32, of networks with first weights."""
LARGEST_PX = 1024
"""Side of the largest window that a planner is likely to choose."""


def network_of(name: str, device: Device) -> FusionNetwork:
    torch.manual_seed(0)
    network = build_model(name, hs_bands=HS_BANDS, ms_bands=MS_BANDS, ratio=RATIO).eval().to(device)
    network.fold()
    if network.statistics.reductions:
        hs, ms = windows(96)
        with repeatable(device, "fp32"):  # as the engine measures: by default convolutions on a GPU are in TF32
            with network.statistics.recording() as sums:
                network(hs.to(device), ms.to(device))
            network.statistics.freeze(sums, like=next(network.parameters()))
    return network


def windows(side_px: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(side_px)
    coarse = side_px // RATIO + 2 * UPSAMPLE_MARGIN
    hs = torch.rand(1, HS_BANDS, coarse, coarse, generator=random) * 0.4
    return hs, torch.rand(1, MS_BANDS, side_px, side_px, generator=random) * 0.4


def fused(network: FusionNetwork, hs: Tensor, ms: Tensor, device: Device, *, bf16: bool = False) -> Tensor:
    with repeatable(device, "bf16" if bf16 else "fp32"):
        result: Tensor = network(hs.to(device), ms.to(device))
        return result.float().cpu()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_sees_the_same_on_a_gpu_as_on_a_cpu(name: str, device: Device) -> None:
    hs, ms = windows(96)
    there = fused(network_of(name, device), hs, ms, device)
    here = fused(network_of(name, "cpu"), hs, ms, "cpu")
    assert (there - here).abs().max() <= OTHER_DEVICE


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_window_fused_twice_gives_the_same_bits(name: str, device: Device) -> None:
    network, (hs, ms) = network_of(name, device), windows(96)
    assert torch.equal(fused(network, hs, ms, device), fused(network, hs, ms, device))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_frozen_tile_is_a_cut_of_the_whole(name: str, device: Device) -> None:
    network = network_of(name, device)
    step = lcm(network.lattice_px, RATIO)
    halo, beyond, core = -(-network.support_px // step) * step, 2 * step, 2 * step
    side = core + 2 * (halo + beyond)
    hs, ms = windows(side)
    whole = fused(network, hs, ms, device)
    first, last = beyond // RATIO, (side - beyond) // RATIO + 2 * UPSAMPLE_MARGIN
    cut = slice(beyond, side - beyond)
    tile = fused(network, hs[..., first:last, first:last], ms[..., cut, cut], device)
    inner, middle = slice(halo, halo + core), slice(halo + beyond, halo + beyond + core)
    assert (tile[..., inner, inner] - whole[..., middle, middle]).abs().max() <= OTHER_TILE


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bfloat16_stays_near_float32(name: str, device: Device) -> None:
    network, (hs, ms) = network_of(name, device), windows(96)
    if "bf16" not in network.precisions:
        pytest.skip(f"{name} runs in {', '.join(network.precisions)} only")
    drift = fused(network, hs, ms, device, bf16=True) - fused(network, hs, ms, device)
    assert drift.square().mean().sqrt() <= BF16_RMS


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_largest_window_has_no_nan(name: str, device: Device) -> None:
    network = network_of(name, device)
    step = lcm(network.lattice_px, RATIO)
    side = (LARGEST_PX if device == "cuda" else 96) // step * step
    hs, ms = windows(side)
    assert torch.isfinite(fused(network, hs, ms, device, bf16="bf16" in network.precisions)).all()
