from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pystac
import pytest

from scenefuse.errors import DataError, MismatchError, UsageError
from scenefuse.place.location import place_at
from scenefuse.place.place import Place
from scenefuse.product.catalog import link_item
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.model_item import build_method_item, write_model_item
from scenefuse.product.verify import verify
from scenefuse.publish.static import StaticCatalogue
from tests.product.making import ITEM_ID, MODEL_CARD, PAIR, PROVENANCE, RUN, SPEC, random_scene, write_scene
from tests.publish.making import published


@pytest.fixture
def product(tmp_path: Path) -> Path:
    folder = tmp_path / "output" / ITEM_ID
    write_scene(folder, *random_scene())
    finish_data(folder, SPEC, cog=False)
    commit(folder, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN)
    return folder


def _state(root: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}


def _outcomes(product: Path, root: Path, asset_root: str | None = None) -> list[str]:
    return [done.outcome for done in published([product], root, asset_root=asset_root)]


def test_a_published_product_is_whole_and_linked(product: Path, tmp_path: Path) -> None:
    (product / ".commit.lease").write_text("")
    root = tmp_path / "www"
    (done,) = published([product], root)
    assert done.outcome == "added"
    assert verify(root / ITEM_ID).ok
    assert not (root / ITEM_ID / ".commit.lease").exists()
    catalog = pystac.Catalog.from_file(str(root / "catalog.json"))
    (item,) = catalog.get_items(recursive=True)
    assert item.get_self_href() == done.href
    assert all(Path(asset.get_absolute_href() or "").exists() for asset in item.assets.values())
    visible = sorted(path.name for path in root.iterdir() if path.suffix != ".lock")
    assert visible == [ITEM_ID, "catalog.json", "collection.json"]


def test_publishing_again_changes_nothing(product: Path, tmp_path: Path) -> None:
    root = tmp_path / "www"
    _outcomes(product, root)
    before = _state(root)
    assert _outcomes(product, root) == ["unchanged"]
    assert {path: seen for path, seen in _state(root).items() if path.suffix != ".lock"} == {
        path: seen for path, seen in before.items() if path.suffix != ".lock"
    }


def test_publishers_of_one_product_take_turns(product: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(_outcomes, product, tmp_path / "www") for _ in range(4)]
        outcomes = sorted(run.result()[0] for run in runs)
    assert outcomes[0] == "added"
    assert verify(tmp_path / "www" / ITEM_ID).ok
    assert _outcomes(product, tmp_path / "www") == ["unchanged"]


def test_a_changed_product_replaces_the_old_one(product: Path, tmp_path: Path) -> None:
    root = tmp_path / "www"
    _outcomes(product, root)
    write_scene(product, *random_scene(seed=1))
    finish_data(product, SPEC, cog=False)
    commit(product, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN)
    assert _outcomes(product, root) == ["replaced"]
    assert verify(root / ITEM_ID).ok
    assert (root / ITEM_ID / "fused.zarr.manifest").read_bytes() == (product / "fused.zarr.manifest").read_bytes()
    assert not list(root.glob(".*.part"))


