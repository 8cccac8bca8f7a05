"""What the classical methods compute: against hand-made cases, on hard input, and on real scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from scenefuse.errors import DataError, ModelError, UsageError
from scenefuse.models.cnmf import HS_HOLD, HS_STEPS, MS_HOLD, SUM_TO_ONE, held_inverse, pure_pixels, unmix
from scenefuse.models.gsa import RIDGE
from scenefuse.models.hysure_l2 import inverse_taps, noise_variances
from scenefuse.models.moments import Moments, MomentStage, moments_of, ridge_regression
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import MODELS, load_model, model_names
from scenefuse.models.state import SceneState
from tests.models.classical_pairs import (
    CLASSICAL,
    bands,
    drawn_pair,
    drawn_scene,
    gaussian_srf,
    model_for,
    observe,
    real_scene,
)
from tests.models.whole import freeze_whole, fuse_whole

GOLDEN = {
    "bicubic": (0.174079, 0.320535, 0.236052, 0.276026, 0.093940),
    "gsa": (0.227533, 0.321520, 0.235598, 0.276009, 0.097202),
    "sfim": (0.202114, 0.321404, 0.235282, 0.276009, 0.097248),
    "mtf-glp-hs": (0.202117, 0.321404, 0.235282, 0.276009, 0.097248),
    "cnmf": (0.207926, 0.321643, 0.235291, 0.276009, 0.097182),
    "hysure-l2": (0.202112, 0.321403, 0.235283, 0.276009, 0.097244),
}
"""Three pixels, mean and standard deviation of a drawn pair: a release that changes them raises NUMERICS."""


def psnr_db(fused: np.ndarray, truth: np.ndarray) -> float:
    """Mean over bands, each against its own maximum."""
    error = ((fused.astype(np.float64) - truth) ** 2).mean(axis=(1, 2))
    return float(np.mean(10 * np.log10(truth.max(axis=(1, 2)).astype(np.float64) ** 2 / error)))


def fuse(name: str, hs: np.ndarray, ms: np.ndarray, ratio: int, **known: float) -> np.ndarray:
    model = model_for(name, hs, ms, ratio)
    return fuse_whole(model, hs, ms, freeze_whole(model, hs, ms, **known))


@pytest.mark.parametrize("dark", ["hs", "ms"])
def test_an_image_that_is_nowhere_positive_has_no_endmembers(dark: str) -> None:
    hs, ms = drawn_pair(4, coarse_side=12, hs_bands=6, ms_bands=2)
    hs, ms = (hs - hs.max(), ms) if dark == "hs" else (hs, ms - ms.max())
    with pytest.raises(DataError, match="nowhere positive"):
        fuse("cnmf", hs, ms, 4)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize(("ratio", "hs_bands", "ms_bands"), [(2, 9, 2), (5, 285, 4), (32, 6, 1)])
def test_odd_shapes_of_pair_give_finite_results(name: str, ratio: int, hs_bands: int, ms_bands: int) -> None:
    hs, ms = drawn_pair(ratio, coarse_side=8 if ratio == 32 else 12, hs_bands=hs_bands, ms_bands=ms_bands)
    fused = fuse(name, hs, ms, ratio)
    assert fused.shape == (hs_bands, *ms.shape[1:])
    assert fused.dtype == np.float32
    assert np.isfinite(fused).all()
    assert np.abs(fused).max() < 2


@pytest.mark.parametrize("name", CLASSICAL)
def test_constant_dark_and_repeated_bands_do_no_harm(name: str) -> None:
    hs, ms = (image.copy() for image in drawn_pair(4, coarse_side=20))
    hs[:, 4:7, 4:7], ms[:, 16:28, 16:28] = 0.0, 0.0
    hs[3], hs[5], ms[2] = 0.25, 0.0, ms[1]
    fused = fuse(name, hs, ms, 4)
    assert np.isfinite(fused).all()
    np.testing.assert_allclose(fused[3, 40:, 40:], 0.25, atol=0.1 if name == "cnmf" else 2e-3)  # mixtures are not flat
    assert np.abs(fused[5]).max() < 2e-3
    assert -0.3 < fused.min() < fused.max() < 1.3


@pytest.mark.parametrize("name", [name for name in CLASSICAL if name != "bicubic"])
def test_every_method_beats_bicubic_on_a_drawn_scene(name: str) -> None:
    truth = drawn_scene(96)
    hs, ms = drawn_pair(4, coarse_side=24)
    assert psnr_db(fuse(name, hs, ms, 4), truth) > psnr_db(fuse("bicubic", hs, ms, 4), truth) + 3


def test_glp_recovers_a_scene_that_is_linear_in_the_msi() -> None:
    mixing = np.random.default_rng(1).random((9, 3))
    truth = np.einsum("bj,jyx->byx", mixing, drawn_scene(80, 3)).astype(np.float32)
    srf = np.kron(np.eye(3), np.ones(3)) / 3
    hs, ms = observe(truth, 4, 2.0, srf)
    assert psnr_db(fuse("mtf-glp-hs", hs, ms, 4, psf_sigma_px=2.0), truth) > 55


@pytest.mark.parametrize("name", CLASSICAL)
def test_no_data_stays_where_it_is(name: str) -> None:
    hs, ms = (image.copy() for image in drawn_pair(3, coarse_side=24))
    hs[2, 5, 6], ms[1, 40, 50] = np.nan, np.nan
    fused = fuse(name, hs, ms, 3)
    holes = np.isnan(fused)
    expected = np.zeros(ms.shape[1:], bool)
    expected[15:18, 18:21] = expected[40, 50] = True
    assert (holes == expected).all()


@pytest.mark.parametrize("name", CLASSICAL)
def test_values_are_the_golden_ones(name: str) -> None:
    fused = fuse(name, *drawn_pair(4, coarse_side=20), 4)
    found = [fused[0, 0, 0], fused[5, 7, 9], fused[11, 40, 41], fused.mean(), fused.std()]
    assert [float(value) for value in found] == pytest.approx(GOLDEN[name], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", CLASSICAL)
def test_freezing_and_fusing_again_gives_the_same_bits(name: str) -> None:
    torch.set_num_threads(1)
    hs, ms = drawn_pair(4, coarse_side=20)
    model = model_for(name, hs, ms, 4)
    first, second = (freeze_whole(model, hs, ms) for _ in range(2))
    assert first.sha256 == second.sha256
    assert np.array_equal(fuse_whole(model, hs, ms, first), fuse_whole(model, hs, ms, second))


@pytest.mark.parametrize("name", CLASSICAL)
def test_results_do_not_depend_on_signs_that_a_library_chooses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A singular or an eigenvector is as good with the other sign, and processors differ in which they have."""
    hs, ms = drawn_pair(4, coarse_side=20)
    before = fuse(name, hs, ms, 4)
    signs = np.where(np.arange(1000) % 3, -1.0, 1.0)
    svd, eigh, qr = np.linalg.svd, np.linalg.eigh, np.linalg.qr

    def other_svd(matrix: np.ndarray, *, full_matrices: bool = True) -> tuple[np.ndarray, ...]:
        u, values, v = svd(matrix, full_matrices=full_matrices)
        return u * signs[: u.shape[1]], values, v * signs[: len(v), None]

    def other_eigh(matrix: np.ndarray) -> tuple[np.ndarray, ...]:
        values, vectors = eigh(matrix)
        return values, vectors * signs[: len(values)]

    def other_qr(matrix: np.ndarray) -> tuple[np.ndarray, ...]:
        q, r = qr(matrix)
        return q * signs[: q.shape[1]], r * signs[: len(r), None]

    for function, other in (("svd", other_svd), ("eigh", other_eigh), ("qr", other_qr)):
        monkeypatch.setattr(np.linalg, function, other)
    np.testing.assert_allclose(fuse(name, hs, ms, 4), before, atol=1e-5)


