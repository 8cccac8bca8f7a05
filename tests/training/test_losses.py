"""The papers' losses against numbers computed by hand, and against scikit-image and torchmetrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity as skimage_ssim
from torchmetrics.functional.image import spectral_angle_mapper

from scenefuse.models.aelf import AELFOutput
from scenefuse.models.architectures import build_model
from scenefuse.models.mossfuse import MossFuseOutput
from scenefuse.training.losses import (
    GATE_WEIGHT,
    LOSSES,
    Batch,
    aelf_loss,
    backward,
    cofusion_loss,
    decoupling,
    mossfuse_loss,
    s3rnet_loss,
    smifnet_loss,
    spectral_angle,
    structural_similarity,
)
from scenefuse.training.recipe import RECIPES


class Geometry:
    """What a loss asks of a network: ratio 2, a margin of two coarse pixels, a PSF that reaches into the first row."""

    ratio = 2
    decoupling = "both"

    @property
    def degradation(self) -> Geometry:
        return self

    def inner(self, coarse: torch.Tensor) -> torch.Tensor:
        return coarse[..., 1:, :]

    def central(self, hs: torch.Tensor) -> torch.Tensor:
        return hs[..., 2:-2, 2:-2]


NOTHING: Any = Geometry()


def flat(value: float, side: int = 4, bands: int = 1) -> torch.Tensor:
    return torch.full((1, bands, side, side), value)


def test_every_network_with_a_recipe_has_a_loss() -> None:
    assert LOSSES.keys() == RECIPES.keys()


def test_aelf_adds_both_absolute_errors_and_the_spread_of_its_gates() -> None:
    batch = Batch(flat(0.0), flat(0.0), flat(0.5))
    gates = torch.tensor([[0.5, 0.3, 0.2], [1 / 3, 1 / 3, 1 / 3]])
    terms = aelf_loss(NOTHING, AELFOutput(flat(0.4), flat(0.75), (gates,)), batch)
    assert float(terms["fused"]) == pytest.approx(0.1)
    assert float(terms["first_stage"]) == pytest.approx(0.25)
    deviation = math.sqrt(((0.5 - 1 / 3) ** 2 + (0.3 - 1 / 3) ** 2 + (0.2 - 1 / 3) ** 2) / 2)  # 0.15275
    expected = ((deviation * 3 - 0.1) ** 2 + (0.0 - 0.1) ** 2) / 2
    assert float(terms["gates"]) == pytest.approx(GATE_WEIGHT * expected, rel=1e-4)


def test_aelf_with_a_single_expert_has_no_gate_term() -> None:
    terms = aelf_loss(NOTHING, AELFOutput(flat(0.4), flat(0.4), (torch.ones(1, 1),)), Batch(flat(0), flat(0), flat(0)))
    assert set(terms) == {"fused", "first_stage"}


def test_smifnet_is_the_mean_absolute_error() -> None:
    truth = torch.tensor([[[[0.0, 0.5], [1.0, 0.25]]]])
    terms = smifnet_loss(NOTHING, (torch.zeros(1, 1, 2, 2),), Batch(truth, truth, truth))
    assert float(terms["fused"]) == pytest.approx((0.5 + 1.0 + 0.25) / 4)


def test_s3rnet_weighs_the_spectral_angle_by_a_tenth() -> None:
    fused, truth = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    fused[0, 0], truth[0, :] = 1.0, 1.0  # 45 degrees apart
    terms = s3rnet_loss(NOTHING, (fused,), Batch(truth, truth, truth))
    assert float(terms["angle"]) == pytest.approx(0.1 * math.pi / 4)
    assert float(terms["fused"]) == pytest.approx(0.5)


def test_spectral_angle_is_that_of_torchmetrics() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, 5, 8, 8), torch.rand(2, 5, 8, 8)
    assert float(spectral_angle(a, b)) == pytest.approx(float(spectral_angle_mapper(a, b)), rel=1e-5)


def test_spectral_angle_has_a_finite_slope_where_spectra_agree() -> None:
    a = torch.rand(1, 3, 2, 2, requires_grad=True)
    spectral_angle(a, a.detach().clone()).backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_structural_similarity_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((3, 24, 20))
    b = np.clip(a + 0.1 * rng.standard_normal(a.shape), 0, 1)
    found = structural_similarity(torch.from_numpy(a)[None], torch.from_numpy(b)[None])
    expected = skimage_ssim(
        a, b, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_cofusion_adds_a_tenth_of_the_lost_structure() -> None:
    a, b = torch.rand(1, 2, 16, 16), torch.rand(1, 2, 16, 16)
    terms = cofusion_loss(NOTHING, (a,), Batch(a, a, b))
    assert float(terms["ssim"]) == pytest.approx(0.1 * (1 - float(structural_similarity(a, b))), rel=1e-6)
    assert float(cofusion_loss(NOTHING, (a,), Batch(a, a, a))["ssim"]) == pytest.approx(0, abs=1e-6)


def test_decoupling_is_log_4_when_all_features_are_alike_and_falls_as_their_own_parts_repel() -> None:
    same = torch.ones(1, 2, 2, 2)
    assert float(decoupling(same, same, same, same)) == pytest.approx(math.log(4))
    shared, a, b = (torch.tensor([math.cos(t), math.sin(t)]) for t in (0.0, 2 * math.pi / 3, -2 * math.pi / 3))
    assert float(decoupling(shared, a, shared, b)) == pytest.approx(math.log(1 + 3 * math.exp(-1.5)))  # 0.5124


def test_decoupling_without_one_of_its_terms_is_that_of_table_3() -> None:
    """All cosines are 0 but the shared pair's, 0.5: exp(0) three times, and 0.5."""
    a, b, c = torch.eye(4)[:3]
    shared, other = torch.eye(4)[3], torch.eye(4)[3] * 0.5 + a * math.sqrt(0.75)
    assert float(decoupling(shared, b, other, c, "repulsion")) == pytest.approx(math.log(3))
    assert float(decoupling(shared, b, other, c, "aggregation")) == pytest.approx(-0.5)
    whole = math.log(math.exp(0.5) + 3) - 0.5
    assert float(decoupling(shared, b, other, c)) == pytest.approx(whole)


