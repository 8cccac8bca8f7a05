"""One rule of colours for all pictures: which bands, and how they are stretched."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.pipeline.fuse import fuse
from scenefuse.product.true_colour import colours, rgb_bands, stretch_limits, stretched
from scenefuse.sensors.band import Band
from tests.pipeline.making import write_pair


def bands(*waves_nm: float | None) -> tuple[Band, ...]:
    return tuple(Band(name=f"b{number}", wavelength_nm=nm) for number, nm in enumerate(waves_nm))


def test_shown_are_the_bands_nearest_to_660_560_and_480_nm() -> None:
    assert rgb_bands(bands(450, 500, 550, 600, 650, 700)) == (4, 2, 1)
    assert rgb_bands(bands(None, 480, None, 560, 660)) == (4, 3, 1)
    assert rgb_bands(bands(1000, 1100, 1200)) == (0, 0, 0)
    assert rgb_bands(bands(*[None] * 8)) == (6, 4, 2)


def test_each_colour_goes_from_its_2nd_to_its_98th_percentile() -> None:
    ramp = np.linspace(0.0, 1.0, 101, dtype=np.float32)
    rgb = np.stack([ramp, ramp * 0.5, 1 - ramp])[:, np.newaxis]
    low, high = stretch_limits(rgb)
    np.testing.assert_allclose(low, [0.02, 0.01, 0.02], atol=1e-6)
    np.testing.assert_allclose(high, [0.98, 0.49, 0.98], atol=1e-6)
    red, green, blue, opacity = colours(rgb)[:, 0]
    assert (red[2], red[98], red[100]) == (0, 255, 255)
    assert red[50] == pytest.approx(127.5, abs=0.6)
    np.testing.assert_array_equal(green, red)
    np.testing.assert_allclose(blue, red[::-1].astype(float), atol=1)
    assert (opacity == 255).all()
    np.testing.assert_allclose(stretched(rgb, low, high)[0, 0, [0, 2, 50, 98, 100]], [0, 0, 0.5, 1, 1], atol=1e-5)


def test_a_pixel_without_data_in_one_colour_is_transparent_and_does_not_count() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.random((3, 20, 20), np.float32)
    holed = rgb.copy()
    holed[:, :10] += 100
    holed[1, :10] = np.nan
    picture = colours(holed)
    assert (picture[:, :10] == 0).all()
    np.testing.assert_array_equal(picture[:, 10:], colours(rgb[:, 10:]))
    assert not colours(np.full((3, 4, 4), np.nan, np.float32)).any()
    flat = colours(np.full((3, 4, 4), 0.25, np.float32))
    assert (flat[:3] == 0).all()
    assert (flat[3] == 255).all()


def test_quicklook_and_report_show_the_same_colours(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, ratio=4, coarse_shape=(31, 27), holes="swath")
    config = RunConfig(model="bicubic", register=False, format=("zarr",), workers=1)
    made = fuse(*pair.both, out=tmp_path / "out", config=config, lane=InProcessLane())
    page = (made.folder / "report.html").read_text()
    (shown,) = re.findall(r'src="data:image/png;base64,([^"]+)" alt="The fused image', page)
    with (
        Picture.open(io.BytesIO(base64.b64decode(shown))) as report,
        Picture.open(made.folder / "quicklook.png") as quicklook,
    ):
        np.testing.assert_array_equal(np.asarray(report), np.asarray(quicklook))
