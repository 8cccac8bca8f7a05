from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import numpy as np
import pystac
import pytest
import rasterio
from numpy.typing import NDArray
from pystac.validation import validate_dict
from rasterio.warp import transform_geom
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import Polygon, box, shape

from scenefuse.demo.archive import DemoArchive, write_demo_archive, write_site
from scenefuse.demo.plan import estimated_bytes, plan_sites
from scenefuse.demo.size import DemoSize
from scenefuse.errors import DataError, ResourceError
from scenefuse.grid.resample import degrade, degrade_reach_px
from scenefuse.sensors.response import response_matrix
from scenefuse.simulate.instrument import enmap_like, enmap_truth, sentinel2_like
from scenefuse.simulate.landscape import Landscape
from scenefuse.simulate.sampling import sample, sample_reach_px


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> DemoArchive:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("demo"))
        return write_demo_archive(Path("archive"), size=DemoSize.SMALL, seed=0)  # by a relative path, as people do


@pytest.fixture(scope="module")
def items(archive: DemoArchive) -> list[pystac.Item]:
    return list(pystac.Catalog.from_file(str(archive.catalog)).get_items(recursive=True))


def _reflectance(path: Path | str) -> NDArray[np.float32]:
    """(band, y, x), NaN = no data."""
    with rasterio.open(path) as raster:
        numbers = raster.read(masked=True)
        scale, offset = (np.array(values)[:, np.newaxis, np.newaxis] for values in (raster.scales, raster.offsets))
    reflectance = np.ma.filled(numbers.astype(np.float64) * scale + offset, np.nan)
    return np.asarray(reflectance, np.float32)


def test_two_collections_hold_six_coarse_and_five_fine_scenes(archive: DemoArchive, items: list[pystac.Item]) -> None:
    catalog = pystac.Catalog.from_file(str(archive.catalog))
    assert sorted(child.id for child in catalog.get_children()) == ["demo-enmap", "demo-sentinel-2"]
    by_collection = [item.collection_id for item in items]
    assert (by_collection.count("demo-enmap"), by_collection.count("demo-sentinel-2")) == (6, 5)
    assert len(archive.pairs) == 3


def test_catalogue_is_self_contained_with_relative_links_and_validates(
    archive: DemoArchive, items: list[pystac.Item]
) -> None:
    root = archive.catalog.parent
    for path in root.rglob("*.json"):
        document = json.loads(path.read_text())
        for link in document.get("links", []):
            assert link["rel"] != "self"
            assert (path.parent / link["href"]).resolve().is_file()
        for asset in document.get("assets", {}).values():
            assert asset["href"].startswith("./")
    for item in items:
        document = item.to_dict()
        assert document["stac_version"] == "1.1.0"
        # The extensions' schemas are on the network; the core's are in pystac.
        validate_dict(document, extensions=[])


def test_only_the_three_pairs_can_be_paired(archive: DemoArchive, items: list[pystac.Item]) -> None:
    found = set()
    for hs in (item for item in items if item.collection_id == "demo-enmap"):
        for ms in (item for item in items if item.collection_id == "demo-sentinel-2"):
            hs_shape, ms_shape = _polygon(hs), _polygon(ms)
            overlap = hs_shape.intersection(ms_shape).area / min(hs_shape.area, ms_shape.area)
            assert hs.datetime is not None
            assert ms.datetime is not None
            gap = abs(hs.datetime - ms.datetime)
            cloud = max(item.properties["eo:cloud_cover"] for item in (hs, ms))
            if overlap > 0.2 and gap < timedelta(hours=72) and cloud < 20:
                found.add((hs.id, ms.id))
            elif overlap > 0.2:
                assert gap > timedelta(days=39) or cloud == 80
    assert found == {(pair.hs_item.stem, pair.ms_item.stem) for pair in archive.pairs}


