"""What the two instruments would see of a window."""

from __future__ import annotations

import pytest
import torch

from scenefuse.training.consistency import Observation


@pytest.mark.parametrize(
    ("ratio", "sigma_px", "patch_px", "inner_px"),
    [(4, 2.0, 48, 8), (8, 3.95, 48, 2), (8, 5.5, 48, 0), (10, 4.9, 60, 2)],
)
def test_pixels_of_a_window_whose_psf_stays_inside_are_those_that_are_compared(
    ratio: int, sigma_px: float, patch_px: int, inner_px: int
) -> None:
    observation = Observation(
        ratio=ratio,
        psf_sigma_px=sigma_px,
        response=torch.ones(1, 3) / 3,
        offset=torch.zeros(1),
        sharp=torch.tensor([True]),
    )
    assert observation.inner_px(patch_px) == inner_px
    if inner_px > 0:
        seen, there = observation._coarse(
            torch.rand(1, 3, patch_px, patch_px), torch.rand(1, 3, *[patch_px // ratio] * 2)
        )
        assert seen.shape == there.shape == (1, 3, inner_px, inner_px)
