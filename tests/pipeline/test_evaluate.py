"""Scores of a product against its own inputs, where what made it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenefuse.config import RunConfig
from scenefuse.engine.device import choose_device
from scenefuse.engine.lanes import InProcessLane
from scenefuse.errors import DataError, MismatchError, ResourceError
from scenefuse.models.architectures import build_model
from scenefuse.models.weights import WeightsCard, save_weights
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.opening import open_pair
from scenefuse.pipeline.replay import replay
from tests.pipeline.making import PairFiles, write_pair

OPTIONS = {"width": 8, "step": 8}


@pytest.fixture
def pair(tmp_path: Path) -> PairFiles:
    return write_pair(tmp_path / "pair", ratio=4, coarse_shape=(24, 24), bands=(6, 3))


@pytest.fixture
def weights(pair: PairFiles, tmp_path: Path) -> Path:
    cube = open_pair(*pair.both)
    network = build_model("aelf-t", hs_bands=len(cube.hs_bands), ms_bands=len(cube.ms_bands), ratio=4, **OPTIONS)
    card = WeightsCard(
        architecture="aelf-t",
        options=OPTIONS,
        hs_bands=cube.hs_bands,
        ms_bands=cube.ms_bands,
        ratio=4,
        training={},
        licence="Apache-2.0",
    )
    save_weights(tmp_path / "weights.safetensors", network, card)
    return tmp_path / "weights.safetensors"


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
