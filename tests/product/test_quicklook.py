from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.io

from scenefuse.product.levels import make_overviews
from scenefuse.product.quicklook import stretch, write_quicklook
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


def test_the_stretch_goes_from_the_2nd_to_the_98th_percentile() -> None:
    ramp = np.tile(np.arange(0, 10100, 100, dtype=np.int16), (3, 1, 1))
    red = stretch(ramp, -32768)[0, 0]
    assert red[2] == 0
    assert red[50] == pytest.approx(127.5, abs=0.6)
    assert red[98] == 255
    assert red[100] == 255


def test_a_scene_without_data_gives_an_empty_picture() -> None:
    assert not stretch(np.full((3, 4, 4), -32768, np.int16), -32768).any()
