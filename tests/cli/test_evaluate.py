"""`scenefuse evaluate`: methods on pairs, on a truth, on one image; tables and pictures; what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.grid.window import Window
from scenefuse.metrics.with_reference import ReferenceSums
from scenefuse.models.architectures import build_model
from scenefuse.models.shelf import shelved
from scenefuse.models.weights import WeightsCard, save_weights
from scenefuse.pipeline.contest import Arena, evaluate_methods
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.opening import open_pair
from scenefuse.pipeline.shelve import shelve
from scenefuse.product.reading import open_product
from scenefuse.quality.contest import ContestProtocol, Result, enter
from scenefuse.quality.trial import Trial
from tests.cli import scenes
from tests.cli.command import Command, assert_explained, interrupt_at

Pair = tuple[Path, Path]


def test_methods_on_a_pair_are_scored_at_reduced_resolution(scenefuse: Command, pair: Pair) -> None:
    ended = scenefuse("evaluate", *pair, "--methods", "bicubic,gsa", "--model", "sfim", "--no-register", "--json")
    assert ended.code == 0, ended.stderr
    scores = {entry["name"]: entry for entry in ended.document["scores"]}
    assert list(scores) == ["bicubic", "gsa", "sfim"]
    assert scores["gsa"]["psnr_db"] > scores["bicubic"]["psnr_db"]
    assert scores["gsa"]["seconds"] > 0
    assert ended.document["convention"] == "standard"


def test_tables_and_pictures_are_written(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    noise = ("--snr-db", "inf", "--snr-db", "15", "--seeds", "2", "--ratio", "2")
    ended = scenefuse("evaluate", *pair, "--methods", "bicubic,gsa", "--no-register", *noise, "--out", out)
    assert ended.code == 0, ended.stderr
    assert "±" in ended.stdout
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert len(rows) == 2 * (1 + 2)
    document = json.loads((out / "results.json").read_text())
    assert document["protocol"]["ratio"] == 2
    assert len(document["results"]) == len(rows)
    table = (out / "results.md").read_text()
    for picture in out.glob("*.png"):
        assert f"({picture.name})" in table
    assert len(list(out.glob("*.png"))) == 2


def test_a_pair_with_a_truth_is_scored_as_it_is(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    cube = scenes.hs_cube().repeat(scenes.RATIO, axis=1).repeat(scenes.RATIO, axis=2)
    gains = np.linspace(0.6, 1.4, len(scenes.HS_NM), dtype=np.float32)[:, np.newaxis, np.newaxis]
    truth = scenes.write_tif(tmp_path / "truth.tif", scenes.ground() * gains, gsd_m=10.0, wavelengths_nm=scenes.HS_NM)
    call = ("evaluate", *pair, "--truth", truth, "--model", "gsa", "--no-register", "--json")
    ended = scenefuse(*call, "--out", tmp_path / "scores")
    assert ended.code == 0, ended.stderr
    assert ended.document["protocol"]["mtf_nyquist"] is None
    assert "blur" not in (tmp_path / "scores" / "results.md").read_text()
    assert_explained(scenefuse(*call, "--mtf", "0.2"), 2, "Leave out --mtf, or --truth")
    (score,) = ended.document["scores"]
    blocks = ReferenceSums(ratio=3).add(cube, scenes.ground() * gains).scores()
    assert score["psnr_db"] > blocks["psnr_db"]


@pytest.mark.parametrize("with_truth", [False, True])
def test_of_a_large_scene_no_more_is_held_than_the_bound_says(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_truth: bool
) -> None:
    shown = np.stack([scenes.ground()] * len(scenes.HS_NM))
    truth = scenes.write_tif(tmp_path / "truth.tif", shown, gsd_m=10.0, wavelengths_nm=scenes.HS_NM)
    held: list[int] = []

    def drawn(trials: Iterable[Trial], *_: object, **__: object) -> Iterator[Result]:
        held.extend(made.hs.size + made.ms.size + made.truth.size for made in trials)
        return iter(())

    monkeypatch.setattr("scenefuse.pipeline.contest.compete", drawn)
    most = shown.size // 4
    monkeypatch.setattr("scenefuse.quality.trial.MOST_VALUES", most)
    arena = Arena(
        pairs=((str(pair[0]), str(pair[1])),),
        truths=(str(truth),) if with_truth else (),
        config=RunConfig(register=False),
    )
    evaluate_methods(arena, enter([("bicubic", None)]), ContestProtocol())
    assert 0 < held[0] <= most


def test_one_image_is_its_own_truth(scenefuse: Command, pair: Pair) -> None:
    arguments = ("--ms-sensor", "Sentinel-2A", "--methods", "all", "--ratio", "2", "--json")
    ended = scenefuse("evaluate", pair[0], *arguments)
    assert ended.code == 0, ended.stderr
    assert len(ended.document["scores"]) == 6
    assert {result["scene"] for result in ended.document["results"]} == {"hs"}


def test_methods_meet_on_all_pairs_of_an_archive(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    catalogue = scenes.archive_of(pair, tmp_path / "archive")
    ended = scenefuse("evaluate", "--catalog", catalogue, "--model", "bicubic", "--no-register", "--json")
    assert ended.code == 0, ended.stderr
    assert ended.document["scores"][0]["count"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "nothing to score"),
        (("{hs}", "--model", "gsa"), 2, "pairs are HS MS"),
        (("{hs}", "{ms}", "--model", "gsa", "--reference", "truth.tif"), 2, "Give --truth RASTER"),
        (("product", "--folds", "3"), 2, "Give --model or --methods"),
        (("product", "--max-cloud", "0.1"), 2, "--max-cloud without a method"),
        (("product", "--drop-band", "B1"), 2, "--drop-band without a method"),
        (("{hs}", "{ms}", "--model", "gsa", "--since", "2024-01-01"), 2, "--since without --catalog"),
        (("{hs}", "{ms}", "--model", "gsa", "--min-overlap", "0.5"), 2, "--min-overlap without --catalog"),
        (("{hs}", "--ms-sensor", "Sentinel-2A", "--model", "gsa", "--hs-collection", "x"), 2, "without --catalog"),
        (("{hs}", "--ms-sensor", "Sentinel-2A", "--model", "gsa", "--ms-scale", "2"), 2, "--ms-scale with --ms-sensor"),
        (
            ("{hs}", "--ms-sensor", "Sentinel-2A", "--model", "gsa", "--drop-ms-band", "B8"),
            2,
            "--drop-ms-band with --ms-",
        ),
        (("product", "--hs", "{hs}"), 2, "only one of --hs and --ms"),
        (("product", "product", "--hs", "{hs}", "--ms", "{ms}"), 2, "Give one product"),
        (("product", "--hs", "{hs}", "--ms", "{ms}", "--reference", "truth.tif"), 2, "against one of the two"),
        (("{hs}", "{ms}", "--model", "gsa", "--ms", "{ms}"), 2, "Give HS MS as arguments"),
        (("product", "--convention", "aelf"), 2, "Give --reference"),
        (("{hs}", "{ms}", "--model", "gsaa"), 2, "Did you mean 'gsa'"),
        (("{hs}", "{ms}", "--model", "aelf"), 4, "untrained network"),
        (("{hs}", "{ms}", "--model", "aelf="), 2, "aelf-t=FILE"),
        (("{hs}", "{ms}", "--model", "gsa", "--model", "gsa"), 2, "twice"),
        (("{hs}", "{ms}", "--model", "gsa", "--seeds", "3"), 2, "every draw would be the same"),
        (("{hs}", "{ms}", "--model", "gsa", "--noise-on", "hs"), 2, "noise on hs without noise"),
        (("product", "--noise-on", "hs"), 2, "--noise-on without a method"),
        (("{hs}", "{ms}", "--model", "gsa", "--snr-db=-inf"), 2, "a noise level of -inf dB"),
        (("{hs}", "{ms}", "--model", "gsa", "--snr-db", "30", "--snr-db", "30"), 2, "30 dB is given twice"),
        (("{hs}", "{ms}", "--model", "gsa", "--ratio", "7"), 2, "no grid has it"),
        (("{hs}", "{ms}", "--model", "gsa", "--ratio", "24"), 4, "has 20 x 20 coarse pixels, at ratio 24"),
        (("{hs}", "{ms}", "--model", "gsa", "--mtf", "1.5"), 2, "between 0 and 1"),
        (("{hs}", "{ms}", "--model", "gsa", "--folds", "400"), 2, "fewer --folds"),
        (("{hs}", "{ms}", "--model", "gsa", "--truth", "a.tif", "--truth", "b.tif"), 2, "2 truths for 1 pair:"),
        (("{hs}", "--ms-sensor", "Sentinel-2Q", "--model", "gsa"), 2, "Did you mean"),
        (("{hs}", "--ms-sensor", "EnMAP", "--model", "gsa"), 2, "EnMAP is hyperspectral"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_with_the_reason(
    scenefuse: Command, pair: Pair, arguments: tuple[str, ...], code: int, said: str
) -> None:
    places = dict(zip(("hs", "ms"), map(str, pair), strict=True))
    ended = scenefuse("evaluate", *(argument.format(**places) for argument in arguments), "--no-register", "--json")
    assert_explained(ended, code, said)


@pytest.mark.slow
def test_a_network_is_trained_by_the_cpus_recipe_and_enters_a_comparison(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    images = zip(("hs.tif", "ms.tif"), scenes.enlarged(4), (scenes.write_hs, scenes.write_ms), strict=True)
    large = [write(tmp_path / name, cube) for name, cube, write in images]
    small = ("--set", "width=8", "--set", "step=8", "--iterations", "1", "--no-register")
    arguments = ("--model", "aelf-t", "--recipe-name", "cpu", *small, "--out", tmp_path, "--json")
    trained = scenefuse("train", *large, *arguments)
    assert trained.code == 0, trained.stderr
    weights = Path(trained.document["weights"])
    assert json.loads(weights.with_suffix(".json").read_text())["training"]["recipe"]["patch_px"] == 24
    ended = scenefuse("evaluate", *pair, "--model", f"aelf-t={weights}", "--no-register", "--json")
    assert ended.code == 0, ended.stderr
    assert ended.document["scores"][0]["parameters"] > 0
    assert ended.document["results"][0]["scored_share"] == 1
    ended = scenefuse("evaluate", *large, "--model", f"aelf-t={weights}", "--model", "gsa", "--no-register", "--json")
    assert ended.code == 0, ended.stderr
    assert "no network has learnt" in ended.stderr
    card = json.loads(weights.with_suffix(".json").read_text())["training"]["scenes"][0]
    truth_px = (80 // 3 * 3) ** 2
    shares = [result["scored_share"] for result in ended.document["results"]]
    assert shares == pytest.approx([card["held_out_px"] / truth_px] * 2)


def test_a_comparison_finds_weights_on_the_shelf_as_fuse_does(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    cube = open_pair(*pair)
    hs, ms = cube.hs_bands, cube.ms_bands
    network = build_model("aelf-t", hs_bands=len(hs), ms_bands=len(ms), ratio=scenes.RATIO, width=8, step=8)
    card = WeightsCard(
        architecture="aelf-t",
        options={"width": 8, "step": 8},
        hs_bands=hs,
        ms_bands=ms,
        ratio=scenes.RATIO,
        training={},
        licence="Apache-2.0",
    )
    save_weights(tmp_path / "w.safetensors", network, card)
    shelve(tmp_path / "w.safetensors", "drawn")
    scores = []
    for text in (f"aelf-t={tmp_path / 'w.safetensors'}", "aelf-t=drawn", "aelf-t=drawn@1", "aelf-t"):
        ended = scenefuse("evaluate", *pair, "--model", text, "--no-register", "--json")
        assert ended.code == 0, ended.stderr
        scores.append(ended.document["scores"][0]["psnr_db"])
    assert scores == [scores[0]] * 4
    listed = {record["name"]: record["weights"] for record in scenefuse("models", "--json").document["models"]}
    assert listed["aelf-t"] == ["drawn@1", *(entry.label for entry in shelved() if entry.name != "drawn")]
    assert listed["aelf"] == listed["gsa"] == []


@pytest.fixture(scope="module")
def product(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product of the good pair; read only."""
    config = RunConfig(model="sfim", register=False, format=("zarr",))
    return fuse(*pair, out=tmp_path_factory.mktemp("products"), config=config, lane=InProcessLane()).folder