def test_pure_pixels_are_the_corners_of_a_mixture() -> None:
    random = np.random.default_rng(2)
    corners = random.random((30, 4))
    abundances = random.dirichlet(np.ones(4), 500).T
    abundances[:, [100, 200, 300, 400]] = np.eye(4)
    found = pure_pixels(corners @ abundances, 6)
    assert found.shape == (30, 4)  # a fifth would lie in the span of these
    order = [int(np.abs(corners - column[:, None]).sum(axis=0).argmin()) for column in found.T]
    np.testing.assert_array_equal(found, (corners @ abundances)[:, [100, 200, 300, 400]][:, order])
    assert sorted(order) == [0, 1, 2, 3]


def test_sfim_divides_by_a_twentieth_of_the_bands_mean_at_least() -> None:
    hs, ms = bands(2, "h"), bands(2, "m")
    (stage,) = load_model(ModelRef(name="sfim", hs_bands=hs, ms_bands=ms, ratio=4)).stages()
    assert isinstance(stage, MomentStage)
    means = np.array([0.2, -0.1])
    found = stage.conclusion(Moments(count=99, hs_mean=means, ms_mean=means, covariance=np.eye(4)), SceneState())
    np.testing.assert_allclose(found["sfim/floors"], [0.01, 1e-4])


