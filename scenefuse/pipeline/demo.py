"""Run the demo: make an archive, find and fuse its pairs, score them against the known truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from scenefuse.archive.pairing import PairRule
from scenefuse.config import RunConfig
from scenefuse.demo.archive import write_demo_archive
from scenefuse.demo.size import DemoSize
from scenefuse.engine.protocols import Observer
from scenefuse.errors import DataError, UsageError
from scenefuse.pipeline.batch import BatchReport, batch
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.opening import require_config
from scenefuse.place.location import place_at
from scenefuse.product.files import COLLECTION
from scenefuse.quality.product_scores import Scored

BASELINE = "bicubic"
"""Method to beat: the HSI alone, upsampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What the demo made."""

    catalog: Path
    """The archive's catalogue."""
    products: Path
    """Folder of the products and their catalogue."""
    report: BatchReport
    """Pairs, products and failures."""
    scores: tuple[Scored, ...]
    """Scores of each product against the truth, followed by the baseline's scores for the same pairs."""


def demonstrate(
    out: Path,
    *,
    size: DemoSize,
    seed: int = 0,
    config: RunConfig | None = None,
    observer: Observer | None = None,
    progress: Callable[[str], None] | None = None,
) -> Demonstration:
    """Make the demo archive in out/archive unless it is there, fuse its pairs into out/products, score them.

    Repeating the call finds the existing products. The baseline's products are in out/baseline.
    """
    config = config or RunConfig()
    require_config(config)
    place_at(out).free_bytes()
    if (out / COLLECTION).exists():
        raise DataError(
            f"{out} holds products or a collection of others",
            "the demo's archive would be mixed with them",
            "Choose an empty folder, or that of an earlier demo",
        )
    archive, index = out / "archive", out / "archive" / "truth" / "index.json"
    if not index.is_file():
        write_demo_archive(archive, size=size, seed=seed, progress=progress)
    known = json.loads(index.read_text())
    if (known["size"], known["seed"]) != (size.name.lower(), seed):
        raise UsageError(
            f"{archive} is of size {known['size']} and seed {known['seed']}, not {size.name.lower()} and {seed}",
            "its scenes are not the requested ones",
            "Give another --out, or remove that folder",
        )
    catalog = archive / "catalog.json"
    truths = {entry["hs"]: archive / "truth" / entry["truth"] for entry in known["pairs"]}
    rule = PairRule(min_overlap_fraction=0.5)
    report = batch([str(catalog)], out=out / "products", rule=rule, config=config, observer=observer)
    plain = replace(config, model=BASELINE, weights=None, format=("zarr",), report=False)
    baseline = batch([str(catalog)], out=out / "baseline", rule=rule, config=plain, observer=observer)
    scores = [
        replace(evaluate_product(product.folder, reference=str(truth)), name=f"{name} {hs_id}")
        for name, products in ((config.model, report.products), (BASELINE, baseline.products))
        for product in products
        for hs_id, truth in truths.items()
        if product.folder.name.startswith(f"{hs_id}_")
    ]
    return Demonstration(catalog=catalog, products=out / "products", report=report, scores=tuple(scores))