@given(seed=st.integers(0, 2**31 - 1), size=st.integers(1, 6))
def test_decoupling_never_falls_below_its_floor(seed: int, size: int) -> None:
    """In a plane, arcs d between the shared and (2 pi + d) / 3 of every other pair; no arcs on a sphere are longer."""
    arcs = np.linspace(0, math.pi / 2, 10_001)
    floor = np.log(1 + 3 * np.exp(np.cos((2 * math.pi + arcs) / 3) - np.cos(arcs))).min()  # 0.4968
    generator = torch.Generator().manual_seed(seed)
    a, b, c, d = (torch.randn(size, generator=generator) for _ in range(4))
    assert float(decoupling(a, b, c, d)) >= floor - 1e-6


def test_decoupling_reaches_its_floor() -> None:
    angles = np.radians([7.9, -117.4, -7.9, 117.4])
    shared, own, other_shared, other_own = (torch.tensor([math.cos(t), math.sin(t)]) for t in angles)
    assert float(decoupling(shared, own, other_shared, other_own)) == pytest.approx(0.4968, abs=1e-4)


def test_mossfuse_compares_what_it_decodes_with_both_inputs() -> None:
    hs = torch.nn.functional.pad(flat(0.5, 2), (2, 2, 2, 2), value=0.5)
    output = MossFuseOutput(
        fused=flat(0.0),
        ms_shared=flat(1.0),
        ms_own=flat(1.0),
        hs_shared=flat(1.0),
        hs_own=flat(1.0),
        ms_decoded=flat(0.1),
        hs_decoded=flat(0.3),
        lr_ms_decoded=flat(0.45),
        lr_ms_from_hs=flat(0.4, 2),
        lr_ms_from_ms=flat(0.7, 2),
        fused_as_ms=flat(0.15),
        fused_as_hs=flat(0.9, 2),
    )
    terms = mossfuse_loss(NOTHING, output, Batch(hs, flat(0.2), None))
    assert float(terms["inputs"]) == pytest.approx(0.05 + 0.4)
    assert float(terms["parts"]) == pytest.approx(0.1 + 0.2 + 0.25 + 0.05)
    assert float(terms["degradation"]) == pytest.approx(0.3)
    assert float(terms["decoupling"]) == pytest.approx(0.1 * math.log(4))
    output.lr_ms_from_ms[..., 0, :] = 9.0  # where the PSF reaches beyond the window
    again = mossfuse_loss(NOTHING, output, Batch(hs, flat(0.2), None))
    assert float(again["degradation"]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({"decoupling": "none"}, {"inputs", "parts", "degradation"}),
        ({"self_supervision": "none"}, {"inputs", "decoupling", "degradation"}),
        ({"self_supervision": "own"}, {"inputs", "decoupling", "parts", "degradation"}),
        (
            {"degradation": "given", "psf_sigma_px": 1.0, "srf": ((1.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.0))},
            {"inputs", "decoupling", "parts", "degradation"},
        ),
    ],
)
def test_mossfuses_ablations_take_terms_away_and_still_learn(options: dict[str, Any], terms: set[str]) -> None:
    torch.manual_seed(0)
    network: Any = build_model("mossfuse", hs_bands=4, ms_bands=2, ratio=2, width=8, **options)
    batch = Batch(torch.rand(1, 4, 12, 12), torch.rand(1, 2, 16, 16), None)
    found = mossfuse_loss(network, network.supervised(batch.hs, batch.ms), batch)
    assert found.keys() == terms
    backward(network, found, 1.0)
    assert network.decoder.join.weight.grad.abs().sum() > 0
    assert (network.degradation.srf.grad is None) == (options.get("degradation") == "given")


