"""Tiled = whole, for every classical method: the same bits wherever a window is cut."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenefuse.models.base import UPSAMPLE_MARGIN, FusionModel
from scenefuse.models.coarse_pixels import psf_sigma_limits_px
from scenefuse.models.state import SceneState
from tests.models.classical_pairs import CLASSICAL, drawn_pair, model_for
from tests.models.whole import freeze_whole

RATIOS = (2, 3, 4, 6, 8)


def coarse_side(ratio: int) -> int:
    """Coarse pixels of a scene of 216 fine pixels: three times the largest support, and a multiple of every ratio."""
    return 216 // ratio


@cache
def prepared(
    name: str, ratio: int, *, ms_bands: int = 4, widest: bool = False
) -> tuple[FusionModel, SceneState, torch.Tensor, torch.Tensor]:
    """A method, its scene's state and the scene's inputs, the HSI with repeated edges for a margin."""
    hs, ms = drawn_pair(ratio, coarse_side=coarse_side(ratio), hs_bands=13, ms_bands=ms_bands)
    model = model_for(name, hs, ms, ratio)
    state = freeze_whole(model, hs, ms, psf_sigma_px=psf_sigma_limits_px(ratio)[1] if widest else None)
    margin = [(0, 0), (UPSAMPLE_MARGIN,) * 2, (UPSAMPLE_MARGIN,) * 2]
    return model, state, torch.from_numpy(np.pad(hs, margin, mode="edge"))[None], torch.from_numpy(ms)[None]


@cache
def whole(name: str, ratio: int, ms_bands: int = 4) -> torch.Tensor:
    model, state, hs, ms = prepared(name, ratio, ms_bands=ms_bands)
    return model.fuse(hs, ms, state)


def window(
    hs: torch.Tensor, ms: torch.Tensor, ratio: int, rows: slice, columns: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of fuse for a window of coarse pixels."""
    grown = [slice(part.start, part.stop + 2 * UPSAMPLE_MARGIN) for part in (rows, columns)]
    fine = [slice(part.start * ratio, part.stop * ratio) for part in (rows, columns)]
    return hs[..., grown[0], grown[1]].contiguous(), ms[..., fine[0], fine[1]].contiguous()


@pytest.mark.parametrize("name", CLASSICAL)
@settings(max_examples=12)
@given(data=st.data())
def test_a_window_cropped_by_the_support_equals_the_whole_bitwise(name: str, data: st.DataObject) -> None:
    torch.set_num_threads(1)
    ratio, ms_bands = data.draw(st.sampled_from(RATIOS)), data.draw(st.sampled_from((1, 2, 4)))
    model, state, hs, ms = prepared(name, ratio, ms_bands=ms_bands)
    count, crop = coarse_side(ratio), model.card.support_px
    least = -(-max(64, 2 * crop + 1) // ratio)
    rows, columns = (
        slice(y, y + data.draw(st.integers(least, count - y)))
        for y in (data.draw(st.integers(0, count - least)) for _ in range(2))
    )
    part = window(hs, ms, ratio, rows, columns)
    fused = model.fuse(part[0], part[1], state)
    inner = [slice(part.start * ratio + crop, part.stop * ratio - crop) for part in (rows, columns)]
    assert torch.equal(fused[..., crop:-crop, crop:-crop], whole(name, ratio, ms_bands)[..., inner[0], inner[1]])


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("ratio", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_the_default_halo_is_enough_for_cores_on_coarse_pixels(name: str, ratio: int) -> None:
    torch.set_num_threads(1)
    model, state, hs, ms = prepared(name, ratio)
    halo = -(-model.card.halo_px // ratio)
    rows = columns = slice(5, 5 + 2 * halo + 64 // ratio + 1)
    part = window(hs, ms, ratio, rows, columns)
    fused = model.fuse(part[0], part[1], state)
    crop = slice(halo * ratio, fused.shape[-1] - halo * ratio)
    inner = slice((5 + halo) * ratio, (rows.stop - halo) * ratio)
    assert torch.equal(fused[..., crop, crop], whole(name, ratio)[..., inner, inner])


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_batch_gives_each_window_the_bits_it_has_alone(name: str) -> None:
    torch.set_num_threads(1)
    model, state, hs, ms = prepared(name, 4)
    pairs = [window(hs, ms, 4, slice(start, start + 30), slice(7, 37)) for start in (0, 11, 23)]
    together = model.fuse(torch.cat([hs for hs, _ in pairs]), torch.cat([ms for _, ms in pairs]), state)
    assert all(torch.equal(together[i], model.fuse(pair[0], pair[1], state)[0]) for i, pair in enumerate(pairs))


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("ratio", [3, *(pytest.param(ratio, marks=pytest.mark.slow) for ratio in (2, 8))])
def test_nothing_beyond_the_declared_support_moves_a_pixel_and_little_within_is_spare(name: str, ratio: int) -> None:
    model, state, hs, ms = prepared(name, ratio, widest=True)
    before = model.fuse(hs, ms, state)
    at = coarse_side(ratio) // 2
    reach = 0
    touched_hs, touched_ms = hs.clone(), ms.clone()
    touched_hs[..., at + UPSAMPLE_MARGIN, at + UPSAMPLE_MARGIN] += 0.3
    touched_ms[..., at * ratio, at * ratio] += 0.3
    for inputs, own in (((touched_hs, ms), ratio), ((hs, touched_ms), 1)):
        changed = (model.fuse(inputs[0], inputs[1], state) != before).any(dim=1)[0].nonzero()  # (k, 2) of y, x
        if len(changed):
            reach = max(reach, int(at * ratio - changed.min()), int(changed.max() - (at * ratio + own - 1)))
    assert reach <= model.card.support_px
    assert reach >= model.card.support_px - 3 * ratio
    assert model.card.effective_px <= model.card.support_px
    assert model.card.halo_px <= model.card.support_px
