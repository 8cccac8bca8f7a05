from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from scenefuse.product.schemas import schema_errors, schema_folder, schema_map
from tests.product.making import ITEM_ID


@pytest.fixture
def item(committed: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((committed / f"{ITEM_ID}.json").read_text())
    return document


def test_every_carried_schema_lies_at_its_own_url() -> None:
    for url, path in schema_map().items():
        given = json.loads(Path(path).read_text()).get("$id", "").rstrip("#")
        misspelt_by_its_makers = {"commonjson": "common.json"}
        last = given.rpartition("/")[2]
        assert given.replace(last, misspelt_by_its_makers.get(last, last)) == url


def test_a_good_item_breaks_no_schema_and_missing_schemas_are_named(item: dict[str, Any]) -> None:
    errors, missing = schema_errors(item)
    assert errors == []
    assert all(url not in schema_map() for url in missing)
    assert set(missing) <= {
        url for url in item["stac_extensions"] if any(n in url for n in ("/eo/", "/raster/", "/processing/"))
    }


def _without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return changed


@pytest.mark.parametrize(
    "path",
    [
        ("geometry",),
        ("properties", "datetime"),
        ("properties", "scenefuse:identity"),
        ("properties", "processing:lineage"),
        ("assets", "reflectance", "bands"),
        ("assets", "cog", "raster:scale"),
        ("assets", "quality", "file:checksum"),
        ("assets", "provenance"),
    ],
)
def test_an_item_that_lacks_what_it_must_say_is_found(item: dict[str, Any], path: tuple[str, ...]) -> None:
    assert schema_errors(_without(item, *path))[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scenefuse:ratio", 3.5),
        ("scenefuse:grid", "own"),
        ("scenefuse:typo", 1),
        ("proj:shape", [1]),
        ("datetime", "yesterday"),
    ],
)
def test_properties_of_a_wrong_form_are_found(item: dict[str, Any], field: str, value: object) -> None:
    item["properties"][field] = value
    assert any(field in error for error in schema_errors(item)[0])


def test_schemas_are_found_without_a_network() -> None:
    assert (schema_folder() / "schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json").is_file()
