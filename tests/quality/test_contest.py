"""Contests: equal conditions, folds that add up, noise of the level asked for, means and spreads counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image as Picture

from scenefuse.errors import ModelError, UsageError
from scenefuse.grid.resample import degrade, degrade_reach_px
from scenefuse.grid.window import Window
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model, weightless_names
from scenefuse.quality.contest import ContestProtocol, Entry, Result, compete, enter
from scenefuse.quality.gallery import Gallery
from scenefuse.quality.methods import fuse_trial, score_part
from scenefuse.quality.table import csv_text, markdown, protocol_facts, result_record, standings
from scenefuse.quality.trial import Trial, reference_trial, wald_trial
from scenefuse.sensors.band import Band
from scenefuse.sensors.psf import psf_sigma_px
from scenefuse.sensors.sensor import find_sensor
from tests.models.test_network_model import HS_BANDS, MS_BANDS, saved
from tests.models.whole import freeze_whole, fuse_whole
from tests.quality.drawn_trial import RATIO, drawn_trial
from tests.quality.test_product_scores import Inputs


@pytest.fixture(scope="module")
def trial() -> Trial:
    return drawn_trial(16)


def entry(model: str) -> Entry:
    return Entry(model=model, label=model)


@given(folds=st.integers(1, 12), rows=st.integers(140, 300), columns=st.integers(140, 300))
def test_folds_cover_every_pixel_once(folds: int, rows: int, columns: int) -> None:
    count = np.zeros((rows, columns), int)
    for part in ContestProtocol(folds=folds).parts((rows, columns)):
        count[part.slices] += 1
    assert (count == 1).all()
    assert len(ContestProtocol(folds=folds).parts((rows, columns))) == folds


def test_folds_smaller_than_a_window_are_refused() -> None:
    with pytest.raises(UsageError, match="Give fewer --folds"):
        ContestProtocol(folds=4).parts((20, 60))


def test_an_image_smaller_than_a_window_is_scored_whole_without_ssim() -> None:
    (result,) = compete([drawn_trial(2)], [entry("bicubic")], ContestProtocol())
    assert result.pixels == (2 * RATIO) ** 2
    assert {name for name, value in result.values.items() if np.isnan(value)} == {"ssim", "uiqi"}


def test_scores_of_folds_add_up_to_those_of_the_whole(trial: Trial) -> None:
    fused = fuse_trial(trial, "sfim").fused
    (whole,) = ContestProtocol().parts((64, 64))
    first, *others = (
        score_part(fused, trial.truth, part, ratio=RATIO) for part in ContestProtocol(folds=6).parts((64, 64))
    )
    merged = first
    for sums in others:
        merged = merged.merge(sums)
    expected = score_part(fused, trial.truth, whole, ratio=RATIO).scores()
    assert merged.scores() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["bicubic", "gsa", "sfim", "mtf-glp-hs", "hysure-l2"])
def test_a_trial_fused_in_tiles_is_the_trial_fused_whole(
    trial: Trial, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenefuse.engine.in_memory.CORE_PX", 32)
    model = load_model(ModelRef(name=name, hs_bands=trial.hs_bands, ms_bands=trial.ms_bands, ratio=RATIO))
    whole = fuse_whole(model, trial.hs, trial.ms, freeze_whole(model, trial.hs, trial.ms))
    np.testing.assert_allclose(fuse_trial(trial, name).fused, whole, atol=2e-6)


def test_noise_has_the_level_asked_for_and_leaves_the_truth(trial: Trial) -> None:
    noisy = trial.noisy(15.0, seed=1)
    for clean, seen in ((trial.hs, noisy.hs), (trial.ms, noisy.ms)):
        power = np.square(clean).mean(axis=(1, 2)) / np.square(seen - clean).mean(axis=(1, 2))
        np.testing.assert_allclose(10 * np.log10(power), 15.0, atol=1.0)
    assert noisy.truth is trial.truth
    np.testing.assert_array_equal(trial.noisy(inf, seed=1).hs, trial.hs)
    assert not np.array_equal(trial.noisy(15.0, seed=2).hs, noisy.hs)


def test_noise_may_be_on_the_hsi_alone_as_in_the_robustness_table_of_s3rnet(trial: Trial) -> None:
    both, alone = trial.noisy(15.0, seed=1), trial.noisy(15.0, seed=1, on="hs")
    np.testing.assert_array_equal(alone.hs, both.hs)
    np.testing.assert_array_equal(alone.ms, trial.ms)
    protocol = ContestProtocol(snr_db=(15.0,), noise_on="hs")
    one, two = (next(compete([trial], [entry("gsa")], each)) for each in (protocol, replace(protocol, noise_on="both")))
    assert one.values["psnr_db"] > two.values["psnr_db"] + 0.5
    assert "- noise on the HSI: 15 dB" in markdown([one], protocol)
    assert protocol_facts(protocol)["noise_on"] == "hs"
    with pytest.raises(UsageError, match="noise on hs without noise"):
        ContestProtocol(noise_on="hs")


def test_every_method_meets_every_noise_seed_and_fold(trial: Trial) -> None:
    protocol = ContestProtocol(snr_db=(inf, 15.0), seeds=2, folds=2)
    results = list(compete([trial], [entry("bicubic"), entry("gsa")], protocol))
    assert len(results) == 2 * (1 + 2) * 2
    assert len({(r.method, r.snr_db, r.seed, r.fold) for r in results}) == len(results)
    mean_db = {(row.method, row.snr_db): row.mean["psnr_db"] for row in standings(results)}
    assert mean_db["gsa", inf] > mean_db["gsa", 15.0] > 0


def test_methods_are_given_the_same_noise(trial: Trial) -> None:
    first, second = compete(
        [trial], [entry("bicubic"), replace(entry("bicubic"), label="again")], ContestProtocol(snr_db=(20.0,))
    )
    assert first.values == second.values


def test_scenes_of_one_name_are_told_apart(trial: Trial) -> None:
    hs, ms, truth = (np.multiply(image, 0.5, dtype=np.float32) for image in (trial.hs, trial.ms, trial.truth))
    darker = replace(trial, hs=hs, ms=ms, truth=truth)
    shown: list[Gallery] = []
    results = list(compete([trial, darker], [entry("bicubic")], ContestProtocol(), show=shown.append))
    assert [result.scene for result in results] == ["drawn", "drawn (2)"]
    assert [gallery.scene for gallery in shown] == ["drawn", "drawn (2)"]
    text = markdown(results, ContestProtocol())
    assert "over 2 scenes" in text
    first, second = (part.splitlines()[4].split(" | ")[8] for part in text.split("\n## ")[1:])
    assert float(second) == pytest.approx(float(first) / 2, rel=1e-3), "the tables of two scenes, their RMSE"


def test_mean_and_spread_are_those_counted_by_hand() -> None:
    results = [
        Result(
            scene=f"s{number}",
            method="gsa",
            snr_db=inf,
            seed=0,
            fold=0,
            pixels=400,
            values={"psnr_db": psnr_db, "ssim": float("nan")},
            seconds=2.0,
            parameters=0,
            multiply_adds_per_pixel=5.0,
        )
        for number, psnr_db in enumerate((30.0, 32.0, 37.0))
    ]
    (row,) = standings(results)
    assert (row.mean["psnr_db"], row.count) == (33.0, 3)
    assert row.std["psnr_db"] == pytest.approx(13**0.5)
    assert row.record()["ssim"] is None
    text = markdown(results, ContestProtocol())
    assert "| gsa | none | 33 ± 3.6 | - |" in text
    assert "## s2" in text
    assert csv_text(results).splitlines()[1] == "s0,gsa,,0,0,1.0,400,30.0,,2.0,0,5.0"


def made_up(scene: str, method: str, psnr_db: float, *, snr_db: float = inf, fold: int = 0) -> Result:
    return Result(
        scene=scene, method=method, snr_db=snr_db, seed=0, fold=fold, pixels=4, values={"psnr_db": psnr_db},
        seconds=1.0, parameters=0, multiply_adds_per_pixel=5.0,
    )  # fmt: skip


def test_methods_of_a_stopped_contest_are_compared_on_what_all_of_them_finished() -> None:
    """The second scene is harder; only one method came to it."""
    results = [made_up("easy", "gsa", 40.0), made_up("easy", "sfim", 38.0), made_up("hard", "gsa", 20.0)]
    assert [(row.method, row.mean["psnr_db"], row.count) for row in standings(results)] == [
        ("gsa", 40.0, 1),
        ("sfim", 38.0, 1),
    ]
    text = markdown(results, ContestProtocol(), whole=False)
    assert "over what every method had finished" in text
    assert "| gsa | none | 20 |" in text.split("## hard")[1]
    alone = results[:1]
    assert [row.mean["psnr_db"] for row in standings(alone)] == [40.0]
    finished = [*results, made_up("hard", "sfim", 22.0)]
    assert [row.mean["psnr_db"] for row in standings(finished)] == [30.0, 30.0]


def test_levels_of_noise_are_compared_each_for_itself() -> None:
    results = [made_up("s", "gsa", 40.0), made_up("s", "sfim", 38.0), made_up("s", "gsa", 30.0, snr_db=20.0)]
    assert [(row.method, row.snr_db) for row in standings(results)] == [("gsa", inf), ("sfim", inf), ("gsa", 20.0)]
    folds = [made_up("s", "gsa", 40.0, fold=0), made_up("s", "gsa", 42.0, fold=1), made_up("t", "gsa", 10.0, fold=0)]
    assert [row.mean["psnr_db"] for row in standings(folds)] == [41.0]


def test_an_infinite_score_is_told_from_a_missing_one() -> None:
    values = {"psnr_db": inf, "ssim": float("nan"), "rmse": 0.0}
    one = Result(
        scene="s", method="gsa", snr_db=inf, seed=0, fold=0, pixels=4, values=values, seconds=1.0, parameters=0,
        multiply_adds_per_pixel=5.0,
    )  # fmt: skip
    (row,) = standings([one, one])
    for record in (row.record(), result_record(one)):
        assert record["psnr_db"] is record["ssim"] is None
        assert record["infinite"] == ["psnr_db"]
        json.dumps(record, allow_nan=False)
    assert "| gsa | none | inf | - | 0 ± 0 |" in markdown([one, one], ContestProtocol())
    header, line, *_ = csv_text([one]).splitlines()
    cells = dict(zip(header.split(","), line.split(","), strict=True))
    assert (cells["psnr_db"], cells["ssim"]) == ("inf", "")
    assert "infinite" not in cells
    (mixed,) = standings([one, replace(one, values={**values, "psnr_db": 30.0})])
    assert mixed.mean["psnr_db"] == 30.0
    assert "infinite" not in mixed.record()


def test_the_trial_of_a_pair_may_have_another_ratio_than_the_pair() -> None:
    random = np.random.default_rng(0)
    inputs = Inputs(random.random((12, 100, 66), np.float32), random.random((2, 300, 198), np.float32))
    made = wald_trial(inputs, "random", ratio=2)
    assert (made.hs.shape, made.ms.shape, made.truth.shape) == ((12, 50, 33), (2, 100, 66), (12, 100, 66))
    sigma_px = psf_sigma_px(0.3, 3)
    pixel = Window(y0=50, y1=51, x0=30, x1=31)
    around = inputs.read_ms(pixel.refine(3).grow(degrade_reach_px(3, sigma_px)))
    np.testing.assert_allclose(made.ms[:, *pixel.slices], degrade(around, 3, sigma_px), atol=1e-6)


def test_a_single_image_is_seen_through_the_named_sensor() -> None:
    sensor = find_sensor("Sentinel-2A")
    assert sensor is not None
    bands = tuple(Band(name=f"b{nm}", wavelength_nm=float(nm), fwhm_nm=10.0) for nm in range(430, 900, 10))
    reference = np.full((len(bands), 40, 40), 0.25, np.float32)
    made = reference_trial("flat", reference, bands, sensor)
    names = [band.name for band in made.ms_bands]
    assert "B03" in names
    assert "B11" not in names, "the image ends at 900 nm"
    np.testing.assert_allclose(made.ms, 0.25, rtol=1e-5)
    assert made.ratio == 4


@pytest.fixture
def network_trial() -> Trial:
    return drawn_trial(12, HS_BANDS, MS_BANDS)


def test_a_network_takes_part_with_its_weights(network_trial: Trial, tmp_path: Path) -> None:
    weights = saved(tmp_path, "aelf-t", width=8, step=8).weights
    bicubic, network = compete([network_trial], enter([("bicubic", None), ("aelf-t", weights)]), ContestProtocol())
    assert (bicubic.parameters, network.method) == (0, "aelf-t")
    assert network.parameters > 0
    assert network.multiply_adds_per_pixel > bicubic.multiply_adds_per_pixel


def test_weights_that_were_trained_again_are_read_again(network_trial: Trial, tmp_path: Path) -> None:
    counts = []
    for width in (8, 16):
        weights = saved(tmp_path, "aelf-t", width=width, step=8).weights
        counts.append(fuse_trial(network_trial, "aelf-t", weights=weights).card.parameters)
    assert counts[0] < counts[1]


def test_entries_are_refused_before_work() -> None:
    with pytest.raises(ModelError, match="without weights"):
        enter([("aelf", None)])
    with pytest.raises(UsageError, match="twice"):
        enter([("gsa", None), ("gsa", None)])
    assert [e.label for e in enter([(name, None) for name in weightless_names()])] == list(weightless_names())


def test_what_was_scored_is_told_and_a_fold_without_data_is_no_result(trial: Trial) -> None:
    truth = trial.truth.copy()
    truth[0, :40] = np.nan  # in one band; folds are rows 0 to 31 and 32 to 63
    results = list(compete([replace(trial, truth=truth)], [entry("bicubic")], ContestProtocol(folds=2)))
    assert [result.pixels for result in results] == [0, 24 * 64]
    (row,) = standings(results)
    assert (row.count, row.mean["psnr_db"]) == (1, results[1].values["psnr_db"])


def test_two_trainings_of_a_network_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    first, second = (str(saved(folder, "aelf-t", width=8, step=8).weights) for folder in folders)
    labels = [e.label for e in enter([("aelf-t", first), ("aelf-t", second), ("gsa", None)])]
    assert labels == [f"aelf-t ({first})", f"aelf-t ({second})", "gsa"]
    other = str(tmp_path / "other.safetensors")
    Path(first).with_suffix(".json").rename(Path(other).with_suffix(".json"))
    Path(first).rename(other)
    assert [e.label for e in enter([("aelf-t", other), ("aelf-t", second)])] == ["aelf-t (other)", "aelf-t (aelf-t)"]
    with pytest.raises(UsageError, match="twice"):
        enter([("aelf-t", second), ("aelf-t", second)])


def test_pictures_show_each_method_beside_the_truth(trial: Trial, tmp_path: Path) -> None:
    galleries: list[Gallery] = []
    list(compete([trial], [entry("bicubic"), entry("gsa")], ContestProtocol(snr_db=(inf, 15.0)), show=galleries.append))
    (gallery,) = galleries
    truth, bicubic, gsa = gallery.exhibits
    assert [exhibit.name for exhibit in gallery.exhibits] == ["truth", "bicubic", "gsa"]
    assert bicubic.error is not None
    assert gsa.error is not None
    assert gsa.error.mean() < bicubic.error.mean()
    row, column = gallery.points[0]
    np.testing.assert_array_equal(truth.spectra[0], trial.truth[:, row, column])
    perfect = gallery.with_method("perfect", trial.truth, trial.truth).exhibits[-1]
    assert perfect.error is not None
    assert perfect.angle_deg is not None
    assert perfect.error.max() == 0
    assert perfect.angle_deg.max() < 0.1
    for path in gallery.draw(tmp_path, "01"):
        with Picture.open(path) as picture:
            assert min(picture.size) > 300


def test_a_spectrum_is_not_drawn_through_water_vapour_without_bands() -> None:
    waves = [*np.arange(500.0, 560.0, 10.0), *np.arange(1460.0, 1520.0, 10.0)]
    trial = drawn_trial(12, hs_bands=tuple(Band(name=f"h{nm}", wavelength_nm=nm) for nm in waves))
    panel = Gallery.of(trial)._spectra().axes[0]
    (line,) = panel.get_lines()
    x, y = line.get_xdata(), line.get_ydata()
    np.testing.assert_array_equal(x, [*waves[:6], np.nan, *waves[6:]])
    assert np.isnan(y).tolist() == np.isnan(x).tolist()


def test_no_name_in_the_pictures_is_cut_off(trial: Trial) -> None:
    galleries: list[Gallery] = []
    list(compete([trial], [entry("bicubic"), entry("hysure-l2")], ContestProtocol(), show=galleries.append))
    figure = galleries[0]._images()
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    names = [text for text in figure.findobj(Text) if text.get_text() in {"truth", "bicubic", "hysure-l2", "drawn"}]
    assert len(names) == 4
    for name in names:
        box = name.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, name
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, name


def test_pixels_that_do_not_count_change_no_score(trial: Trial) -> None:
    scored = np.zeros(trial.truth.shape[1:], bool)
    scored[16:40, 16:40] = True
    other = np.where(scored, trial.truth, trial.truth + 0.3).astype(np.float32)
    entries, protocol = [entry("gsa")], ContestProtocol(snr_db=(inf,))
    (first,) = compete([replace(trial, scored=scored)], entries, protocol)
    (second,) = compete([replace(trial, scored=scored, truth=other)], entries, protocol)
    (whole,) = compete([trial], entries, protocol)
    assert first.values == second.values
    assert first.values != whole.values
    assert first.scored_share == scored.mean()
    assert "- scored of drawn: 14%" in markdown([first], protocol)
    assert "- scored of" not in markdown([whole], protocol)
    halves = list(compete([replace(trial, scored=scored)], entries, replace(protocol, folds=4)))
    assert "have none of them" not in markdown(halves, protocol)
    scored[:32] = False
    halves = list(compete([replace(trial, scored=scored)], entries, replace(protocol, folds=4)))
    assert "; 2 of 4 folds have none of them" in markdown(halves, protocol)
