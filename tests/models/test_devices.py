"""Methods on torch's device `meta`, where sums and products with a CPU's tensors are refused as on a GPU."""

from __future__ import annotations

import gc
from math import lcm

import pytest
import torch

from scenefuse.models import classical, cnmf
from scenefuse.models.architectures import ARCHITECTURES, build_model
from scenefuse.models.band_map import add_mapped
from scenefuse.models.base import UPSAMPLE_MARGIN
from tests.models.classical_pairs import CLASSICAL, drawn_pair, model_for
from tests.models.whole import freeze_whole

RATIO = 4


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_classical_method_fuses_where_its_windows_are(name: str) -> None:
    hs, ms = drawn_pair(RATIO, coarse_side=16)
    model = model_for(name, hs, ms, RATIO)
    state = freeze_whole(model, hs, ms)
    there = torch.empty(2, len(hs), 16 + 2 * UPSAMPLE_MARGIN, 16 + 2 * UPSAMPLE_MARGIN, device="meta")
    fine = torch.empty(2, len(ms), 16 * RATIO, 16 * RATIO, device="meta")
    first = model.fuse(there, fine, state)
    assert (first.device.type, first.shape) == ("meta", (2, len(hs), 16 * RATIO, 16 * RATIO))
    copies = dict(classical._copies)
    model.fuse(there, fine, state)
    assert classical._copies.keys() == copies.keys(), "copied once, not for each window"
    del model, state
    gc.collect()
    assert not classical._copies.keys() & copies.keys()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_fuses_where_its_weights_are(name: str) -> None:
    network = build_model(name, hs_bands=12, ms_bands=3, ratio=RATIO).eval()
    network.fold()
    step = lcm(network.lattice_px, RATIO)
    hs = torch.rand(1, 12, 4 * step // RATIO + 2 * UPSAMPLE_MARGIN, 4 * step // RATIO + 2 * UPSAMPLE_MARGIN)
    ms = torch.rand(1, 3, 4 * step, 4 * step)
    with torch.inference_mode():
        with network.statistics.recording() as sums:
            network(hs, ms)
        network.to("meta")
        network.statistics.freeze(sums, like=next(network.parameters()))
        fused = network(hs.to("meta"), ms.to("meta"))
    assert (fused.device.type, fused.shape) == ("meta", (1, 12, 4 * step, 4 * step))


def test_a_gpu_unmixes_a_window_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.device] = []

    def counted(total: torch.Tensor, matrix: torch.Tensor, pixels: torch.Tensor) -> None:
        calls.append(pixels.device)
        add_mapped(total, matrix, pixels)

    monkeypatch.setattr(cnmf, "add_mapped", counted)
    for device, chunks in (("cpu", 16), ("meta", 1)):
        calls.clear()
        image, endmembers, inverse = (torch.ones(shape, device=device) for shape in ((1, 4, 512, 512), (4, 2), (2, 2)))
        cnmf.unmix(image, endmembers, inverse, torch.ones(1, 2, 512, 512, device=device), 3, hold=0.1)
        assert len(calls) == chunks * (3 - 1)
