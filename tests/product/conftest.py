"""A committed product, made once, and copies of it to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scenefuse.place.location import place_at
from scenefuse.product.commit import commit, finish_data
from scenefuse.product.model_item import build_method_item, write_model_item
from tests.product.making import ITEM_ID, MODEL_CARD, PAIR, PROVENANCE, RUN, SPEC, random_scene, write_scene


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a committed product with a COG; not to be changed."""
    folder = tmp_path_factory.mktemp("output") / ITEM_ID
    receipts = write_scene(folder, *random_scene())
    finish_data(folder, SPEC, cog=True)
    write_model_item(place_at(folder), build_method_item(MODEL_CARD))
    commit(folder, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN, receipts=receipts)
    return folder


@pytest.fixture
def product(committed: Path, tmp_path: Path) -> Path:
    """A copy of the committed product, in an output of its own."""
    return Path(shutil.copytree(committed, tmp_path / "output" / ITEM_ID))
