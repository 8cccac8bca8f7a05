"""EnMAP and DESIS as DLR delivers them: a GeoTIFF of integers, and what its METADATA.XML says of its bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.source import load_scene
from scenefuse.cube.image import Choice, Image, open_image
from scenefuse.errors import DataError
from scenefuse.grid.window import Window
from tests.delivered import DESIS, ENMAP, write_enmap
from tests.range_server import web_folder
from tests.raster.making import texture

CENTRES = (478.3, 423.9, 911.7, 902.3, 2445.5)
AT = Affine(30, 0, 6e5, 0, -30, 5e6)
PART = Window(y0=3, y1=12, x0=5, x1=9)


def numbers() -> NDArray[np.int16]:
    dn = texture(len(CENTRES), (70, 80))
    dn[:, :5] = -32768
    return dn


def opened(path: Path) -> Image:
    return open_image(load_scene(str(path)), "hsi", Choice())


@pytest.mark.parametrize("product", [ENMAP, DESIS])
def test_bands_have_the_wavelengths_and_gains_of_the_metadata(tmp_path: Path, product: str) -> None:
    folder = write_enmap(tmp_path, numbers(), CENTRES, AT, product=product, gain=2e-4)
    image = opened(folder)
    assert [band.wavelength_nm for band in image.bands] == sorted(CENTRES)
    assert {band.fwhm_nm for band in image.bands} == {9.5}
    reflectance = image.read(range(len(CENTRES)), PART)
    assert np.isnan(reflectance[:, :2]).all()
    expected = numbers()[np.argsort(CENTRES), 5:12, 5:9] * np.float32(2e-4)
    np.testing.assert_array_equal(reflectance[:, 2:], expected)
    assert image.radiometry[0].source == "the gains in METADATA.XML"


def test_image_and_metadata_are_both_inputs(tmp_path: Path) -> None:
    folder = write_enmap(tmp_path, numbers(), CENTRES, AT)
    assert [Path(file.href).name for file in opened(folder).inputs] == [
        f"{ENMAP}-SPECTRAL_IMAGE.TIF",
        f"{ENMAP}-METADATA.XML",
    ]


def test_metadata_are_read_beside_an_image_on_the_network(tmp_path: Path) -> None:
    folder = write_enmap(tmp_path, numbers(), CENTRES, AT)
    with web_folder(folder) as web:
        choice = Choice(policy=AccessPolicy(allow_hosts=(web.host,)))
        scene = load_scene(web.url(f"{ENMAP}-SPECTRAL_IMAGE.TIF"), policy=choice.policy)
        image = open_image(scene, "hsi", choice)
        assert [band.wavelength_nm for band in image.bands] == sorted(CENTRES)
        np.testing.assert_array_equal(image.read([0], PART), opened(folder).read([0], PART))
        assert [file.href for file in image.inputs] == [
            f"http://{web.host}/{ENMAP}-{rest}" for rest in ("SPECTRAL_IMAGE.TIF", "METADATA.XML")
        ]


def test_why_metadata_on_the_network_could_not_be_had_is_told(tmp_path: Path) -> None:
    folder = write_enmap(tmp_path, numbers(), CENTRES, AT)
    (folder / f"{ENMAP}-METADATA.XML").unlink()
    with web_folder(folder) as web:
        choice = Choice(scale=1e-4, policy=AccessPolicy(allow_hosts=(web.host,)))
        scene = load_scene(web.url(f"{ENMAP}-SPECTRAL_IMAGE.TIF"), policy=choice.policy)
        with pytest.raises(DataError, match=r"metadata were looked for, and http://.*-METADATA\.XML answered 404"):
            open_image(scene, "hsi", choice)


def test_a_name_as_browsers_make_it_is_found(tmp_path: Path) -> None:
    folder = write_enmap(tmp_path, numbers(), CENTRES, AT)
    metadata = folder / f"{ENMAP}-METADATA.XML"
    metadata.rename(f"{metadata}.XML")
    assert [band.wavelength_nm for band in opened(folder).bands] == sorted(CENTRES)


def test_without_metadata_the_refusal_says_what_was_looked_for(tmp_path: Path) -> None:
    folder = write_enmap(tmp_path, numbers(), CENTRES, AT)
    (folder / f"{ENMAP}-METADATA.XML").unlink()
    with pytest.raises(DataError, match=f"5 bands without wavelength .there is no {ENMAP}-METADATA.XML beside"):
        opened(folder)


def test_radiance_is_refused(tmp_path: Path) -> None:
    product = ENMAP.replace("L2A", "L1C")
    folder = write_enmap(tmp_path, numbers(), CENTRES, AT, product=product, level="L1C")
    with pytest.raises(DataError, match=r"is of level L1C.*Give the L2A product"):
        opened(folder)


def test_metadata_of_another_number_of_bands_are_refused(tmp_path: Path) -> None:
    folder = write_enmap(tmp_path, numbers(), CENTRES[:4], AT)
    with pytest.raises(DataError, match="describes 4 bands, but its image has 5"):
        opened(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<level_X>", "<level_Y>", "is no XML"),
        ("<wavelengthCenterOfBand>911.7", "<wavelengthCenterOfBand>nan", "band 3 has the centre None"),
        ("<GainOfBand>0.0001", "<GainOfBand>0", "band 1 has the centre 478.3, the width 9.5 and the gain 0.0"),
        ('number="2"', 'number="3"', "its bands are numbered 1, 3, 3, 4, 5"),
    ],
)
def test_damaged_metadata_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = write_enmap(tmp_path, numbers(), CENTRES, AT)
    metadata = folder / f"{ENMAP}-METADATA.XML"
    metadata.write_text(metadata.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        opened(folder)
