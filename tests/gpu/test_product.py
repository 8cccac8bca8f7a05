"""A product made on a GPU: trained there, fused there, recomputed there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scenefuse.config import RunConfig
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.fuse import fuse
from scenefuse.pipeline.replay import replay
from scenefuse.pipeline.train import TrainConfig, train
from scenefuse.training.recipe import Recipe
from tests.gpu.conftest import Device
from tests.pipeline.making import PairFiles, write_pair

pytestmark = pytest.mark.gpu

RECIPE = Recipe(iterations=20, patch_px=16, batch=2, lr=1e-3, score_every=20)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(64, 64), bands=(6, 3))


@pytest.fixture(scope="module")
def config(pair: PairFiles, device: Device, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    plain = RunConfig(register=False)
    course = TrainConfig(model="aelf-t", recipe=RECIPE, options={"width": 16, "step": 16}, device=device, inputs=plain)
    weights = train([pair.both], out=tmp_path_factory.mktemp("weights"), config=course).weights
    return replace(
        plain, model="aelf-t", weights=str(weights), device=device, core_px=128, format=("zarr",), precision="fp32"
    )


def test_a_product_made_on_a_gpu_is_recomputed_to_the_same_values(
    pair: PairFiles, config: RunConfig, tmp_path: Path
) -> None:
    product = fuse(*pair.both, out=tmp_path, config=config)
    report = replay(product.folder, every_tile=True, config=replace(config, workers=1))
    assert report.ok
    assert report.differing_fraction == 0


def test_the_product_in_bfloat16_is_the_product_in_float32_to_sensor_noise(
    pair: PairFiles, config: RunConfig, tmp_path: Path
) -> None:
    exact = fuse(*pair.both, out=tmp_path, config=config)
    rough = fuse(*pair.both, out=tmp_path, config=replace(config, precision="bf16", format=("zarr", "cog")))
    exact_cog = fuse(*pair.both, out=tmp_path, config=replace(config, format=("zarr", "cog")))
    scores = evaluate_product(rough.folder, reference=str(exact_cog.folder / "fused.tif")).values
    assert exact.folder == exact_cog.folder
    assert scores["rmse"] < 2e-3