def test_mossfuse_with_its_own_decoders_only_compares_them_with_both_inputs() -> None:
    network: Any = build_model("mossfuse", hs_bands=4, ms_bands=2, ratio=2, width=8, self_supervision="own").eval()
    batch = Batch(torch.rand(1, 4, 12, 12), torch.rand(1, 2, 16, 16), None)
    output = network.supervised(batch.hs, batch.ms)
    sampled = torch.nn.functional.interpolate(output.hs_decoded, scale_factor=0.5, mode="bilinear")
    want = (output.ms_decoded - batch.ms).abs().mean() + (sampled - batch.hs[..., 2:-2, 2:-2]).abs().mean()
    torch.testing.assert_close(mossfuse_loss(network, output, batch)["parts"], want)


def test_only_its_own_term_moves_mossfuses_degradation() -> None:
    torch.manual_seed(0)
    network: Any = build_model("mossfuse", hs_bands=4, ms_bands=2, ratio=2, width=8)
    batch = Batch(torch.rand(1, 4, 12, 12), torch.rand(1, 2, 16, 16), None)
    output: Any = network.supervised(batch.hs, batch.ms)
    terms = mossfuse_loss(network, output, batch)
    expected = torch.autograd.grad(terms["degradation"], network.degradation.srf, retain_graph=True)[0]
    backward(network, terms, 0.5)
    torch.testing.assert_close(network.degradation.srf.grad, 0.5 * expected)
    assert network.decoder.join.weight.grad is not None


def test_a_supervised_loss_refuses_windows_without_truth() -> None:
    with pytest.raises(ValueError, match="without truth"):
        smifnet_loss(NOTHING, (flat(0.0),), Batch(flat(0.0), flat(0.0), None))
