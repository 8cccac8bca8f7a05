"""A committed product, made once, and copies of it to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scenefuse.product.commit import commit, finish_data
from tests.product.making import ITEM_ID, PAIR, PROVENANCE, RUN, SPEC, random_scene, write_scene


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a committed product with a COG; not to be changed."""
    folder = tmp_path_factory.mktemp("output") / ITEM_ID
    receipts = write_scene(folder, *random_scene())
    finish_data(folder, SPEC, cog=True)
    commit(folder, SPEC, pair=PAIR, provenance=PROVENANCE, run=RUN, receipts=receipts)
    return folder


@pytest.fixture
def product(committed: Path, tmp_path: Path) -> Path:
    """A copy of the committed product, in an output of its own."""
    return Path(shutil.copytree(committed, tmp_path / "output" / ITEM_ID))
