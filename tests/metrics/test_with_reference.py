from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio
from skimage.metrics import structural_similarity as skimage_ssim
from torchmetrics.functional.image import (
    error_relative_global_dimensionless_synthesis,
    relative_average_spectral_error,
    spectral_angle_mapper,
    structural_similarity_index_measure,
    universal_image_quality_index,
)

from scenefuse.metrics.convention import CONVENTIONS
from scenefuse.metrics.window import CONTEXT_PX
from scenefuse.metrics.with_reference import ReferenceSums

Image = NDArray[np.float32]


def pair(bands: int = 4, rows: int = 60, columns: int = 70) -> tuple[Image, Image]:
    random = np.random.default_rng(5)
    truth = 0.2 + 0.6 * random.random((bands, rows, columns))
    truth[:, 20:40, 10:50] *= 0.4
    return (truth + 0.03 * random.standard_normal(truth.shape)).astype(np.float32), truth.astype(np.float32)


def scores(fused: Image, truth: Image, convention: str = "standard", ratio: float = 4) -> dict[str, float]:
    return ReferenceSums(ratio=ratio).add(fused, truth).scores(convention)


def tensors(fused: Image, truth: Image) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(fused).double()[None], torch.from_numpy(truth).double()[None]


def test_hand_computed_scores_of_two_pixels() -> None:
    truth = np.array([[[1.0, 3.0]], [[2.0, 2.0]]], np.float32)
    fused = np.array([[[1.0, 2.0]], [[2.0, 4.0]]], np.float32)
    result = scores(fused, truth, ratio=2)
    # mse: 0.5 and 2; peaks 3 and 2; means 2 and 2
    assert result["psnr_db"] == pytest.approx((10 * np.log10(9 / 0.5) + 10 * np.log10(4 / 2)) / 2)
    assert result["ergas"] == pytest.approx(50 * np.sqrt((0.5 / 4 + 2 / 4) / 2))
    assert result["rmse"] == pytest.approx(np.sqrt(1.25))
    assert result["rase"] == pytest.approx(100 / 2 * np.sqrt(1.25))
    angle = np.degrees(np.arccos((2 * 3 + 4 * 2) / np.sqrt(20 * 13)))
    assert result["sam_deg"] == pytest.approx(angle / 2)


def test_scores_by_band_equal_scikit_image_and_numpy() -> None:
    fused, truth = pair()
    truth[2], fused[3] = 0.0, 0.5  # a band without light has no PSNR, a flat one no correlation
    found = ReferenceSums(ratio=4, local=False).add(fused, truth).by_band()
    psnr: Callable[..., float] = peak_signal_noise_ratio
    lit = [0, 1, 3]
    expected = [psnr(truth[band], fused[band], data_range=truth[band].max()) for band in lit]
    assert found["psnr_db"][lit] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(found["psnr_db"][2])
    assert found["rmse"] == pytest.approx(np.sqrt(((fused - truth) ** 2).mean(axis=(1, 2))), rel=1e-5)
    assert found["cc"][:2] == pytest.approx([np.corrcoef(fused[b].ravel(), truth[b].ravel())[0, 1] for b in (0, 1)])
    assert np.isnan(found["cc"][2:]).all()
    assert [len(values) for values in ReferenceSums(ratio=4).by_band().values()] == [0, 0, 0]


def test_psnr_per_band_equals_scikit_image() -> None:
    fused, truth = pair()
    psnr: Callable[..., float] = peak_signal_noise_ratio
    each = [psnr(t, f, data_range=t.max()) for f, t in zip(fused, truth, strict=True)]
    assert scores(fused, truth)["psnr_db"] == pytest.approx(np.mean(each), rel=1e-6)


def test_ssim_equals_scikit_image_and_torchmetrics_inside_its_padding() -> None:
    fused, truth = pair()
    ours = scores(fused, truth)["ssim"]
    _, theirs = structural_similarity_index_measure(*tensors(fused, truth), data_range=1.0, return_full_image=True)
    inner = slice(CONTEXT_PX, -CONTEXT_PX)  # torchmetrics counts windows over made-up pixels as well
    assert ours == pytest.approx(float(theirs[..., inner, inner].mean()), abs=1e-6)
    settings_ = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    ssim: Callable[..., float] = skimage_ssim
    each = [ssim(t.astype(float), f.astype(float), **settings_) for f, t in zip(fused, truth, strict=True)]
    assert ours == pytest.approx(np.mean(each), abs=1e-6)


def test_sam_ergas_uiqi_and_rase_equal_torchmetrics() -> None:
    fused, truth = pair()
    result, (f, t) = scores(fused, truth), tensors(fused, truth)
    assert result["sam_deg"] == pytest.approx(np.degrees(float(spectral_angle_mapper(f, t))), abs=1e-6)
    assert result["ergas"] == pytest.approx(
        float(error_relative_global_dimensionless_synthesis(f, t, ratio=4)), rel=1e-6
    )
    assert result["uiqi"] == pytest.approx(float(universal_image_quality_index(f, t)), abs=1e-6)


