"""What made a product as a STAC item: a network with MLM, a method without."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pystac
import pytest
from pystac.extensions.mlm import MLMExtension
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7
from stac_model.schema import MLModelProperties

from scenefuse.models.weights import WeightsCard
from scenefuse.place.durable import json_bytes
from scenefuse.place.shipped import shipped_folder
from scenefuse.product.model_item import build_method_item, build_model_item, digest_name
from scenefuse.product.schemas import schema_map
from tests.product.making import MODEL_CARD, SPEC

SHA256 = hashlib.sha256(b"weights").hexdigest()
WEIGHTS = WeightsCard(
    architecture="aelf-t",
    hs_bands=SPEC.bands,
    ms_bands=SPEC.bands[:3],
    ratio=3,
    training={"seed": 0, "score": {"psnr_db": float("inf"), "sam_deg": 0.5}, "torch": "2.13.0", "scenes": ["a"]},
    licence="CC-BY-4.0",
    sha256=SHA256,
)
NETWORK = replace(MODEL_CARD, name="aelf-t", title="AELF-t", parameters=7, weights_sha256=SHA256)


def _network(href: str | None = None, made: datetime | None = None) -> dict[str, Any]:
    return build_model_item("aelf-t-1", WEIGHTS, NETWORK, size_bytes=12, href=href, made=made)


def _shipped() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (shipped_folder("catalogs") / "weights").glob("*/*/item.json")]


@pytest.mark.filterwarnings("ignore:The 'stac_validator' package:DeprecationWarning")
@pytest.mark.parametrize("document", [_network(), _network("./weights.safetensors"), build_method_item(MODEL_CARD)])
def test_stac_validator_accepts_the_core_offline(document: dict[str, Any], tmp_path: Path) -> None:
    from stac_validator.stac_validator import StacValidate  # type: ignore[attr-defined]

    (tmp_path / "model.json").write_bytes(json_bytes(document))
    validator = StacValidate(str(tmp_path / "model.json"), core=True, schema_map=schema_map())
    assert validator.run(), validator.message


@pytest.mark.parametrize("document", [_network(), _network("./weights.safetensors"), *_shipped()])
def test_the_schema_of_mlm_accepts_a_network(document: dict[str, Any], test_data: Path) -> None:
    """But for one rule: it wants the bands of STAC 1.1 in the item's properties, where STAC 1.1 forbids them."""
    more = test_data / "stac-schemas"
    if not (more / "stac-extensions.github.io" / "mlm").is_dir():
        pytest.skip("no schemas of mlm 1.4 and what it refers to in stac-schemas/<host>/<path> of the test data")
    schemas = {f"https://{path.relative_to(more)}": json.loads(path.read_text()) for path in more.rglob("*.json")}
    mlm = schemas["https://stac-extensions.github.io/mlm/v1.4.0/schema.json"]
    mlm["$defs"]["AnyBandsRef"] = True
    registry = Registry[Any]().with_resources(
        (url, Resource.from_contents(schema, default_specification=DRAFT7)) for url, schema in schemas.items()
    )
    errors = [error.message for error in jsonschema.Draft7Validator(mlm, registry=registry).iter_errors(document)]
    assert errors == []


@pytest.mark.parametrize("document", [_network(), *_shipped()])
def test_every_band_of_an_input_is_described_at_the_weights(document: dict[str, Any]) -> None:
    properties = document["properties"]
    model = MLModelProperties.model_validate({k: v for k, v in properties.items() if k.startswith("mlm:")})
    named = [band if isinstance(band, str) else band.name for source in model.input for band in source.bands or ()]
    assert named == [band["name"] for band in document["assets"]["weights"]["bands"]]


def test_weights_that_lie_elsewhere_are_named_by_their_digest() -> None:
    item = pystac.Item.from_dict(_network())
    item.set_self_href("https://a.example/p/model.json")
    asset = item.assets["weights"]
    name = asset.get_absolute_href() or ""
    scheme, _, value = name.partition(";")
    assert scheme == "ni:///sha-256"
    assert base64.urlsafe_b64decode(value + "=").hex() == SHA256
    assert set(item.assets) == {"weights"}
    assert digest_name(SHA256) == name


def test_weights_beside_the_item_are_linked_with_their_card() -> None:
    item = pystac.Item.from_dict(_network("./weights.safetensors"))
    assert {key: asset.href for key, asset in item.assets.items()} == {
        "weights": "./weights.safetensors",
        "card": "./weights.json",
    }


def test_an_item_without_a_time_holds_always_and_has_the_same_bytes_whenever_it_is_made() -> None:
    assert json_bytes(_network()) == json_bytes(_network())
    assert json_bytes(build_method_item(MODEL_CARD)) == json_bytes(build_method_item(MODEL_CARD))
    properties = _network()["properties"]
    assert properties["datetime"] is None
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "1900-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    )
    assert _network(made=datetime(2026, 1, 2, tzinfo=UTC))["properties"]["datetime"] == "2026-01-02T00:00:00Z"


def test_an_infinite_score_is_null_which_json_has() -> None:
    assert _network()["properties"]["scenefuse:training"] == {"seed": 0, "score": {"psnr_db": None, "sam_deg": 0.5}}


def test_pystac_reads_a_network_and_does_not_take_a_method_for_one() -> None:
    model = MLMExtension.ext(pystac.Item.from_dict(_network()))
    assert (model.mlm_name, model.architecture, model.total_parameters) == ("aelf-t-1", "aelf-t", 7)
    method = pystac.Item.from_dict(build_method_item(MODEL_CARD))
    assert not MLMExtension.has_extension(method)
    assert method.properties["title"] == MODEL_CARD.title
    assert method.properties["scenefuse:options"] == {"ridge": 1e-6}


def test_papers_are_cited_by_their_doi() -> None:
    source = "Li 2026, arXiv:2604.10584v2; Selva et al. 2015, doi 10.1109/JSTARS.2015.2440092; Liu, 10.1080/01431.x"
    links = build_method_item(replace(MODEL_CARD, source=source))["links"]
    assert [link["href"] for link in links if link["rel"] == "cite-as"] == [
        "https://doi.org/10.1109/JSTARS.2015.2440092",
        "https://doi.org/10.1080/01431.x",
    ]
