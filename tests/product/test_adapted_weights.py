"""The weights of an adapted network lie in its product, and replay copies them from there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from scenefuse.place.location import place_at
from scenefuse.product.adapted_weights import find_weights, keep_weights
from scenefuse.product.files import WEIGHTS


def test_damaged_weights_are_not_taken_and_not_kept_for_when_the_product_is_mended(tmp_path: Path) -> None:
    weights, folder, cache = tmp_path / "weights.safetensors", place_at(tmp_path / "product"), tmp_path / "cache"
    weights.write_bytes(b"learnt")
    weights.with_suffix(".json").write_text("{}")
    digest = hashlib.sha256(b"learnt").hexdigest()
    (folder / WEIGHTS).put(b"damaged")
    assert find_weights(folder, digest, cache=cache) is None
    keep_weights(folder, weights)
    found = find_weights(folder, digest, cache=cache)
    assert found is not None
    assert found.read_bytes() == b"learnt"
