"""PSF and response of a pair, found from the pair alone."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scenefuse.grid.resample import degrade, degrade_reach_px
from scenefuse.models.architectures import build_model
from scenefuse.models.degradation import Degradation
from scenefuse.training.degradation import degradation_of, learn_degradation
from scenefuse.training.fit import Course, fit
from scenefuse.training.hold_out import plan_hold_out
from scenefuse.training.losses import LOSSES, Batch
from scenefuse.training.recipe import Recipe
from scenefuse.training.scenes import FullScene
from scenefuse.training.score import Ground
from tests.training.made_scenes import MadePair

RECIPE = Recipe(iterations=1, patch_px=16, batch=1, lr=1e-3, protocol="scene", degradation_steps=400)


def pair_of(ratio: int, sigma_px: float) -> MadePair:
    """Fields with detail on every scale, seen through a Gaussian PSF and through two broad bands."""
    rng = np.random.default_rng(3)
    side = 36 * ratio
    fields = sum(
        gaussian_filter(rng.standard_normal((3, side, side)), (0, s, s), mode="wrap") * s for s in (0.7, 2.0, 5.0)
    )
    truth = np.tensordot(rng.random((4, 3)) / 3 + 0.1, 0.1 * fields + 0.4, axes=1).astype(np.float32)
    ms = np.tensordot([[0.7, 0.3, 0, 0], [0, 0, 0.4, 0.6]], truth, axes=1).astype(np.float32)
    reach = degrade_reach_px(ratio, sigma_px)
    padded = np.pad(truth, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    return MadePair(hs=degrade(padded, ratio, sigma_px), ms=ms, truth=truth)


def test_kernels_without_constraints_learn_the_response_too() -> None:
    network = build_model("mossfuse", hs_bands=31, ms_bands=2, ratio=4, width=8, degradation="conv")
    degradation = degradation_of(network)
    assert degradation is not None
    batch = Batch(torch.rand(1, 31, 8, 8) * 0.4, torch.rand(1, 2, 16, 16) * 0.4, None)
    terms = LOSSES["mossfuse"](network, network.supervised(batch.hs, batch.ms), batch)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert degradation.srf.grad is not None
    assert degradation.srf.grad.abs().max() > 0


@pytest.mark.parametrize(("ratio", "sigma_px"), [(4, 2.0), pytest.param(8, 3.2, marks=pytest.mark.slow)])
def test_psf_is_found_within_half_a_percent_and_the_response_with_it(ratio: int, sigma_px: float) -> None:
    pair = pair_of(ratio, sigma_px)
    scene = FullScene(name="made", source=pair)
    recipe = replace(RECIPE, patch_px=4 * ratio)
    hold_out = plan_hold_out(
        scene.shape, patch_px=recipe.patch_px, guard_px=scene.reach_px, step_px=ratio, block_px=12 * ratio
    )
    network = build_model("mossfuse", hs_bands=4, ms_bands=2, ratio=ratio, width=8)
    degradation = degradation_of(network)
    assert degradation is not None
    learn_degradation(network, [Ground(scene=scene, hold_out=hold_out)], recipe, seed=1)
    assert degradation.psf_sigmas_px == pytest.approx((sigma_px, sigma_px), rel=0.005)
    seen = degradation.to_ms(torch.from_numpy(pair.hs)[None]).detach().numpy()[0]
    wanted = np.tensordot([[0.7, 0.3, 0, 0], [0, 0, 0.4, 0.6]], pair.hs, axes=1)
    assert np.abs(seen - wanted).max() < 4e-3
    seen_px = np.zeros(scene.shape, bool)
    for window in pair.ms_reads:
        seen_px[window.slices] = True
    assert seen_px.any()
    assert not any(seen_px[block.slices].any() for block in hold_out.blocks())


def test_a_given_degradation_is_never_learnt(tmp_path: Path) -> None:
    pair, rows = pair_of(4, 2.0), ((0.9, 0.1, 0.0, 0.0), (0.0, 0.2, 0.2, 0.6))
    scene = FullScene(name="made", source=pair)
    hold_out = plan_hold_out(scene.shape, patch_px=16, guard_px=scene.reach_px, step_px=4, block_px=48)
    network: Any = build_model(
        "mossfuse", hs_bands=4, ms_bands=2, ratio=4, width=8, degradation="given", psf_sigma_px=1.5, srf=rows
    )
    course = Course(
        architecture="mossfuse",
        grounds=(Ground(scene=scene, hold_out=hold_out),),
        recipe=replace(RECIPE, iterations=2),
        seed=1,
        facts={},
    )
    before = network.decoder.join.weight.clone()
    fitted: Any = fit(network, course, stem=tmp_path / "given")
    degradation = degradation_of(fitted.network)
    assert degradation is not None
    torch.testing.assert_close(degradation.response(), torch.tensor(rows))
    assert degradation.psf_sigmas_px == pytest.approx((1.5, 1.5))
    assert not torch.equal(before, fitted.network.decoder.join.weight)


def test_a_network_without_a_degradation_of_its_own_is_left_alone() -> None:
    network = build_model("smifnet", hs_bands=4, ms_bands=2, ratio=2, width=8, layers=1, blocks=1, stages=2)
    before = [parameter.clone() for parameter in network.parameters()]
    learn_degradation(network, [], RECIPE, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_inner_pixels_are_those_that_no_mirrored_ground_reaches() -> None:
    degradation = Degradation(3, 2, 4)
    with torch.no_grad():
        degradation.psf.copy_(torch.eye(2) / 2)
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    beside = image.clone()
    rim = ceil(1.75 * 4) - 1
    beside[..., :1, :] = 7.0
    same = torch.isclose(degradation.to_coarse(image), degradation.to_coarse(beside)).all(1)[0].all(1)
    assert not bool(same[0])
    cut = (10 - degradation.inner(degradation.to_coarse(image)).shape[-1]) // 2
    assert cut == -(-(rim + 1) // 4)
    assert bool(same[cut:].all())
