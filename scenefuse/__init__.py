"""scenefuse: fuse archives of hyperspectral and multispectral scenes, pair by pair, onto the fine grid.

    cube = scenefuse.open_pair("enmap-item.json", "s2-item.json")    # cube.hs, cube.ms: lazy xarray cubes
    product = scenefuse.fuse("enmap-item.json", "s2-item.json", out="products")
    report = scenefuse.batch(["archive/catalog.json"], out="products", bounds=scenefuse.Bounds(bbox=(12, 51, 14, 53)))

Names are imported on first use, so `import scenefuse` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenefuse.archive.bounds import Bounds as Bounds
    from scenefuse.archive.pairing import PairRule as PairRule
    from scenefuse.config import RunConfig as RunConfig
    from scenefuse.errors import SceneFuseError as SceneFuseError
    from scenefuse.pipeline.batch import batch as batch
    from scenefuse.pipeline.evaluate import evaluate_product as evaluate_product
    from scenefuse.pipeline.fuse import fuse as fuse
    from scenefuse.pipeline.opening import open_pair as open_pair
    from scenefuse.pipeline.planning import plan_fusion as plan_fusion
    from scenefuse.pipeline.refill import refill as refill
    from scenefuse.pipeline.replay import replay as replay
    from scenefuse.pipeline.report import report as report
    from scenefuse.pipeline.train import TrainConfig as TrainConfig
    from scenefuse.pipeline.train import train as train
    from scenefuse.product.verify import verify as verify

__version__ = "0.1.0"

_HOMES = {
    "Bounds": "scenefuse.archive.bounds",
    "PairRule": "scenefuse.archive.pairing",
    "RunConfig": "scenefuse.config",
    "SceneFuseError": "scenefuse.errors",
    "batch": "scenefuse.pipeline.batch",
    "evaluate_product": "scenefuse.pipeline.evaluate",
    "fuse": "scenefuse.pipeline.fuse",
    "open_pair": "scenefuse.pipeline.opening",
    "replay": "scenefuse.pipeline.replay",
    "report": "scenefuse.pipeline.report",
    "plan_fusion": "scenefuse.pipeline.planning",
    "refill": "scenefuse.pipeline.refill",
    "train": "scenefuse.pipeline.train",
    "TrainConfig": "scenefuse.pipeline.train",
    "verify": "scenefuse.product.verify",
}
"""Where each public name lives."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 # the list of homes is the list of names


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scenefuse' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    if hasattr(value, "__dataclass_fields__"):
        from scenefuse.field_docs import describe_fields  # imported here: only interactive help needs it

        describe_fields(value)
    return value


def __dir__() -> list[str]:
    """All public names, including those not imported yet, for completion in notebooks."""
    return sorted({*globals(), *_HOMES})
