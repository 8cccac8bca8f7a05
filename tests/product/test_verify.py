from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scenefuse.engine.state_file import load_state, save_state
from scenefuse.errors import DataError, MismatchError
from scenefuse.models.state import SceneState
from scenefuse.product.provenance import read_provenance, write_provenance
from scenefuse.product.verify import verify
from tests.product.making import ITEM_ID

ITEM = f"{ITEM_ID}.json"


def _flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def _kinds(folder: Path) -> set[tuple[str, str]]:
    return {(mismatch.kind, mismatch.name) for mismatch in verify(folder).mismatches}


def test_a_committed_product_is_good(committed: Path) -> None:
    report = verify(committed)
    assert report.mismatches == ()
    assert report.ok
    report.raise_if_bad()
    stored = sum(path.is_file() for path in (committed / "fused.zarr").rglob("*"))
    assert report.files == stored + len(["cog", "quality", "quicklook", "model", "manifest", "provenance", "run"])


@pytest.mark.parametrize(
    "name", ["fused.tif", "quality.tif", "quicklook.png", "model.json", "provenance.json", "run.json"]
)
def test_a_changed_file_is_found(product: Path, name: str) -> None:
    _flip(product / name)
    assert ("checksum", name) in _kinds(product)


@pytest.mark.parametrize(
    "key",
    ["zarr.json", "reflectance/zarr.json", "reflectance/c/0/2/1", "quality/c/0/0", "x/c/0", "spatial_ref/zarr.json"],
)
def test_a_changed_file_of_the_store_is_found(product: Path, key: str) -> None:
    _flip(product / "fused.zarr" / key, 10)
    assert ("checksum", f"fused.zarr/{key}") in _kinds(product)


@pytest.mark.parametrize("key", ["zarr.json", "reflectance/c/0/2/1", "quality/c/0/0"])
def test_a_missing_file_of_the_store_is_found(product: Path, key: str) -> None:
    (product / "fused.zarr" / key).unlink()
    assert ("missing", f"fused.zarr/{key}") in _kinds(product)


@pytest.mark.parametrize(
    "name", ["fused.tif", "provenance.json", "quicklook.png", "model.json", "run.json", "fused.zarr.manifest"]
)
def test_a_missing_file_is_found(product: Path, name: str) -> None:
    (product / name).unlink()
    assert ("missing", name) in _kinds(product)


def test_a_folder_that_was_renamed_is_told_as_such(product: Path) -> None:
    moved = product.rename(product.with_name("copy"))
    (item,) = (mismatch for mismatch in verify(moved).mismatches if mismatch.kind == "item")
    assert item.message.startswith(f"is not there, but {ITEM}: ")
    (moved / ITEM).unlink()
    (item,) = (mismatch for mismatch in verify(moved).mismatches if mismatch.kind == "item")
    assert item.message == "is not there"


def test_a_shortened_shard_is_found_by_size_and_by_decoding(product: Path) -> None:
    path = product / "fused.zarr/reflectance/c/0/0/0"
    path.write_bytes(path.read_bytes()[:-1000])
    name = "fused.zarr/reflectance/c/0/0/0"
    assert {("size", name), ("undecodable", name)} <= _kinds(product)


def test_a_methods_item_of_other_weights_is_found(product: Path) -> None:
    provenance = read_provenance(product)
    write_provenance(product, replace(provenance, method=replace(provenance.method, weights_sha256="ab" * 32)))
    messages = [mismatch.message for mismatch in verify(product).mismatches]
    assert f"digest of the weights is '1220{'ab' * 32}', but there is None" in messages


def test_foreign_files_are_found(product: Path) -> None:
    (product / "notes.txt").write_text("")
    (product / ".fused.tif.1-1.part").write_text("")
    (product / "fused.zarr/reflectance/c/0/9").mkdir()
    (product / "fused.zarr/reflectance/c/0/9/9").write_text("")
    expected = {"notes.txt", ".fused.tif.1-1.part", "fused.zarr/reflectance/c/0/9/9"}
    assert {name for kind, name in _kinds(product) if kind == "foreign"} == expected


