"""The halo of trained weights, measured: of networks whose reach is known."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.models.network import FusionNetwork
from scenefuse.models.spatial_statistics import Mean, SpatialStatistics
from scenefuse.pipeline import measured_halo
from scenefuse.pipeline.measured_halo import measured_halo_px
from scenefuse.training.hold_out import plan_hold_out
from scenefuse.training.scenes import FullScene
from scenefuse.training.score import Ground
from tests.training.made_scenes import HS_BANDS, MS_BANDS, RATIO, MadePair, made_pair


class Far(FusionNetwork):
    """Adds to a pixel the MSI's steps (a pixel less its neighbour) from given distances, times given weights."""

    lattice_px = 4
    halo_px: ClassVar[int] = 20
    effective_px: ClassVar[int] = 4

    def __init__(self, weights: dict[int, float]) -> None:
        super().__init__(len(HS_BANDS), len(MS_BANDS), RATIO)
        self.weights = weights
        self.one = nn.Parameter(torch.ones(1))
        self.mean = Mean()
        self.statistics = SpatialStatistics(self)

    @property
    def support_px(self) -> int:
        return 40

    def forward(self, hs: Tensor, ms: Tensor) -> Tensor:
        """The HSI, each pixel repeated, and the steps."""
        fused: Tensor = self.central(hs).repeat_interleave(self.ratio, -1).repeat_interleave(self.ratio, -2)
        fused = fused + self.mean(lambda: (ms[:, :1],))
        for distance_px, weight in self.weights.items():
            step = _from(ms[:, :1], distance_px) - _from(ms[:, :1], distance_px - 1)
            fused = fused + weight * self.one * step
        return fused


def _from(image: Tensor, distance_px: int) -> Tensor:
    """Every pixel's neighbour so far to its right; at the edge the last one."""
    return functional.pad(image, (0, distance_px, 0, 0), mode="replicate")[..., distance_px:]


def grounds_of(pair: MadePair) -> tuple[Ground, ...]:
    scene = FullScene(name="made", source=pair, truth=pair.read_truth)
    hold_out = plan_hold_out(scene.shape, patch_px=8, guard_px=scene.reach_px, step_px=RATIO)
    return (Ground(scene=scene, hold_out=hold_out),)


@pytest.fixture(scope="module")
def ground() -> tuple[Ground, ...]:
    return grounds_of(made_pair(96))


@pytest.fixture(scope="module")
def flat() -> tuple[Ground, ...]:
    """Ground on which nothing differs from its neighbour."""
    pair = made_pair(96)
    for image in (pair.hs, pair.ms, pair.truth):
        image[:] = 0.3
    return grounds_of(pair)


@pytest.mark.parametrize(("distance_px", "halo_px"), [(3, 4), (4, 4), (9, 12), (18, 20), (22, 24), (37, 40)])
def test_the_halo_reaches_as_far_as_what_counts(ground: tuple[Ground, ...], distance_px: int, halo_px: int) -> None:
    assert measured_halo_px(Far({distance_px: 0.1}), ground) == halo_px


def test_what_is_far_below_the_limit_does_not_count(ground: tuple[Ground, ...]) -> None:
    assert measured_halo_px(Far({9: 0.1, 30: 1e-8}), ground) == 12


@pytest.mark.parametrize(("distance_px", "halo_px"), [(9, 12), (30, 20)])
def test_ground_without_contrast_is_no_reason_for_a_halo_that_noise_would_show_to_be_short(
    flat: tuple[Ground, ...], distance_px: int, halo_px: int
) -> None:
    """But no reason for one beyond the architecture's own, which is 20 px here, either."""
    assert measured_halo_px(Far({distance_px: 0.1}), flat) == halo_px


def test_values_that_are_no_numbers_count_as_a_difference(ground: tuple[Ground, ...]) -> None:
    assert measured_halo_px(Far({9: float("nan")}), ground) == 40


def test_measuring_leaves_the_network_as_it_was(ground: tuple[Ground, ...]) -> None:
    network = Far({9: 0.1}).train()
    measured_halo_px(network, ground)
    assert network.statistics.mode == "local"
    assert network.training


@pytest.mark.parametrize("change", [{"MOST_MULTIPLY_ADDS": -1.0}, {}])
def test_what_costs_too_much_or_is_never_tiled_is_not_measured(
    ground: tuple[Ground, ...], change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Far({9: 0.1})
    network.freezable = bool(change)
    for name, value in change.items():
        monkeypatch.setattr(measured_halo, name, value)
    assert measured_halo_px(network, ground) is None
