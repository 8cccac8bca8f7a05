from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from scenefuse.grid import resample as grid_resample
from scenefuse.models.edges import repeat_edges
from scenefuse.models.resample import coarse_blur_taps, degrade, degrade_window, filter_window, upsample

RATIOS = (2, 3, 4, 6, 8)


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("phase_px", [(0.0, 0.0), (0.4, -0.3)])
@pytest.mark.parametrize("ratio", [*RATIOS, 32])
def test_upsample_equals_the_grid_rooms(ratio: int, phase_px: tuple[float, float]) -> None:
    coarse = noise(2, 3, 9, 11)
    expected = np.stack([grid_resample.upsample(image, ratio, phase_px) for image in coarse.numpy()])
    np.testing.assert_allclose(upsample(coarse, ratio, phase_px).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("phase_px", [(0.0, 0.0), (0.4, -0.3)])
@pytest.mark.parametrize("ratio", [*RATIOS, 32])
def test_degrade_equals_the_grid_rooms(ratio: int, phase_px: tuple[float, float]) -> None:
    sigma_px = 0.45 * ratio
    margin = 2 * grid_resample.degrade_reach_px(ratio, sigma_px)
    fine = noise(2, 3, 5 * ratio + margin, 7 * ratio + margin)
    expected = np.stack([grid_resample.degrade(image, ratio, sigma_px, phase_px) for image in fine.numpy()])
    np.testing.assert_allclose(degrade(fine, ratio, sigma_px, phase_px).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_plane_is_upsampled_to_itself(ratio: int) -> None:
    y, x = np.mgrid[:12, :12].astype(np.float32) + 0.5
    fine_y, fine_x = (np.mgrid[: 8 * ratio, : 8 * ratio] + 0.5) / ratio + 2
    plane = torch.from_numpy(0.1 * y + 0.2 * x)[None, None]
    np.testing.assert_allclose(upsample(plane, ratio)[0, 0].numpy(), 0.1 * fine_y + 0.2 * fine_x, rtol=1e-5)


@settings(max_examples=25)
@given(ratio=st.sampled_from(RATIOS), y=st.integers(0, 9), x=st.integers(0, 9), side=st.integers(8, 40))
def test_windows_cut_anywhere_have_the_same_bits(ratio: int, y: int, x: int, side: int) -> None:
    torch.set_num_threads(1)
    coarse = noise(1, 5, 60, 60)
    part = coarse[..., y : y + side + 4, x : x + side + 4].contiguous()
    inside = upsample(coarse, ratio)[..., y * ratio : (y + side) * ratio, x * ratio : (x + side) * ratio]
    assert torch.equal(upsample(part, ratio), inside)
    fine = noise(1, 3, 50 * ratio, 50 * ratio)
    sigma_px, reach = 0.45 * ratio, grid_resample.degrade_reach_px(ratio, 0.45 * ratio)
    rows, columns = (slice(start * ratio, (start + side) * ratio + 2 * reach) for start in (y, x))
    whole = degrade(fine, ratio, sigma_px)
    if rows.stop <= fine.shape[-2] and columns.stop <= fine.shape[-1]:
        cut = degrade(fine[..., rows, columns].contiguous(), ratio, sigma_px)
        assert torch.equal(cut, whole[..., y : y + side, x : x + side])


@pytest.mark.parametrize("ratio", RATIOS)
def test_coarse_blur_is_degrade_after_upsample(ratio: int) -> None:
    sigma_px = 0.45 * ratio
    coarse = noise(1, 2, 40, 40).double()
    seen = degrade_window(upsample(coarse, ratio), ratio, sigma_px)  # grid of coarse: margins 2 lost, 2 made up
    filtered = filter_window(coarse, coarse_blur_taps(ratio, sigma_px).tolist())
    np.testing.assert_allclose(seen[..., 8:-8, 8:-8], filtered[..., 8:-8, 8:-8], atol=1e-6)
    beside = degrade_window(upsample(coarse, ratio, (0.5, -0.4)), ratio, sigma_px, (0.5, -0.4))
    limit = (0.1 if ratio == 2 else 0.02) * float(coarse.std())
    assert float((beside - filtered)[..., 8:-8, 8:-8].abs().max()) < limit


def test_repeated_edges_are_replicate_padding_and_so_is_their_gradient() -> None:
    ours, theirs = (noise(2, 3, 5, 4).requires_grad_() for _ in range(2))
    padded, expected = repeat_edges(ours, 6), functional.pad(theirs, (6,) * 4, mode="replicate")
    assert torch.equal(padded, expected)
    weights = noise(*padded.shape)
    (own,) = torch.autograd.grad((padded * weights).sum(), ours)
    (known,) = torch.autograd.grad((expected * weights).sum(), theirs)
    assert torch.equal(own, known)
