"""Reductions over space: local, recorded, frozen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from scenefuse.errors import ModelError
from scenefuse.models.spatial_statistics import (
    Cosines,
    Energy,
    Maximum,
    Mean,
    MeanPlusMaximum,
    MeanProduct,
    Reduction,
    SpatialStatistics,
    apply_maps,
)

REDUCTIONS = {
    "mean": (Mean(), 1),
    "maximum": (Maximum(), 1),
    "mean plus maximum": (MeanPlusMaximum(), 1),
    "energy": (Energy(), 1),
    "cosines": (Cosines(2), 2),
    "mean product": (MeanProduct(2), 2),
}


class OneReduction(nn.Module):
    def __init__(self, reduction: Reduction) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.reduction = reduction
        self.statistics = SpatialStatistics(self)

    def forward(self, *features: Tensor) -> Tensor:
        out: Tensor = self.reduction(lambda: features)
        return out


def features(count: int, items: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.rand(items, 4, 6, 10, generator=generator) - 0.3 for _ in range(count)]


@pytest.mark.parametrize("name", REDUCTIONS)
def test_recording_changes_no_value(name: str) -> None:
    reduction, count = REDUCTIONS[name]
    network, inputs = OneReduction(reduction), features(count)
    with network.statistics.recording() as sums:
        recorded = network(*inputs)
    kept = dict(sums)
    torch.testing.assert_close(recorded, network(*inputs), rtol=1e-5, atol=1e-6)
    assert {total.dtype for total in sums.values()} == {torch.float64}
    assert all(sums[name] is total for name, total in kept.items()), "what comes after is not recorded"


@pytest.mark.parametrize("name", REDUCTIONS)
def test_sums_of_a_batch_are_the_sums_of_its_items(name: str) -> None:
    reduction, count = REDUCTIONS[name]
    network, inputs = OneReduction(reduction), features(count)
    with network.statistics.recording() as together:
        network(*inputs)
    with network.statistics.recording() as apart:
        for item in range(3):
            network(*(x[item : item + 1] for x in inputs))
    assert together.keys() == apart.keys()
    for key, total in together.items():
        torch.testing.assert_close(total, apart[key], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", ["mean", "cosines", "mean product"])
def test_sums_of_two_halves_freeze_to_the_value_of_the_whole(name: str) -> None:
    reduction, count = REDUCTIONS[name]
    network, inputs = OneReduction(reduction), features(count, items=1)
    whole = network(*inputs)
    with network.statistics.recording() as sums:
        network(*(x[..., :3] for x in inputs))
        network(*(x[..., 3:] for x in inputs))
    network.statistics.freeze(sums, like=network.weight)
    torch.testing.assert_close(network(*(x[..., :2] for x in inputs)), whole, rtol=1e-6, atol=1e-6)


def test_a_frozen_maximum_is_the_mean_of_the_patches_maxima() -> None:
    network = OneReduction(Maximum())
    with network.statistics.recording() as sums:
        network(torch.full((1, 4, 2, 2), 1.0))
        network(torch.full((1, 4, 2, 2), 4.0))
    network.statistics.freeze(sums, like=network.weight)
    assert network(torch.full((1, 4, 2, 2), 9.0)).flatten().tolist() == [2.5] * 4


def test_a_frozen_energy_is_that_of_the_mean_patch() -> None:
    network = OneReduction(Energy())
    with network.statistics.recording() as sums:
        network(torch.full((1, 1, 2, 2), 1.0))
        network(torch.full((1, 1, 2, 2), 7.0))
    network.statistics.freeze(sums, like=network.weight)
    assert network(torch.zeros(1, 1, 2, 2)).item() == pytest.approx(10.0)  # sqrt((4 * 1 + 4 * 49) / 2)


def test_what_feeds_a_frozen_reduction_is_not_computed() -> None:
    network = OneReduction(Mean())
    with network.statistics.recording() as sums:
        network(torch.ones(1, 4, 2, 2))
    network.statistics.freeze(sums, like=network.weight)

    def refuse() -> tuple[Tensor, ...]:
        raise AssertionError

    assert network.reduction(refuse).flatten().tolist() == [1.0] * 4


def test_freezing_without_all_sums_is_refused() -> None:
    network = OneReduction(Mean())
    with pytest.raises(ModelError, match="1 of 2 spatial statistics are missing, the first is reduction/pixels"):
        network.statistics.freeze({"reduction/sum": torch.zeros(4)}, like=network.weight)


def test_thawed_reductions_look_at_the_window_again() -> None:
    network, (x,) = OneReduction(Mean()), features(1)
    with network.statistics.recording() as sums:
        network(x)
    network.statistics.freeze(sums, like=network.weight)
    frozen = network(x)
    with network.statistics.thawed():
        torch.testing.assert_close(network(x)[..., 0, 0], x.mean((-2, -1)))
    torch.testing.assert_close(network(x), frozen)


def test_cosines_agree_with_their_definition() -> None:
    q, k = features(2, items=1)
    want = torch.zeros(1, 2, 2, 2)
    for head in range(2):
        for i in range(2):
            for j in range(2):
                a, b = q[0, 2 * head + i].flatten(), k[0, 2 * head + j].flatten()
                want[0, head, i, j] = a @ b / (a.norm() * b.norm())
    torch.testing.assert_close(OneReduction(Cosines(2))(q, k), want)


def test_one_map_for_all_items_acts_as_the_same_map_for_each() -> None:
    (values,) = features(1)
    maps = torch.rand(1, 2, 2, 2)
    torch.testing.assert_close(apply_maps(maps, values), apply_maps(maps.expand(3, -1, -1, -1), values))
