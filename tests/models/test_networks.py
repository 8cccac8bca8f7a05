"""Every network passes the same tests: sizes, shapes, gradients, frozen tiles, golden values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import lcm, nan
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scenefuse.errors import ModelError, UsageError
from scenefuse.models.aelf import MutualAttention
from scenefuse.models.architectures import ARCHITECTURES, build_model
from scenefuse.models.base import UPSAMPLE_MARGIN
from scenefuse.models.degradation import Degradation
from scenefuse.models.large_kernel import LargeKernelBlock
from scenefuse.models.multiply_adds import MultiplyAdds
from scenefuse.models.network import FusionNetwork, multiply_adds_per_pixel, parameter_count
from scenefuse.models.smifnet import DualAttention, SMIFNetOptions
from scenefuse.models.spatial_statistics import SpatialStatistics
from tests.bench.exactness import NOISE

COUNTS: list[tuple[str, int, int, int, dict[str, Any], int]] = [
    ("aelf", 48, 4, 4, {}, 6_837_770),
    ("aelf", 48, 4, 4, {"pool_scales": (2,)}, 6_652_930),
    ("aelf", 48, 4, 4, {"pool_scales": (4, 2)}, 6_745_350),
    ("aelf", 48, 4, 4, {"experts": ("spatial",)}, 5_894_198),
    ("aelf", 48, 4, 4, {"experts": ("spectral",)}, 5_212_571),
    ("aelf", 48, 4, 4, {"experts": ("edge",)}, 5_885_267),
    ("aelf", 48, 4, 4, {"experts": ("spatial", "spectral")}, 6_029_636),
    ("aelf", 48, 4, 4, {"experts": ("spatial", "edge")}, 6_702_332),
    ("aelf", 48, 4, 4, {"experts": ("spectral", "edge")}, 6_020_705),
    ("aelf", 102, 4, 4, {}, 6_938_102),
    ("aelf", 128, 4, 4, {}, 6_986_410),
    ("aelf", 172, 4, 4, {}, 7_068_162),
    ("aelf-t", 48, 4, 4, {}, 1_741_126),
    ("aelf-t", 128, 4, 4, {}, 1_815_526),
    ("cofusion", 103, 4, 4, {}, 4_933_930),
    ("cofusion", 103, 4, 4, {"spatial": False}, 3_568_042),
    ("cofusion", 103, 4, 4, {"spectral": False}, 4_198_183),
    ("cofusion", 103, 4, 4, {"cross": False}, 4_647_850),
    ("mossfuse", 31, 3, 32, {}, 585_485),
    ("mossfuse", 31, 3, 32, {"self_supervision": "own"}, 543_597),
    ("mossfuse", 31, 3, 32, {"blocks": 2}, 743_069),
    ("mossfuse", 31, 3, 32, {"blocks": 3}, 900_653),
    ("mossfuse", 31, 3, 32, {"blocks": 4}, 1_058_237),
    ("mossfuse", 31, 3, 32, {"blocks": 4, "width": 32}, 502_785),
    ("smifnet", 31, 3, 4, {}, 6_735_439),
    ("smifnet", 31, 3, 8, {}, 8_507_983),
    ("smifnet", 31, 3, 8, {"heads": "spatial"}, 8_507_983),
    ("s3rnet", 172, 4, 4, {}, 26_807_686),
    ("s3rnet", 172, 6, 4, {}, 26_812_330),
    ("s3rnet", 172, 4, 4, {"attention": "paper"}, 26_807_686),
    ("s3rnet", 172, 4, 4, {"fusion": "sum"}, 26_784_012),
    ("s3rnet", 172, 4, 4, {"depths": (4, 1, 4, 0), "query_groups": 43}, 7_449_946),  # the student, published 7.44 M
]
"""Architecture, HSI bands, MSI bands, ratio, options, parameters: the papers' counts, or ours where they give none."""

GIGA_MULTIPLY_ADDS_128 = [
    ("aelf", 48, 29.90),
    ("aelf", 102, 31.49),
    ("aelf", 128, 32.25),
    ("aelf-t", 48, 7.87),
    ("cofusion", 103, 33.20),
]
"""Architecture, HSI bands, 1e9 multiply-adds of a 128 x 128 image at ratio 4."""

