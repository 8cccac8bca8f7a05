"""Provenance of a product as W3C PROV-JSON: deterministic, with a lossless round trip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from scenefuse.errors import MismatchError
from scenefuse.place.durable import json_bytes
from scenefuse.place.href import redact
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.files import PROVENANCE, RUN
from scenefuse.product.identity import ProductInput, ProductMethod

_PREFIXES = {
    "scenefuse": "urn:scenefuse:",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_JSON = "scenefuse:json"
_DROPPED = "href"
"""A method field, always empty, in products of older releases."""
_PRODUCT, _FUSE, _AGENT, _METHOD, _STATE = (
    "scenefuse:product",
    "scenefuse:fuse",
    "scenefuse:software",
    "scenefuse:method",
    "scenefuse:state",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the scene was cut and computed; with inputs, method and state, it reproduces the numbers."""

    core_px: int
    """Side of a core in fine pixels."""
    halo_px: int
    """Context on each side in fine pixels."""
    lattice_px: int
    """Tile origins are multiples of this many fine pixels."""
    tiling: Literal["exact"]
    """How tiles are combined into the product."""
    precision: str
    """Arithmetic of the network: `fp32`, `bf16` or `fp16`."""
    device: str
    """Kind of device: `cpu` or `cuda`."""
    batch: int
    """Windows computed at once."""
    instruction_set: str
    """The processor's, as torch names it: `AVX512`; for a GPU its compute capability, `sm_90`. If tiles were computed
    on different processors, all of them: `AVX2, AVX512`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Everything that the product's numbers depend on, and digests of the results."""

    item_id: str
    """STAC item id."""
    identity: str
    """Hexadecimal sha256 from product_identity."""
    inputs: tuple[ProductInput, ...]
    """Every file that was read."""
    method: ProductMethod
    """The method and its weights."""
    plan: Plan
    """Tiling, precision, device."""
    numerics: int
    """NUMERICS of the release that made the product."""
    software: Mapping[str, str]
    """Versions by package name, at least `scenefuse` and `torch`, of the software that computed tiles. If they differ
    between workers, or because a run was resumed after an upgrade, all of them: `2.12.0, 2.13.0`."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options of the run that change numbers, as given."""
    grid: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Facts about the grids: both GSDs, ratio, case, phase, kernel, registration shift."""
    state_sha256: str
    """SceneState.sha256 of the frozen state."""
    checks: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Findings of the run's self-check, SelfCheck.facts(); empty in products of releases without it."""
    manifest_sha256: str = ""
    """Digest of `fused.zarr.manifest`, which covers every array; empty until commit."""

    def to_prov(self) -> dict[str, Any]:
        """The PROV-JSON document (W3C member submission of 2013-04-24)."""
        files = {f"scenefuse:input/{number}": file for number, file in enumerate(self.inputs)}
        used = [*files, _METHOD, _STATE]
        return {
            "prefix": _PREFIXES,
            "entity": {
                **{name: _attributes(asdict(file), "scenefuse:Input") for name, file in files.items()},
                _METHOD: _attributes(asdict(self.method), "scenefuse:Method"),
                _STATE: _attributes({"sha256": self.state_sha256}, "scenefuse:State"),
                _PRODUCT: _attributes(
                    {
                        "item_id": self.item_id,
                        "identity": self.identity,
                        "manifest_sha256": self.manifest_sha256,
                        "grid": self.grid,
                        "checks": self.checks,
                    },
                    "scenefuse:Product",
                ),
            },
            "activity": {
                _FUSE: _attributes(
                    {"plan": asdict(self.plan), "options": self.options, "numerics": self.numerics}, "scenefuse:Fuse"
                )
            },
            "agent": {_AGENT: _attributes({"versions": self.software}, "prov:SoftwareAgent")},
            "used": {
                f"_:used{number}": {"prov:activity": _FUSE, "prov:entity": name} for number, name in enumerate(used)
            },
            "wasGeneratedBy": {"_:generated0": {"prov:entity": _PRODUCT, "prov:activity": _FUSE}},
            "wasDerivedFrom": {
                f"_:derived{number}": {"prov:generatedEntity": _PRODUCT, "prov:usedEntity": name}
                for number, name in enumerate(files)
            },
            "wasAssociatedWith": {"_:associated0": {"prov:activity": _FUSE, "prov:agent": _AGENT}},
        }

    @classmethod
    def from_prov(cls, document: Mapping[str, Any]) -> Provenance:
        """Inverse of to_prov."""
        entities, activity = document["entity"], _values(document["activity"][_FUSE])
        product = _values(entities[_PRODUCT])
        names = sorted(
            (name for name in entities if name.startswith("scenefuse:input/")), key=lambda n: int(n.split("/")[1])
        )
        return cls(
            item_id=product["item_id"],
            identity=product["identity"],
            manifest_sha256=product["manifest_sha256"],
            grid=product["grid"],
            checks=product.get("checks", {}),
            inputs=tuple(ProductInput(**_values(entities[name])) for name in names),
            method=ProductMethod(
                **{name: value for name, value in _values(entities[_METHOD]).items() if name != _DROPPED}
            ),
            state_sha256=_values(entities[_STATE])["sha256"],
            plan=Plan(**activity["plan"]),
            options=activity["options"],
            numerics=activity["numerics"],
            software=_values(document["agent"][_AGENT])["versions"],
        )


