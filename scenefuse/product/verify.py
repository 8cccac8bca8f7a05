"""Verify a product against its checksums, its STAC item and its provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from scenefuse.engine.state_file import load_state
from scenefuse.errors import DataError, MismatchError
from scenefuse.place.durable import PART, multihash
from scenefuse.place.place import Place
from scenefuse.product.files import MANIFEST, MODEL, PROVENANCE, STATE, STORE
from scenefuse.product.folder import product_folder
from scenefuse.product.layout import belongs, lacking_item
from scenefuse.product.manifest import measure, read_manifest
from scenefuse.product.place_store import open_store
from scenefuse.product.provenance import Provenance, read_provenance
from scenefuse.product.schemas import schema_errors
from scenefuse.product.stac_item import read_item
from scenefuse.words import counted


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Mismatch:
    """One thing that is wrong with a product."""

    kind: str
    """`missing`, `foreign`, `size`, `checksum`, `undecodable`, `schema`, `item`, `provenance` or `manifest`."""
    name: str
    """The file, relative to the product's folder."""
    message: str
    """What was expected and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """Result of verifying a product."""

    product: str
    """Name of the product's folder."""
    files: int
    """Files whose digest was computed."""
    mismatches: tuple[Mismatch, ...]
    """Everything that is wrong, sorted; empty for an intact product."""
    unchecked: tuple[str, ...] = field(default=())
    """What could not be checked, and why; these are not mismatches."""

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.mismatches

    def raise_if_bad(self) -> None:
        """Raise a MismatchError naming the first few mismatches, if there are any."""
        if self.mismatches:
            listed = "; ".join(f"{m.kind} {m.name}" for m in self.mismatches[:5])
            raise MismatchError(
                f"{self.product} has {counted(len(self.mismatches), 'mismatch', 'mismatches')} ({listed})",
                "it is not the product that was committed",
                "fetch it again from its source, or fuse the pair again",
            )


def verify(folder: str | Path | Place) -> VerifyReport:
    """Find every mismatch of a product, its scene state included. Reads every byte and needs no network.

    In the report, `.ok` is True for an intact product, `.mismatches` lists what is wrong and `.unchecked` what could
    not be checked.

    Args:
        folder: The product's folder, local or s3://bucket/prefix/<item id>, or the item in it.

    Raises:
        DataError: If there is no product there.
    """
    folder = product_folder(folder)
    found: list[Mismatch] = []
    unchecked: list[str] = []
    files = _check_item(folder, found, unchecked)
    files += _check_store(folder, found)
    found += _foreign(folder)
    _check_provenance(folder, found, unchecked)
    return VerifyReport(
        product=folder.name, files=files, mismatches=tuple(sorted(set(found))), unchecked=tuple(sorted(unchecked))
    )


def _check_item(folder: Place, found: list[Mismatch], unchecked: list[str]) -> int:
    """Check the item's schemas and the sizes and digests of its assets; return how many files were hashed."""
    name = f"{folder.name}.json"
    try:
        item = read_item(folder)
        errors, missing_schemas = schema_errors(item)
        assets = dict(item["assets"])
    except FileNotFoundError:
        found.append(Mismatch(kind="item", name=name, message=lacking_item(folder)))
        return 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found.append(Mismatch(kind="item", name=name, message=f"cannot be read: {error!r}"))
        return 0
    found += [Mismatch(kind="schema", name=name, message=error) for error in errors]
    unchecked += [f"schema {url}: not carried" for url in missing_schemas]
    if item.get("id") != folder.name:
        found.append(Mismatch(kind="item", name=name, message=f"has the id {item.get('id')!r}"))
    checked = [_check_asset(folder, asset, found) for asset in assets.values() if isinstance(asset, dict)]
    return sum(checked)


def _check_asset(folder: Place, asset: dict[str, Any], found: list[Mismatch]) -> bool:
    """Check one asset's file; True if its digest was computed."""
    href = str(asset.get("href"))
    name = href.rpartition("/")[2]
    place, expected = folder / name, asset.get("file:checksum")
    if "://" not in href and href != f"./{name}":
        found.append(Mismatch(kind="item", name=name, message=f"has the href {href!r}, not './{name}'"))
    if not place.exists():
        found.append(Mismatch(kind="missing", name=name, message="the item has it as an asset"))
        return False
    if expected is None:
        return False
    if not place.is_file():
        found.append(Mismatch(kind="missing", name=name, message="the item gives its checksum, but it is no file"))
        return False
    size_bytes, sha256 = place.measure()
    if size_bytes != asset.get("file:size"):
        message = f"{size_bytes} bytes, not {asset.get('file:size')}"
        found.append(Mismatch(kind="size", name=name, message=message))
    digest = multihash(sha256)
    if digest != expected:
        found.append(Mismatch(kind="checksum", name=name, message=f"{digest}, not {expected}"))
    return True