GIGA_MULTIPLY_ADDS = [
    ("smifnet", 31, 3, 4, 512, 1166.7),
    pytest.param("smifnet", 31, 3, 8, 512, 1140.0, marks=pytest.mark.slow),
    pytest.param("smifnet", 191, 10, 4, 128, 74.6, marks=pytest.mark.slow),
    pytest.param("smifnet", 191, 10, 8, 128, 72.9, marks=pytest.mark.slow),
    ("mossfuse", 31, 3, 32, 512, 113.3),
    # released, S3RNet also computes its inert query, key and map: (2 * 86 * 64 + 4 * 16 * 16) * 256^2 = 0.79e9
    ("s3rnet", 172, 4, 4, 256, 941.83 - 0.79),
    pytest.param("s3rnet", 172, 6, 4, 256, 942.04 - 0.79, marks=pytest.mark.slow),
]
"""Architecture, HSI and MSI bands, ratio, side of the image, 1e9 multiply-adds; published are 1200, 1200, 79, 79 for
SMIF-NET and 941.77 for S3RNet."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network thinned for tests, with the same geometry as the whole one.

    Not too thin: on one item of at most 20,480 values PyTorch leaves oneDNN for another convolution, whose bits differ.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    thinnest: dict[str, Any] = field(default_factory=dict)
    hs_bands: int = 6
    golden: tuple[float, ...] = ()
    reach_slack_px: int = 8


CASES = {
    " ".join([case.name, *(str(value) for value in case.options.values() if isinstance(value, str))]): case
    for case in (
        Case(
            name="aelf",
            options={"width": 16, "step": 16},
            thinnest={"width": 4, "step": 4},
            golden=(0.381084, 0.485319, 0.334334, 0.414959, 0.101558),
        ),
        Case(
            name="cofusion",
            options={"width": 16},
            thinnest={"width": 4},
            golden=(0.370227, 0.6286, 0.158905, 0.434363, 0.179106),
        ),
        Case(name="mossfuse", options={"width": 32}, golden=(-0.005121, -0.130633, 0.073893, 0.001739, 0.071469)),
        Case(
            name="smifnet",
            options={"width": 16},
            thinnest={"width": 4},
            golden=(0.267795, 0.397905, 0.198625, 0.337097, 0.116811),
        ),
        Case(
            name="s3rnet",
            options={"depths": (1, 1, 1, 1)},
            hs_bands=64,
            golden=(0.009776, 0.007871, -0.055055, -0.001956, 0.048629),
        ),
        Case(
            name="s3rnet",
            options={"depths": (1, 1, 1, 1), "attention": "paper"},
            hs_bands=64,
            golden=(0.002561, 0.038983, -0.038156, -0.001192, 0.040173),
        ),
    )
}


def scene(network: FusionNetwork, side_px: int, items: int = 1) -> tuple[Tensor, Tensor]:
    """Deterministic fields with edges: hs with its margin, ms."""
    coarse = side_px // network.ratio + 2 * UPSAMPLE_MARGIN
    return _fields(items, network.hs_bands, coarse), _fields(items, network.ms_bands, side_px)


def _fields(items: int, bands: int, side: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    phase = torch.arange(items * bands).reshape(items, bands, 1, 1)
    smooth = torch.sin(0.31 * x + 0.7 * phase) * torch.cos(0.23 * y - 0.4 * phase)
    blocks = ((x // 5 + y // 7 + phase) % 3) / 3
    return (0.3 + 0.15 * smooth + 0.2 * blocks).float()


def build(case: Case, ratio: int = 4, **more: Any) -> FusionNetwork:
    torch.manual_seed(0)
    return build_model(case.name, hs_bands=case.hs_bands, ms_bands=3, ratio=ratio, **{**case.options, **more}).eval()


def stirred(network: FusionNetwork, noise: float = 0.03) -> FusionNetwork:
    """The network with noise on every parameter, so that nothing is switched off by its initial value."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return network


def freeze(network: FusionNetwork, patch_px: int = 48) -> None:
    """Statistics of two patches, frozen."""
    hs, ms = scene(network, patch_px, items=2)
    like = next(network.parameters())
    with torch.no_grad(), network.statistics.recording() as sums:
        network(hs.to(like), ms.to(like))
    network.statistics.freeze(sums, like=like)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.mark.parametrize(("name", "hs_bands", "ms_bands", "ratio", "options", "count"), COUNTS)
def test_parameters_are_as_many_as_published(
    name: str, hs_bands: int, ms_bands: int, ratio: int, options: dict[str, Any], count: int
) -> None:
    with torch.device("meta"):
        network = build_model(name, hs_bands=hs_bands, ms_bands=ms_bands, ratio=ratio, **options)
    assert parameter_count(network) == count


