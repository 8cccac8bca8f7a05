"""Scores of a product against its own inputs, where what made it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rasterio

from scenefuse.config import RunConfig
from scenefuse.cube.pair import PairCube
from scenefuse.engine.device import choose_device
from scenefuse.engine.lanes import InProcessLane
from scenefuse.errors import DataError, MismatchError, ResourceError
from scenefuse.models.architectures import build_model
from scenefuse.models.weights import WeightsCard, save_weights
from scenefuse.pipeline.contest import Arena, evaluate_methods
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.opening import open_pair
from scenefuse.pipeline.replay import replay
from scenefuse.pipeline.training_inputs import truth_facts
from scenefuse.quality.contest import ContestProtocol, enter
from scenefuse.quality.trial import covered_bands
from scenefuse.sensors.band import Band
from scenefuse.sensors.sensor import find_sensor
from tests.pipeline.making import HS_NM, PairFiles, write_pair, write_tiff

OPTIONS = {"width": 8, "step": 8}


@pytest.fixture
def pair(tmp_path: Path) -> PairFiles:
    return write_pair(tmp_path / "pair", ratio=4, coarse_shape=(24, 24), bands=(6, 3))


@pytest.fixture
def weights(pair: PairFiles, tmp_path: Path) -> Path:
    cube = open_pair(*pair.both)
    return saved(cube, cube.ms_bands, {}, tmp_path / "weights.safetensors")


def saved(cube: PairCube, ms_bands: tuple[Band, ...], training: dict[str, Any], path: Path) -> Path:
    """Weights of a tiny network for the cube's HSI and these MSI bands."""
    network = build_model("aelf-t", hs_bands=len(cube.hs_bands), ms_bands=len(ms_bands), ratio=4, **OPTIONS)
    card = WeightsCard(
        architecture="aelf-t",
        options=OPTIONS,
        hs_bands=cube.hs_bands,
        ms_bands=ms_bands,
        ratio=4,
        training=training,
        licence="Apache-2.0",
    )
    save_weights(path, network, card)
    return path


def fused(pair: PairFiles, config: RunConfig, out: Path) -> FusedProduct:
    return fuse(*pair.both, out=out, config=config, lane=InProcessLane())


def test_a_product_is_scored_without_the_weights_that_made_it(pair: PairFiles, weights: Path, tmp_path: Path) -> None:
    dropped = open_pair(*pair.both).hs_bands[2].name
    config = RunConfig(model="aelf-t", weights=str(weights), register=False, format=("zarr",), hs_scale=2e-4)
    product = fused(pair, config, tmp_path / "out")
    other = fused(
        pair, RunConfig(model="sfim", register=False, format=("zarr",), drop_bands=(dropped,)), tmp_path / "out"
    )
    before = evaluate_product(product.folder).values
    weights.unlink()
    assert evaluate_product(product.folder).values == before
    assert evaluate_product(other.folder).values["spatial_consistency_cc"] > 0.8
    with pytest.raises(DataError, match="neither on the shelf"):
        replay(product.folder)


def test_a_product_made_on_a_gpu_is_scored_where_there_is_none(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = fused(pair, RunConfig(model="sfim", register=False, format=("zarr",)), tmp_path / "out")

    def gone(device: str) -> str:
        raise ResourceError(f"--device {device}", "it was there when the product was made", "Use another machine")

    monkeypatch.setattr(f"{replay.__module__}.choose_device", gone)
    with pytest.raises(ResourceError, match="torch sees none here"):
        replay(product.folder)
    assert choose_device("cpu") == "cpu"
    assert evaluate_product(product.folder).values["spatial_consistency_cc"] > 0.9


def test_a_product_is_not_scored_against_scenes_that_have_changed(pair: PairFiles, tmp_path: Path) -> None:
    product = fused(pair, RunConfig(model="sfim", register=False, format=("zarr",)), tmp_path / "out")
    changed = write_pair(tmp_path / "changed", ratio=4, coarse_shape=(24, 24), holes="swath", bands=(6, 3))
    with pytest.raises(MismatchError, match="inputs hsi"):
        evaluate_product(product.folder, hrefs=changed.both)


def test_a_truth_that_a_network_learnt_from_does_not_score_it_with_other_scenes(
    pair: PairFiles, tmp_path: Path
) -> None:
    cube, truth = open_pair(*pair.both), tmp_path / "truth.tif"
    with rasterio.open(pair.hs) as dataset:
        fine = dataset.read().repeat(4, axis=1).repeat(4, axis=2)
    write_tiff(truth, fine, gsd_m=10.0, bands_nm=[(nm, 40.0) for nm in HS_NM[:6]])
    training = {"scenes": [], "truths": [truth_facts(str(truth))]}
    weights = saved(cube, cube.ms_bands, training, tmp_path / "weights.safetensors")
    arena = Arena(pairs=(pair.both,), truths=(str(truth),), config=RunConfig(register=False))
    with pytest.raises(DataError, match="aelf-t learnt from hs_ms"):
        evaluate_methods(arena, enter([("aelf-t", str(weights))]), ContestProtocol())

    sensor = find_sensor("Sentinel-2A")
    assert sensor is not None
    ms_bands, _ = covered_bands("truth", cube.hs_bands, sensor)
    weights = saved(cube, ms_bands, training, tmp_path / "of-image.safetensors")
    arena = Arena(images=(str(truth),), ms_sensor="Sentinel-2A")
    with pytest.raises(DataError, match="aelf-t learnt from truth"):
        evaluate_methods(arena, enter([("aelf-t", str(weights))]), ContestProtocol())