def test_a_shard_exchanged_together_with_its_manifest_line_is_found(product: Path) -> None:
    manifest = product / "fused.zarr.manifest"
    shards = product / "fused.zarr/reflectance/c/0"
    first, second = (shards / "0/0").read_bytes(), (shards / "1/0").read_bytes()
    (shards / "0/0").write_bytes(second)
    (shards / "1/0").write_bytes(first)
    lines = manifest.read_text()
    a, b = (
        next(line for line in lines.splitlines() if line.endswith(f"reflectance/c/0/{key}")) for key in ("0/0", "1/0")
    )
    swapped = (
        lines.replace(a, a.replace("0/0/0", "@")).replace(b, b.replace("0/1/0", "0/0/0")).replace("c/@", "c/0/1/0")
    )
    manifest.write_text(swapped)
    assert {("checksum", "fused.zarr.manifest"), ("provenance", "provenance.json")} <= _kinds(product)


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        document: dict[str, Any] = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return edit


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (_edit(lambda item: item.pop("geometry")), "schema"),
        (_edit(lambda item: item.update(id="other")), "item"),
        (_edit(lambda item: item["assets"]["cog"].update(href="../other/fused.tif")), "item"),
        (_edit(lambda item: item["assets"]["cog"].update({"file:size": 1})), "size"),
        (_edit(lambda item: item["properties"].update({"scenefuse:identity": "0" * 64})), "provenance"),
        (_edit(lambda item: item.update(properties=None)), "item"),
        (_edit(lambda item: item.update(links={})), "item"),
        (_edit(lambda item: item["assets"].update(cog=None)), "schema"),
        (_edit(lambda item: item["assets"]["cog"].update(href="./fused.zarr")), "missing"),
        (lambda path: path.write_text("{"), "item"),
        (lambda path: path.write_text("[]"), "item"),
        (lambda path: path.unlink(), "item"),
    ],
)
def test_a_changed_item_is_found(product: Path, edit: Callable[[Path], None], kind: str) -> None:
    edit(product / ITEM)
    assert kind in {found for found, _ in _kinds(product)}


@pytest.mark.parametrize(("text", "kind"), [("", "foreign"), ("not a manifest\n", "manifest")])
def test_a_damaged_manifest_is_found(product: Path, text: str, kind: str) -> None:
    (product / "fused.zarr.manifest").write_text(text)
    assert {"checksum", "provenance", kind} <= {found for found, _ in _kinds(product)}


def test_the_provenance_of_another_product_is_found(product: Path) -> None:
    write_provenance(product, replace(read_provenance(product), item_id="another"))
    assert ("provenance", "provenance.json") in _kinds(product)


def test_a_state_of_another_digest_is_found(product: Path) -> None:
    state = product / "state.safetensors"
    save_state(state, SceneState(facts={"psf_sigma_px": 1.5}))
    write_provenance(product, replace(read_provenance(product), state_sha256=load_state(state).sha256))
    assert ("provenance", "provenance.json") not in _kinds(product)
    save_state(state, SceneState(facts={"psf_sigma_px": 1.6}))
    assert ("provenance", "provenance.json") in _kinds(product)
    state.write_bytes(b"damaged")
    assert ("provenance", "state.safetensors") in _kinds(product)


def test_what_was_not_checked_is_said(product: Path) -> None:
    assert any("state.safetensors" in line for line in verify(product).unchecked)


def test_a_bad_product_raises_a_mismatch_with_the_files_names(product: Path) -> None:
    _flip(product / "fused.tif")
    with pytest.raises(MismatchError, match=r"checksum fused\.tif"):
        verify(product).raise_if_bad()
    assert MismatchError.exit_code == 5


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        verify(tmp_path / "nothing")
