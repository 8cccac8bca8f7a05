"""What a plan says of a run's time, against the record of a run (tests/bench/archive.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scenefuse.engine.prepare import Preparation, preparation_seconds
from scenefuse.engine.resident import ModelHandle
from scenefuse.models.observation import observation_stages
from scenefuse.models.ref import ModelRef
from scenefuse.models.registry import load_model
from scenefuse.product.commit import finish_seconds
from scenefuse.product.spec import ProductSpec
from tests.engine.fakes import AnalyticSource
from tests.product.making import GRID, SPEC

RECORDS = Path(__file__).parents[1] / "bench" / "results" / "archive.json"
SIDE_PX, RATIO, WORKERS = 8192, 4, 2
"""Of the scene that was recorded; the workers of its machine."""
WITHIN = 2.5
"""Factor by which a rough time may be wrong."""


@pytest.fixture(scope="module")
def recorded() -> dict[str, float]:
    """Seconds of each phase of a scene of 64 Mpx, 31 + 4 bands at ratio 4, from COGs to Zarr by the default method."""
    records = json.loads(RECORDS.read_text())["records"]
    (record,) = [record for record in records if record["measurement"] == "preparing"]
    assert record["machine"]["cores"] == WORKERS
    return {name: share * record["seconds"] for name, share in record["shares"].items()}


def test_preparation_takes_about_as_long_as_the_plan_says(recorded: dict[str, float]) -> None:
    source = AnalyticSource(coarse_shape=(SIDE_PX // RATIO,) * 2, ratio=RATIO, hs_count=31, ms_count=4)
    ref = ModelRef(name="hysure-l2", hs_bands=source.hs_bands, ms_bands=source.ms_bands, ratio=RATIO)
    stages = observation_stages(source.hs_bands, source.ms_bands, RATIO)
    preparation = Preparation(stages=stages, model=ModelHandle(ref=ref, load=load_model))
    planned_s = preparation_seconds(source, preparation, workers=WORKERS)
    assert recorded["prepare"] / WITHIN < planned_s < recorded["prepare"] * WITHIN


def test_overviews_take_about_as_long_as_the_plan_says(recorded: dict[str, float]) -> None:
    grid = replace(GRID, coarse_shape=(SIDE_PX // RATIO,) * 2, ratio=RATIO)
    bands = tuple(replace(SPEC.bands[0], name=f"b{number}") for number in range(31))
    spec = ProductSpec(item_id="a", grid=grid, bands=bands, core_px=512)
    planned_s = finish_seconds(spec, cog=False, workers=WORKERS)
    assert recorded["finish"] / WITHIN < planned_s < recorded["finish"] * WITHIN
    assert finish_seconds(spec, cog=True, workers=WORKERS) > 2 * planned_s
    one = replace(spec, grid=replace(grid, coarse_shape=(64, 64)))
    assert finish_seconds(one, cog=True, workers=8) == finish_seconds(one, cog=True, workers=1), "one core, one task"


def test_the_statistics_of_a_network_take_its_arithmetic() -> None:
    """64 patches of 128 px, at 2e10 multiply-adds a second and core."""
    source = AnalyticSource(coarse_shape=(900, 900), ratio=3, hs_count=12, ms_count=4)
    ref = ModelRef(name="cnmf", hs_bands=source.hs_bands, ms_bands=source.ms_bands, ratio=3)
    model = load_model(ref)
    assert [stage.where for stage in model.stages()].count("sample") == 1
    bare, whole = (
        preparation_seconds(source, preparation, workers=1)
        for preparation in (Preparation(), Preparation(model=ModelHandle(ref=ref, load=load_model)))
    )
    arithmetic = 64 * 129**2 * model.card.multiply_adds_per_pixel / 2e10
    assert whole - bare > arithmetic * 0.9
