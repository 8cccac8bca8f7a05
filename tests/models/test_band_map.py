"""What exactness rests on: a pixel's matrix product has the same bits whatever stands beside it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenefuse.models.band_map import inject, map_bands
from scenefuse.models.resample import band_groups, upsample


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 13, 285])
@settings(max_examples=15)
@given(bands=st.sampled_from((1, 2, 4, 10, 21)), y=st.integers(0, 40), x=st.integers(0, 40), side=st.integers(20, 110))
def test_a_pixel_is_mapped_to_the_same_bits_in_every_window(rows: int, bands: int, y: int, x: int, side: int) -> None:
    torch.set_num_threads(1)
    image, matrix = noise(1, bands, 150, 150), noise(rows, bands)
    part = image[..., y : y + side, x : x + side].contiguous()
    assert torch.equal(map_bands(matrix, part), map_bands(matrix, image)[..., y : y + side, x : x + side])


@pytest.mark.parametrize("bands", [1, 3, 4, 7, 9])
def test_injection_is_upsampling_plus_a_map(bands: int) -> None:
    coarse, gains, fine = noise(2, bands, 24, 26), noise(bands, 2), noise(2, 2, 80, 88)
    expected = upsample(coarse, 4) + map_bands(gains, fine)
    torch.testing.assert_close(inject(coarse, gains, fine, 4), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bands", [1, 3, 4, 5, 8, 285])
def test_groups_cover_all_bands_once_and_none_but_a_lone_one_is_short(bands: int) -> None:
    groups = list(band_groups(torch.empty(bands, 1, 1)))
    assert [band for group in groups for band in range(bands)[group]] == list(range(bands))
    assert len(groups) == 1 or min(group.stop - group.start for group in groups) >= 4
