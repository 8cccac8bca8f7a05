"""Resampling on the lattice, against PyTorch's own on whole images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import scenefuse.models
from scenefuse.models.feature_maps import enlarge, repeat, shrink


def image(side: int = 24) -> torch.Tensor:
    return torch.rand(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("factor", [2, 3, 4, 6, 8])
def test_enlarging_is_bilinear_interpolation(factor: int) -> None:
    want = functional.interpolate(image(), scale_factor=factor, mode="bilinear")
    torch.testing.assert_close(enlarge(image(), factor), want)
    inner = slice(2 * factor, -2 * factor)
    torch.testing.assert_close(enlarge(image(), factor, margin=2), want[..., inner, inner])


@pytest.mark.parametrize("factor", [2, 3, 4, 6, 8])
def test_shrinking_without_antialias_is_bicubic_interpolation(factor: int) -> None:
    want = functional.interpolate(image(), scale_factor=1 / factor, mode="bicubic")
    torch.testing.assert_close(shrink(image(), factor, "cubic", antialias=False), want)


@pytest.mark.parametrize("factor", [2, 3, 4, 6])
def test_shrinking_with_antialias_is_bilinear_away_from_the_border(factor: int) -> None:
    want = functional.interpolate(image(), scale_factor=1 / factor, mode="bilinear", antialias=True)
    found = shrink(image(), factor, "linear", antialias=True)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])


def test_repeating_is_nearest_interpolation() -> None:
    torch.testing.assert_close(repeat(image(), 3), functional.interpolate(image(), scale_factor=3, mode="nearest"))


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_a_pixel_has_the_same_bits_in_every_window(factor: int) -> None:
    whole = image().float()
    inner = slice(5 * factor, -5 * factor)
    assert torch.equal(
        enlarge(whole[..., 4:-4, 4:-4], factor)[..., factor:-factor, factor:-factor],
        enlarge(whole, factor)[..., inner, inner],
    )
    small = shrink(whole[..., 6:-6, 6:-6], factor, "cubic", antialias=False)
    edge = 6 // factor
    assert torch.equal(
        small[..., 1:-1, 1:-1],
        shrink(whole, factor, "cubic", antialias=False)[..., edge + 1 : -edge - 1, edge + 1 : -edge - 1],
    )


def test_no_model_resamples_by_interpolate_or_grid_sample() -> None:
    assert scenefuse.models.__file__ is not None
    for path in Path(scenefuse.models.__file__).parent.glob("*.py"):
        assert not re.search(r"\b(interpolate|grid_sample|Upsample)\(", path.read_text(encoding="utf-8")), path.name