def test_cc_equals_numpys() -> None:
    fused, truth = pair()
    each = [np.corrcoef(f.ravel(), t.ravel())[0, 1] for f, t in zip(fused, truth, strict=True)]
    assert scores(fused, truth)["cc"] == pytest.approx(np.mean(each), abs=1e-9)


@settings(max_examples=20)
@given(row=st.integers(1, 59), column=st.integers(1, 69))
def test_scores_over_tiles_equal_those_of_the_whole(row: int, column: int) -> None:
    fused, truth = pair()
    fused[2, 7, 9] = np.nan
    total = ReferenceSums(ratio=4)
    for y0, y1 in ((0, row), (row, 60)):
        for x0, x1 in ((0, column), (column, 70)):
            top, left = max(y0 - CONTEXT_PX, 0), max(x0 - CONTEXT_PX, 0)
            read = (slice(None), slice(top, y1 + CONTEXT_PX), slice(left, x1 + CONTEXT_PX))
            core = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
            total = total.merge(ReferenceSums(ratio=4).add(fused[read], truth[read], core=core))
    for convention in CONVENTIONS:
        whole = scores(fused, truth, convention)
        assert total.scores(convention) == pytest.approx(whole, rel=1e-9, abs=1e-9)


def test_masked_pixels_do_not_count() -> None:
    fused, truth = pair()
    spoilt = fused.copy()
    spoilt[:, :10] = 99.0
    mask = np.ones(fused.shape[1:], bool)
    mask[:10] = False
    masked = ReferenceSums(ratio=4).add(spoilt, truth, mask).scores()
    assert masked == pytest.approx(scores(fused[:, 10:], truth[:, 10:]), rel=1e-9)


def test_a_perfect_image_scores_perfectly() -> None:
    _, truth = pair()
    result = scores(truth, truth)
    assert (result["ssim"], result["uiqi"], result["cc"]) == pytest.approx((1, 1, 1))
    assert (result["rmse"], result["ergas"]) == (0, 0)
    assert result["sam_deg"] < 1e-5
    assert result["psnr_db"] == np.inf


def test_the_papers_variants_differ_as_their_tables_do() -> None:
    fused, truth = pair()
    smifnet, cofusion, aelf = (scores(fused, truth, name, ratio=8) for name in ("smifnet", "cofusion", "aelf"))
    rmse, mean = np.sqrt(np.mean((fused - truth) ** 2, dtype=float)), truth.mean(dtype=float)
    assert smifnet["ergas"] == pytest.approx(25 * rmse / mean, rel=1e-5)
    assert smifnet["rase"] == pytest.approx(4 * smifnet["ergas"], rel=1e-5)  # as in the paper's CAVE rows
    flat = (truth.ravel() @ fused.ravel()) / np.linalg.norm(truth) / np.linalg.norm(fused)
    assert smifnet["sam_deg"] == pytest.approx(np.degrees(np.arccos(flat)), abs=1e-2)
    assert cofusion["ergas"] == pytest.approx(2 * scores(fused, truth, ratio=8)["ergas"])
    assert aelf["rmse"] == pytest.approx(rmse * 255 / (truth.max() - truth.min()), rel=1e-5)
    assert aelf["psnr_db"] == pytest.approx(20 * np.log10(truth.max() / rmse), rel=1e-5)


def test_s3rnets_variant_scales_by_the_reference_and_adds_its_minimum_to_the_rmse() -> None:
    """The authors' code scales both images by the reference's range, and returns with rmse * (max - min) + min."""
    rng = np.random.default_rng(2)
    truth = (0.1 + 0.5 * rng.random((3, 16, 16))).astype(np.float32)
    fused = (truth + 0.02 * rng.standard_normal(truth.shape)).astype(np.float32)
    low, high = float(truth.min()), float(truth.max())
    a, b = ((image.astype(np.float64) - low) / (high - low) for image in (fused, truth))
    psnr_db = np.mean(10 * np.log10(b.max(axis=(1, 2)) ** 2 / ((a - b) ** 2).mean(axis=(1, 2))))
    scores = ReferenceSums(ratio=4).add(fused, truth).scores("s3rnet")
    assert scores["psnr_db"] == pytest.approx(psnr_db, rel=1e-6)
    assert scores["rmse"] == pytest.approx(np.sqrt(((a - b) ** 2).mean()) * (high - low) + low, rel=1e-6)