def test_a_replacement_that_fails_at_its_last_step_leaves_what_was_published(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "www"
    _outcomes(product, root)
    before = (root / ITEM_ID / "fused.zarr.manifest").read_bytes()
    write_scene(product, *random_scene(seed=1))
    finish_data(product, SPEC, cog=False)
    commit(product, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN)
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name == f".{ITEM_ID}.part":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(OSError, match="Input/output error"):
            published([product], root)
    assert verify(root / ITEM_ID).ok
    assert (root / ITEM_ID / "fused.zarr.manifest").read_bytes() == before
    assert _outcomes(product, root) == ["replaced"]


def test_what_was_published_before_is_believed_where_its_item_stands_and_nowhere_else(
    product: Path, tmp_path: Path
) -> None:
    catalogue = StaticCatalogue(root=place_at(tmp_path / "www"))

    def outcome() -> str:
        (done,) = catalogue.publish([place_at(product)], trusted={ITEM_ID})
        return done.outcome

    assert outcome() == "added"
    copied = tmp_path / "www" / ITEM_ID / "quicklook.png"
    copied.write_bytes(b"damaged")
    (tmp_path / "www" / "collection.json").unlink()
    assert outcome() == "replaced"  # its link was away
    assert outcome() == "unchanged"
    assert copied.read_bytes() == b"damaged"
    write_scene(product, *random_scene(seed=1))
    finish_data(product, SPEC, cog=False)
    commit(product, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN)
    assert outcome() == "replaced"
    assert verify(tmp_path / "www" / ITEM_ID).ok
    (product / "quicklook.png").write_bytes(b"damaged")
    (tmp_path / "www" / ITEM_ID / f"{ITEM_ID}.json").unlink()
    with pytest.raises(MismatchError):
        outcome()
    assert catalogue.held([ITEM_ID, "other"]) == set()


def test_a_product_that_cannot_be_published_is_told_and_keeps_no_other_from_it(product: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged" / product.name
    shutil.copytree(product, damaged)
    (damaged / "quicklook.png").write_bytes(b"damaged")
    told: list[tuple[Place, Exception]] = []
    catalogue = StaticCatalogue(root=place_at(tmp_path / "www"))
    folders = [place_at(damaged), place_at(product)]
    (done,) = catalogue.publish(folders, failed=lambda folder, error: told.append((folder, error)))
    assert done.outcome == "added"
    ((folder, error),) = told
    assert folder == place_at(damaged)
    assert isinstance(error, MismatchError)
    assert catalogue.held([ITEM_ID, "other"]) == {ITEM_ID}
    with pytest.raises(MismatchError):
        catalogue.publish(folders)


def test_a_damaged_copy_is_repaired(product: Path, tmp_path: Path) -> None:
    root = tmp_path / "www"
    _outcomes(product, root)
    (root / ITEM_ID / "fused.zarr/reflectance/c/0/0/0").write_bytes(b"")
    assert _outcomes(product, root) == ["replaced"]
    assert verify(root / ITEM_ID).ok


@pytest.mark.parametrize("root", ["https://user:secret@example.com/fused", "https://example.com/fused?sig=secret"])
def test_an_asset_root_with_credentials_is_refused(product: Path, tmp_path: Path, root: str) -> None:
    with pytest.raises(UsageError, match=r"https://example\.com/fused with a user name, a query") as refused:
        published([product], tmp_path / "catalogue", asset_root=root)
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "catalogue").exists()


def test_asset_hrefs_stand_under_the_asset_root(product: Path, tmp_path: Path) -> None:
    root = tmp_path / "www"
    assert _outcomes(product, root, "https://a.example/fused/") == ["added"]
    item = json.loads((root / ITEM_ID / f"{ITEM_ID}.json").read_text())
    assert item["assets"]["reflectance"]["href"] == f"https://a.example/fused/{ITEM_ID}/fused.zarr"
    assert verify(root / ITEM_ID).ok
    assert _outcomes(product, root, "https://a.example/fused") == ["unchanged"]
    assert _outcomes(product, root) == ["replaced"]


def test_a_product_that_does_not_verify_is_not_published(product: Path, tmp_path: Path) -> None:
    (product / "quicklook.png").write_bytes(b"")
    with pytest.raises(MismatchError, match=r"quicklook\.png"):
        published([product], tmp_path / "www")
    assert not (tmp_path / "www").exists()


def test_an_interrupted_copy_leaves_no_product_and_is_repeated(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "www"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(OSError, match="No space"):
            published([product], root)
    assert [path for path in root.iterdir() if path.suffix != ".lock"] == []
    assert _outcomes(product, root) == ["added"]


KILLED = """
import os, pathlib, shutil, sys
from tests.publish import making

def put(copyfile, killed_at):
    def counted(*paths):
        killed_at.pop() and os.kill(os.getpid(), 9)
        return copyfile(*paths)
    return counted

if sys.argv[3] == "copying":
    shutil.copyfile = put(shutil.copyfile, [True, False, False])
else:
    pathlib.Path.rename = put(pathlib.Path.rename, [True, False])
making.published([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["copying", "between the renames"])
def test_what_a_killed_publisher_left_goes_with_the_next_one(product: Path, tmp_path: Path, moment: str) -> None:
    root = tmp_path / "www"
    assert _outcomes(product, root) == ["added"]
    commit(product, SPEC, pair=PAIR, provenance=PROVENANCE, run=replace(RUN, host="another"))
    command = [sys.executable, "-c", KILLED, str(product), str(root), moment]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    assert list(root.glob(f".{ITEM_ID}.*"))
    assert (root / ITEM_ID).is_dir() == (moment == "copying")
    assert _outcomes(product, root) == ["replaced" if moment == "copying" else "added"]
    assert list(root.glob(f".{ITEM_ID}.*")) == []
    assert verify(root / ITEM_ID).ok


def test_publishing_a_product_where_it_already_is_is_refused(product: Path) -> None:
    with pytest.raises(DataError, match="already in"):
        published([product], product.parent)


def test_a_catalogue_in_the_folder_of_a_product_is_refused(product: Path) -> None:
    for root in (product, product / "catalogue"):
        with pytest.raises(DataError, match="lies in the folder of a product"):
            published([product], root)
    assert verify(product).ok


def test_a_lost_link_is_set_again(product: Path, tmp_path: Path) -> None:
    root = tmp_path / "www"
    _outcomes(product, root)
    (root / "collection.json").unlink()
    assert _outcomes(product, root) == ["replaced"]
    assert not link_item(root, json.loads((root / ITEM_ID / f"{ITEM_ID}.json").read_text()))


def test_the_methods_item_goes_with_the_product(product: Path, tmp_path: Path) -> None:
    write_model_item(place_at(product), build_method_item(MODEL_CARD))
    commit(product, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN)
    root = tmp_path / "www"
    (done,) = published([product], root)
    (method,) = (link for link in pystac.Item.from_file(done.href).links if "model.json" in link.href)
    assert (method.rel, method.get_absolute_href()) == ("derived_from", str(root / ITEM_ID / "model.json"))
    assert (root / ITEM_ID / "model.json").read_bytes() == (product / "model.json").read_bytes()
    (done,) = published([product], root, asset_root="https://a.example/fused")
    assert _sources(Path(done.href))[-1] == f"https://a.example/fused/{ITEM_ID}/model.json"
    assert verify(root / ITEM_ID).ok


def _sources(item: Path) -> list[str]:
    return [link["href"] for link in json.loads(item.read_text())["links"] if link["rel"] == "derived_from"]


def _link_to(product: Path, sources: list[str]) -> None:
    path = product / f"{ITEM_ID}.json"
    item = json.loads(path.read_text())
    others = [link for link in item["links"] if link["rel"] != "derived_from"]
    item["links"] = others + [{"rel": "derived_from", "href": source} for source in sources]
    path.write_text(json.dumps(item))


def test_links_lead_to_the_sources_that_readers_can_follow(product: Path, tmp_path: Path) -> None:
    far = tmp_path / "far" / "www"
    for name in ("archive/hs1.json", "far/www/archive/ms1.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    web = "https://example.com/ms2.json"
    _link_to(product, ["../../archive/hs1.json", "../../archive/gone.json", "../../far/www/archive/ms1.json", web])
    (done,) = published([product], far)
    assert _sources(Path(done.href)) == ["../../../archive/hs1.json", "../archive/ms1.json", web]
    (done,) = published([product], far, asset_root="https://example.com/fused")
    assert _sources(Path(done.href)) == ["../archive/ms1.json", web]