def test_cnmf_keeps_what_its_endmembers_cannot_show() -> None:
    spectrum = torch.tensor([0.2, 0.3, 0.4])
    found = {"endmembers": np.array([[1.0], [0.0], [0.0]]), "ms_endmembers": np.array([[1.0], [1.0]])}
    arrays = {
        **found,
        "inverse": held_inverse(found["endmembers"], HS_HOLD),
        "ms_inverse": held_inverse(found["ms_endmembers"], MS_HOLD),
    }
    state = SceneState(arrays={f"cnmf/{name}": value for name, value in arrays.items()}, facts={"psf_sigma_px": 1.5})
    model = load_model(ModelRef(name="cnmf", hs_bands=bands(3, "h"), ms_bands=bands(2, "m"), ratio=4))
    fused = model.fuse(spectrum[None, :, None, None].expand(1, 3, 20, 20), torch.full((1, 2, 64, 64), 0.5), state)
    inside = fused[0, :, 16:-16, 16:-16]
    torch.testing.assert_close(inside, spectrum[:, None, None].expand_as(inside), atol=1e-5, rtol=0)


def unmixed(pixels: NDArray[np.float64], endmembers: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Abundances (p, pixel) of pixels (band, pixel), from even ones, as the HSI's are found."""
    count = endmembers.shape[1]
    start = torch.full((1, count, 1, pixels.shape[1]), 1 / count, dtype=torch.float64)
    image, spectra, inverse = map(
        torch.from_numpy, (pixels[None, :, None], endmembers, held_inverse(endmembers, HS_HOLD))
    )
    return np.asarray(unmix(image, spectra, inverse, start, steps, hold=HS_HOLD)[0, :, 0])


def test_unmixing_ends_at_the_non_negative_least_squares() -> None:
    random = np.random.default_rng(0)
    endmembers = random.random((12, 5))
    pixels = endmembers @ random.random((5, 40)) * random.random(40) + 0.1 * random.standard_normal((12, 40))
    pixels = pixels.clip(min=0.0)  # as they are solved for: negative reflectance counts as 0
    total = SUM_TO_ONE * endmembers.mean() * np.sqrt(12)  # the equation that they sum to 1, beside the bands
    system = np.vstack([endmembers, np.full(5, total)])
    best = np.array([nnls(system, np.append(pixel, total))[0] for pixel in pixels.T]).T
    assert (best == 0).any()
    np.testing.assert_allclose(unmixed(pixels, endmembers, 2000), best, atol=1e-6)


def test_the_steps_of_cnmf_suffice_for_the_hsi() -> None:
    random = np.random.default_rng(1)
    endmembers = random.random((60, 8))
    mixed = random.dirichlet(np.full(8, 0.3), 500).T
    assert np.abs(unmixed(endmembers @ mixed, endmembers, HS_STEPS) - mixed).mean() < 1e-5


def test_the_noise_of_a_band_is_what_a_regression_on_the_others_leaves() -> None:
    random = np.random.default_rng(0)
    pixels = random.standard_normal((80, 2)) @ random.standard_normal((2, 5)) + 0.1 * random.standard_normal((80, 5))
    pixels -= pixels.mean(axis=0)
    left = [np.linalg.lstsq(np.delete(pixels, band, axis=1), pixels[:, band], rcond=None)[1][0] for band in range(5)]
    moments = Moments(count=80, hs_mean=np.zeros(5), ms_mean=np.zeros(0), covariance=np.cov(pixels.T, bias=True))
    np.testing.assert_allclose(noise_variances(moments), np.array(left) / (80 - 5), rtol=1e-4)


def test_an_inverse_filter_keeps_a_constant_and_undoes_most_of_the_blur() -> None:
    blur = np.array([0.1, 0.8, 0.1])
    taps = inverse_taps(blur, 0.03)
    assert taps.sum() == pytest.approx(1.0)
    undone = np.convolve(taps, blur)
    assert np.abs(np.delete(undone, len(undone) // 2)).max() < 0.03
    assert undone.max() == pytest.approx(1.0, abs=0.03)


def test_moments_are_those_of_numpy_however_far_the_sample_lies_from_the_fill_spectra() -> None:
    values = np.random.default_rng(0).random((50, 5))
    state = SceneState(arrays={"hs_mean": np.array([0.1, 0.9, 0.3]), "ms_mean": np.array([0.2, 0.0])})
    away = values - np.concatenate([state.arrays["hs_mean"], state.arrays["ms_mean"]])
    found = moments_of({"count": np.array(50.0), "sum": away.sum(axis=0), "products": away.T @ away}, state)
    np.testing.assert_allclose(found.covariance, np.cov(values.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(np.concatenate([found.hs_mean, found.ms_mean]), values.mean(axis=0))


def test_ridge_regression_equals_least_squares_without_a_ridge() -> None:
    random = np.random.default_rng(0)
    x, noise = random.standard_normal((500, 4)) * [1, 10, 0.1, 3], random.standard_normal((500, 2)) * 0.1
    y = x @ random.standard_normal((4, 2)) + noise
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.lstsq(x, y, rcond=None)[0].T
    np.testing.assert_allclose(ridge_regression(x.T @ x, y.T @ x, 0.0), expected, rtol=1e-8)


def test_a_ridge_bounds_the_coefficients_of_predictors_that_repeat_each_other() -> None:
    variance, cross, ridge = 4.0, 2.0, 0.5
    found = ridge_regression(np.full((2, 2), variance), np.full((1, 2), cross), ridge)
    np.testing.assert_allclose(found, cross / (variance * (2 + ridge)))


def test_gsa_groups_a_band_with_the_one_that_it_follows_most_closely_downwards_too() -> None:
    hs, ms = bands(2, "h"), bands(2, "m")
    (stage,) = load_model(ModelRef(name="gsa", hs_bands=hs, ms_bands=ms, ratio=4)).stages()
    assert isinstance(stage, MomentStage)
    covariance = np.eye(4)  # of two HSI bands and two MSI bands
    covariance[0, 2:] = covariance[2:, 0] = -0.9, 0.3
    covariance[1, 2:] = covariance[2:, 1] = 0.2, 0.8
    found = stage.conclusion(
        Moments(count=99, hs_mean=np.zeros(2), ms_mean=np.zeros(2), covariance=covariance), SceneState()
    )
    np.testing.assert_allclose(found["gsa/gains"], np.diag([(1 + RIDGE) / -0.9, (1 + RIDGE) / 0.8]))


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="bicubic"):
        load_model(ModelRef(name="magic", hs_bands=bands(3, "h"), ms_bands=bands(2, "m"), ratio=4))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"options": {"endmembres": 3}}, UsageError),
        ({"options": {"endmembers": "many"}}, UsageError),
        ({"weights": "w.safetensors"}, UsageError),
        ({"weights_sha256": "00"}, UsageError),
        ({"ratio": 7}, ModelError),
        ({"hs_bands": ()}, ModelError),
    ],
)
def test_a_wrong_recipe_is_refused(changes: dict[str, object], error: type[Exception]) -> None:
    recipe = {"name": "cnmf", "hs_bands": bands(3, "h"), "ms_bands": bands(2, "m"), "ratio": 4, **changes}
    with pytest.raises(error):
        load_model(ModelRef(**recipe))  # type: ignore[arg-type] # the parametrisation is wrong on purpose