def test_a_band_of_nothing_but_zeros_has_no_psnr() -> None:
    truth = np.stack([np.full((4, 4), 0.5, np.float32), np.zeros((4, 4), np.float32)])
    for error in (0.05, 0.0):
        fused = truth + np.array([0.05, error], np.float32)[:, None, None]
        psnr_db = ReferenceSums(ratio=4).add(fused, truth).scores()["psnr_db"]
        assert psnr_db == pytest.approx(20.0, abs=1e-4)  # 20 log10(0.5 / 0.05)


def test_a_band_of_zeros_changes_no_score_that_says_nothing_of_it() -> None:
    fused, truth = pair()
    zeros = np.zeros((1, *truth.shape[1:]), np.float32)
    more, alone = scores(np.concatenate([fused, zeros]), np.concatenate([truth, zeros])), scores(fused, truth)
    for name in ("psnr_db", "ergas", "cc", "sam_deg"):
        assert more[name] == pytest.approx(alone[name], rel=1e-9)


@pytest.mark.parametrize("level", [0.1, 0.3, 0.7])
def test_a_flat_band_has_no_correlation_and_leaves_the_others_theirs(level: float) -> None:
    fused, truth = pair()
    each = [np.corrcoef(f.ravel(), t.ravel())[0, 1] for f, t in zip(fused, truth, strict=True)]
    truth[1] = level  # as a band of fill values; 0.7 in float64 leaves 1e-16 of variance
    expected = np.mean(each[:1] + each[2:])
    assert scores(fused, truth)["cc"] == pytest.approx(expected, rel=1e-6)
    halves = ReferenceSums(ratio=4).add(fused[:, :31], truth[:, :31]).add(fused[:, 31:], truth[:, 31:])
    assert halves.scores()["cc"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("own", "other", "index"), [(0.7, 0.7, 1.0), (0.25, 0.5, 0.8), (0.0, 0.0, 1.0)])
def test_the_index_of_a_whole_flat_band_is_that_of_its_means(own: float, other: float, index: float) -> None:
    fused, truth = pair(bands=1)
    alone = scores(fused, truth, "aelf")["uiqi"]
    more_fused, more_truth = (
        np.concatenate([image, np.full_like(image, level)]) for image, level in ((fused, own), (truth, other))
    )
    assert scores(more_fused, more_truth, "aelf")["uiqi"] == pytest.approx((alone + index) / 2, rel=1e-6)


def test_a_pixel_of_zeros_has_no_angle() -> None:
    fused, truth = pair()
    fused[:, 3, 5] = 0.0
    others = np.ones(truth.shape[1:], bool)
    others[3, 5] = False
    assert scores(fused, truth)["sam_deg"] == ReferenceSums(ratio=4).add(fused, truth, others).scores()["sam_deg"]


def test_the_index_of_flat_images_is_that_of_their_means() -> None:
    fused, truth = (np.full((1, 20, 20), value, np.float32) for value in (0.25, 0.5))
    assert scores(fused, truth)["uiqi"] == pytest.approx(2 * 0.25 * 0.5 / (0.25**2 + 0.5**2))
    zeros = np.zeros_like(truth)
    black = scores(zeros, zeros)
    assert (black["uiqi"], black["ssim"], black["rmse"]) == (1, 1, 0)
    assert all(np.isnan(black[name]) for name in ("psnr_db", "sam_deg", "ergas", "cc", "rase"))


def test_the_index_of_a_whole_image_is_computed_by_hand() -> None:
    truth = np.array([[[1.0, 3.0]]], np.float32)  # mean 2, variance 1
    fused = np.array([[[1.0, 5.0]]], np.float32)  # mean 3, variance 4, covariance 2
    assert scores(fused, truth, "aelf")["uiqi"] == pytest.approx(4 * 2 * 2 * 3 / ((1 + 4) * (4 + 9)))


def test_without_local_windows_all_else_is_the_same() -> None:
    rng = np.random.default_rng(0)
    fused, truth = rng.random((2, 3, 30, 30), np.float32)
    full = ReferenceSums(ratio=4).add(fused, truth).scores()
    quick = ReferenceSums(ratio=4, local=False).add(fused, truth).scores()
    assert {name for name, value in quick.items() if np.isnan(value)} == {"ssim", "uiqi"}
    assert all(quick[name] == full[name] for name in full if name not in {"ssim", "uiqi"})


def test_nothing_counted_scores_nan() -> None:
    assert all(np.isnan(value) for value in ReferenceSums(ratio=4).scores().values())


def test_rase_of_torchmetrics_is_another_formula() -> None:
    """torchmetrics averages windows of 8 px; ours is Wald's, over the image: recorded, so that none is surprised."""
    fused, truth = pair()
    theirs = float(relative_average_spectral_error(*tensors(fused, truth)))
    assert scores(fused, truth)["rase"] != pytest.approx(theirs, rel=1e-3)