def test_a_product_that_cannot_be_scored_costs_the_others_nothing(
    scenefuse: Command, product: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    ended = scenefuse("evaluate", product, tmp_path / "empty", product, "--json")
    assert ended.code == 3, ended.stderr
    assert [entry["name"] for entry in ended.document["scores"]] == [product.name] * 2
    (failure,) = ended.document["failures"]
    assert (failure["product"], failure["kind"]) == (str(tmp_path / "empty"), "data")
    shown = scenefuse("evaluate", product, tmp_path / "empty")
    assert shown.code == 3
    assert "qnr" in shown.stdout
    assert f"Failed: {tmp_path / 'empty'} (data)" in shown.stdout
    assert_explained(scenefuse("evaluate", tmp_path / "empty", "--json"), 4, "empty")


def test_a_product_whose_scenes_have_moved_is_scored_where_they_are_now(
    scenefuse: Command, product: Path, pair: Pair, tmp_path: Path
) -> None:
    moved = [Path(shutil.copy2(path, tmp_path / path.name)) for path in pair]
    folder = Path(shutil.copytree(product, tmp_path / product.name))
    run = json.loads((folder / "run.json").read_bytes())
    run["hrefs"] = {role: f"{tmp_path}/gone/{role}.tif" for role in run["hrefs"]}
    (folder / "run.json").write_text(json.dumps(run))
    assert_explained(scenefuse("evaluate", folder, "--json"), 4, "--hs and --ms")
    ended = scenefuse("evaluate", folder, "--hs", moved[0], "--ms", moved[1], "--json")
    assert ended.code == 0, ended.stderr
    assert ended.document["scores"] == scenefuse("evaluate", product, "--json").document["scores"]
    scenes.write_hs(moved[0], scenes.hs_cube() + np.float32(0.01))
    assert_explained(scenefuse("evaluate", folder, "--hs", moved[0], "--ms", moved[1], "--json"), 5, "inputs hsi")


def test_a_product_equal_to_its_truth_has_an_infinite_psnr(scenefuse: Command, product: Path, tmp_path: Path) -> None:
    image = open_product(product)
    rows, columns = image.grid.shape
    pixels = image.read(Window(y0=0, y1=rows, x0=0, x1=columns))
    truth = scenes.write_tif(tmp_path / "truth.tif", pixels, gsd_m=10.0, wavelengths_nm=scenes.HS_NM)
    (score,) = scenefuse("evaluate", product, "--reference", truth, "--json").document["scores"]
    assert (score["psnr_db"], score["rmse"]) == (None, 0.0)
    assert score["infinite"] == ["psnr_db"]
    assert " inf " in scenefuse("evaluate", product, "--reference", truth).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_scoring_of_products_shows_what_is_finished(
    scenefuse: Command, product: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    whole = scenefuse("evaluate", product, product, "--json").document
    assert (whole["whole"], len(whole["scores"])) == (True, 2)
    interrupt_at(monkeypatch, "scenefuse.pipeline.evaluate.score_without_reference", call=3, number=number)
    ended = scenefuse("evaluate", *[product] * 4, "--json")
    assert_explained(ended, 130, "Interrupted after 2 of 4 products", "starts over")
    assert ended.document["error"]["kind"] == "interrupted"
    assert ended.document["whole"] is False
    assert ended.document["scores"] == whole["scores"]


def test_an_interrupted_scoring_of_products_prints_its_table(
    scenefuse: Command, product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, "scenefuse.pipeline.evaluate.score_without_reference", call=2, number=signal.SIGINT)
    ended = scenefuse("evaluate", *[product] * 3)
    assert (ended.code, ended.stdout.count(product.name)) == (130, 1)
    assert "Error: Interrupted after 1 of 3 products" in ended.stderr


def test_a_scoring_that_is_interrupted_before_its_first_product_says_so(
    scenefuse: Command, product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, "scenefuse.pipeline.evaluate.score_without_reference", call=1, number=signal.SIGINT)
    ended = scenefuse("evaluate", product, product, "--json")
    assert_explained(ended, 130, "Interrupted after 0 of 2 products: there is nothing to show yet")


def test_of_an_interrupted_contest_what_is_finished_is_printed_and_written(
    scenefuse: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "scores"
    noise = ("--snr-db", "20", "--seeds", "3")
    interrupt_at(monkeypatch, "scenefuse.cli.evaluate.show_result", call=3, number=signal.SIGINT)
    call = ("evaluate", *pair, "--methods", "bicubic,gsa", "--no-register", *noise, "--out", out)
    ended = scenefuse(*call, "--json")
    assert_explained(ended, 130, "Interrupted after 3 results")
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [(row["method"], row["seed"]) for row in rows] == [("bicubic", "0"), ("gsa", "0"), ("bicubic", "1")]
    written = json.loads((out / "results.json").read_text())
    assert written == {name: value for name, value in ended.document.items() if name not in {"error", "exit_code"}}
    assert written["whole"] is False
    assert [(entry["name"], entry["count"]) for entry in written["scores"]] == [("bicubic", 1), ("gsa", 1)]
    table = (out / "results.md").read_text()
    assert "- stopped before its end" in table
    assert "over what every method had finished" in table
    assert len(list(out.glob("*.png"))) == 2
    monkeypatch.undo()
    again = scenefuse(*call)
    assert again.code == 0, again.stderr
    assert json.loads((out / "results.json").read_text())["whole"] is True
    assert "stopped" not in (out / "results.md").read_text()


def test_a_scene_that_is_cut_short_meanwhile_costs_a_contest_only_what_comes_after_it(
    scenefuse: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = Path(shutil.copy(pair[0], tmp_path / "torn.tif"))
    monkeypatch.setattr("scenefuse.cli.evaluate.show_result", lambda _: os.truncate(torn, 2000))
    call = ("evaluate", *pair, torn, pair[1], "--methods", "bicubic,gsa", "--no-register", "--out", tmp_path / "out")
    ended = scenefuse(*call, "--json")
    assert_explained(ended, 3, "torn.tif")
    assert [(entry["name"], entry["count"]) for entry in ended.document["scores"]] == [("bicubic", 1), ("gsa", 1)]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["scores"] == ended.document["scores"]


def test_items_that_an_archive_could_not_give_are_told_to_who_compares(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    items = [*scenes.write_pair_items(tmp_path, pair), tmp_path / "broken.json"]
    items[-1].write_text("{")
    ended = scenefuse("evaluate", "--catalog", scenes.write_catalogue(tmp_path, items), "--model", "bicubic")
    assert ended.code == 0, ended.stderr
    assert "Left out ./broken.json: " in ended.stderr
