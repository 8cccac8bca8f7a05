"""Reports of real products: their figures against numbers found another way, and what becomes of the product."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image

from scenefuse.config import RunConfig
from scenefuse.engine.lanes import InProcessLane
from scenefuse.engine.lease import Lease, LeaseHeldError
from scenefuse.engine.observers import RecordingObserver
from scenefuse.engine.state_file import load_state
from scenefuse.errors import DataError, MismatchError, UsageError
from scenefuse.grid.window import Window
from scenefuse.pipeline.evaluate import evaluate_product
from scenefuse.pipeline.fuse import FusedProduct, fuse
from scenefuse.pipeline.replay import replay
from scenefuse.pipeline.report import report
from scenefuse.place.store import StorePlace
from scenefuse.product.provenance import read_provenance
from scenefuse.product.reading import open_product
from scenefuse.product.verify import verify
from scenefuse.quality.product_scores import read_degraded
from tests.pipeline.making import PairFiles, product_bytes, write_pair

CONFIG = RunConfig(model="gsa", core_px=64, workers=2)
HOSTILE = '"><script>document.title="broken"</script><img src=x onerror=alert(1)>{{ 7*7 }}'


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and the text of each section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs).get("id") or dict(attrs).get("class") or ""

    def handle_data(self, data: str) -> None:
        self.texts[self._section] = " ".join([*self.texts.get(self._section, "").split(), *data.split()])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFiles:
    return write_pair(tmp_path_factory.mktemp("pair"), ratio=4, coarse_shape=(31, 27), holes="swath")


@pytest.fixture(scope="module")
def made(pair: PairFiles, tmp_path_factory: pytest.TempPathFactory) -> FusedProduct:
    return fuse(*pair.both, out=tmp_path_factory.mktemp("made"), config=CONFIG, lane=InProcessLane())


@pytest.fixture
def product(made: FusedProduct, tmp_path: Path) -> Path:
    """A copy of the product with its report, to be changed."""
    return Path(shutil.copytree(made.folder, tmp_path / made.folder.name))


@pytest.fixture(scope="module")
def truth(made: FusedProduct, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raster near the product, with its bands, on its grid."""
    product = open_product(made.folder)
    path = tmp_path_factory.mktemp("truth") / "truth.tif"
    with rasterio.open(made.folder / "fused.tif") as stored:
        pixels = stored.read().astype(np.int32)
        profile = stored.profile
    noise = np.random.default_rng(0).normal(0, 80, pixels.shape)
    moved = np.where(pixels == product.nodata, product.nodata, pixels + np.rint(noise)).astype(np.int16)
    profile = {key: profile[key] for key in ("height", "width", "count", "dtype", "crs", "transform", "nodata")}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(moved)
        file.scales = [1e-4] * len(moved)
        for number, band in enumerate(product.bands, start=1):
            file.update_tags(number, wavelength=str(band.wavelength_nm), wavelength_units="Nanometers")
    return path


def test_fuse_writes_a_report_that_verifies_with_the_product(made: FusedProduct) -> None:
    html = (made.folder / "report.html").read_text()
    assert made.item_id in html
    assert len(html) < 3_000_000
    assert verify(made.folder).ok
    assert str(made.report) == str(made.folder / "report.html") == made.facts()["report"]
    assert replay(made.folder).ok


def test_a_report_is_a_line_in_a_notebook(made: FusedProduct) -> None:
    assert repr(report(made.folder, out="-")) == "Report(location=None)"


def test_flags_are_those_that_rasterio_counts(made: FusedProduct) -> None:
    figures = report(made.folder, out="-").figures
    with rasterio.open(made.folder / "quality.tif") as file:
        flags = file.read(1, masked=False)
    assert figures["flags"]["pixels"] == flags.size
    assert figures["flags"]["good"] == int((flags == 0).sum())
    expected = {"nodata": 1, "near_edge": 2, "near_nodata": 4, "clipped": 8, "not_finite": 16}
    assert figures["flags"]["by_flag"] == {name: int(((flags & bit) != 0).sum()) for name, bit in expected.items()}
    assert figures["flags"]["by_flag"]["nodata"] > 100, "the scene has holes"
    share = f"{100 * (flags == 0).mean():.2f} %"
    assert (
        f"{share} of the pixels have no quality flag" in Page((made.folder / "report.html").read_text()).texts["cards"]
    )


