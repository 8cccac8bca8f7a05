"""A network with weights as the engine sees it: stage, state, frozen tiles, precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scenefuse.engine.precision import choose_precision, repeatable
from scenefuse.errors import ModelError, UsageError
from scenefuse.models.architectures import build_model, load_network
from scenefuse.models.base import UPSAMPLE_MARGIN, FusionModel, ModelCard, SceneWindow
from scenefuse.models.network import NetworkModel
from scenefuse.models.ref import ModelRef
from scenefuse.models.state import SceneState
from scenefuse.models.weights import WeightsCard, save_weights
from scenefuse.sensors.band import Band

HS_BANDS = tuple(Band(name=f"h{i}", wavelength_nm=450.0 + 50 * i, fwhm_nm=8.0) for i in range(6))
MS_BANDS = tuple(Band(name=f"m{i}", wavelength_nm=490.0 + 70 * i, gsd_m=10.0) for i in range(3))


def card(name: str, **options: Any) -> WeightsCard:
    return WeightsCard(
        architecture=name,
        options=options,
        hs_bands=HS_BANDS,
        ms_bands=MS_BANDS,
        ratio=4,
        training={"data": "made up", "protocol": "none", "seed": 3, "score": {"psnr_db": 0.0}},
        licence="Apache-2.0",
    )


def saved(folder: Path, name: str, *, half: bool = False, seed: int = 3, **options: Any) -> ModelRef:
    torch.manual_seed(seed)
    network = build_model(name, hs_bands=6, ms_bands=3, ratio=4, **options)
    path = folder / f"{name}.safetensors"
    done = save_weights(path, network, card(name, **options), half=half)
    return ModelRef(
        name=name, hs_bands=HS_BANDS, ms_bands=MS_BANDS, ratio=4, weights=str(path), weights_sha256=done.sha256
    )


def patch(seed: int, side_px: int = 32, margin: int = UPSAMPLE_MARGIN) -> SceneWindow:
    random = np.random.default_rng(seed)
    coarse, fine = side_px // 4 + 2 * margin, side_px + 8 * margin
    return SceneWindow(
        hs=random.random((6, coarse, coarse), dtype=np.float32),
        ms=random.random((3, fine, fine), dtype=np.float32),
        hs_valid=np.ones((coarse, coarse), dtype=bool),
        ms_valid=np.ones((fine, fine), dtype=bool),
        margin=margin,
        ratio=4,
    )


def prepared(model: NetworkModel, seeds: tuple[int, ...] = (0, 1)) -> SceneState:
    state = SceneState()
    for stage in model.stages():
        total: dict[str, Any] = {}
        for seed in seeds:
            for key, value in stage.measure(patch(seed), state).items():
                total[key] = total.get(key, 0.0) + value
        state = stage.conclude(total, state)
    return state


@pytest.fixture
def model(tmp_path: Path) -> NetworkModel:
    return load_network(saved(tmp_path, "aelf-t", width=8, step=8))


def windows(side_px: int = 32, items: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    coarse = side_px // 4 + 2 * UPSAMPLE_MARGIN
    return torch.rand(items, 6, coarse, coarse), torch.rand(items, 3, side_px, side_px)


def test_a_network_with_weights_is_a_fusion_model(model: NetworkModel) -> None:
    fusion: FusionModel = model
    fused = fusion.fuse(*windows(), prepared(model))
    assert fused.shape == (1, 6, 32, 32)
    assert fused.dtype == torch.float32
    assert torch.isfinite(fused).all()


def test_the_card_says_what_the_network_and_its_weights_are(model: NetworkModel) -> None:
    found: ModelCard = model.card
    assert (found.name, found.ratio, found.statistics, found.lattice_px) == ("aelf-t", 4, "patch", 8)
    assert found.hs_bands == HS_BANDS
    assert found.support_px == 168
    assert found.halo_px == 64
    assert found.parameters == sum(p.numel() for p in model.network.parameters())
    assert found.multiply_adds_per_pixel > 0
    assert found.weights_sha256
    assert found.training["seed"] == 3


def test_statistics_stand_in_the_state_under_the_methods_name(model: NetworkModel) -> None:
    (stage,) = model.stages()
    assert (stage.where, stage.reduce, stage.margin) == ("sample", "sum", UPSAMPLE_MARGIN)
    state = prepared(model)
    assert state.arrays
    assert all(key.startswith("aelf-t/") for key in state.arrays)
    assert {array.dtype for array in state.arrays.values()} == {np.dtype(np.float64)}


def test_statistics_do_not_depend_on_the_margin_that_a_window_brings(model: NetworkModel) -> None:
    (stage,) = model.stages()
    wide = patch(0, margin=UPSAMPLE_MARGIN + 3)
    narrow = replace(wide, hs=wide.hs[:, 3:-3, 3:-3], ms=wide.ms[:, 12:-12, 12:-12], margin=UPSAMPLE_MARGIN)
    first, second = stage.measure(wide, SceneState()), stage.measure(narrow, SceneState())
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_the_result_depends_on_state_and_not_on_what_was_fused_before(model: NetworkModel) -> None:
    first, second = prepared(model, (0, 1)), prepared(model, (2, 3))
    before = model.fuse(*windows(), first)
    other = model.fuse(*windows(), second)
    assert not torch.equal(before, other)
    assert torch.equal(model.fuse(*windows(), first), before)


def test_fusing_without_statistics_is_refused(model: NetworkModel) -> None:
    with pytest.raises(ModelError, match="spatial statistics are missing"):
        model.fuse(*windows(), SceneState())


def test_a_patch_off_the_lattice_is_refused(model: NetworkModel) -> None:
    (stage,) = model.stages()
    with pytest.raises(ModelError, match="28 x 28 fine pixels is not a multiple of 8"):
        stage.measure(patch(0, side_px=28), SceneState())


def test_a_network_without_reductions_needs_no_stage(tmp_path: Path) -> None:
    model = load_network(saved(tmp_path, "s3rnet", depths=(1, 1, 1, 1)))
    assert model.stages() == ()
    assert model.card.statistics == "none"
    assert model.fuse(*windows(), SceneState()).shape == (1, 6, 32, 32)


def test_bfloat16_stays_near_float32(tmp_path: Path) -> None:
    model = load_network(saved(tmp_path, "aelf-t", width=8, step=8))
    state = prepared(model)
    full = model.fuse(*windows(), state)
    with repeatable("cpu", "bf16"):
        rounded = model.fuse(*windows(), state)
    assert rounded.dtype == torch.float32
    assert 0 < float((full - rounded).square().mean().sqrt()) < 2e-3


def test_auto_is_bfloat16_but_for_mossfuse_whose_result_is_no_residual(tmp_path: Path) -> None:
    residual = load_network(saved(tmp_path, "aelf-t", width=8, step=8)).card
    whole = load_network(saved(tmp_path, "mossfuse", width=16)).card
    assert [choose_precision("auto", card=card, device="cuda") for card in (residual, whole)] == ["bf16", "fp32"]
    with pytest.raises(ModelError, match="mossfuse keeps its quality in fp32 only"):
        choose_precision("bf16", card=whole, device="cpu")


def test_auto_is_float32_on_every_processor_and_bfloat16_may_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    card = load_network(saved(tmp_path, "aelf-t", width=8, step=8)).card
    assert [choose_precision(wanted, card=card, device="cpu") for wanted in ("auto", "bf16")] == ["fp32", "bf16"]


def test_options_of_a_trained_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a trained network's sizes are fixed by its weights"):
        load_network(replace(saved(tmp_path, "aelf-t", width=8, step=8), options={"width": 8}))


def test_a_form_that_cuts_windows_into_strips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cuts every window into strips"):
        load_network(saved(tmp_path, "smifnet", width=16, layers=1, blocks=1, heads="spatial"))
