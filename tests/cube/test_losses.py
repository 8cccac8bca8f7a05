from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from scenefuse.cube.losses import BandLosses, measure_losses
from scenefuse.cube.pair import PairCube, PairOptions, open_pair
from scenefuse.errors import DataError
from tests.raster.making import WriteTiff, pair_of, texture

NM = (450.0, 550.0, 650.0, 850.0)
NODATA = -32768
Spoil = Callable[[NDArray[np.int16]], None]


def pair_with(write_tiff: WriteTiff, shape: tuple[int, int], spoil: Spoil, drop: tuple[str, ...] = ()) -> PairCube:
    pixels = texture(4, shape)
    spoil(pixels)
    hs = write_tiff("hs.tif", pixels, wavelengths_nm=NM, nodata=NODATA)
    ms = write_tiff("ms.tif", texture(2, (2 * shape[0], 2 * shape[1]), 1), gsd=15.0, wavelengths_nm=(500.0, 800.0))
    return open_pair(pair_of(hs, ms), options=PairOptions(drop_bands=drop))


def losses_of(cube: PairCube) -> BandLosses:
    losses = measure_losses(cube, "hs")
    assert losses is not None
    return losses


def half_a_band(pixels: NDArray[np.int16]) -> None:
    pixels[2, : pixels.shape[1] // 2] = NODATA


def test_a_band_without_data_over_half_the_scene_is_named_with_its_share_and_the_cure(write_tiff: WriteTiff) -> None:
    losses = losses_of(pair_with(write_tiff, (40, 30), half_a_band))
    assert losses.lost == 0.5
    assert losses.bands == (("band 3", 0.5),)
    assert losses.note == (
        "50 % of the HSI's ground have no data in 1 of 4 HSI bands (band 3: 50 %) and are lost in all bands; "
        "without them it is kept: --drop-band 'band 3'"
    )
    assert losses_of(pair_with(write_tiff, (40, 30), half_a_band, drop=("band 3",))).note is None


def test_a_large_scene_is_sampled(write_tiff: WriteTiff) -> None:
    losses = losses_of(pair_with(write_tiff, (260, 210), half_a_band))
    assert not losses.whole
    assert losses.pixels == 16 * 32**2
    assert losses.lost == pytest.approx(0.5, abs=0.05)
    assert losses.note is not None
    assert losses.note.startswith("about 50 %")


def test_ground_outside_the_swath_is_not_lost_by_bands(write_tiff: WriteTiff) -> None:
    def beside(pixels: NDArray[np.int16]) -> None:
        pixels[:, :, :10] = NODATA
        pixels[1, :4, 10:] = NODATA  # 4 of 40 rows, within the swath

    losses = losses_of(pair_with(write_tiff, (40, 30), beside))
    assert losses.lost == pytest.approx(0.1)
    assert losses.pixels == 40 * 20


def test_what_other_bands_lose_besides_is_told(write_tiff: WriteTiff) -> None:
    def spoil(pixels: NDArray[np.int16]) -> None:
        half_a_band(pixels)
        pixels[1, 30:34] = NODATA
        pixels[0].flat[-3:] = NODATA  # 0.25 %: not worth a name

    losses = losses_of(pair_with(write_tiff, (40, 30), spoil))
    assert losses.lost == pytest.approx(0.6025)
    assert [name for name, _ in losses.bands] == ["band 3", "band 2"]
    assert losses.left == pytest.approx(0.0025)


def test_a_scene_of_which_bands_leave_nothing_is_refused(write_tiff: WriteTiff) -> None:
    def in_turns(pixels: NDArray[np.int16]) -> None:
        half_a_band(pixels)
        pixels[0, pixels.shape[1] // 2 :] = NODATA

    for shape in ((40, 30), (260, 210)):
        with pytest.raises(DataError, match=r"100 % of the HSI's ground .*--drop-band 'band 1' --drop-band 'band 3'"):
            measure_losses(pair_with(write_tiff, shape, in_turns), "hs")


def test_a_complete_pixel_outside_the_sample_saves_a_scene(write_tiff: WriteTiff) -> None:
    def all_but_a_corner(pixels: NDArray[np.int16]) -> None:
        pixels[2] = NODATA
        pixels[2, :3, :3] = 1000

    assert losses_of(pair_with(write_tiff, (260, 210), all_but_a_corner)).lost == 1.0