def test_seams_and_shift_are_those_of_the_provenance(made: FusedProduct) -> None:
    provenance = json.loads((made.folder / "provenance.json").read_text())
    stored = {
        name: json.loads(provenance["entity"]["scenefuse:product"][f"scenefuse:{name}"]["$"])
        for name in ("checks", "grid")
    }
    figures = report(made.folder, out="-").figures
    assert figures["checks"] == stored["checks"]
    assert figures["checks"]["seams"] is not None, "the product has several tiles"
    assert figures["shift"] == stored["grid"]["shift"]


def test_consistency_of_a_scene_that_fits_the_detail_is_what_evaluate_finds(made: FusedProduct) -> None:
    figures = report(made.folder, out="-").figures
    assert figures["detail"] == {"y0": 0, "y1": 124, "x0": 0, "x1": 108}
    found = evaluate_product(made.folder).values
    for name in ("spectral_rmse", "spectral_sam_deg", "spatial_rmse", "spatial_cc"):
        side, _, score = name.partition("_")
        assert figures["consistency"][name] == pytest.approx(found[f"{side}_consistency_{score}"], rel=1e-6)
    by_band = np.array([band["spectral_rmse"] for band in figures["bands"]])
    assert np.sqrt((by_band**2).mean()) == pytest.approx(found["spectral_consistency_rmse"], rel=1e-6)


def test_scores_of_the_whole_product_are_those_of_evaluate(made: FusedProduct, truth: Path) -> None:
    assert report(made.folder, out="-", scores=True).figures["scores"] == pytest.approx(
        evaluate_product(made.folder).values
    )
    figures = report(made.folder, out="-", reference=truth).figures
    assert figures["scores"] == pytest.approx(evaluate_product(made.folder, reference=truth).values)
    assert figures["reference"] == "truth.tif"
    with rasterio.open(made.folder / "fused.tif") as one, rasterio.open(truth) as other:
        fused, expected = (file.read(masked=True).astype(np.float64) * 1e-4 for file in (one, other))
    valid = ~(fused.mask.any(axis=0) | expected.mask.any(axis=0))
    for band, a, b in zip(figures["bands"], fused.data[:, valid], expected.data[:, valid], strict=True):
        assert band["rmse"] == pytest.approx(np.sqrt(((a - b) ** 2).mean()), rel=1e-4)
        assert band["psnr_db"] == pytest.approx(10 * np.log10(b.max() ** 2 / ((a - b) ** 2).mean()), rel=1e-4)
        assert band["cc"] == pytest.approx(np.corrcoef(a, b)[0, 1], rel=1e-4)


def test_the_error_map_is_what_rasterio_and_numpy_find(made: FusedProduct, truth: Path) -> None:
    found = report(made.folder, out="-", reference=truth)
    with rasterio.open(made.folder / "fused.tif") as one, rasterio.open(truth) as other:
        fused, expected = (file.read(masked=True).astype(np.float64) * 1e-4 for file in (one, other))
    rmse = np.sqrt(((fused.data - expected.data) ** 2).mean(axis=0))
    known = ~(fused.mask.any(axis=0) | expected.mask.any(axis=0))
    assert found.figures["error_map"] == {
        "factor": 1,
        "median_rmse": pytest.approx(np.median(rmse[known]), rel=1e-3),
        "top_rmse": pytest.approx(np.percentile(rmse[known], 99), rel=1e-3),
    }
    (shown,) = re.findall(r'src="data:image/png;base64,([^"]+)" alt="Where the product differs', found.html)
    with Image.open(io.BytesIO(base64.b64decode(shown))) as picture:
        pixels = np.asarray(picture.convert("RGBA")).astype(np.int64)
    np.testing.assert_array_equal(pixels[..., 3] > 0, known)
    near, far = (known & (rmse < np.percentile(rmse[known], 5))), (known & (rmse > np.percentile(rmse[known], 95)))
    assert pixels[near][:, :3].sum(axis=1).max() < pixels[far][:, :3].sum(axis=1).min(), "dark is near, bright is far"
    page = Page(found.html)
    assert "Difference from the truth in reflectance, root mean square over the bands" in page.texts["scores"]
    without = report(made.folder, out="-")
    assert without.figures["error_map"] is None
    assert "Difference from the truth" not in without.html


def test_a_product_that_is_its_truth_has_an_infinite_psnr_and_no_scale(made: FusedProduct) -> None:
    found = report(made.folder, out="-", reference=made.folder / "fused.tif")
    assert (found.figures["scores"]["psnr_db"], found.figures["scores"]["infinite"]) == (None, ["psnr_db"])
    page = Page(found.html)
    assert "infinite dB PSNR against the truth" in page.texts["cards"]
    assert "Difference from the truth : next to none" in page.texts["scores"]
    assert "and more" not in page.texts["scores"]