@pytest.mark.parametrize(("name", "hs_bands", "giga"), GIGA_MULTIPLY_ADDS_128)
def test_multiply_adds_are_as_many_as_reached_by_the_brief(name: str, hs_bands: int, giga: float) -> None:
    with torch.device("meta"):
        network = build_model(name, hs_bands=hs_bands, ms_bands=4, ratio=4)
    assert multiply_adds_per_pixel(network, 128) * 128**2 / 1e9 == pytest.approx(giga, abs=0.005)


@pytest.mark.parametrize(("name", "hs_bands", "ms_bands", "ratio", "side_px", "giga"), GIGA_MULTIPLY_ADDS)
def test_multiply_adds_are_those_of_the_papers_images(
    name: str, hs_bands: int, ms_bands: int, ratio: int, side_px: int, giga: float
) -> None:
    with torch.device("meta"):
        network = build_model(name, hs_bands=hs_bands, ms_bands=ms_bands, ratio=ratio)
    found = multiply_adds_per_pixel(network, 2 * lcm(8, ratio)) * side_px**2 / 1e9
    assert found == pytest.approx(giga, rel=2e-3)


def test_the_student_of_s3rnet_costs_what_is_published() -> None:
    with torch.device("meta"):
        network = build_model(
            "s3rnet", hs_bands=172, ms_bands=4, ratio=4, depths=(4, 1, 4, 0), query_groups=43, attention="paper"
        )
    assert multiply_adds_per_pixel(network, 64) * 256**2 / 1e9 == pytest.approx(144.77, rel=1e-3)


def test_training_mossfuse_without_its_third_decoder_costs_what_the_paper_says() -> None:
    with torch.device("meta"):
        network: Any = build_model("mossfuse", hs_bands=31, ms_bands=3, ratio=32, self_supervision="own")
        hs, ms = torch.empty(1, 31, 6, 6), torch.empty(1, 3, 64, 64)
        with torch.no_grad(), MultiplyAdds() as counted:
            network.ms_decoder(*(own := network.ms_encoder(ms)))
            network.hs_decoder(*(other := network.hs_encoder(network._enlarged(hs))))
            network.decoder(own, other)
    assert 2 * counted.total * (512 / 64) ** 2 / 1e9 == pytest.approx(270.9, rel=2e-3)  # of 279.42 published


@pytest.mark.parametrize("query", ["own", "other"])
def test_aelfs_attention_asks_with_either_modality(query: str) -> None:
    """Eq. 7 by its definition, from the module's own projections: softmax over keys of cosines over pixels."""
    torch.manual_seed(1)
    attention = MutualAttention(8, "own" if query == "own" else "other")
    SpatialStatistics(attention)
    hs, ms = torch.rand(2, 8, 6, 5), torch.rand(2, 8, 6, 5)

    def heads(x: Tensor) -> Tensor:
        return x.reshape(2, 4, 2, 30)

    def asked_by(asking: Tensor, asked: Tensor) -> Tensor:
        q, k = (functional.normalize(heads(x), dim=-1) for x in (attention.query(asking), attention.key(asked)))
        maps = (attention.temperature * torch.einsum("nhip,nhjp->nhij", q, k)).softmax(-1)
        out: Tensor = attention.out(
            torch.einsum("nhij,nhjp->nhip", maps, heads(attention.value(asked))).reshape(2, 8, 6, 5)
        )
        return out

    wanted = (asked_by(hs, ms), asked_by(ms, hs)) if query == "own" else (hs + asked_by(ms, hs), ms + asked_by(hs, ms))
    torch.testing.assert_close(attention(hs, ms), wanted)


