"""STAC item of what made a product: a network as a Machine Learning Model item (MLM 1.4), or a plain method."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pystac
from pystac import Asset, Item, Link
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
from scenefuse.place.durable import json_bytes, multihash
from scenefuse.place.place import Place
from scenefuse.product.files import MODEL
from scenefuse.product.stac_item import FILE_EXTENSION, stac_band
from scenefuse.sensors.band import Band

TRAINING = ("adapted_from", "seed", "recipe", "steps", "stopped", "score", "bicubic", "float16_cost_db")
"""Training fields that the item repeats from the card; scenes and their digests stay in the card alone."""
AXES = ["batch", "band", "y", "x"]
"""Axes of both inputs and of the output."""
ALWAYS = (datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
"""The interval that the MLM extension uses for anything not bound to a time."""

_DOI = re.compile(r"\b10\.\d{4,9}/[^\s;,]+")


def build_model_item(
    item_id: str,
    weights: WeightsCard,
    model: ModelCard,
    *,
    size_bytes: int,
    href: str | None = None,
    made: datetime | None = None,
) -> dict[str, Any]:
    """Build the STAC item document of a network's weights.

    Two inputs, reflectance on full scale 1, the coarse one with its margin; one output on the fine grid with the
    coarse one's bands. The bands are described on the weights asset: MLM's schema (up to 1.5.2) expects them in the
    item's properties, where STAC 1.1 forbids them. A model covers no ground, so the item has no geometry.
    size_bytes: size of the weights file. href: the file relative to the item; None when it does not lie beside the
    item, and the asset then names it by digest. made: creation time; None for an item whose bytes do not depend on it.
    """
    ratio = f"{len(weights.hs_bands)} and {len(weights.ms_bands)} bands at ratio {weights.ratio}"
    item = _item(item_id, model, made, title=f"{model.title}, trained for {ratio}")
    item.properties |= {
        "license": weights.licence,
        "scenefuse:ratio": weights.ratio,
        "scenefuse:training": _json({key: weights.training[key] for key in TRAINING if key in weights.training}),
    }
    item.stac_extensions.append(FILE_EXTENSION)
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
        href=href or digest_name(weights.sha256),
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
    if href is not None:
        card = Asset(href=href.removesuffix(".safetensors") + ".json", title="Card", media_type=pystac.MediaType.JSON)
        card.roles = ["metadata"]
        item.add_asset("card", card)
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def build_method_item(method: ModelCard) -> dict[str, Any]:
    """Build the item document of a method without weights: source, ratio and options; no geometry."""
    item = _item(method.name, method, None, title=method.title)
    item.properties |= {
        "license": method.licence,
        "scenefuse:method": method.name,
        "scenefuse:ratio": method.ratio,
        "scenefuse:options": dict(method.options),
    }
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def write_model_item(folder: Place, document: dict[str, Any]) -> Place:
    """Write `model.json` to the product's folder; the same document gives the same bytes."""
    place = folder / MODEL
    place.put(json_bytes(document))
    return place


def digest_name(sha256: str) -> str:
    """URI that names content by its hexadecimal SHA-256 digest, independent of location (RFC 6920).

    >>> digest_name("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
    'ni:///sha-256;n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg'
    """
    return f"ni:///sha-256;{base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip('=')}"


def _item(item_id: str, model: ModelCard, made: datetime | None, *, title: str) -> Item:
    """The fields common to all methods: title, source and links to the papers."""
    start, end = (None, None) if made else ALWAYS
    properties = {"title": title, "description": f"{model.title}. {model.source}"}
    item = Item(
        id=item_id,
        geometry=None,
        bbox=None,
        datetime=made,
        start_datetime=start,
        end_datetime=end,
        properties=properties,
    )
    for doi in _DOI.findall(model.source):
        item.add_link(Link(rel="cite-as", target=f"https://doi.org/{doi}"))
    return item


def _json(value: Any) -> Any:
    """The value with non-finite floats, which JSON lacks, replaced by null: a score may be infinite."""
    if isinstance(value, Mapping):
        return {key: _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _input(name: str, bands: tuple[Band, ...]) -> ModelInput:
    """One input image of any size."""
    shape = InputStructure.create([-1, len(bands), -1, -1], AXES, DataType.FLOAT32)
    return ModelInput.create(name, [band.name for band in bands], shape)