def test_options_change_the_card_and_the_numbers() -> None:
    hs, ms = drawn_pair(4, coarse_side=20)
    recipe = {"name": "cnmf", "hs_bands": bands(12, "h"), "ms_bands": bands(4, "m"), "ratio": 4}
    model = load_model(ModelRef(**recipe, options={"endmembers": 3}))  # type: ignore[arg-type] # one dict for two
    assert model.card.options == {"endmembers": 3}
    assert freeze_whole(model, hs, ms).arrays["cnmf/endmembers"].shape == (12, 3)


def test_every_method_is_registered_and_its_card_agrees() -> None:
    assert set(CLASSICAL) <= set(MODELS) <= set(model_names())
    hs, ms = drawn_pair(4, coarse_side=20)
    for name in CLASSICAL:
        card = model_for(name, hs, ms, 4).card
        assert (card.name, card.ratio, card.parameters, card.weights_sha256) == (name, 4, 0, None)
        assert card.multiply_adds_per_pixel > 0 < card.activation_bytes_per_pixel


def test_a_pair_that_is_not_the_cards_is_refused() -> None:
    hs, ms = drawn_pair(4, coarse_side=20)
    model = model_for("gsa", hs, ms, 4)
    with pytest.raises(DataError, match="ratio 4"):
        freeze_whole(model, hs, ms[:, :-1])


@pytest.mark.slow
def test_the_order_of_methods_on_jasper_ridge(test_data: Path) -> None:
    truth, wavelength_nm = real_scene(test_data, "jasper")
    hs, ms = observe(truth, 4, 2.0, gaussian_srf(wavelength_nm))
    score = {name: psnr_db(fuse(name, hs, ms, 4), truth) for name in CLASSICAL}
    gain = {name: score[name] - score["bicubic"] for name in CLASSICAL}
    assert gain["gsa"] > 6
    assert gain["cnmf"] > 9.5
    assert min(gain["mtf-glp-hs"], gain["sfim"]) > 11.5
    assert gain["hysure-l2"] > 12.5
    assert max(score, key=score.__getitem__) == "hysure-l2"
