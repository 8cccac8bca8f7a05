"""Products as archives deliver them, told from their names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from scenefuse.archive.delivered import delivered_item, platform_of
from scenefuse.archive.source import load_scene
from scenefuse.errors import DataError
from tests.delivered import DESIS, ENMAP, LANDSAT, SENTINEL2, write_enmap, write_landsat, write_sentinel2

AT = Affine(10, 0, 6e5, 0, -10, 5e6)


def bands() -> NDArray[np.float32]:
    return np.full((4, 64, 64), 0.25, np.float32)


def test_a_safe_is_a_scene_of_its_bands_at_their_finest(tmp_path: Path) -> None:
    folder = write_sentinel2(tmp_path, bands(), AT)
    scene = load_scene(str(folder))
    assert (scene.id, scene.platform, scene.role, scene.is_stac) == (SENTINEL2, "sentinel-2b", "msi", False)
    assert scene.acquired == datetime(2022, 7, 24, 10, 36, 29, tzinfo=UTC)
    assert [asset.key for asset in scene.assets] == ["B02", "B03", "B04", "B08"]
    assert {asset.gsd_m for asset in scene.assets} == {10.0}
    assert all("/R10m/" in asset.href for asset in scene.assets)
    assert {asset.offset for asset in scene.assets} == {(-0.1,)}  # of baseline 05.10
    assert [round(asset.bands[0].wavelength_nm or 0) for asset in scene.assets] == [492, 559, 665, 833]
    assert load_scene(str(folder / "MTD_MSIL2A.xml")).assets == scene.assets


def test_a_safe_of_an_old_baseline_has_no_offset(tmp_path: Path) -> None:
    folder = write_sentinel2(tmp_path, bands(), AT)
    old = folder.rename(tmp_path / SENTINEL2.replace("N0510", "N0301"))
    assert {asset.offset for asset in load_scene(str(old)).assets} == {(0.0,)}


@pytest.mark.parametrize(("told", "offset"), [((-1000, -1000), -0.1), ((), 0.0), ((-500, -500), -0.05)])
def test_a_safe_that_its_user_made_has_the_offset_of_its_metadata(
    tmp_path: Path, told: tuple[int, ...], offset: float
) -> None:
    made = write_sentinel2(tmp_path, bands(), AT).rename(tmp_path / f"{SENTINEL2.replace('N0510', 'N9999')}.SAFE")
    assert {asset.offset for asset in load_scene(str(made)).assets} == {None}  # its metadata do not say
    write_offsets(made, told)
    assert {asset.offset for asset in load_scene(str(made)).assets} == {(offset,)}


def test_a_safe_of_several_offsets_is_refused(tmp_path: Path) -> None:
    folder = write_sentinel2(tmp_path, bands(), AT)
    write_offsets(folder, (-1000, 0))
    with pytest.raises(DataError, match="offsets -1000, 0 DN"):
        load_scene(str(folder))


def write_offsets(safe: Path, dn: Sequence[int]) -> None:
    rows = "".join(f'<BOA_ADD_OFFSET band_id="{band}">{value}</BOA_ADD_OFFSET>' for band, value in enumerate(dn))
    listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{rows}</BOA_ADD_OFFSET_VALUES_LIST>" if rows else ""
    unit = '<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
    (safe / "MTD_MSIL2A.xml").write_text(f"<n1:Level-2A_User_Product>{unit}{listed}</n1:Level-2A_User_Product>")


def test_a_landsat_folder_is_a_scene_of_its_surface_reflectance(tmp_path: Path) -> None:
    folder = write_landsat(tmp_path, bands(), AT)
    scene = load_scene(str(folder))
    assert (scene.id, scene.platform, scene.role) == (LANDSAT, "landsat-9", "msi")
    assert scene.acquired == datetime(2022, 7, 25, 10, 4, 22, tzinfo=UTC)
    assert [asset.key for asset in scene.assets] == ["SR_B2", "SR_B3", "SR_B4", "SR_B5"]
    assert {(asset.scale, asset.offset) for asset in scene.assets} == {((2.75e-5,), (-0.2,))}
    metadata = folder / f"{LANDSAT}_MTL.txt"
    assert load_scene(str(metadata)).assets == scene.assets
    metadata.unlink()
    assert load_scene(str(folder)).acquired == datetime(
        2022, 7, 25, 11, 59, 59, 500_000, tzinfo=UTC
    )  # the day's middle


@pytest.mark.parametrize(
    ("product", "platform", "time"),
    [
        (ENMAP, "ENMAP", datetime(2022, 7, 24, 10, 45, 26, tzinfo=UTC)),
        (DESIS, "DESIS", datetime(2020, 6, 20, 9, 21, 54, tzinfo=UTC)),
    ],
)
def test_folder_metadata_and_image_of_dlr_name_one_scene(
    tmp_path: Path, product: str, platform: str, time: datetime
) -> None:
    folder = write_enmap(tmp_path, np.ones((3, 64, 64), np.int16), (500, 600, 700), AT, product=product)
    scene = load_scene(str(folder))
    assert (scene.id, scene.platform, scene.role, scene.acquired) == (product, platform, "hsi", time)
    (metadata,) = folder.glob("*METADATA*")
    for path in (metadata, folder / f"{product}-SPECTRAL_IMAGE.TIF"):
        assert load_scene(str(path)).assets == scene.assets


def test_files_of_prisma_and_emit_tell_their_time(tmp_path: Path) -> None:
    for name, platform, time in (
        ("PRS_L2D_STD_20200209102459_20200209102503_0001.he5", "PRISMA", datetime(2020, 2, 9, 10, 24, 59, tzinfo=UTC)),
        ("EMIT_L2A_RFL_001_20220903T163129_2224611_012.nc", "EMIT", datetime(2022, 9, 3, 16, 31, 29, tzinfo=UTC)),
    ):
        (tmp_path / name).write_bytes(b"\x89HDF")
        scene = load_scene(str(tmp_path / name))
        assert (scene.id, scene.platform, scene.role, scene.acquired) == (Path(name).stem, platform, "hsi", time)


@pytest.mark.parametrize(
    ("product", "platform"),
    [
        (ENMAP, "ENMAP"),
        (DESIS, "DESIS"),
        (SENTINEL2, "sentinel-2b"),
        (LANDSAT, "landsat-9"),
        ("EMIT_L2A_RFL_001_20220903T163129_2224611_012", "EMIT"),
        ("PRS_L2D_STD_20200209102459_20200209102503_0001", "PRISMA"),
        ("HLS.S30.T32TQM.2022205T103629.v2.0", "HLS S30"),
        ("EMIT_L2A_MASK_001_20220903T163129_2224611_012", None),
        ("LE07_L2SP_193024_20220725_20230406_02_T1", None),
    ],
)
def test_a_product_s_name_tells_its_platform(product: str, platform: str | None) -> None:
    assert platform_of(product) == platform


def test_links_to_files_elsewhere_are_followed_since_the_operator_named_them(tmp_path: Path) -> None:
    real = write_sentinel2(tmp_path / "store", bands(), AT)
    (tmp_path / real.name).symlink_to(real)
    assert len(load_scene(str(tmp_path / real.name)).assets) == 4


def test_a_product_without_images_is_refused(tmp_path: Path) -> None:
    for name in (f"{SENTINEL2}.SAFE", LANDSAT, ENMAP):
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match=r"no .* image of it"):
            load_scene(str(tmp_path / name))


def test_two_images_of_one_product_are_refused(tmp_path: Path) -> None:
    folder = write_enmap(tmp_path, np.ones((3, 64, 64), np.int16), (500, 600, 700), AT)
    (folder / f"{ENMAP}-SPECTRAL_IMAGE_COG.TIF").write_bytes(b"II*\0")
    with pytest.raises(DataError, match="has 2 images of the product"):
        load_scene(str(folder))


def test_a_safe_of_several_granules_is_refused(tmp_path: Path) -> None:
    folder = write_sentinel2(tmp_path, bands(), AT)
    other = folder / "GRANULE" / "other" / "IMG_DATA" / "R10m"
    other.mkdir(parents=True)
    (other / "T32TQN_20220724T103629_B02_10m.jp2").touch()
    with pytest.raises(DataError, match="has 2 granules"):
        load_scene(str(folder))


def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="20229924T104526"):
        delivered_item(tmp_path / f"{ENMAP.replace('20220724T', '20229924T', 1)}-SPECTRAL_IMAGE.TIF")


@pytest.mark.parametrize("name", ["scene.tif", "enmap-20220724T104526Z.tif", f"{SENTINEL2}.zarr", f"{ENMAP}.json"])
def test_other_names_are_no_product(tmp_path: Path, name: str) -> None:
    assert delivered_item(tmp_path / name) is None


def test_another_folder_is_refused_with_what_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not one of a product known by its name"):
        load_scene(str(tmp_path))


@pytest.mark.parametrize("mark", ["zarr.json", ".zgroup"])
def test_a_zarr_group_is_a_scene_whatever_its_folder_is_called(tmp_path: Path, mark: str) -> None:
    overview = tmp_path / "fused.zarr" / "overviews" / "2"
    overview.mkdir(parents=True)
    (overview / mark).write_text("{}")
    scene = load_scene(str(overview))
    assert (scene.id, scene.is_stac) == ("2", False)
