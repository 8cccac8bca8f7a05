"""JSON schemas shipped with the project, so that validation needs no network."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from scenefuse.errors import DataError
from scenefuse.place.shipped import shipped_folder

_CORE = "https://schemas.stacspec.org/v{version}/{kind}-spec/json-schema/{kind}.json"
_KINDS = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}
_OWN = "scenefuse/item.json"


def schema_folder() -> Path:
    """Folder of the shipped schemas; DataError if an installation lacks it."""
    folder = shipped_folder("catalogs") / "schemas"
    if not folder.is_dir():
        raise DataError(
            f"no schemas at {folder}", "items cannot be validated", "install scenefuse again: its wheel carries them"
        )
    return folder


def schema_map() -> dict[str, str]:
    """URL to file of every shipped schema, in the form of stac-validator's schema_map.

    A schema lies at its URL's host and path below schema_folder.
    """
    folder = schema_folder()
    files = sorted(path for path in folder.rglob("*.json") if path.parent != folder / "scenefuse")
    return {f"https://{path.relative_to(folder).as_posix()}": str(path) for path in files}


def schema_errors(document: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Violations of the shipped schemas by a STAC document, and the URLs of its schemas that are not shipped.

    The document is checked against the core schema of its version, its extensions and, if it is an item, scenefuse's
    own profile, which covers the fields that scenefuse writes of extensions whose schema is not shipped.
    """
    urls = [_CORE.format(version=document.get("stac_version"), kind=_KINDS.get(str(document.get("type")), "item"))]
    urls += document.get("stac_extensions") or []
    known = schema_map()
    missing = [url for url in urls if url not in known]
    validators = {url: _validator(known[url]) for url in urls if url in known}
    if document.get("type") == "Feature":
        validators["scenefuse profile"] = _validator(str(schema_folder() / _OWN))
    errors = [
        f"{url}: {error.json_path}: {error.message[:200]}"
        for url, validator in validators.items()
        for broken in validator.iter_errors(document)
        if (error := best_match([broken])) is not None  # type: ignore[no-untyped-call]  # of alternatives, the one that comes nearest to holding
    ]
    return errors, missing


@cache
def _validator(path: str) -> Validator:
    checker = jsonschema.Draft7Validator.FORMAT_CHECKER
    return jsonschema.Draft7Validator(_read(path).contents, registry=_registry(), format_checker=checker)


@cache
def _registry() -> Registry[Any]:
    """Every shipped schema by its URL; a reference to any other schema fails."""
    return Registry[Any]().with_resources((url, _read(path)) for url, path in schema_map().items())


def _read(path: str) -> Resource[Any]:
    return Resource.from_contents(json.loads(Path(path).read_bytes()), default_specification=DRAFT7)
