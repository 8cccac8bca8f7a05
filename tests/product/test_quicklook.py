from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import skimage.io
from PIL import Image

from scenefuse.product.levels import make_overviews
from scenefuse.product.quicklook import indexed_png_bytes, write_quicklook
from tests.product.making import large_spec, random_scene, write_scene


def test_the_quicklook_is_transparent_where_there_is_no_data(committed: Path) -> None:
    picture = skimage.io.imread(committed / "quicklook.png")
    assert picture.shape == (300, 198, 4)
    assert (picture[40:90, 20:150, 3] == 0).all()
    assert (picture[:40, :, 3] == 255).all()
    assert {path.name for path in committed.glob("quicklook*")} == {"quicklook.png"}


def test_a_large_scene_is_drawn_from_an_overview(tmp_path: Path) -> None:
    spec = large_spec()
    write_scene(tmp_path, *random_scene(spec), spec=spec)
    make_overviews(tmp_path, spec)
    assert skimage.io.imread(write_quicklook(tmp_path, spec).local_path()).shape == (530, 311, 4)


def test_an_indexed_picture_has_the_colours_of_its_palette() -> None:
    palette = np.array([[0, 0, 0, 0], [255, 0, 10, 255], [1, 2, 3, 255]], np.uint8)
    shades = np.array([[0, 1, 2], [2, 2, 1]], np.uint8)
    with Image.open(io.BytesIO(indexed_png_bytes(shades, palette))) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture.convert("RGBA")), palette[shades])