def test_smifnets_heads_attend_within_their_own_channels() -> None:
    """Eqs. 1 to 6 by their definition, two heads of four channels, from the module's own projections."""
    torch.manual_seed(1)
    attention = DualAttention(SMIFNetOptions(width=8, channel_heads=2))
    SpatialStatistics(attention)
    with torch.no_grad():
        attention.temperature.copy_(torch.tensor([2.0, 3.0])[:, None, None])
    hs, ms = torch.rand(2, 8, 6, 5), torch.rand(2, 8, 6, 5)

    def heads(x: Tensor) -> Tensor:
        return x.reshape(2, 2, 4, 30)

    def asked(key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
        q, k = (functional.normalize(heads(x), dim=-1) for x in (attention.query(hs), key))
        maps = (temperature * torch.einsum("nhip,nhjp->nhij", q, k)).softmax(-1)
        return torch.einsum("nhij,nhjp->nhip", maps, heads(value)).reshape(2, 8, 6, 5)

    assert attention.ms_key is not None
    assert attention.ms_value is not None
    own = asked(attention.key(hs), attention.value(hs + ms), attention.temperature)
    other = asked(attention.ms_key(ms), attention.ms_value(ms), attention.ms_temperature)
    torch.testing.assert_close(attention(hs, ms), attention.out(own + other))


def test_s3rnets_branches_are_added_where_nothing_weighs_them() -> None:
    network: Any = stirred(build_model("s3rnet", hs_bands=8, ms_bands=3, ratio=2, depths=(1, 1, 1, 0), fusion="sum"))
    hs, ms = scene(network, 16)
    seen: list[Tensor] = []
    for branch in (network.hs_branch, network.ms_branch, network.coarse_branch, network.fine_branch):
        branch.register_forward_hook(lambda _, __, out: seen.append(out))
    fused = network(hs, ms)
    q, k, v, z = seen
    repeated = [x.repeat_interleave(2, -1).repeat_interleave(2, -2) for x in (q, v)]
    torch.testing.assert_close(fused, network.tail(network.out(repeated[0] + k + repeated[1] + z)))


def test_the_gates_of_aelf_add_up_to_one() -> None:
    network: Any = stirred(build(CASES["aelf"]))
    gates = network.supervised(*scene(network, 24, items=2)).gates
    assert len(gates) == 3
    for gate in gates:
        torch.testing.assert_close(gate.sum(1), torch.ones(2))
        assert gate.min() > 0


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("hs_bands", "ratio"),
    [
        (285, 3),
        *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((31, 2), (172, 4), (224, 6), (128, 8))),
    ],
)
def test_the_result_has_the_bands_of_the_hsi_on_the_grid_of_the_msi(name: str, hs_bands: int, ratio: int) -> None:
    with torch.device("meta"):
        network = build_model(name, hs_bands=hs_bands, ms_bands=4, ratio=ratio)
        side = lcm(network.lattice_px, ratio)
        coarse = side // ratio + 2 * UPSAMPLE_MARGIN
        fused = network(torch.empty(2, hs_bands, coarse, coarse), torch.empty(2, 4, side, side))
    assert fused.shape == (2, hs_bands, side, side)
    assert fused.dtype == torch.float32


@pytest.mark.parametrize("ratio", [2, 3, 6, 8])
def test_a_network_runs_at_every_ratio(case: Case, ratio: int) -> None:
    network = build(case, ratio)
    fused = network(*scene(network, lcm(network.lattice_px, ratio)))
    assert torch.isfinite(fused).all()


def test_gradients_reach_every_parameter_that_is_used(case: Case) -> None:
    network = build(case).train()
    for _ in range(5):  # a ReLU may be dead once
        stirred(network)
        outputs = network.supervised(*scene(network, 16, items=2))
        loss = torch.stack([output.square().mean() for output in outputs if isinstance(output, Tensor)]).sum()
        torch.autograd.backward(loss)
    unreached = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert {name for name in unreached if not any(part in name for part in network.unused_parameters)} == set()
    assert all(any(part in name for name in unreached) for part in network.unused_parameters)


def test_frozen_to_one_patch_a_network_fuses_it_as_locally(case: Case) -> None:
    network = stirred(build(case))
    hs, ms = scene(network, 48)
    with torch.no_grad():
        local = network(hs, ms)
        with network.statistics.recording() as sums:
            network(hs, ms)
        network.statistics.freeze(sums, like=ms)
        torch.testing.assert_close(network(hs, ms), local, rtol=1e-4, atol=2e-5)


def test_recorded_sums_of_a_batch_are_those_of_its_patches(case: Case) -> None:
    network = stirred(build(case))
    hs, ms = scene(network, 24, items=2)
    with torch.no_grad(), network.statistics.recording() as together:
        network(hs, ms)
    with torch.no_grad(), network.statistics.recording() as apart:
        network(hs[:1], ms[:1])
        network(hs[1:], ms[1:])
    assert together.keys() == apart.keys()
    for key, total in together.items():
        torch.testing.assert_close(total, apart[key], rtol=1e-4, atol=1e-5)


