"""The report beside a product: an asset that comes and goes, and never makes the product a wrong one."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scenefuse.errors import DataError
from scenefuse.place.local import LocalPlace
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.place.store import StorePlace
from scenefuse.product import report_file
from scenefuse.product.catalog import link_item
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.report_file import has_report, put_report
from scenefuse.product.verify import verify
from tests.product.making import ITEM_ID, PAIR, PROVENANCE, RUN, SPEC, random_scene, write_scene
from tests.publish.making import published


def item_of(folder: Path | Place) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((place_at(folder) / f"{ITEM_ID}.json").read())
    return document


def test_a_report_becomes_an_asset_with_its_own_size_and_digest(product: Path) -> None:
    before = item_of(product)
    assert not has_report(product)
    put_report(product, "<p>one</p>")
    assert has_report(product)
    asset = item_of(product)["assets"].pop("report")
    digest = hashlib.sha256((product / "report.html").read_bytes()).hexdigest()
    assert asset["file:checksum"] == f"1220{digest}"
    assert asset["file:size"] == 10
    assert (asset["href"], asset["type"], asset["roles"]) == ("./report.html", "text/html", ["metadata", "overview"])
    assert {**item_of(product), "assets": before["assets"]} == before, "nothing else of the item changes"
    assert verify(product).ok
    (product / "report.html").write_text("<p>two</p>")
    assert [(found.kind, found.name) for found in verify(product).mismatches] == [("checksum", "report.html")]


def test_a_report_may_be_made_again_and_changes_no_other_file(product: Path) -> None:
    link_item(product.parent, item_of(product))
    kept = {path: path.read_bytes() for path in product.rglob("*") if path.is_file() and path.name != f"{ITEM_ID}.json"}
    put_report(product, "<p>one</p>")
    put_report(product, "<p>a longer one</p>")
    assert item_of(product)["assets"]["report"]["file:size"] == 19
    assert verify(product).ok
    assert {path: path.read_bytes() for path in kept} == kept
    collection = json.loads((product.parent / "collection.json").read_bytes())
    assert collection["item_assets"]["report"] == {
        "roles": ["metadata", "overview"],
        "title": "Report",
        "type": "text/html",
    }


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
def test_a_report_that_is_broken_off_anywhere_leaves_a_product_that_verifies(
    product: Path, monkeypatch: pytest.MonkeyPatch, step: int, *, after: bool
) -> None:
    put_report(product, "<p>old</p>")
    steps = []

    def stopping(real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            steps.append(real)
            if len(steps) == step and not after:
                raise KeyboardInterrupt
            result = real(*arguments)
            if len(steps) == step:
                raise KeyboardInterrupt
            return result

        return call

    with monkeypatch.context() as patch:
        patch.setattr(LocalPlace, "put", stopping(LocalPlace.put))
        patch.setattr(report_file, "_change", stopping(report_file._change))
        with pytest.raises(KeyboardInterrupt):
            put_report(product, "<p>new</p>")
    assert verify(product).ok
    put_report(product, "<p>new</p>")
    assert verify(product).ok
    assert (product / "report.html").read_text() == "<p>new</p>"


def test_a_product_without_an_item_gets_no_report(product: Path) -> None:
    (product / f"{ITEM_ID}.json").unlink()
    with pytest.raises(DataError, match="holds no finished product"):
        put_report(product, "<p></p>")
    assert not (product / "report.html").exists()


def test_a_report_is_published_with_its_product_and_can_be_made_again_there(product: Path, tmp_path: Path) -> None:
    put_report(product, "<p>one</p>")
    root = tmp_path / "www"
    published([product], root, asset_root="https://data.example/fused")
    assert (root / ITEM_ID / "report.html").read_text() == "<p>one</p>"
    put_report(root / ITEM_ID, "<p>two</p>")
    assert item_of(root / ITEM_ID)["assets"]["report"]["href"] == f"https://data.example/fused/{ITEM_ID}/report.html"
    assert verify(root / ITEM_ID).ok
    put_report(product, "<p>three</p>")
    (again,) = published([product], root, asset_root="https://data.example/fused")
    assert again.outcome == "replaced"
    assert (root / ITEM_ID / "report.html").read_text() == "<p>three</p>"


def test_a_product_that_was_moved_alone_gets_its_report_and_no_catalogue(product: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(product, tmp_path / "alone" / ITEM_ID))
    put_report(alone, "<p></p>")
    assert verify(alone).ok
    assert sorted(path.name for path in alone.parent.iterdir()) == [ITEM_ID]


def test_a_report_on_a_store(prefix: StorePlace) -> None:
    folder = prefix / ITEM_ID
    write_scene(folder, *random_scene())
    finish_data(folder, SPEC, cog=False)
    commit(folder, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN)
    put_report(folder, "<p>one</p>")
    put_report(folder, "<p>two</p>")
    assert (folder / "report.html").read() == b"<p>two</p>"
    assert item_of(folder)["assets"]["report"]["file:size"] == 10
    assert verify(folder).ok
