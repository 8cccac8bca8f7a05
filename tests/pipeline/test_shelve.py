"""Weights on the shelf: put there under a name, found by name, by digest, or by the bands of a pair."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pystac
import pytest
from stac_model.schema import MLModelProperties

from scenefuse.errors import ModelError, UsageError
from scenefuse.models.ref import ModelRef
from scenefuse.models.shelf import find_by_digest, find_by_name, find_fitting, resolve, shelved, with_weights
from scenefuse.pipeline.shelve import shelve
from tests.models.test_network_model import saved


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCENEFUSE_WEIGHTS", str(tmp_path / "shelf"))
    return tmp_path / "shelf"


@pytest.fixture
def ref(tmp_path: Path) -> ModelRef:
    return saved(tmp_path, "aelf-t", width=8, step=8)


def put(ref: ModelRef, name: str) -> str:
    assert ref.weights is not None
    return shelve(Path(ref.weights), name).label


def test_the_same_weights_keep_their_version(ref: ModelRef) -> None:
    assert [put(ref, "fields"), put(ref, "fields")] == ["fields@1", "fields@1"]


def test_weights_have_their_name_only_when_they_are_on_the_disk(
    ref: ModelRef, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: set[int] = set()
    sync = os.fsync

    def synced(descriptor: int) -> None:
        sync(descriptor)
        on_disk.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", synced)
    put(ref, "fields")
    names = [shelf / "fields", *(shelf / "fields").rglob("*")]
    assert len(names) == 5
    assert {path.stat().st_ino for path in names} <= on_disk


def test_a_tilde_in_the_path_of_weights_is_the_home_folder(
    ref: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ref.weights is not None
    assert resolve(f"~/{Path(ref.weights).relative_to(tmp_path)}") == Path(ref.weights)


def test_a_name_finds_its_newest_version_and_a_version_itself(ref: ModelRef, tmp_path: Path) -> None:
    put(ref, "fields")
    (tmp_path / "other").mkdir()
    newer = saved(tmp_path / "other", "aelf-t", seed=4, width=8, step=8)
    assert put(newer, "fields") == "fields@2"
    newest, first = find_by_name("fields"), find_by_name("fields@1")
    assert newest is not None
    assert first is not None
    assert (newest.version, newest.card.sha256) == (2, newer.weights_sha256)
    assert (first.version, first.card.sha256) == (1, ref.weights_sha256)
    assert resolve("fields@1") == first.path
    assert find_by_digest(ref.weights_sha256 or "") == first


def test_weights_without_a_card_hide_no_others(ref: ModelRef, shelf: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)  # a cluster of an earlier test may have silenced the handlers of pytest
    put(ref, "fields")
    (shelf / "broken" / "1").mkdir(parents=True)
    (shelf / "broken" / "1" / "weights.safetensors").write_bytes(b"")
    assert find_fitting(replace(ref, weights=None, weights_sha256=None)).label == "fields@1"
    assert "broken" in caplog.text
    caplog.clear()
    assert resolve("fields").is_file()
    assert not caplog.text
    with pytest.raises(ModelError, match=r"broken.*cannot be read"):
        resolve("broken")


def test_a_pair_finds_the_weights_for_its_bands(ref: ModelRef) -> None:
    put(ref, "fields")
    bare = replace(ref, weights=None, weights_sha256=None)
    assert find_fitting(bare).label == "fields@1"
    assert with_weights(bare, None).weights_sha256 == ref.weights_sha256
    with pytest.raises(ModelError, match=r"for other bands or ratios there are .*fields@1"):
        find_fitting(replace(bare, ratio=2))


def test_two_names_that_fit_are_told_apart_by_the_user(ref: ModelRef) -> None:
    put(ref, "fields")
    put(ref, "towns")
    with pytest.raises(ModelError, match="2 weights for aelf-t fit this pair: fields, towns"):
        find_fitting(replace(ref, weights=None))


def test_an_unknown_name_is_refused_with_those_that_are_there(ref: ModelRef) -> None:
    put(ref, "fields")
    with pytest.raises(ModelError, match=r"feilds is not a file.*fields@1"):
        resolve("feilds")


def test_a_name_that_is_no_folder_is_refused(ref: ModelRef) -> None:
    with pytest.raises(UsageError, match="as the name of weights"):
        put(ref, "../fields")


def test_truncated_weights_never_come_onto_the_shelf(ref: ModelRef, shelf: Path) -> None:
    assert ref.weights is not None
    path = Path(ref.weights)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="has SHA-256"):
        put(ref, "fields")
    assert not list(shelf.glob("*/*"))


def test_the_item_is_a_model_by_the_machine_learning_model_extension(ref: ModelRef, shelf: Path) -> None:
    put(ref, "fields")
    document = json.loads((shelf / "fields" / "1" / "item.json").read_text())
    item = pystac.Item.from_dict(document)
    assert item.id == "fields-1"
    model = MLModelProperties.model_validate({k: v for k, v in document["properties"].items() if k.startswith("mlm:")})
    assert model.architecture == "aelf-t"
    assert [len(source.bands or ()) for source in model.input] == [len(ref.hs_bands), len(ref.ms_bands)]
    asset = item.assets["weights"]
    assert asset.extra_fields["file:checksum"] == f"1220{ref.weights_sha256}"
    assert (shelf / "fields" / "1" / asset.href).stat().st_size == asset.extra_fields["file:size"]
    assert "mlm:model" in (asset.roles or [])


def test_a_network_is_refused_when_there_are_no_weights_of_it_at_all(ref: ModelRef) -> None:
    assert all(entry.card.architecture != "s3rnet" for entry in shelved())
    with pytest.raises(ModelError, match="no weights of s3rnet"):
        find_fitting(replace(ref, name="s3rnet", weights=None))