def test_every_asset_is_a_valid_cog_whose_metadata_are_the_items(items: list[pystac.Item]) -> None:
    for item in items:
        for key, asset in item.get_assets().items():
            path = Path(asset.get_absolute_href() or "")
            valid, errors, found_warnings = cog_validate(path, quiet=True)
            assert valid, (errors, found_warnings)
            fields = asset.extra_fields
            assert fields["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
            assert fields["file:size"] == path.stat().st_size
            with rasterio.open(path) as raster:
                assert list(raster.shape) == fields["proj:shape"]
                assert list(raster.transform)[:6] == fields["proj:transform"]
                assert raster.crs.to_string() == item.properties["proj:code"]
                assert raster.nodata == fields["nodata"]
                assert set(raster.dtypes) == {fields["data_type"]}
                assert set(raster.scales) == {fields["raster:scale"]}
                assert set(raster.offsets) == {fields["raster:offset"]}
                assert raster.count == len(fields["bands"])
                for number, band in enumerate(fields["bands"], start=1):
                    tags = raster.tags(number)
                    assert raster.descriptions[number - 1].startswith(f"{band['name']} (")
                    assert float(tags["wavelength"]) == pytest.approx(1000 * band["eo:center_wavelength"])
                    assert float(tags["fwhm"]) == pytest.approx(1000 * band["eo:full_width_half_max"])
                    assert (tags["bbl"] == "0") == ("bad band" in band.get("description", ""))
            assert item.bbox == list(_polygon(item).bounds)
            assert key in ("reflectance", *(band.name for part in sentinel2_like() for band in part.bands))


def test_footprint_is_where_the_pixels_have_data(archive: DemoArchive, items: list[pystac.Item]) -> None:
    for pair in archive.pairs:
        item = next(item for item in items if item.id == pair.hs_item.stem)
        with rasterio.open(item.assets["reflectance"].get_absolute_href()) as raster:
            data_share = (raster.read(1) != raster.nodata).mean()
            whole = box(*raster.bounds)
        assert _polygon(item).exterior.is_ccw
        on_ground = shape(transform_geom("EPSG:4326", "EPSG:32633", item.geometry))
        assert on_ground.difference(whole).area < 1e-3 * whole.area
        assert on_ground.area / whole.area == pytest.approx(data_share, abs=0.01)
        assert (data_share < 0.95) == (pair.name == "3-swath")


def test_blurred_truth_is_the_coarse_scene_within_its_noise(archive: DemoArchive) -> None:
    index = json.loads(archive.truth_index.read_text())
    for pair, known in zip(archive.pairs, index["pairs"], strict=True):
        part = enmap_like()
        hs = _reflectance(pair.hs_item.with_suffix(".tif"))
        truth = _reflectance(pair.truth)
        with rasterio.open(pair.hs_item.with_suffix(".tif")) as coarse, rasterio.open(pair.truth) as fine:
            column, row = ~fine.transform @ (coarse.transform.c, coarse.transform.f)
        reach = sample_reach_px(3, part.sigma_px, pair.shift_px)
        row, column = round(row), round(column)
        assert [row % 3, column % 3] == known["phase_px"]
        first = [-(-(reach - at) // 3) if at < reach else 0 for at in (row, column)]
        last = [
            min(size, (extent - at - reach) // 3)
            for size, extent, at in zip(hs.shape[1:], truth.shape[1:], (row, column), strict=True)
        ]
        seen = sample(
            truth[
                :,
                row + 3 * first[0] - reach : row + 3 * last[0] + reach,
                column + 3 * first[1] - reach : column + 3 * last[1] + reach,
            ],
            ratio=3,
            sigma_px=index["psf_sigma_px"],
            shift_px=pair.shift_px,
        )
        difference = hs[:, first[0] : last[0], first[1] : last[1]] - seen
        good = ~np.array(part.bad)
        sigma = 0.3 / part.snr * np.sqrt(0.3 + 0.7 * np.nanmean(seen, axis=(1, 2)) / 0.3)
        ratio = np.nanstd(difference, axis=(1, 2)) / sigma
        assert 0.85 < ratio[good].min() <= ratio[good].max() < 1.15
        assert np.abs(np.nanmean(difference, axis=(1, 2)) / sigma)[good].max() < 0.1


def test_misregistration_of_the_shifted_pair_is_real(archive: DemoArchive) -> None:
    pair = next(pair for pair in archive.pairs if pair.name == "2-shifted")
    assert 0.3 < max(map(abs, pair.shift_px)) < 0.9
    part = enmap_like()
    hs, truth = _reflectance(pair.hs_item.with_suffix(".tif"))[60], _reflectance(pair.truth)[60:61]
    with rasterio.open(pair.hs_item.with_suffix(".tif")) as coarse, rasterio.open(pair.truth) as fine:
        column, row = (round(value) // 3 for value in ~fine.transform @ (coarse.transform.c, coarse.transform.f))
    reach = degrade_reach_px(3, part.sigma_px)
    seen = degrade(np.pad(truth, ((0, 0), (reach, reach), (reach, reach)), "symmetric"), 3, part.sigma_px)[0]
    ours = seen[5 : 5 + 60, column + 5 : column + 5 + 60]
    theirs = hs[5 - row : 5 - row + 60, 5 : 5 + 60]
    gy, gx = np.gradient(ours)
    # Lucas and Kanade: what lies s further south shows up as theirs = ours + s * gradient.
    design = np.stack([gy.ravel(), gx.ravel()], axis=1)
    south, east = 3 * np.linalg.lstsq(design, (theirs - ours).ravel(), rcond=None)[0]
    assert south == pytest.approx(pair.shift_px[0], abs=0.12)
    assert east == pytest.approx(pair.shift_px[1], abs=0.12)


def test_fine_bands_are_the_truth_through_the_stated_response(archive: DemoArchive) -> None:
    truth = _reflectance(archive.pairs[0].truth)
    good = [index for index, bad in enumerate(enmap_truth().bad) if not bad]
    bands = [enmap_truth().bands[index] for index in good]
    part = sentinel2_like()[0]
    matrix = response_matrix(bands, part.bands).matrix
    expected = np.tensordot(matrix.astype(np.float32), truth[good], axes=1)
    for row, band in zip(expected, part.bands, strict=True):
        seen = _reflectance(archive.pairs[0].ms_item.parent / f"{band.name}.tif")[0]
        assert np.corrcoef(seen.ravel(), row.ravel())[0, 1] > 0.99
        assert np.abs(seen - row).mean() < 0.012


def test_coarser_fine_bands_are_the_blurred_truth(archive: DemoArchive) -> None:
    part = sentinel2_like()[1]
    truth = _reflectance(archive.pairs[0].truth)
    nearest = np.argmin([abs((band.wavelength_nm or 0) - 864.0) for band in enmap_truth().bands])
    reach = sample_reach_px(2, part.sigma_px)
    padded = np.pad(truth[nearest][np.newaxis], ((0, 0), (reach, reach), (reach, reach)), "symmetric")
    seen = _reflectance(archive.pairs[0].ms_item.parent / "B8A.tif")[0]
    expected = sample(padded, ratio=2, sigma_px=part.sigma_px)[0]
    assert seen.shape == (126, 126)
    assert np.corrcoef(seen.ravel(), expected.ravel())[0, 1] > 0.99


def test_truth_is_tiled_band_by_band_and_whole(archive: DemoArchive) -> None:
    for pair in archive.pairs:
        with rasterio.open(pair.truth) as raster:
            assert raster.profile["tiled"]
            assert raster.profile["interleave"] == "band"
            assert raster.count == len(enmap_like().bands)
            numbers = raster.read()
        assert (numbers > 0).all()
        assert np.ptp(numbers, axis=(1, 2)).min() > 0


def test_same_seed_gives_the_same_pixels_and_another_seed_does_not(tmp_path: Path) -> None:
    site = plan_sites(DemoSize.SMALL, 0)[3]
    digests = []
    for name, seed, ground in (("a", 0, 0), ("b", 0, 0), ("noise", 1, 0), ("ground", 0, 1)):
        write_site(tmp_path / name, replace(site, landscape=Landscape(seed=ground)), seed)
        digests.append(_digests(tmp_path / name))
    first, again, *others = digests
    assert len(first) == 11
    assert again == first
    for other in others:
        assert all(other[name] != digest for name, digest in first.items())


@pytest.mark.slow
@pytest.mark.bench
def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(archive: DemoArchive, tmp_path: Path) -> None:
    first = _digests(archive.catalog.parent)
    again = _digests(write_demo_archive(tmp_path / "again", size=DemoSize.SMALL, seed=0).catalog.parent)
    assert again == first
    other = _digests(write_demo_archive(tmp_path / "other", size=DemoSize.SMALL, seed=1).catalog.parent)
    assert other.keys() == first.keys()
    assert all(other[name] != digest for name, digest in first.items() if name.endswith(".tif"))


def test_a_folder_in_use_and_a_small_disk_are_refused_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not an empty folder"):
        write_demo_archive(tmp_path, size=DemoSize.SMALL)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**6}))
    with pytest.raises(ResourceError, match="GB free"):
        write_demo_archive(tmp_path / "new", size=DemoSize.LARGE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt"]


def test_an_interrupted_archive_is_none_and_the_same_call_begins_anew(tmp_path: Path) -> None:
    def interrupted(_site: str) -> NoReturn:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            write_demo_archive(tmp_path / "archive", size=DemoSize.SMALL, progress=interrupted)
        assert not (tmp_path / "archive").exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_estimated_bytes_bound_what_is_written(archive: DemoArchive) -> None:
    written = sum(path.stat().st_size for path in archive.catalog.parent.rglob("*") if path.is_file())
    assert written < estimated_bytes(DemoSize.SMALL) < 4 * written
    assert estimated_bytes(DemoSize.LARGE) > 20e9


@pytest.mark.parametrize("size", DemoSize)
def test_sites_lie_apart_and_rasters_are_whole_pixels(size: DemoSize) -> None:
    sites = plan_sites(size, 0)
    for site in sites:
        for scene in site.scenes:
            assert all(side % (3 if scene.role == "hsi" else 2) == 0 for side in scene.extent.shape)
    names = [(site.name[0], scene.extent) for site in sites for scene in site.scenes]
    for name, extent in names:
        for other_name, other in names:
            apart = extent.y1 <= other.y0 or other.y1 <= extent.y0 or extent.x1 <= other.x0 or other.x1 <= extent.x0
            assert apart or name == other_name


@pytest.mark.bench
def test_memory_stays_below_its_bound_at_medium_size(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from scenefuse.demo.archive import write_demo_archive\n"
        "from scenefuse.demo.size import DemoSize\n"
        "write_demo_archive(Path(sys.argv[1]), size=DemoSize.MEDIUM)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "demo")], check=True, capture_output=True)
    assert int(done.stdout) < 1 << 20  # KiB: 1 GiB, half of what is allowed at any size


def _polygon(item: pystac.Item) -> Polygon:
    """Footprint of the item in degrees."""
    polygon = shape(item.geometry or {})
    assert isinstance(polygon, Polygon)
    return polygon


def _digests(root: Path) -> dict[str, str]:
    """SHA-256 of each file; scenes are named after their instrument, site and time, not after the seed."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
