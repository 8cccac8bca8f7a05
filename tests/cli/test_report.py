"""`scenefuse report`: where the page goes, what is printed, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scenefuse.errors import DataError, UsageError
from tests.cli.command import Command, assert_explained

Pair = tuple[Path, Path]


@pytest.fixture
def product(scenefuse: Command, pair: Pair, tmp_path: Path, no_workers: None) -> Path:  # noqa: ARG001 - as it works
    options = ("--model", "gsa", "--core-px", 48, "--workers", 1, "--format", "zarr", "--no-report", "--json")
    ended = scenefuse("fuse", *pair, "--out", tmp_path / "out", *options)
    assert ended.code == 0, ended.stderr
    return Path(ended.document["item"]).parent


def test_a_report_goes_into_the_product_by_default(scenefuse: Command, product: Path) -> None:
    assert not (product / "report.html").exists()
    ended = scenefuse("report", product)
    assert ended.code == 0, ended.stderr
    assert ended.stdout.startswith(f"Report: {product / 'report.html'}\n")
    assert "of 3,600 pixels have no quality flag" in ended.stdout
    assert scenefuse("verify", product).code == 0
    item = product / f"{product.name}.json"
    assert json.loads(item.read_text())["assets"]["report"]["href"] == "./report.html"
    (by_item,) = scenefuse("report", item, "--json").document["products"]
    assert by_item["report"] == str(product / "report.html")
    assert by_item["figures"]["size"] == {
        "bands": 32, "rows": 60, "columns": 60, "gsd_m": 10.0, "hs_gsd_m": 30.0, "ms_gsd_m": 10.0, "ratio": 3,
    }  # fmt: skip


def test_a_report_may_go_elsewhere_and_leave_the_product_alone(
    scenefuse: Command, product: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in product.rglob("*") if path.is_file()}
    ended = scenefuse("report", product, "--out", tmp_path / "new" / "page.html", "--scores", "--json")
    assert ended.code == 0, ended.stderr
    (made,) = ended.document["products"]
    assert made["report"] == str(tmp_path / "new" / "page.html")
    assert "qnr" in made["figures"]["scores"]
    printed = scenefuse("report", product, "--out", "-", "--scores")
    assert printed.stdout == (tmp_path / "new" / "page.html").read_text()
    assert printed.stderr == ""
    assert {path: path.read_bytes() for path in product.rglob("*") if path.is_file()} == before
    assert not Path("-").exists()


def test_a_report_says_which_inputs_are_not_there(
    scenefuse: Command, product: Path, tmp_path: Path, pair: Pair
) -> None:
    run = json.loads((product / "run.json").read_text())
    run["hrefs"]["hsi"] = str(tmp_path / "gone.tif")
    (product / "run.json").write_text(json.dumps(run))
    assert "the inputs were not read: " in scenefuse("report", product, "--out", tmp_path / "a.html").stdout
    told = scenefuse("report", product, "--out", tmp_path / "a.html", "--hs", pair[0], "--ms", pair[1])
    assert "not read" not in told.stdout


@pytest.mark.parametrize(("windows", "said"), [(1, "1 window across seams was"), (2, "2 windows across seams were")])
def test_windows_across_seams_are_counted(scenefuse: Command, product: Path, windows: int, said: str) -> None:
    path, steps = product / "provenance.json", r"{\"max\": 0.0, \"p999\": 0.0, \"rms\": 0.0}"
    text = re.sub(r'(\\"seams\\": )(?:null|{[^}]*})', lambda found: found[1] + steps, path.read_text())
    changed, places = re.subn(r'(\\"windows\\": )\d+', rf"\g<1>{windows}", text)
    assert places == 2, "those of the shift, and those across seams"
    path.write_text(changed)
    page = scenefuse("report", product, "--out", "-").stdout
    assert f"{said} computed again" in page
    assert f"px over {said.partition(' across')[0]}<" in page


def test_calls_that_mean_nothing_are_refused(scenefuse: Command, product: Path, tmp_path: Path) -> None:
    call = ("report", product, "--json")
    assert_explained(scenefuse(*call, "--out", "-"), UsageError.exit_code, "each would be the document")
    assert_explained(scenefuse(*call, "--out", tmp_path), UsageError.exit_code, "is a folder", "report.html")
    assert_explained(scenefuse(*call, "--hs", "hs.tif"), UsageError.exit_code, "half old, half new")
    assert_explained(scenefuse(*call, "--scores", "--reference", "t.tif"), UsageError.exit_code, "--reference")
    assert_explained(scenefuse("report", tmp_path, "--json"), DataError.exit_code, "holds no product files")
    assert_explained(scenefuse(*call, "--reference", "t.tif"), DataError.exit_code, "t.tif does not exist")
