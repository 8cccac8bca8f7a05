from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import spectral_distortion_index

from scenefuse.metrics.seams import SeamSums
from scenefuse.metrics.window import CONTEXT_PX, local_statistics, whole_windows
from scenefuse.metrics.without_reference import QnrSums, seen_by_ms


def images() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(2)
    base = 0.1 + random.random((1, 80, 80))
    fused = (base * np.linspace(0.5, 1.5, 5)[:, None, None] + 0.2 * random.random((5, 80, 80))).astype(np.float32)
    ms = (base * np.array([0.8, 1.1])[:, None, None] + 0.1 * random.random((2, 80, 80))).astype(np.float32)
    hs = fused.reshape(5, 20, 4, 20, 4).mean(axis=(2, 4))
    low = ms.reshape(2, 20, 4, 20, 4).mean(axis=(2, 4))
    return fused, ms, hs, low


def test_d_lambda_equals_torchmetrics() -> None:
    fused, ms, hs, low = images()
    ours = QnrSums.of(5).add_fine(fused, ms).add_coarse(hs, low).scores()["d_lambda"]
    theirs = spectral_distortion_index(torch.from_numpy(fused).double()[None], torch.from_numpy(hs).double()[None])
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_d_s_and_qnr_follow_their_formulas() -> None:
    fused, ms, hs, low = images()
    result = QnrSums.of(5).add_fine(fused, ms).add_coarse(hs, low).scores()

    def quality(one: np.ndarray, other: np.ndarray) -> float:
        windows = whole_windows(np.ones(one.shape, bool), (slice(None), slice(None)))
        return float(local_statistics(one.astype(float), other.astype(float)).uiqi()[windows].mean())

    expected = np.mean([abs(quality(fused[i], ms[j]) - quality(hs[i], low[j])) for i in range(5) for j in range(2)])
    assert result["d_s"] == pytest.approx(expected)
    assert result["qnr"] == pytest.approx((1 - result["d_lambda"]) * (1 - result["d_s"]))


def test_qnr_over_tiles_equals_that_of_the_whole() -> None:
    fused, ms, hs, low = images()
    whole = QnrSums.of(5).add_fine(fused, ms).add_coarse(hs, low)
    tiled = QnrSums.of(5).add_coarse(hs, low)
    top = slice(0, 33 + CONTEXT_PX)
    tiled = tiled.add_fine(fused[:, top], ms[:, top], core=(slice(0, 33), slice(None)))
    below = slice(33 - CONTEXT_PX, None)
    core = (slice(CONTEXT_PX, None), slice(None))
    tiled = tiled.merge(QnrSums.of(5).add_fine(fused[:, below], ms[:, below], core=core))
    assert tiled.scores() == pytest.approx(whole.scores(), abs=1e-9)


def test_one_band_alone_has_no_spectral_distortion() -> None:
    fused, ms, hs, low = images()
    result = QnrSums.of(1).add_fine(fused[:1], ms).add_coarse(hs[:1], low).scores()
    assert result["d_lambda"] == 0
    assert result["qnr"] == pytest.approx(1 - result["d_s"])


def test_many_bands_are_thinned_evenly_with_both_ends() -> None:
    chosen = QnrSums.of(200).hs_bands
    assert (len(chosen), chosen[0], chosen[-1]) == (16, 0, 199)


def test_the_msi_sees_a_weighted_sum() -> None:
    fused = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    seen = seen_by_ms(fused, np.array([[0.25, 0.75]]), gain=np.array([2.0]), offset=np.array([0.5]))
    np.testing.assert_allclose(seen[0], 2 * (0.25 * fused[0] + 0.75 * fused[1]) + 0.5)


def test_seams_of_equal_tiles_are_zero() -> None:
    tile = np.ones((3, 4, 5), np.float32)
    assert SeamSums().add(tile, tile).scores() == {"seam_rms": 0.0, "seam_p999": 0.0, "seam_max": 0.0}


def test_seams_equal_numpys_percentile_and_add_up() -> None:
    random = np.random.default_rng(0)
    one, other = (random.standard_normal((3, 50, 40)).astype(np.float32) for _ in range(2))
    difference = np.abs(one.astype(float) - other)
    first, second = SeamSums().add(one[:, :20], other[:, :20]), SeamSums().add(one[:, 20:], other[:, 20:])
    result = first.merge(second).scores()
    assert second.merge(first).scores() == pytest.approx(result)
    assert result["seam_rms"] == pytest.approx(np.sqrt((difference**2).mean()))
    assert result["seam_p999"] == pytest.approx(np.quantile(difference, 0.999), rel=0.025)
    assert result["seam_max"] == difference.max()
