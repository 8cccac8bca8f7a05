from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest

from scenefuse.errors import DataError, TransientError, WorkError
from scenefuse.place.location import place_at
from scenefuse.product import commit as commit_module
from scenefuse.product.catalog import link_item, new_collection, widen
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.levels import make_overviews
from scenefuse.product.model_item import build_method_item, write_model_item
from scenefuse.product.verify import verify
from tests.product.making import ITEM_ID, MODEL_CARD, PAIR, PROVENANCE, RUN, SPEC, random_scene, write_scene


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def _commit(folder: Path) -> Path:
    return commit(folder, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN).local_path()


STEPS = ("measure", "write_manifest", "write_provenance", "write_run", "build_item", "write_item", "link_item")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_commit_interrupted_at_any_step_can_be_repeated_with_the_same_result(
    committed: Path, product: Path, monkeypatch: pytest.MonkeyPatch, step: str, *, after: bool
) -> None:
    output = product.parent
    for name in (f"{ITEM_ID}/{ITEM_ID}.json", f"{ITEM_ID}/provenance.json", f"{ITEM_ID}/fused.zarr.manifest"):
        (output / name).unlink()
    real = getattr(commit_module, step)

    def interrupted(*args: object, **options: object) -> None:
        if after:
            real(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commit_module, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            _commit(product)
    item_is_there = (product / f"{ITEM_ID}.json").exists()
    assert item_is_there == (step == "link_item" or (step == "write_item" and after)), "the item comes last"
    _commit(product)
    assert _contents(output) == _contents(committed.parent)
    assert verify(product).ok


def test_what_a_killed_run_coded_of_the_cog_takes_no_room_from_the_next(
    product: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = product / ".scratch-1.part"
    left.mkdir()

    def watched(*arguments: Any, **options: Any) -> Any:
        assert not left.exists()
        return make_overviews(*arguments, **options)

    monkeypatch.setattr(commit_module, "make_overviews", watched)
    finish_data(product, SPEC, cog=True)
    assert not left.exists()


def test_what_crashed_writers_left_is_removed(product: Path) -> None:
    (product / ".fused.tif.1-1.part").write_bytes(b"half")
    (product / "fused.zarr/reflectance/c/0/0/.0.1-1.part").write_bytes(b"half")
    _commit(product)
    assert not list(product.rglob("*.part"))
    assert verify(product).ok


def test_a_missing_shard_stops_the_commit_before_anything_is_written(product: Path) -> None:
    (product / "fused.zarr/reflectance/c/0/2/1").unlink()
    with pytest.raises(WorkError, match="reflectance/c/0/2/1"):
        _commit(product)
    with pytest.raises(WorkError, match="reflectance/c/0/2/1"):
        finish_data(product, SPEC, cog=False)
    assert not (product / f"{ITEM_ID}.json").exists()


def test_a_shard_that_is_not_what_the_ledger_says_stops_the_commit(tmp_path: Path) -> None:
    folder = tmp_path / ITEM_ID
    receipts = write_scene(folder, *random_scene())
    finish_data(folder, SPEC, cog=False)
    path = folder / "fused.zarr" / receipts[0].key
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(WorkError, match="differ from the ledger"):
        commit(folder, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN, receipts=receipts)
    assert not (folder / f"{ITEM_ID}.json").exists()


def test_the_same_work_in_another_place_gives_the_same_bytes(committed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / ITEM_ID
    write_scene(folder, *random_scene())
    finish_data(folder, SPEC, cog=True)
    write_model_item(place_at(folder), build_method_item(MODEL_CARD))
    _commit(folder)
    assert _contents(folder.parent) == _contents(committed.parent)


def test_without_a_cog_the_item_has_no_such_asset(tmp_path: Path) -> None:
    folder = tmp_path / ITEM_ID
    write_scene(folder, *random_scene())
    finish_data(folder, SPEC, cog=False)
    item = json.loads(_commit(folder).read_text())
    assert set(item["assets"]) == {"reflectance", "quality", "quicklook", "manifest", "provenance", "run"}
    assert verify(folder).ok


def _item(number: int) -> dict[str, Any]:
    longitude = float(number)
    return {
        "id": f"item{number}",
        "bbox": [longitude, -longitude, longitude + 1.0, 1.0 + longitude],
        "properties": {
            "datetime": f"2024-01-{number + 1:02d}T00:00:00Z",
            "gsd": 10.0 + number,
            "instruments": ["msi", f"hsi{number % 4}"],
            "proj:code": f"EPSG:3263{number % 2}",
            "scenefuse:ratio": number + 2,
        },
        "assets": {
            "reflectance": {"href": "./fused.zarr", "type": "z", "roles": ["data"], "raster:scale": 1e-4, "bands": []},
            f"extra{number % 2}": {"href": "./extra", "type": "e", "roles": ["x"], "title": f"{number % 4}"},
        },
    }


def _link(root: Path, number: int) -> bool:
    item = _item(number)
    path = root / f"{item['id']}/{item['id']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(item))
    return link_item(root, item)


def _link_some(root: Path, numbers: list[int]) -> None:
    for number in numbers:
        _link(root, number)


def test_an_item_that_is_not_there_is_not_linked(tmp_path: Path) -> None:
    """Another folder may stand in its place, where a share is not mounted any more."""
    _link(tmp_path, 0)
    before = _contents(tmp_path)
    with pytest.raises(TransientError, match="went away"):
        link_item(tmp_path, _item(1))
    with pytest.raises(TransientError, match="went away"):
        link_item(tmp_path / "absent", _item(1))
    assert _contents(tmp_path) == before


def test_a_collections_extent_does_not_depend_on_which_item_came_first() -> None:
    one, other = new_collection(_item(3)), new_collection(_item(0))
    widen(one, _item(0))
    widen(other, _item(3))
    assert one["extent"] == other["extent"]
    assert one["extent"]["temporal"]["interval"] == [["2024-01-01T00:00:00Z", "2024-01-04T00:00:00Z"]]


def test_items_committed_at_the_same_time_are_all_linked(tmp_path: Path) -> None:
    workers = [threading.Thread(target=_link_some, args=(tmp_path, list(range(k, 12, 3)))) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    collection = pystac.Collection.from_file(str(tmp_path / "collection.json"))
    hrefs = [link.href for link in collection.links if link.rel == "item"]
    assert hrefs == sorted(f"./item{n}/item{n}.json" for n in range(12))
    assert collection.extent.spatial.bboxes == [[0.0, -11.0, 12.0, 12.0]]
    assert collection.extent.to_dict()["temporal"]["interval"] == [["2024-01-01T00:00:00Z", "2024-01-12T00:00:00Z"]]

    assert collection.summaries.get_list("instruments") == ["hsi0", "hsi1", "hsi2", "hsi3", "msi"]
    assert collection.summaries.get_list("proj:code") == ["EPSG:32630", "EPSG:32631"]
    assert collection.summaries.get_list("scenefuse:ratio") == list(range(2, 14))
    gsd = collection.summaries.get_range("gsd")
    assert gsd is not None
    assert gsd.to_dict() == {"minimum": 10.0, "maximum": 21.0}
    assert {key: asset.to_dict() for key, asset in collection.item_assets.items()} == {
        "reflectance": {"type": "z", "roles": ["data"], "raster:scale": 1e-4},
        "extra0": {"type": "e", "roles": ["x"]},
        "extra1": {"type": "e", "roles": ["x"]},
    }


def test_a_collection_of_an_older_release_gets_no_summaries_of_its_last_item_alone(tmp_path: Path) -> None:
    _link(tmp_path, 0)
    old = json.loads((tmp_path / "collection.json").read_text())
    del old["summaries"], old["item_assets"], old["stac_extensions"]
    (tmp_path / "collection.json").write_text(json.dumps(old))
    _link(tmp_path, 1)
    assert not {"summaries", "item_assets"} & json.loads((tmp_path / "collection.json").read_text()).keys()


def test_summaries_that_others_wrote_in_another_form_are_kept(tmp_path: Path) -> None:
    _link(tmp_path, 0)
    collection = json.loads((tmp_path / "collection.json").read_text())
    theirs = {"gsd": [10.0], "instruments": {"type": "string"}, "proj:code": [{"odd": 1}], "mission": ["a"]}
    collection["summaries"] |= theirs
    (tmp_path / "collection.json").write_text(json.dumps(collection))
    _link(tmp_path, 1)
    summaries = json.loads((tmp_path / "collection.json").read_text())["summaries"]
    assert {name: summaries[name] for name in ("gsd", "instruments", "mission")} == {
        name: theirs[name] for name in ("gsd", "instruments", "mission")
    }
    assert summaries["proj:code"] == ["EPSG:32631", {"odd": 1}]
    assert summaries["scenefuse:ratio"] == [2, 3]


def test_linking_what_is_linked_leaves_the_file_as_another_program_wrote_it(tmp_path: Path) -> None:
    _link(tmp_path, 0)
    path = tmp_path / "collection.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    before = path.read_bytes()
    assert not _link(tmp_path, 0)
    assert path.read_bytes() == before


def test_linking_keeps_what_others_wrote_into_the_catalogue(tmp_path: Path) -> None:
    assert _link(tmp_path, 0)
    assert not _link(tmp_path, 0)
    catalog = json.loads((tmp_path / "catalog.json").read_text())
    catalog["links"].append({"rel": "child", "href": "./other/collection.json"})
    catalog["title"] = "Ours"
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    _link(tmp_path, 1)
    kept = json.loads((tmp_path / "catalog.json").read_text())
    assert kept["title"] == "Ours"
    assert [link["href"] for link in kept["links"] if link["rel"] == "child"] == [
        "./collection.json",
        "./other/collection.json",
    ]


def test_another_collection_in_the_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "collection.json").write_text('{"id": "landsat", "type": "Collection"}')
    with pytest.raises(DataError, match="landsat"):
        _link(tmp_path, 0)
    (tmp_path / "collection.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        _link(tmp_path, 0)


def test_provenance_names_the_manifest_it_was_committed_with(product: Path) -> None:
    text = (product / "provenance.json").read_text()
    write_scene(product, random_scene(seed=1)[0], random_scene()[1])
    finish_data(product, SPEC, cog=True)
    commit(product, SPEC, pair=PAIR, provenance=replace(PROVENANCE, manifest_sha256="stale"), run=RUN)
    assert (product / "provenance.json").read_text() != text
    assert verify(product).ok
