from __future__ import annotations

from dataclasses import replace

import pytest

from scenefuse.errors import DataError
from scenefuse.product import identity
from scenefuse.product.identity import item_id, product_identity
from tests.product.making import INPUTS, METHOD

OPTIONS = {"precision": "fp32", "core_px": 480}
SAME = product_identity(INPUTS, METHOD, OPTIONS)


def test_identity_does_not_depend_on_order_or_place() -> None:
    moved = [replace(file, href="https://elsewhere.example/x.tif") for file in reversed(INPUTS)]
    assert product_identity(moved, METHOD, dict(reversed(OPTIONS.items()))) == SAME
    assert len(SAME) == 64


def test_identity_changes_with_everything_that_changes_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {
        product_identity((replace(INPUTS[0], checksum="multihash:12200b"), INPUTS[1]), METHOD, OPTIONS),
        product_identity([replace(file, role="msi") for file in INPUTS], METHOD, OPTIONS),
        product_identity(INPUTS, replace(METHOD, name="sfim"), OPTIONS),
        product_identity(INPUTS, replace(METHOD, weights_sha256="0" * 64), OPTIONS),
        product_identity(INPUTS, replace(METHOD, options={"ridge": 1e-5}), OPTIONS),
        product_identity(INPUTS, METHOD, {**OPTIONS, "precision": "bf16"}),
        product_identity(INPUTS, METHOD, OPTIONS, readings={"hs": [{"offset": -0.1}]}),
    }
    monkeypatch.setattr(identity, "NUMERICS", identity.NUMERICS + 1)
    others.add(product_identity(INPUTS, METHOD, OPTIONS))
    assert len(others) == 8
    assert SAME not in others


def test_the_item_id_names_both_scenes_the_method_and_eight_digits() -> None:
    assert item_id("ENMAP1", "S2A", "gsa", "0123456789abcdef") == "ENMAP1_S2A_gsa_01234567"


@pytest.mark.parametrize("name", ["", "a/b", "..", "a..b", ".hidden", "a b", "x" * 201])
def test_an_id_that_cannot_name_a_folder_is_refused_of_either_scene(name: str) -> None:
    for ids in ((name, "S2A"), ("ENMAP1", name)):
        with pytest.raises(DataError, match="cannot name a folder"):
            item_id(*ids, "gsa", "0123456789abcdef")


def test_two_ids_that_together_are_too_long_are_refused() -> None:
    assert len(item_id("h" * 120, "m" * 66, "gsa", "0123456789abcdef")) == 200
    with pytest.raises(DataError, match=r"product id of 201 characters.*at most 200.*shorter ids"):
        item_id("h" * 120, "m" * 67, "gsa", "0123456789abcdef")