def write_provenance(folder: Path | Place, provenance: Provenance) -> Place:
    """Write `provenance.json` to the product's folder; the same provenance gives the same bytes."""
    place = place_at(folder) / PROVENANCE
    place.put(json_bytes(provenance.to_prov()))
    return place


def read_provenance(folder: Path | Place) -> Provenance:
    """Read the provenance of the product in folder; MismatchError if it cannot be read."""
    path = place_at(folder) / PROVENANCE
    try:
        return Provenance.from_prov(json.loads(path.read()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MismatchError(
            f"{path} is not a provenance that scenefuse wrote ({type(error).__name__}: {error})",
            "the product cannot be checked or recomputed",
            "fetch the product again, or fuse the pair again",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Facts of a run that its numbers do not depend on; they may differ between runs that give the same bytes."""

    started: datetime
    """Start of the run, UTC."""
    finished: datetime
    """End of the run, UTC."""
    host: str
    """Name of the coordinator's machine."""
    hrefs: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Where the inputs were found, by role: `hsi`, `msi`; used by replay. Redacted when written."""
    roots: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Source folders in which the inputs were found, by role; their items may refer to files there."""
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Durations in seconds, sizes in bytes, drift, seams, workers: JSON-compatible values."""


def write_run(folder: Path | Place, run: RunRecord) -> Place:
    """Write `run.json` to the product's folder."""
    hrefs = {role: redact(href) for role, href in run.hrefs.items()}
    times = {"started": run.started.isoformat(), "finished": run.finished.isoformat()}
    document = {**asdict(run), **times, "hrefs": hrefs}
    place = place_at(folder) / RUN
    place.put(json_bytes(document))
    return place


def read_run(folder: Path | Place) -> RunRecord:
    """Read the record that write_run wrote; MismatchError if it cannot be read."""
    path = place_at(folder) / RUN
    try:
        document = json.loads(path.read())
        times = {name: datetime.fromisoformat(document[name]) for name in ("started", "finished")}
        return RunRecord(**{**document, **times})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MismatchError(
            f"{path} is not a record that scenefuse wrote ({type(error).__name__}: {error})",
            "where the inputs were, and how long the run took, is not known",
            "fetch the product again, or fuse the pair again",
        ) from error


def _attributes(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """PROV-JSON attributes: strings and integers as they are, everything else as a literal of type scenefuse:json."""
    attributes: dict[str, Any] = {"prov:type": {"$": kind, "type": "prov:QUALIFIED_NAME"}}
    for name, value in values.items():
        plain = isinstance(value, str | int) and not isinstance(value, bool)
        text = value if plain else {"$": json.dumps(value, sort_keys=True, default=dict), "type": _JSON}
        attributes[f"scenefuse:{name}"] = text
    return attributes


def _values(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("scenefuse:"): json.loads(value["$"]) if isinstance(value, dict) else value
        for name, value in attributes.items()
        if name != "prov:type"
    }