def _check_store(folder: Place, found: list[Mismatch]) -> int:
    """Check the store for missing, foreign, altered and undecodable files; return how many files were hashed."""
    store = folder / STORE
    try:
        lines = read_manifest(folder)
    except MismatchError as error:
        found.append(Mismatch(kind="manifest", name=MANIFEST, message=error.value))
        return 0
    measured = {line.key: line for line in measure(store)}
    files = 0
    for line in lines:
        name = f"{STORE}/{line.key}"
        now = measured.get(line.key)
        if now is None:
            found.append(Mismatch(kind="missing", name=name, message="the manifest lists it"))
            continue
        files += 1
        if now.size_bytes != line.size_bytes:
            found.append(Mismatch(kind="size", name=name, message=f"{now.size_bytes} bytes, not {line.size_bytes}"))
        elif now.sha256 != line.sha256:
            found.append(Mismatch(kind="checksum", name=name, message=f"{now.sha256}, not {line.sha256}"))
    foreign = set(store.files()) - {line.key for line in lines}
    found += [
        Mismatch(kind="foreign", name=f"{STORE}/{key}", message="the manifest does not list it") for key in foreign
    ]
    found += _undecodable(store)
    return files


def _undecodable(store: Place) -> Iterator[Mismatch]:
    """Find the shards that zarr cannot decode, reading one at a time."""
    try:
        group = open_store(store)
        arrays = [
            (path, member)
            for path, member in group.members(max_depth=None)
            if isinstance(member, zarr.Array) and member.shards is not None
        ]
    except Exception as error:  # noqa: BLE001 -- damaged metadata makes zarr fail in as many ways as there are fields
        yield Mismatch(kind="undecodable", name=STORE, message=repr(error))
        return
    for path, array in sorted(arrays, key=lambda entry: entry[0]):
        counts = [-(-size // side) for size, side in zip(array.shape, array.shards or (), strict=True)]
        for place in np.ndindex(*counts):
            slices = tuple(slice(i * side, (i + 1) * side) for i, side in zip(place, array.shards or (), strict=True))
            name = f"{STORE}/{path}/c/{'/'.join(map(str, place))}"
            try:
                array[slices]
            except Exception as error:  # noqa: BLE001 -- each codec raises its own errors for damaged bytes
                yield Mismatch(kind="undecodable", name=name, message=repr(error))


def _foreign(folder: Place) -> Iterator[Mismatch]:
    for name in folder.names():
        if name.endswith(PART) or not belongs(name, folder.name):
            yield Mismatch(kind="foreign", name=name, message="a product does not have it")


def _check_provenance(folder: Place, found: list[Mismatch], unchecked: list[str]) -> None:
    try:
        provenance = read_provenance(folder)
    except MismatchError as error:
        found.append(Mismatch(kind="provenance", name=PROVENANCE, message=error.value))
        return
    manifest, state = folder / MANIFEST, folder / STATE
    pairs = [
        ("item id", provenance.item_id, folder.name),
        *_item_identity(folder, provenance),
        *_model_weights(folder, provenance),
    ]
    if manifest.is_file():
        digest = hashlib.sha256(manifest.read()).hexdigest()
        pairs.append(("digest of the manifest", provenance.manifest_sha256, digest))
    if state.is_file():
        try:
            pairs.append(("digest of the scene state", provenance.state_sha256, load_state(state).sha256))
        except DataError as error:
            found.append(Mismatch(kind="provenance", name=state.name, message=error.value))
    else:
        unchecked.append(f"{STATE} against the provenance: no such file")
    found += [
        Mismatch(kind="provenance", name=PROVENANCE, message=f"{what} is {said!r}, but there is {there!r}")
        for what, said, there in pairs
        if said != there
    ]


def _model_weights(folder: Place, provenance: Provenance) -> Iterator[tuple[str, str | None, Any]]:
    """The weights' digest in the provenance and in the method's item, if the item exists and can be read."""
    if not (folder / MODEL).is_file():  # a product of an older release
        return
    said = provenance.method.weights_sha256
    try:
        weights = json.loads((folder / MODEL).read())["assets"].get("weights", {})
        there = weights.get("file:checksum")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # the checksum of the item's asset reveals the damage
    yield "digest of the weights", None if said is None else multihash(said), there


def _item_identity(folder: Place, provenance: Provenance) -> Iterator[tuple[str, str, Any]]:
    """The identity in the provenance and in the item, if the item can be read."""
    try:
        properties = read_item(folder)["properties"]
    except (OSError, ValueError):
        return
    yield "identity", provenance.identity, properties.get("scenefuse:identity")
