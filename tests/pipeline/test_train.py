"""Training from files: weights that fuse, protocols, and what is refused before any step."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from scenefuse.cli.app import app
from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.errors import DataError, ModelError, UsageError, WorkError
from scenefuse.models.architectures import build_model
from scenefuse.models.weights import read_card
from scenefuse.pipeline import measured_halo
from scenefuse.pipeline import train as module
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.planning import plan_fusion
from scenefuse.pipeline.report import report
from scenefuse.pipeline.train import TrainConfig, Trained, _fitted_recipe, train
from scenefuse.pipeline.training_inputs import truth_facts
from scenefuse.training.recipe import RECIPES, Recipe
from scenefuse.words import counted
from tests.models.classical_pairs import drawn_scene, observe
from tests.pipeline.making import HS_NM, NODATA, PairFiles, write_pair, write_tiff

RECIPE = Recipe(iterations=3, patch_px=8, batch=1, lr=1e-3, score_every=3, degradation_steps=10)
TINY = {"width": 8, "step": 8}
CONFIG = TrainConfig(model="aelf-t", recipe=RECIPE, options=TINY, device="cpu", inputs=RunConfig(register=False))


@pytest.fixture(scope="module", autouse=True)
def no_halo_is_measured() -> Iterator[None]:
    """It takes three seconds; one test wants it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measured_halo, "MOST_MULTIPLY_ADDS", 0.0)
        yield


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(48, 48), bands=(6, 3))


@pytest.fixture(scope="module")
def truth(pair: PairFiles) -> Path:
    """A raster on the fine grid; what it shows does not matter here."""
    path = pair.hs.with_name("truth.tif")
    with rasterio.open(pair.hs) as dataset:
        fine = dataset.read().repeat(4, axis=1).repeat(4, axis=2)
    write_tiff(path, fine, gsd_m=10.0, bands_nm=[(nm, 40.0) for nm in HS_NM[:6]])
    return path


