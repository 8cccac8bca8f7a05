"""A product is found by its folder, or by the item that fuse names; what is none is refused, not compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenefuse.errors import DataError
from scenefuse.product.folder import product_folder
from scenefuse.product.verify import verify
from tests.product.making import ITEM_ID

ITEM = f"{ITEM_ID}.json"


@pytest.mark.parametrize("name", [".", ITEM, f"../{ITEM_ID}"])
def test_a_product_is_found_by_its_folder_and_by_its_item(
    committed: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert str(product_folder(committed / name)) == str(committed.resolve())
    monkeypatch.chdir(committed)
    assert verify(name).ok


@pytest.mark.parametrize("name", ["fused.tif", "provenance.json"])
def test_another_file_of_a_product_is_none(committed: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} is a file, and no product's item.*product's folder"):
        verify(committed / name)


def test_a_folder_of_products_is_told_from_a_bad_product(committed: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"but products.*{ITEM_ID} for one"):
        verify(committed.parent)
    with pytest.raises(DataError, match="holds no product files: "):
        verify(tmp_path)


def test_what_is_left_of_a_product_is_still_compared(product: Path) -> None:
    for path in (product / ITEM, product / "fused.zarr.manifest"):
        path.unlink()
    assert {"item", "manifest"} <= {mismatch.kind for mismatch in verify(product).mismatches}
