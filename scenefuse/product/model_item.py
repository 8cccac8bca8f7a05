"""Trained weights as a STAC item with the Machine Learning Model extension (MLM 1.4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pystac
from pystac import Asset, Item
from pystac.extensions.mlm import (
    AcceleratorType,
    InputStructure,
    MLMExtension,
    ModelInput,
    ModelOutput,
    ResultStructure,
    TaskType,
)
from pystac.extensions.raster import DataType

from scenefuse.models.base import ModelCard
from scenefuse.models.weights import WeightsCard
from scenefuse.place.durable import multihash
from scenefuse.product.stac_item import FILE_EXTENSION, stac_band
from scenefuse.sensors.band import Band

TRAINING = ("seed", "recipe", "steps", "stopped", "score", "bicubic", "float16_cost_db")
"""What the item repeats of the card's training; the scenes and their digests stand in the card alone."""
AXES = ["batch", "band", "y", "x"]
"""Axes of both inputs and of the result."""


def build_model_item(
    item_id: str, weights: WeightsCard, model: ModelCard, *, href: str, size_bytes: int, made: datetime | None = None
) -> dict[str, Any]:
    """The item document of weights that lie at href (relative to the item) and have so many bytes.

    Two inputs, reflectance on full scale 1, the coarse one with its margin; one output on the fine grid with the
    coarse one's bands. A model shows no ground, so the item has no geometry. made: its time; None for now.
    """
    item = Item(
        id=item_id,
        geometry=None,
        bbox=None,
        datetime=made or datetime.now(UTC),
        properties={
            "title": f"{model.title}, trained for {len(weights.hs_bands)} and {len(weights.ms_bands)} bands at ratio "
            f"{weights.ratio}",
            "license": weights.licence,
            "scenefuse:ratio": weights.ratio,
            "scenefuse:training": {key: weights.training[key] for key in TRAINING if key in weights.training},
        },
        stac_extensions=[FILE_EXTENSION],
    )
    task = [TaskType.SUPER_RESOLUTION]
    result = ResultStructure.create([-1, len(weights.hs_bands), -1, -1], AXES, DataType.FLOAT32)
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=item_id,
        architecture=weights.architecture,
        tasks=task,
        input=[_input("hs", weights.hs_bands), _input("ms", weights.ms_bands)],
        output=[ModelOutput.create("fused", task, result)],
        framework="PyTorch",
        framework_version=weights.training.get("torch"),
        total_parameters=model.parameters,
        pretrained=False,
        batch_size_suggestion=1,
        accelerator=AcceleratorType.CUDA,
        accelerator_constrained=False,
    )
    asset = Asset(
        href=href,
        title="Weights (safetensors)",
        media_type="application/octet-stream",
        roles=["mlm:model", "data"],
        extra_fields={
            "mlm:artifact_type": "safetensors",
            "file:checksum": multihash(weights.sha256),
            "file:size": size_bytes,
            "bands": [stac_band(band) for band in (*weights.hs_bands, *weights.ms_bands)],
        },
    )
    item.add_asset("weights", asset)
    card = Asset(href=href.removesuffix(".safetensors") + ".json", title="Card", media_type=pystac.MediaType.JSON)
    card.roles = ["metadata"]
    item.add_asset("card", card)
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def _input(name: str, bands: tuple[Band, ...]) -> ModelInput:
    """One image, of any size."""
    shape = InputStructure.create([-1, len(bands), -1, -1], AXES, DataType.FLOAT32)
    return ModelInput.create(name, [band.name for band in bands], shape)