@pytest.fixture(scope="module")
def trained(pair: PairFiles, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What CONFIG makes of the pair; read only."""
    return train([pair.both], out=tmp_path_factory.mktemp("trained"), config=CONFIG)


def test_trained_weights_fuse_the_pair_that_they_were_trained_on(
    pair: PairFiles, trained: Trained, tmp_path: Path
) -> None:
    assert trained.weights.name == "aelf-t-6x4.safetensors"
    assert {"psnr_db", "sam_deg"} == trained.scores.keys() == trained.bicubic.keys()
    config = RunConfig(
        model="aelf-t", weights=str(trained.weights), register=False, core_px=64, format=("zarr",), precision="fp32"
    )
    product = fuse(*pair.both, out=tmp_path / "products", config=config, lane=InProcessLane())
    assert product.shape == (6, 192, 192)


def test_scores_of_a_product_tell_when_its_network_learnt_from_the_scene(
    pair: PairFiles, truth: Path, own_shelf: Path, tmp_path: Path
) -> None:
    def notes(name: str, truths: tuple[str, ...], scene: PairFiles) -> str:
        course = replace(CONFIG, name=name, truths=truths)
        weights = train([pair.both], out=tmp_path / name, config=course).label
        config = RunConfig(
            model="aelf-t", weights=weights, register=False, core_px=64, format=("zarr",), precision="fp32"
        )
        product = fuse(*scene.both, out=tmp_path / "products", config=config, lane=InProcessLane())
        try:
            found = evaluate_product(product.folder, reference=truth).notes
            made = report(product.folder, out="-", reference=truth)
            assert made.figures["reference_notes"] == list(found)
            assert all(note[1:] in made.html for note in found)
            return " ".join(found)
        finally:
            shutil.rmtree(own_shelf / name)
            gone = evaluate_product(product.folder, reference=truth).notes
            assert "not on the shelf" in gone[0]

    assert "learnt from this very scene" in notes("same-scene", (), pair)
    assert "learnt from this very truth" in notes("same-truth", (str(truth),), pair)
    elsewhere = write_pair(tmp_path / "elsewhere", ratio=4, coarse_shape=(48, 48), bands=(6, 3), holes="swath")
    assert notes("elsewhere", (), elsewhere) == ""


def test_a_product_in_bfloat16_and_one_in_float32_are_two(pair: PairFiles, trained: Trained, tmp_path: Path) -> None:
    config = RunConfig(model="aelf-t", weights=str(trained.weights), register=False)
    orders = [
        plan_fusion(*pair.both, out=tmp_path / "products", config=replace(config, precision=precision))
        for precision in ("bf16", "fp32", "auto")
    ]
    assert [order.plan.precision for order in orders] == ["bf16", "fp32", "fp32"]
    assert orders[0].identity != orders[1].identity == orders[2].identity


def test_the_card_says_what_the_weights_come_from_and_what_halo_they_need(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured_halo, "MOST_MULTIPLY_ADDS", 1e12)
    trained = train([pair.both], out=tmp_path, config=replace(CONFIG, seed=7, licence="CC-BY-4.0"))
    card = read_card(trained.weights)
    assert (card.architecture, card.ratio, card.licence, dict(card.options)) == ("aelf-t", 4, "CC-BY-4.0", TINY)
    assert [band.wavelength_nm for band in card.hs_bands] == pytest.approx(list(HS_NM[:6]))
    assert card.training["seed"] == 7
    assert card.training["recipe"]["protocol"] == "wald"
    assert card.training["score"] == trained.scores
    assert card.training["scenes"][0]["pair"] == "hs_ms"
    assert card.training["scenes"][0]["held_out_px"] > 0
    assert card.halo_px is not None
    assert 0 < card.halo_px <= 168
    assert card.halo_px % 8 == 0


@pytest.mark.parametrize("sigma_px", [1.2, 2.6])  # the default MTF of 0.3 would be 1.98 px
def test_the_psf_of_an_instrument_without_a_card_is_estimated_from_the_pair(sigma_px: float, tmp_path: Path) -> None:
    nm = np.array([HS_NM[:6]])
    response = np.exp(-4 * np.log(2) * ((nm - np.array([[490.0], [560.0], [620.0]])) / 60.0) ** 2)
    hs, ms = observe(drawn_scene(48 * 4, 6), 4, sigma_px, response / response.sum(axis=1, keepdims=True))
    files = PairFiles(hs=tmp_path / "hs.tif", ms=tmp_path / "ms.tif")
    for path, image, gsd_m, centres, width in (
        (files.hs, hs, 40.0, HS_NM[:6], 1.0),
        (files.ms, ms, 10.0, (490.0, 560.0, 620.0), 60.0),
    ):
        write_tiff(path, np.rint(image * 1e4).astype(np.int16), gsd_m=gsd_m, bands_nm=[(at, width) for at in centres])
    trained = train([files.both], out=tmp_path, config=CONFIG)
    (scene,) = read_card(trained.weights).training["scenes"]
    assert scene["estimated_psf_px"] == pytest.approx(sigma_px, rel=0.05)


def test_training_again_gives_the_same_file_without_a_step(pair: PairFiles, trained: Trained) -> None:
    rows: list[Any] = []
    again = train([pair.both], out=trained.weights.parent, config=CONFIG, report=rows.append)
    assert again == trained
    assert rows == []


def test_a_truth_teaches_at_full_resolution(pair: PairFiles, truth: Path, tmp_path: Path) -> None:
    trained = train([pair.both], out=tmp_path, config=replace(CONFIG, truths=(str(truth),)))
    training = read_card(trained.weights).training
    assert training["recipe"]["protocol"] == "truth"
    assert training["truths"] == [["truth.tif", f"sha256:{sha256(truth.read_bytes()).hexdigest()}"]]


@pytest.mark.slow
def test_mossfuse_learns_without_any_truth(pair: PairFiles, tmp_path: Path) -> None:
    recipe = replace(RECIPE, protocol="scene")
    trained = train(
        [pair.both], out=tmp_path, config=replace(CONFIG, model="mossfuse", options={"width": 8}, recipe=recipe)
    )
    assert trained.scores.keys() == {"consistency_db", "psf_sigma_px"}
    assert trained.bicubic == {}


def test_windows_are_rounded_to_the_lattice_of_the_network(pair: PairFiles, tmp_path: Path) -> None:
    trained = train([pair.both], out=tmp_path, config=replace(CONFIG, recipe=replace(RECIPE, patch_px=11)))
    assert read_card(trained.weights).training["recipe"]["patch_px"] == 8


def test_a_form_that_cannot_be_frozen_is_trained_and_scored_but_put_on_no_shelf(
    pair: PairFiles, own_shelf: Path, tmp_path: Path
) -> None:
    options = {"width": 4, "layers": 1, "blocks": 1, "stages": 2, "heads": "spatial"}
    config = replace(CONFIG, model="smifnet", recipe=replace(RECIPE, patch_px=12), options=options)
    trained = train([pair.both], out=tmp_path / "weights", config=config)
    assert np.isfinite(trained.scores["psnr_db"])
    with pytest.raises(UsageError, match="they could not be used for fusing"):
        train([pair.both], out=tmp_path / "named", config=replace(config, name="strips"))
    assert not (tmp_path / "named").exists()
    assert not (own_shelf / "strips").exists()


def test_pairs_with_other_bands_are_refused_together(pair: PairFiles, tmp_path: Path) -> None:
    other = write_pair(tmp_path / "other", ratio=4, coarse_shape=(48, 48), bands=(5, 3))
    with pytest.raises(DataError, match=r"have ratio, HSI and MSI bands \(4, 6, 3\) and \(4, 5, 3\)"):
        train([pair.both, other.both], out=tmp_path, config=CONFIG)


def test_a_truth_that_lies_elsewhere_is_refused(pair: PairFiles, truth: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.tif"
    with rasterio.open(truth) as dataset:
        write_tiff(moved, dataset.read()[:, 2:], gsd_m=10.0, bands_nm=[(nm, 40.0) for nm in HS_NM[:6]])
    with pytest.raises(DataError, match=r"moved.tif does not hold the pixels of hs_ms"):
        train([pair.both], out=tmp_path, config=replace(CONFIG, truths=(str(moved),)))


def test_a_truth_without_one_of_the_bands_is_refused(pair: PairFiles, truth: Path, tmp_path: Path) -> None:
    fewer = tmp_path / "fewer.tif"
    with rasterio.open(truth) as dataset:
        write_tiff(fewer, dataset.read()[:5], gsd_m=10.0, bands_nm=[(nm, 40.0) for nm in HS_NM[:5]])
    with pytest.raises(DataError, match=r"fewer.tif has no band within 0.5 nm of B06"):
        train([pair.both], out=tmp_path, config=replace(CONFIG, truths=(str(fewer),)))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "gsa"}, UsageError, "gsa is not a network"),
        ({"minutes": math.nan}, UsageError, "nan minutes"),
        ({"truths": ("a.tif", "b.tif")}, UsageError, "2 truths for 1 pair"),
        ({"recipe": replace(RECIPE, protocol="scene")}, UsageError, "protocol scene for aelf-t"),
        ({"recipe": replace(RECIPE, protocol="truth")}, UsageError, "protocol truth without a truth"),
        ({"recipe": replace(RECIPE, patch_px=128)}, DataError, "has no room for"),
        ({"options": {"depth": 3}}, UsageError, "aelf-t has no option depth"),
        (
            {"model": "cofusion", "options": {}, "recipe": replace(RECIPE, patch_px=8)},
            UsageError,
            "needs 11 px at once",
        ),
        (
            {"model": "mossfuse", "options": {}, "recipe": replace(RECIPE, protocol="scene", patch_px=4)},
            UsageError,
            "needs 7 px at once. Give --patch-px 8 or more",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    changes: dict[str, Any], error: type[Exception], message: str, pair: PairFiles, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        train([pair.both], out=tmp_path / "weights", config=replace(CONFIG, **changes))
    assert not (tmp_path / "weights").exists()


def test_a_training_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pair"):
        train([], out=tmp_path, config=CONFIG)


def test_of_a_configuration_only_what_opens_scenes_counts(pair: PairFiles, trained: Trained, tmp_path: Path) -> None:
    inputs = RunConfig(register=False, model="aelf-t", weights=str(trained.weights), adapt=5)
    again = train([pair.both], out=tmp_path, config=replace(CONFIG, inputs=inputs))
    assert again.sha256 == trained.sha256


def test_weights_that_give_no_numbers_are_not_kept(pair: PairFiles, tmp_path: Path) -> None:
    recipe = replace(RECIPE, iterations=1, score_every=1, lr=1e6, clip_norm=0.0)
    with pytest.raises(WorkError, match="held-out psnr_db is nan"):
        train([pair.both], out=tmp_path, config=replace(CONFIG, recipe=recipe))
    assert not list(tmp_path.glob("*.safetensors"))


def test_weights_beyond_float16_are_kept_whole(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "float16_cost_db", lambda *_: math.nan)
    trained = train([pair.both], out=tmp_path, config=CONFIG)
    card = json.loads(trained.weights.with_suffix(".json").read_text(), parse_constant=pytest.fail)
    assert "float16_cost_db" not in card["training"]
    assert {tensor.dtype for tensor in load_file(trained.weights).values()} == {torch.float32}


def test_held_out_blocks_without_data_are_refused(tmp_path: Path) -> None:
    files = write_pair(tmp_path / "pair", ratio=4, coarse_shape=(96, 96), bands=(6, 3))
    with rasterio.open(files.hs, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, 40:80, 40:80] = NODATA
        dataset.write(pixels)
    config = replace(CONFIG, recipe=replace(RECIPE, block_px=40))
    with pytest.raises(DataError, match="held-out blocks hold no pixel with data"):
        train([files.both], out=tmp_path / "weights", config=config)
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(("phase_px", "turned"), [(None, True), (1.5, True), (1.0, False)])
def test_windows_are_not_turned_where_the_psf_is_off_centre(phase_px: float | None, *, turned: bool) -> None:
    options: dict[str, Any] = {} if phase_px is None else {"psf_phase_px": phase_px}
    config = TrainConfig(model="mossfuse", options=options)
    network = build_model("mossfuse", hs_bands=4, ms_bands=2, ratio=4, **options)
    assert _fitted_recipe(config, network).turns is turned


def test_a_checkpoint_does_not_go_on_with_other_reflectance_or_another_truth(
    pair: PairFiles, truth: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, minutes=0, truths=(str(truth),))
    train([pair.both], out=tmp_path, config=config)
    scaled = replace(config, inputs=replace(config.inputs, hs_scale=1e-3))
    with pytest.raises(UsageError, match="belongs to a training with a different"):
        train([pair.both], out=tmp_path, config=scaled)
    with rasterio.open(truth) as dataset:
        write_tiff(tmp_path / truth.name, dataset.read() + 1, gsd_m=10.0, bands_nm=[(nm, 40.0) for nm in HS_NM[:6]])
    with pytest.raises(UsageError, match="belongs to a training with a different"):
        train([pair.both], out=tmp_path, config=replace(config, truths=(str(tmp_path / truth.name),)))


def test_weights_of_another_pair_are_refused_by_fuse(trained: Trained, tmp_path: Path) -> None:
    other = write_pair(tmp_path / "other", ratio=4, coarse_shape=(48, 48), bands=(5, 3))
    config = RunConfig(model="aelf-t", weights=str(trained.weights), register=False, format=("zarr",))
    with pytest.raises(ModelError, match="number of HSI bands 6, the pair needs 5"):
        fuse(*other.both, out=tmp_path / "products", config=config, lane=InProcessLane())


def test_the_command_trains_and_prints_one_document(pair: PairFiles, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("iterations = 9\nscore_every = 2\nschedule = 'cosine'\n")
    call = ["train", *pair.both, "--model", "aelf-t", "--out", str(tmp_path / "weights"), "--json"]
    call += ["--recipe", str(recipe), "--iterations", "2", "--patch-px", "8", "--set", "width=8", "--set", "step=8"]
    result = CliRunner().invoke(app, call, catch_exceptions=False)
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["stopped"] == "iterations"
    assert document["steps"] == 2
    assert np.isfinite(document["scores"]["psnr_db"])
    training = read_card(Path(document["weights"])).training
    assert training["recipe"]["schedule"] == "cosine"
    assert training["recipe"]["lr"] == RECIPES["aelf-t"].lr


@pytest.mark.parametrize("scenes", [[], ["a.tif"], ["a.tif", "b.tif", "c.tif"]])
def test_scenes_that_are_no_pairs_are_refused(scenes: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{counted(len(scenes), 'scene')} and 0 catalogues"):
        CliRunner().invoke(app, ["train", *scenes, "--model", "aelf-t", "--out", str(tmp_path)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.tif", "b.tif", "--max-gap-hours", "5"), "--max-gap-hours without --catalog"),
        (("a.tif", "b.tif", "--bbox", "0", "0", "1", "1"), "--bbox without --catalog"),
        (("--catalog", "catalog.json", "--truth", "truth.tif"), "--truth with --catalog"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    call = ["train", *arguments, "--model", "aelf-t", "--out", str(tmp_path)]
    with pytest.raises(UsageError, match=said):
        CliRunner().invoke(app, call, catch_exceptions=False)


def test_a_truth_on_the_web_is_known_without_its_signature() -> None:
    assert truth_facts("https://user:secret@example.com/a/truth.tif?sig=secret") == ["truth.tif"]


def test_a_truth_is_known_by_its_digest_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a truth.tif"
    path.write_bytes(b"ground")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert truth_facts("~/a truth.tif")[1:] == truth_facts(path.as_uri())[1:] == truth_facts(str(path))[1:]
    assert truth_facts(str(path)) == ["a truth.tif", f"sha256:{sha256(b'ground').hexdigest()}"]