def test_spectra_are_those_of_the_pixels_that_the_page_names(made: FusedProduct, pair: PairFiles, truth: Path) -> None:
    """The first and the last value of each drawn line, read back from the page, against the files."""
    html = report(made.folder, out="-", reference=truth).html
    with rasterio.open(made.folder / "quality.tif") as file:
        flags = file.read(1)
    figures = re.findall(r'<figure class="chart">.*?</figure>', html, re.DOTALL)
    named = [(figure, re.search(r"Row (\d+), column (\d+)", figure)) for figure in figures]
    points = [(figure, int(found[1]), int(found[2])) for figure, found in named if found]
    assert len(points) == 4
    with rasterio.open(made.folder / "fused.tif") as fused, rasterio.open(pair.hs) as hs, rasterio.open(truth) as true:
        for figure, row, column in points:
            assert flags[row, column] == 0
            ticks = {float(y) - 4: float(v) for y, v in re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', figure)}
            (low_y, low), *_, (high_y, high) = sorted(ticks.items(), reverse=True)
            for style, file, there in (
                ("fused", fused, (row, column)),
                ("hs", hs, (row // 4, column // 4)),
                ("truth", true, (row, column)),
            ):
                (line,) = re.findall(rf'class="line {style}" d="M([^"]+)"', figure)
                heights = [float(pair.split()[1]) for pair in line.split(" L")]
                drawn = [low + (low_y - y) / (low_y - high_y) * (high - low) for y in heights]
                stored = file.read(window=((there[0], there[0] + 1), (there[1], there[1] + 1)))[:, 0, 0] * 1e-4
                assert drawn == pytest.approx(stored.tolist(), abs=0.004 * max(stored))


def test_the_same_product_has_the_same_report_but_for_its_run(
    made: FusedProduct, pair: PairFiles, tmp_path: Path
) -> None:
    again = fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane())
    one, other = ((product.folder / "report.html").read_text() for product in (made, again))
    assert one != other, "the times are others"
    without_run = [re.sub(r'<section id="run">.*?</section>', "", html, flags=re.DOTALL) for html in (one, other)]
    assert without_run[0] == without_run[1]
    assert report(made.folder, out="-").html == one, "and made again of the same run it is the same"
    assert product_bytes(made.folder.parent) == product_bytes(tmp_path)


def test_inputs_that_are_gone_are_left_out_unless_they_are_asked_for(
    pair: PairFiles, tmp_path: Path, truth: Path
) -> None:
    hs, ms = (Path(shutil.copy2(path, tmp_path / Path(path).name)) for path in pair.both)
    made = fuse(hs, ms, out=tmp_path / "out", config=CONFIG, lane=InProcessLane())
    hs.rename(tmp_path / "moved.tif")
    found = report(made.folder, reference=truth)
    assert found.figures["inputs"].endswith("hs.tif does not exist")
    assert found.figures["consistency"] == {}
    assert found.figures["scores"]["psnr_db"] > 20
    page = Page(found.html)
    assert "The inputs were not read" in page.texts["pictures"]
    assert "HSI not read" in page.texts["pictures"]
    assert all(attrs["src"] for tag, attrs in page.elements if tag == "img")
    assert verify(made.folder).ok
    with pytest.raises(DataError, match=r"hs\.tif does not exist"):
        report(made.folder, scores=True)
    with pytest.raises(DataError, match=r"nowhere\.tif does not exist"):
        report(made.folder, hrefs=(tmp_path / "nowhere.tif", ms))
    (tmp_path / "moved.tif").rename(hs)
    with rasterio.open(hs, "r+") as file:
        file.write(file.read() // 2)
    assert "differ from the provenance" in report(made.folder, out="-").figures["inputs"]
    with pytest.raises(MismatchError, match="differ from the provenance"):
        report(made.folder, scores=True)


def test_findings_say_what_is_wrong(product: Path) -> None:
    assert report(product, out="-").figures["findings"] == []
    document = json.loads((product / "provenance.json").read_text())
    entity = document["entity"]["scenefuse:product"]
    checks = json.loads(entity["scenefuse:checks"]["$"])
    entity["scenefuse:checks"]["$"] = json.dumps({**checks, "seams": {"rms": 3e-4, "p999": 1e-5, "max": 1e-3}})
    (product / "provenance.json").write_text(json.dumps(document))
    item = product / f"{product.name}.json"
    changed = json.loads(item.read_text())
    changed["properties"]["deprecated"] = True
    item.write_text(json.dumps(changed))
    run = json.loads((product / "run.json").read_text())
    run["facts"]["warnings"] = [{"message": "the disk was slow"}]
    (product / "run.json").write_text(json.dumps(run))
    found = report(product, out="-")
    assert [re.search(word, text) is not None for word, text in zip(
        ("newer version", "disagree by more than the budget", "disk was slow"), found.figures["findings"], strict=True
    )] == [True] * 3  # fmt: skip
    assert "What to know before you rely on it" in Page(found.html).texts["findings bad"]


def test_names_of_others_are_text_and_nothing_else(pair: PairFiles, tmp_path: Path) -> None:
    """Band names, file names, instruments and warnings may hold anything that their makers put there."""
    hs = tmp_path / "hs <img src=x onerror=alert(2)>.tif"
    shutil.copy(pair.hs, hs)
    with rasterio.open(hs, "r+") as file:
        file.set_band_description(3, f"B03 {HOSTILE}")
    made = _fused_by_item(hs, pair.ms, tmp_path)
    run = json.loads((made.folder / "run.json").read_text())
    run["facts"]["warnings"], run["host"] = [{"message": HOSTILE}], HOSTILE
    (made.folder / "run.json").write_text(json.dumps(run))
    found = report(made.folder, out="-")
    assert any(HOSTILE in band["name"] for band in found.figures["bands"])
    page = Page(found.html)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "iframe", "object", "embed", "form", "input", "a"})
    for tag, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")], attrs
        assert tag != "img" or str(attrs["src"]).startswith("data:image/png;base64,")
    everything = " ".join(page.texts.values())
    assert everything.count("onerror=alert(1)") == 4, "a band, an instrument, a warning and the host are shown"
    assert "onerror=alert(2)" in everything
    assert "{{ 7*7 }}" in everything


def _fused_by_item(hs: Path, ms: Path, folder: Path) -> FusedProduct:
    """The product of two items, one of an instrument with a hostile name."""
    items = []
    for path, role in ((hs, "hs"), (ms, "ms")):
        if path.parent != folder:
            shutil.copy(path, folder / path.name)
        properties = {"datetime": "2024-06-04T10:15:00Z", **({"instruments": [HOSTILE]} if role == "hs" else {})}
        asset = {"href": f"./{path.name}", "type": "image/tiff; application=geotiff", "roles": ["data"]}
        item = {"type": "Feature", "stac_version": "1.1.0", "id": role, "geometry": None, "properties": properties}
        items.append(folder / f"{role}.json")
        items[-1].write_text(json.dumps({**item, "links": [], "assets": {"data": asset}}))
    return fuse(*items, out=folder / "out", config=CONFIG, lane=InProcessLane())


def test_no_report_where_none_is_wanted_and_one_where_it_is_missing(pair: PairFiles, tmp_path: Path) -> None:
    bare = RunConfig(model="gsa", core_px=64, workers=2, report=False, format=("zarr",))
    wanted = RunConfig(model="gsa", core_px=64, workers=2, format=("zarr",))
    made = fuse(*pair.both, out=tmp_path, config=bare, lane=InProcessLane())
    assert not (made.folder / "report.html").exists()
    assert "report" not in json.loads(made.item.read_text())["assets"]
    assert fuse(*pair.both, out=tmp_path, config=bare).status == "found"
    assert not (made.folder / "report.html").exists()
    found = fuse(*pair.both, out=tmp_path, config=wanted)
    assert (found.status, str(found.report)) == ("found", str(made.folder / "report.html"))
    assert "report" in json.loads(made.item.read_text())["assets"]
    assert verify(made.folder).ok
    first = (made.folder / "report.html").stat().st_mtime_ns
    assert fuse(*pair.both, out=tmp_path, config=wanted).status == "found"
    assert (made.folder / "report.html").stat().st_mtime_ns == first


def test_a_report_that_cannot_be_made_fails_no_product(
    pair: PairFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug in a picture")

    monkeypatch.setattr("scenefuse.pipeline.fuse.make_report", broken)
    seen = RecordingObserver()
    made = fuse(*pair.both, out=tmp_path, config=CONFIG, lane=InProcessLane(), observer=seen)
    assert made.status == "done"
    assert made.notes[-1] == "no report: ZeroDivisionError('a bug in a picture')"
    assert made.report is None
    assert [record["message"] for record in seen.facts("warning")] == [made.notes[-1]]
    assert verify(made.folder).ok
    monkeypatch.undo()
    assert fuse(*pair.both, out=tmp_path, config=CONFIG).status == "found"
    assert (made.folder / "report.html").is_file()


def test_who_works_in_the_folder_is_not_disturbed(product: Path) -> None:
    with Lease(product / ".lease"), pytest.raises(LeaseHeldError):
        report(product)
    assert report(product).location is not None


def test_what_is_no_product_has_no_report(product: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a reference"):
        report(product, scores=True, reference="truth.tif")
    with pytest.raises(DataError, match="is not a folder"):
        report(tmp_path / "nothing")
    (product / "state.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no state\.safetensors"):
        report(product)
    (product / f"{product.name}.json").unlink()
    with pytest.raises(DataError, match="no finished product"):
        report(product)


def test_a_report_of_a_product_on_a_store(pair: PairFiles, prefix: StorePlace, tmp_path: Path) -> None:
    config = RunConfig(model="gsa", core_px=64, workers=2, format=("zarr",))
    made = fuse(*pair.both, out=prefix, config=config, lane=InProcessLane())
    folder = made.location.parent
    first = (folder / "report.html").read().decode()
    assert verify(folder).ok
    written = report(str(folder), out=tmp_path / "elsewhere.html")
    assert (tmp_path / "elsewhere.html").read_text() == first
    assert str(written.location) == str(tmp_path / "elsewhere.html")
    report(made.location, out=prefix / "pages" / "one.html")
    assert (prefix / "pages" / "one.html").read().decode() == first
    assert str(report(folder).location) == f"{folder}/report.html"
    assert verify(folder).ok


def test_a_large_scene_is_looked_at_in_a_part_and_whole_in_an_overview(tmp_path: Path) -> None:
    """Texture in the south-east alone; 600 x 560 fine pixels, so that the picture is of the first overview."""
    files = write_pair(tmp_path, ratio=4, coarse_shape=(150, 140))
    for path, scale in ((files.hs, 1), (files.ms, 4)):
        with rasterio.open(path, "r+") as file:
            pixels = file.read()
            smooth = np.broadcast_to(pixels.mean(axis=(1, 2), keepdims=True).astype(np.int16), pixels.shape).copy()
            smooth[:, 90 * scale : 150 * scale, 80 * scale : 140 * scale] = pixels[
                :, 90 * scale : 150 * scale, 80 * scale : 140 * scale
            ]
            file.write(smooth)
    config = RunConfig(model="gsa", workers=1, register=False, format=("zarr",))
    made = fuse(*files.both, out=tmp_path / "out", config=config, lane=InProcessLane())
    found = report(made.folder, out="-")
    detail = found.figures["detail"]
    assert (detail["y1"] - detail["y0"], detail["x1"] - detail["x0"]) == (256, 256)
    assert detail["y0"] >= 320
    assert detail["x0"] >= 280
    assert all(edge % 4 == 0 for edge in detail.values())
    assert found.figures["flags"]["pixels"] == 600 * 560
    assert "one pixel for 2 \N{MULTIPLICATION SIGN} 2" in Page(found.html).texts["pictures"]
    assert len(found.html) < 3_000_000
    window = Window(**detail)
    stored, state = open_product(made.folder), load_state(made.folder / "state.safetensors")
    whole = read_degraded(
        stored.read,
        Window(y0=0, y1=150, x0=0, x1=140),
        shape=(600, 560),
        ratio=4,
        sigma_px=float(state.facts["psf_sigma_px"]),
    )
    with rasterio.open(files.hs) as file:
        hs = file.read() * 1e-4
    part = window.coarsen(4).slices
    differences = (whole - hs)[(slice(None), *part)]
    assert found.figures["consistency"]["spectral_rmse"] == pytest.approx(np.sqrt((differences**2).mean()), rel=1e-4)


def test_options_and_inputs_of_the_provenance_are_on_the_page(made: FusedProduct) -> None:
    provenance = read_provenance(made.folder)
    page = Page((made.folder / "report.html").read_text())
    for text in (provenance.identity, provenance.manifest_sha256, provenance.state_sha256, "gsa"):
        assert text in page.texts["origin"]
    for file in provenance.inputs:
        assert file.checksum in page.texts["origin"]
    item = json.loads(made.item.read_text())
    for name, asset in item["assets"].items():
        if name not in {"report", "run", "reflectance"}:
            assert asset["file:checksum"][4:] in page.texts["product"], name
    transform = Affine(*item["properties"]["proj:transform"])
    assert f"{transform.c:.10g}, {transform.f:.10g}" in page.texts["product"]
