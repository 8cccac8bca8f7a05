"""Workflow files: the shipped ones are valid, and a mistake is refused before any work."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scenefuse.errors import UsageError
from scenefuse.place.shipped import shipped_folder
from scenefuse.publish.api import ApiCatalogue
from scenefuse.workflow.specification import read_workflow


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "w.toml"
    path.write_text(text)
    return path


def test_every_shipped_workflow_is_valid() -> None:
    files = sorted(shipped_folder("workflows").glob("*.toml"))
    assert [read_workflow(file).name for file in files] == [file.stem for file in files]
    assert files


def test_paths_are_seen_from_the_files_folder_and_names_stay_names(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[source]\ncatalogs = ["a/catalog.json", "earth-search", "https://x.org/stac"]\n[output]\nproducts = "./out"\n',
    )
    workflow = read_workflow(path)
    assert workflow.source.catalogs == (str(tmp_path / "a/catalog.json"), "earth-search", "https://x.org/stac")
    assert workflow.output.products == str(tmp_path / "out")
    assert workflow.output.publish_to is None


def test_a_folder_without_a_slash_is_a_folder_and_weights_beside_the_file_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.safetensors").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    text = '[source]\ncatalogs = ["archive"]\n[output]\nproducts = "o"\n[fuse]\nmodel = "aelf-t"\nweights = "{}"\n'
    workflow = read_workflow(write(tmp_path, text.format("own.safetensors")))
    assert workflow.source.catalogs == (str(tmp_path / "archive"),)
    assert workflow.fuse.weights == str(tmp_path / "own.safetensors")
    assert read_workflow(write(tmp_path, text.format("~/own.safetensors"))).fuse.weights == workflow.fuse.weights
    assert read_workflow(write(tmp_path, text.format("fields@2"))).fuse.weights == "fields@2"


def test_the_readmes_workflow_is_valid(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL)
    schedule = read_workflow(write(tmp_path, text)).schedule
    assert schedule is not None
    assert schedule.time_zone == "Europe/Berlin"


def test_look_backs_count_from_each_pass_and_days_stay_days(tmp_path: Path) -> None:
    text = '[source]\ncatalogs = ["c"]\nsince = "{}"\nuntil = "{}"\n[output]\nproducts = "o"\n'
    back = read_workflow(write(tmp_path, text.format("10d", "36h"))).source
    for now in (datetime(2024, 3, 5, 12, tzinfo=UTC), datetime(2025, 1, 2, 3, tzinfo=UTC)):
        bounds = back.bounds(now)
        assert (bounds.since, bounds.until) == (now - timedelta(days=10), now - timedelta(hours=36))
    fixed = read_workflow(write(tmp_path, text.format("2024-02-28", "2024-02-29"))).source
    bounds = fixed.bounds(datetime(2030, 1, 1, tzinfo=UTC))
    assert bounds.since == datetime(2024, 2, 28, tzinfo=UTC)
    assert bounds.until == datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[source]\ncatalogs = ["c"]\nsince = "3d"\nuntil = "10d"\n[output]\nproducts = "o"\n', "is after until"),
        ('[source]\ncatalogs = ["c"]\nsince = "1mo"\n[output]\nproducts = "o"\n', "since is '1mo'"),
        ('[source]\ncatalogs = ["c"]\nsince = "lately"\n[output]\nproducts = "o"\n', "since 'lately'"),
        ('[source]\ncatalogs = []\n[output]\nproducts = "o"\n', "catalogs is empty"),
        ('name = "../x"\n[source]\ncatalogs = ["c"]\n[output]\nproducts = "o"\n', "name '../x'"),
        ('[output]\nproducts = "o"\n', r"has no \[source\]"),
        ('[source]\ncatalogs = ["c"]\n', r"has no \[output\]"),
        ('[source]\ncatalogs = ["c"]\n[output]\nproducts = "o"\n[pair]\n', "unknown table 'pair'"),
        ('[source]\ncatalogs = ["c"]\n[output]\nproduct = "o"\n', "unknown key 'product'.*'products'"),
        ('[source]\ncatalogs = ["c"]\nbbox = [1, 2]\n[output]\nproducts = "o"\n', "bbox has 2 numbers"),
        ('[source]\ncatalogs = ["c"]\n[output]\nproducts = "o"\n[pairs]\nmax_gap = 3\n', "unknown key 'max_gap'"),
        ('[source]\n[output]\nproducts = "o"\n', "has no catalogs"),
        (
            '[source]\ncatalogs = ["c"]\n[output]\nproducts = "o"\n[pairs]\nmax_cloud_fraction = 2\n',
            "max_cloud_fraction is 2.0: it is not a fraction",
        ),
    ],
)
def test_a_mistake_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_workflow(write(tmp_path, text))


def test_products_are_published_beside_the_file_on_a_store_or_into_an_api(tmp_path: Path) -> None:
    text = '[source]\ncatalogs = ["a"]\n[output]\nproducts = "s3://b/products"\npublish_to = "{}"\n'
    assert read_workflow(write(tmp_path, text.format("www"))).output.publish_to == str(tmp_path / "www")
    assert read_workflow(write(tmp_path, text.format("s3://b/www"))).output.publish_to == "s3://b/www"
    text += 'asset_root = "https://a.example/fused"\n[fuse]\nallow_host = ["api.example"]\n'
    workflow = read_workflow(write(tmp_path, text.format("http://api.example/stac")))
    catalogue = workflow.output.catalogue(workflow.fuse.allow_host)
    assert isinstance(catalogue, ApiCatalogue)
    assert (catalogue.url, catalogue.root.url) == ("http://api.example/stac", "https://a.example/fused")
    assert catalogue.policy.allow_hosts == ("api.example",)