def tile_error(network: FusionNetwork, halo_px: int, core_px: int) -> float:
    """Largest difference on the core between a window and the same window grown by a lattice step."""
    lattice = lcm(network.lattice_px, network.ratio)
    halo, shift = -(-halo_px // lattice) * lattice, lattice
    side = core_px + 2 * (halo + shift)
    hs, ms = scene(network, side)
    near, coarse = slice(shift, side - shift), shift // network.ratio
    with torch.no_grad():
        whole = network(hs, ms)[..., near, near]
        inner = slice(coarse, hs.shape[-1] - coarse)
        tile = network(hs[..., inner, inner], ms[..., near, near])
    core = slice(halo, halo + core_px)
    return float((whole - tile)[..., core, core].abs().max())


@pytest.mark.parametrize("ratio", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_frozen_tiles_equal_the_whole_at_the_default_halo(case: Case, ratio: int) -> None:
    network = stirred(build(case, ratio), NOISE)
    freeze(network)
    assert tile_error(network, network.halo_px, core_px=24) <= 1e-6


@pytest.mark.parametrize("ratio", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_an_eighth_of_the_default_halo_is_too_little(case: Case, ratio: int) -> None:
    network = stirred(build(case, ratio), NOISE)
    freeze(network)
    assert tile_error(network, network.halo_px // 8, core_px=24) > 1e-5


def test_frozen_tiles_equal_the_whole_bitwise_at_full_support(case: Case) -> None:
    network = stirred(build(case))
    freeze(network)
    assert tile_error(network, network.support_px, core_px=16) == 0.0


def test_local_tiles_differ_from_the_whole(case: Case) -> None:
    network = stirred(build(case))
    if not network.statistics.reductions:
        pytest.skip("no reductions over space: every mode is frozen")
    assert tile_error(network, network.halo_px, core_px=24) > 1e-7


@pytest.mark.parametrize("image", ["hs", pytest.param("ms", marks=pytest.mark.slow)])
@pytest.mark.parametrize("ratio", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_no_pixel_beyond_the_support_has_influence(case: Case, ratio: int, image: str) -> None:
    network = build(replace(case, hs_bands=6), ratio, **case.thinnest).double()
    freeze(network, patch_px=24)
    lattice = lcm(network.lattice_px, ratio)
    centre = -(-network.support_px // lattice) * lattice
    hs, ms = (x.double() for x in scene(network, 2 * centre + lattice))
    first, last = centre, centre
    if image == "hs":
        coarse, last = centre // ratio + UPSAMPLE_MARGIN, centre + ratio - 1
        hs[:, :, coarse, coarse] = nan
    else:
        ms[:, :, centre, centre] = nan
    with torch.no_grad():
        touched = torch.isnan(network(hs, ms)).any(1)[0].any(0).nonzero()
    reach = max(last - int(touched.min()), int(touched.max()) - first)
    assert reach <= network.support_px
    if image == "hs":
        assert reach >= network.support_px - case.reach_slack_px


def test_bfloat16_keeps_the_result_finite_and_near(case: Case) -> None:
    network = build(case)
    hs, ms = scene(network, 32)
    with torch.no_grad():
        want = network(hs, ms)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fused = network(hs, ms)
    assert fused.dtype == torch.float32
    assert torch.isfinite(fused).all()
    if "bf16" in network.precisions:
        assert float((fused - want).square().mean().sqrt()) < 2e-3


def test_values_are_the_golden_ones(case: Case) -> None:
    network = build(case)
    with torch.no_grad():
        fused = network(*scene(network, 16))
    found = [fused[0, 0, 0, 0], fused[0, 5, 7, 9], fused[0, 3, 15, 2], fused.mean(), fused.std()]
    assert [float(value) for value in found] == pytest.approx(case.golden, rel=1e-4, abs=1e-5)


def test_a_state_dict_makes_the_round_trip(case: Case) -> None:
    network, other = stirred(build(case)), build(case)
    inputs = scene(network, 16)
    assert not torch.equal(network(*inputs), other(*inputs))
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(*inputs), other(*inputs))


def test_a_folded_mossfuse_fuses_as_the_trained_form() -> None:
    network = stirred(build(CASES["mossfuse"]))
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 1.5)
        for part in network.modules():
            if isinstance(part, LargeKernelBlock):
                part.scale.fill_(1.0)
        inputs = scene(network, 24)
        trained = network(*inputs)
        network.fold()
        torch.testing.assert_close(network(*inputs), trained, rtol=1e-5, atol=1e-5)


def test_mossfuse_degrades_with_a_gaussian_on_the_coarse_centres() -> None:
    degradation = Degradation(5, 3, 4)
    with torch.no_grad():
        degradation.psf.copy_(torch.eye(2) / 1.7)
    p = torch.arange(degradation.first_px, degradation.last_px + 1) - 1.5
    want = torch.exp(-(p[:, None] ** 2 + p[None] ** 2) / (2 * 1.7**2))
    torch.testing.assert_close(degradation.spread(), want / want.sum())
    torch.testing.assert_close(degradation.response().sum(1), torch.ones(3))
    flat = torch.full((1, 5, 16, 16), 0.4)
    torch.testing.assert_close(degradation.to_coarse(flat), flat[..., :4, :4])


def test_a_given_degradation_is_the_one_that_mossfuse_sees_with() -> None:
    srf = ((3.0, 1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.0, 2.0))
    network: Any = build_model(
        "mossfuse", hs_bands=5, ms_bands=2, ratio=4, width=8, degradation="given", psf_sigma_px=2.5, srf=srf
    )
    degradation = network.degradation
    assert degradation.psf_sigmas_px == pytest.approx((2.5, 2.5))
    p = torch.arange(degradation.first_px, degradation.last_px + 1) - 1.5
    want = torch.exp(-(p[:, None] ** 2 + p[None] ** 2) / (2 * 2.5**2))
    torch.testing.assert_close(degradation.spread(), want / want.sum())
    assert len(p) >= 2 * 3 * 2.5  # three sigmas on each side
    torch.testing.assert_close(degradation.response().sum(1), torch.ones(2))
    torch.testing.assert_close(degradation.response()[0], torch.tensor([0.75, 0.25, 0, 0, 0]))
    assert not any(parameter.requires_grad for parameter in degradation.parameters())
    with pytest.raises(ModelError, match="4 weights"):
        build_model(
            "mossfuse", hs_bands=5, ms_bands=1, ratio=4, degradation="given", psf_sigma_px=2.5, srf=((1.0,) * 4,)
        )


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UsageError, match="aelf has no option depth"):
        build_model("aelf", hs_bands=6, ms_bands=3, ratio=4, depth=3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("aelf-t", {"width": 31}),
        ("aelf-t", {"width": -4}),
        ("aelf", {"step": 6}),
        ("aelf", {"width": "wide"}),
        ("aelf", {"pool_scales": (2, 8)}),
        ("aelf", {"pool_scales": ()}),
        ("aelf", {"experts": ["spatial", "spatial"]}),
        ("aelf", {"experts": ["temporal"]}),
        ("aelf", {"guidance": 1}),
        ("cofusion", {"width": 6}),
        ("cofusion", {"coordinates": 0}),
        ("cofusion", {"merge": "cubic"}),
        ("mossfuse", {"width": 20}),
        ("mossfuse", {"blocks": 0}),
        ("mossfuse", {"psf_phase_px": nan}),
        ("mossfuse", {"self_supervision": "other"}),
        ("mossfuse", {"decoupling": "some"}),
        ("mossfuse", {"degradation": "given"}),
        ("mossfuse", {"psf_sigma_px": 2.0}),
        ("mossfuse", {"psf_sigma_px": 0.0, "srf": ((1.0,),), "degradation": "given"}),
        ("mossfuse", {"srf": ((1.0, -1.0),), "psf_sigma_px": 2.0, "degradation": "given"}),
        ("smifnet", {"width": 6}),
        ("smifnet", {"stages": 1}),
        ("smifnet", {"layers": 0}),
        ("smifnet", {"channel_heads": 5}),
        ("smifnet", {"channel_heads": 2, "heads": "spatial"}),
        ("s3rnet", {"depths": (4, 4, 6)}),
        ("s3rnet", {"depths": (-1, 4, 4, 1)}),
        ("s3rnet", {"fusion": "mean"}),
    ],
)
def test_options_that_no_network_can_have_are_refused_by_name(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        build_model(name, hs_bands=6, ms_bands=3, ratio=4, **options)


@pytest.mark.parametrize(("hs_bands", "groups"), [(2, 1), (172, 4)])
def test_s3rnet_refuses_channels_that_cannot_be_cut(hs_bands: int, groups: int) -> None:
    with pytest.raises(ModelError, match="HSI bands"):
        build_model("s3rnet", hs_bands=hs_bands, ms_bands=3, ratio=4, query_groups=groups)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ModelError, match="alef is not a network"):
        build_model("alef", hs_bands=6, ms_bands=3, ratio=4)
