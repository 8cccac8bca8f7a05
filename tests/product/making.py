"""A small product made from random pixels, with short edge cores and a hole of no data."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from scenefuse.archive.scene import Scene, ScenePair
from scenefuse.engine.protocols import ShardReceipt
from scenefuse.engine.quality_flag import QualityFlag
from scenefuse.grid.pair_grid import PairGrid
from scenefuse.models.base import ModelCard
from scenefuse.place.place import Place
from scenefuse.product.identity import NUMERICS, ProductInput, ProductMethod, item_id, product_identity
from scenefuse.product.layout import lay_out
from scenefuse.product.provenance import Plan, Provenance, RunRecord
from scenefuse.product.shards import ZarrSink
from scenefuse.product.spec import ProductSpec
from scenefuse.sensors.band import Band
from scenefuse.tiles.tiling import Tiling

INPUTS = (
    ProductInput(role="hsi", scene_id="HS1", key="data", href="https://a.example/hs1.tif", checksum="multihash:12200a"),
    ProductInput(role="msi", scene_id="MS1", key="B02", href="https://a.example/ms1.tif", checksum="etag:abc"),
)
METHOD = ProductMethod(name="gsa", source="Aiazzi 2007", options={"ridge": 1e-6})
IDENTITY = product_identity(INPUTS, METHOD, {"precision": "fp32"})
ITEM_ID = item_id("HS1", "MS1", "gsa", IDENTITY)

GRID = PairGrid(
    crs_wkt=CRS.from_epsg(32633).to_wkt(),
    fine_transform=(10.0, 0.0, 400_000.0, 0.0, -10.0, 5_800_000.0),
    coarse_shape=(100, 66),
    ratio=3,
    case="ms-grid",
    hs_gsd_m=30.0,
    ms_gsd_m=10.0,
    hs_resampled=False,
    ms_resampled=False,
)

MODEL_CARD = ModelCard(
    name="gsa",
    title="Gram-Schmidt adaptive",
    source="Aiazzi et al. 2007, doi 10.1109/TGRS.2007.901007",
    ratio=3,
    hs_bands=(),
    ms_bands=(),
    support_px=8,
    halo_px=0,
    effective_px=6,
    multiply_adds_per_pixel=1.0,
    activation_bytes_per_pixel=1.0,
    options={"ridge": 1e-6},
)

SPEC = ProductSpec(
    item_id=ITEM_ID,
    grid=GRID,
    bands=tuple(Band(name=f"band {n}", wavelength_nm=450.0 + 50.0 * n, fwhm_nm=8.0) for n in range(12)),
    core_px=128,
)

PAIR = ScenePair(
    hs=Scene(
        id="HS1", assets=(), href="https://a.example/hs1.json?sig=secret", acquired=datetime(2024, 5, 1, 10, tzinfo=UTC)
    ),
    ms=Scene(id="MS1", assets=(), href="https://a.example/ms1.json", acquired=datetime(2024, 5, 1, 12, tzinfo=UTC)),
    gap_hours=2.0,
)

PROVENANCE = Provenance(
    item_id=ITEM_ID,
    identity=IDENTITY,
    inputs=INPUTS,
    method=METHOD,
    plan=Plan(
        core_px=128,
        halo_px=0,
        lattice_px=1,
        tiling="exact",
        precision="fp32",
        device="cpu",
        batch=1,
        instruction_set="AVX2",
    ),
    numerics=NUMERICS,
    software={"scenefuse": "0.1.0", "torch": "2.13.0"},
    options={"precision": "fp32"},
    grid={"phase": [0, 1], "kernel": None},
    state_sha256="0" * 64,
)

RUN = RunRecord(
    started=datetime(2024, 6, 1, 1, tzinfo=UTC),
    finished=datetime(2024, 6, 1, 2, tzinfo=UTC),
    host="host",
    hrefs={"hsi": "https://user:key@a.example/hs1.json?sig=secret", "msi": "/data/ms1.json"},
    facts={"fuse_s": 1.5},
)


def random_scene(spec: ProductSpec = SPEC, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Reflectance (band, y, x) with a hole of no data, and its quality (y, x)."""
    rng = np.random.default_rng(seed)
    fused = rng.random(spec.shape, dtype=np.float32)
    quality = np.zeros(spec.shape[1:], np.uint8)
    fused[:, 40:90, 20:150] = np.nan
    quality[40:90, 20:150] = QualityFlag.NODATA
    return fused, quality


def write_scene(
    folder: Path | Place, fused: NDArray[np.float32], quality: NDArray[np.uint8], *, spec: ProductSpec = SPEC
) -> list[ShardReceipt]:
    """Receipts of a whole scene written core by core."""
    sink = ZarrSink(store=lay_out(folder, spec), spec=spec)
    tiling = Tiling(fine_shape=spec.grid.fine_shape, core_px=spec.core_px, halo_px=0, lattice_px=1)
    return [
        receipt
        for tile in tiling
        for receipt in sink.put(
            sink.encode(
                tile, np.ascontiguousarray(fused[:, *tile.core.slices]), np.ascontiguousarray(quality[tile.core.slices])
            )
        )
    ]


def large_spec() -> ProductSpec:
    """Two bands, large enough for two overview levels, the first of several shards."""
    return replace(SPEC, grid=replace(GRID, coarse_shape=(353, 207)), bands=SPEC.bands[:2], core_px=256)
