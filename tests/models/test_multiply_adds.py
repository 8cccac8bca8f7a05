from __future__ import annotations

import subprocess
import sys
from math import lcm
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scenefuse.models.architectures import ARCHITECTURES, build_model
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.multiply_adds import MultiplyAdds
from scenefuse.models.network import multiply_adds_per_pixel

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_multiply_adds_of_a_network_are_half_of_torchs_own_count(name: str) -> None:
    network = build_model(name, hs_bands=20, ms_bands=4, ratio=3).eval()
    side = 2 * lcm(8, network.lattice_px, network.ratio)
    coarse = side // network.ratio + 2 * UPSAMPLE_MARGIN
    with torch.no_grad(), FlopCounterMode(display=False) as oracle:
        network(torch.zeros(1, 20, coarse, coarse), torch.zeros(1, 4, side, side))
    assert multiply_adds_per_pixel(network) == oracle.get_total_flops() / 2 / side**2


def test_transposed_strided_and_grouped_convolutions_and_linear_layers_are_counted_as_torch_does() -> None:
    layers = nn.Sequential(
        *(nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)),
        *(nn.Flatten(2), nn.Linear(196, 5)),
    )
    x = torch.zeros(2, 4, 16, 16)
    with torch.no_grad(), FlopCounterMode(display=False) as oracle:
        layers(x)
    with torch.no_grad(), MultiplyAdds() as counted:
        layers(x)
    assert counted.total == oracle.get_total_flops() / 2


def test_a_product_without_a_formula_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="einsum"), MultiplyAdds():
        torch.einsum("ij,jk->ik", torch.zeros(2, 3), torch.zeros(3, 4))


def test_describing_a_network_does_not_import_the_compiler() -> None:
    lines = (
        "import sys",
        "from scenefuse.models.architectures import build_model",
        "from scenefuse.models.network import multiply_adds_per_pixel",
        "multiply_adds_per_pixel(build_model('aelf-t', hs_bands=8, ms_bands=4, ratio=3))",
        "assert 'torch._dynamo' not in sys.modules",
    )
    done = subprocess.run([sys.executable, "-c", "; ".join(lines)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_a_network_is_after_the_count_what_it_was_before() -> None:
    network = build_model("aelf-t", hs_bands=8, ms_bands=4, ratio=4, width=8, step=8)
    hs, ms = torch.rand(1, 8, 16, 16), torch.rand(1, 4, 48, 48)
    with torch.no_grad(), network.statistics.recording() as sums:
        network(hs, ms)
    network.statistics.freeze(sums, like=ms)
    network.train()
    next(network.children()).eval()
    modes = [part.training for part in network.modules()]
    with torch.no_grad():
        before = network(hs, ms)
        multiply_adds_per_pixel(network)
        assert torch.equal(network(hs, ms), before)
    assert [part.training for part in network.modules()] == modes
