"""Examples: Wald's protocol by windows equals Wald's protocol on the whole; turns keep a pair a pair."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from scenefuse.simulate.wald import WaldProtocol, pair_at_reduced_resolution
from scenefuse.training.augment import noisy, turned
from scenefuse.training.resident import ResidentPair, may_reside, resident_bytes
from scenefuse.training.scenes import Example, FullScene, WaldScene, wald_sigmas_px
from tests.grid.blocks import block_mean
from tests.training.made_scenes import RATIO, made_pair

PAIR = made_pair(96)


@settings(max_examples=20)
@given(st.integers(0, 10), st.integers(0, 10))
def test_a_window_at_reduced_resolution_is_a_cut_of_the_whole(row: int, column: int) -> None:
    scene = WaldScene(name="made", source=PAIR, hs_sigmas_px=(1.3,) * 4, ms_sigmas_px=(1.3,) * 2)
    whole = pair_at_reduced_resolution(PAIR.hs, PAIR.ms, WaldProtocol(ratio=RATIO, sigma_px=1.3))
    window = Window(y0=2 * row, y1=2 * row + 8, x0=2 * column, x1=2 * column + 8)
    example = scene.read(window)
    np.testing.assert_array_equal(example.truth, whole.truth[:, *window.slices])
    np.testing.assert_allclose(example.ms, whole.ms[:, *window.slices], atol=1e-6)
    inner = example.hs[:, 2:-2, 2:-2]
    np.testing.assert_allclose(inner, whole.hs[:, *window.coarsen(2).slices], atol=1e-6)


def test_a_window_beyond_the_border_sees_the_mirror_image() -> None:
    scene = FullScene(name="made", source=PAIR, truth=PAIR.read_truth)
    example = scene.read(Window(y0=-4, y1=4, x0=8, x1=16))
    assert example.truth is not None
    np.testing.assert_array_equal(example.truth[:, :4], example.truth[:, 7:3:-1])
    np.testing.assert_array_equal(example.ms[:, :4], example.ms[:, 7:3:-1])
    np.testing.assert_array_equal(example.hs[:, :4], example.hs[:, 7:3:-1])


def test_each_bands_blur_makes_its_mtf_that_of_the_coarser_instrument() -> None:
    (fine, coarse) = wald_sigmas_px((0.3, 0.25), (1.0, 2.0), 3)
    for sigma, mtf, gsd in ((fine, 0.3, 1.0), (coarse, 0.25, 2.0)):
        own = gsd * np.sqrt(-2 * np.log(mtf)) / np.pi
        total = np.hypot(own, sigma)
        at_nyquist = np.exp(-2 * np.pi**2 * total**2 / (2 * 3 * gsd) ** 2)
        assert at_nyquist == pytest.approx(mtf)


def test_bands_with_different_blur_are_blurred_each_by_its_own() -> None:
    scene = WaldScene(name="made", source=PAIR, hs_sigmas_px=(1.0,) * 4, ms_sigmas_px=(0.8, 2.0))
    window = Window(y0=16, y1=24, x0=16, x1=24)
    for band, sigma in ((0, 0.8), (1, 2.0)):
        whole = pair_at_reduced_resolution(PAIR.hs, PAIR.ms, WaldProtocol(ratio=RATIO, sigma_px=sigma))
        np.testing.assert_allclose(scene.read(window).ms[band], whole.ms[band, *window.slices], atol=1e-6)


def test_as_many_blurs_as_bands_are_needed() -> None:
    scene = WaldScene(name="made", source=PAIR, hs_sigmas_px=(1.0,) * 3, ms_sigmas_px=(0.8, 2.0))
    with pytest.raises(DataError, match="3 blurs for 4 bands"):
        scene.read(Window(y0=16, y1=24, x0=16, x1=24))


@pytest.mark.parametrize("element", range(8))
def test_a_turned_pair_is_still_a_pair(element: int) -> None:
    example = FullScene(name="made", source=PAIR, truth=PAIR.read_truth).read(Window(y0=8, y1=24, x0=40, x1=56))
    seen = turned(example, element)
    assert seen.truth is not None
    np.testing.assert_allclose(block_mean(seen.truth, RATIO), seen.hs[:, 2:-2, 2:-2], atol=1e-6)


def test_the_eight_turns_all_differ() -> None:
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    seen = {turned(Example(hs=image, ms=image, truth=None), element).hs.tobytes() for element in range(8)}
    assert len(seen) == 8


def test_noise_has_the_power_that_was_asked_for_and_spares_the_truth() -> None:
    image = np.full((2, 200, 200), 0.5, np.float32)
    example = noisy(Example(hs=image, ms=image, truth=image), 30.0, np.random.default_rng(0))
    noise = example.hs - image
    assert 10 * np.log10(0.25 / noise.var()) == pytest.approx(30.0, abs=0.1)
    assert example.truth is image
    assert example.ms is image


def test_a_pair_in_memory_shows_the_same_pixels_and_reads_each_image_once() -> None:
    pair = made_pair(48)
    resident = ResidentPair(pair)
    for window in (Window(y0=2, y1=9, x0=4, x1=20), Window(y0=0, y1=24, x0=0, x1=24)):
        np.testing.assert_array_equal(resident.read_hs(window), pair.hs[:, *window.slices])
        np.testing.assert_array_equal(resident.read_ms(window), pair.ms[:, *window.slices])
    assert len(pair.hs_reads) == len(pair.ms_reads) == 1
    assert resident_bytes(pair, truth=True) == pair.hs.nbytes + pair.ms.nbytes + pair.truth.nbytes


def test_scenes_stay_in_files_where_half_of_the_free_memory_shared_out_does_not_hold_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8000))
    assert may_reside(4000, most_bytes=5000)
    assert not may_reside(4001, most_bytes=5000)
    assert not may_reside(3000, most_bytes=2999)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert may_reside(1000, most_bytes=5000)
    assert not may_reside(1001, most_bytes=5000)
