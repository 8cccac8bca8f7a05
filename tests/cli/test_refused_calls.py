"""Outputs that cannot receive a product, machines that cannot make it, and calls that are wrong."""

from __future__ import annotations

import errno
import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from scenefuse.cli import app as cli_app
from scenefuse.config import RunConfig
from scenefuse.errors import DataError, ModelError, ResourceError, UsageError, WorkError
from scenefuse.models import bicubic
from scenefuse.models.registry import MODELS, Method
from scenefuse.pipeline.planning import plan_fusion
from tests.cli import scenes
from tests.cli.command import Command, assert_explained

Pair = tuple[Path, Path]


# --- outputs ----------------------------------------------------------------------------------------------------------


def assert_output_refused(scenefuse: Command, pair: Pair, out: Path, *said: str) -> None:
    """`fuse` and `batch` refuse out, and leave it as it is."""
    before = sorted((path, path.read_bytes() if path.is_file() else b"") for path in out.rglob("*"))
    scenes_before = scenes.write_catalogue(pair[0].parent, [])
    for call in (("fuse", *pair), ("batch", scenes_before)):
        ended = scenefuse(*call, "--out", out, "--workers", 1, "--format", "zarr", "--json")
        assert_explained(ended, DataError.exit_code, *said)
    assert sorted((path, path.read_bytes() if path.is_file() else b"") for path in out.rglob("*")) == before


def test_an_output_folder_with_other_files_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("", encoding="utf-8")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"")
    assert_output_refused(
        scenefuse, pair, tmp_path, "holds something else: photos, thesis.tex", "mixed", "choose an empty folder"
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("catalog.json", '{"type": "Catalog", "id": "museum", "links": []}', "the catalogue 'museum'"),
        ("catalog.json", '{"type": ', "catalog.json is not JSON"),
        ("catalog.json", "[]", "catalog.json holds a JSON list"),
        ("collection.json", '{"type": "Collection", "id": "landsat"}', "the collection 'landsat'"),
    ],
)
def test_an_output_folder_with_another_catalogue_is_refused(
    scenefuse: Command, pair: Pair, tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert_output_refused(scenefuse, pair, tmp_path, said, "linked there", "choose")


def test_a_product_folder_with_other_files_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    folder = plan_fusion(*pair, out=tmp_path, config=RunConfig(workers=1, format=("zarr",))).folder.local_path()
    (folder / "fused.zarr").mkdir(parents=True)
    (folder / "letter.txt").write_text("", encoding="utf-8")
    ended = scenefuse("fuse", *pair, "--out", tmp_path, "--workers", 1, "--format", "zarr", "--json")
    assert_explained(ended, DataError.exit_code, f"{folder} holds something else: letter.txt", "mix", "output folder")
    assert sorted(path.name for path in folder.iterdir()) == ["fused.zarr", "letter.txt"]


def test_an_output_that_cannot_be_written_is_refused(scenefuse: Command, pair: Pair) -> None:
    for out in (Path("/proc/scenefuse"), pair[0] / "below-a-file"):
        ended = scenefuse("fuse", *pair, "--out", out, "--workers", 1, "--json")
        assert_explained(ended, ResourceError.exit_code, f"{out.parent} cannot be written", "choose another --out")
        ended = scenefuse("batch", scenes.write_catalogue(pair[0].parent, []), "--out", out, "--json")
        assert_explained(ended, ResourceError.exit_code, f"{out.parent} cannot be written", "choose another --out")


def test_an_output_that_is_a_file_is_wrong_usage(scenefuse: Command, pair: Pair) -> None:
    ended = scenefuse("fuse", *pair, "--out", pair[1], "--json")
    assert ended.code == UsageError.exit_code
    assert "is a file" in ended.stderr
    assert ended.document["exit_code"] == UsageError.exit_code


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 128 KiB; where none may be mounted, a folder of which psutil says that it has no more."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        usage = psutil.disk_usage(str(place))
        monkeypatch.setattr(psutil, "disk_usage", lambda _path: usage._replace(free=2**17))
    yield place
    if not mounted.returncode:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("formats", ["zarr", "zarr,cog"])
def test_a_disk_without_space_is_refused(scenefuse: Command, pair: Pair, small_disk: Path, formats: str) -> None:
    out = small_disk / "products"
    ended = scenefuse("fuse", *pair, "--out", out, "--workers", 1, "--format", formats, "--json")
    error = assert_explained(ended, ResourceError.exit_code, "229 KiB" if formats == "zarr" else "", "Free some space")
    assert "128 KiB" in error["value"]
    assert not list(small_disk.iterdir())


def test_a_scheduler_that_does_not_answer_is_refused(
    scenefuse: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scenefuse.engine.cluster.CONNECT_S", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    for call in (("fuse", *pair), ("batch", scenes.archive_of(pair, tmp_path / "archive"))):
        out = tmp_path / "out"
        ended = scenefuse(*call, "--out", out, "--scheduler", address, "--json")
        assert_explained(ended, ResourceError.exit_code, f"No Dask scheduler answers at {address}", "dask scheduler")
        assert not out.exists()


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--modle", "gsa"), "--model"),
        (("--model", "gas"), "Did you mean 'gsa'"),
        (("--precision", "double"), "'auto', 'fp32'"),
        (("--scheduler", "tcp://127.0.0.1:1", "--workers", 2), "both set"),
        (("--workers", 0), "0 is not in the range"),
        (("--memory-limit", "lots"), "'lots' is not understood"),
        (("--memory-limit", "0"), "no worker could start"),
        (("--core-px", "-5"), "-5 is not in the range"),
        (("--format", "cog"), "everything else is made from the Zarr store"),
        (("--format", "zarr,envi"), "format is 'envi'"),
        (("--hs-scale", "0"), "hs_scale is 0.0"),
        (("--ms-scale", "nan"), "ms_scale is nan"),
        (("--model", "gsa", "--weights", __file__), "gsa"),
        (("--model", "gsa", "--adapt", "5"), "--adapt with gsa"),
        (("--config", "/nonexistent.toml"), "No such file"),
    ],
)
def test_a_wrong_option_is_wrong_usage(
    scenefuse: Command, pair: Pair, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    out = tmp_path / "out"
    archive = scenes.archive_of(pair, tmp_path / "archive")
    for call in (("fuse", *pair), ("plan", *pair), ("batch", archive)):
        ended = scenefuse(*call, "--out", out, *options, "--json")
        assert ended.code == UsageError.exit_code, ended.stderr
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.document["error"]["kind"] == "usage"
        assert all(ended.document["error"][part] for part in ("value", "consequence", "cure"))
        assert not out.exists()


def test_weights_that_are_not_there_are_refused(
    scenefuse: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "network", Method(build=bicubic.build, needs_weights=True))
    call = ("fuse", *pair, "--out", tmp_path / "out", "--model", "network", "--json")
    assert_explained(scenefuse(*call), ModelError.exit_code, "network without weights", "never makes a product")
    ended = scenefuse(*call, "--weights", tmp_path / "absent.safetensors")
    assert_explained(ended, ModelError.exit_code, "absent.safetensors is not a file", "no weights", "give the path")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('modle = "gsa"', ("unknown key 'modle'", "no effect", "Did you mean 'model'? Known keys: model")),
        ("zzz = 1", ("unknown key 'zzz'", "Known keys: model, weights")),
        ('core_px = "big"', ("core_px is 'big'", "type int")),
        ('halo = "huge"', ("halo is 'huge'", "default, full")),
        ("model = ", ("is not valid TOML", "Invalid value")),
        ('workers = 1\nscheduler = "tcp://a:1"', ("both set", "Leave out one")),
    ],
)
def test_a_wrong_configuration_is_wrong_usage(
    scenefuse: Command, pair: Pair, tmp_path: Path, toml: str, said: tuple[str, ...]
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(toml, encoding="utf-8")
    ended = scenefuse("fuse", *pair, "--out", tmp_path / "out", "--config", path, "--json")
    assert_explained(ended, UsageError.exit_code, *said)
    assert not (tmp_path / "out").exists()


def test_a_bound_of_one_day_keeps_the_scenes_of_that_day(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    archive = scenes.archive_of(pair, tmp_path / "archive")
    ended = scenefuse("pair", archive, "--since", "2024-06-04", "--until", "2024-06-04", "--json")
    assert len(ended.document["pairs"]) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--since", "yesterday"), "not an ISO 8601 date"),
        (("--since", "2024-06-02", "--until", "2024-06-01"), "is after until"),
        (("--bbox", 13, 53, 14, 52), "bbox 13 53 14 52"),
        (("--bbox", 13, 52, 14), "'--json' is not a valid float"),
        (("--max-gap-hours", -1), "max_gap_hours is -1.0"),
        (("--min-overlap", 20), "20.0 is not in the range"),
        (("--max-cloud", "x"), "'x' is not a valid float"),
    ],
)
def test_wrong_bounds_are_wrong_usage(
    scenefuse: Command, pair: Pair, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    ended = scenefuse("pair", scenes.archive_of(pair, tmp_path / "archive"), *options, "--json")
    assert ended.code == UsageError.exit_code
    assert said in ended.stderr
    assert ended.document["error"]["kind"] == "usage"


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[sauce]\n", "unknown table 'sauce'"),
        ('[source]\ncatalogs = ["a"]\n', "has no [output]"),
        ('[source]\ncatalog = ["a"]\n[output]\nproducts = "out"\n', "Did you mean 'catalogs'"),
        ('[source]\ncatalogs = ["a"]\n[output]\nproducts = "out"\n[pairs]\nmax_gap_hours = -2.0\n', "max_gap_hours"),
        ('[source]\ncatalogs = ["a"]\nbbox = [1.0]\n[output]\nproducts = "out"\n', "bbox has 1 numbers"),
        ('[source]\n[output]\nproducts = "out"\n', "catalogs"),
        ('source = 3\n[output]\nproducts = "out"\n', "source"),
        ('[source]\ncatalogs = ["a"]\n[output]\nproducts = "out"\npublish_to = "gs://b/c"\n', "gs://b/c is not"),
        (
            '[source]\ncatalogs = ["a"]\n[output]\nproducts = "out"\npublish_to = "https://api.example"\n',
            "publish to https://api.example without an asset root",
        ),
        (
            '[source]\ncatalogs = ["a"]\n[output]\nproducts = "out"\npublish_to = "p"\nasset_root = "www"\n',
            "asset root www",
        ),
    ],
)
def test_a_wrong_workflow_is_wrong_usage(scenefuse: Command, tmp_path: Path, toml: str, said: str) -> None:
    path = tmp_path / "nightly.toml"
    path.write_text(toml, encoding="utf-8")
    assert_explained(scenefuse("workflow", "run", path, "--json"), UsageError.exit_code, said)
    assert_explained(scenefuse("workflow", "status", path, "--json"), UsageError.exit_code, said)
    assert scenefuse("workflow", "serve", path).code == UsageError.exit_code
    assert [entry.name for entry in tmp_path.iterdir()] == ["nightly.toml"]


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("", "has no [schedule]"),
        ("[schedule]\n", "neither cron nor every"),
        ('[schedule]\ncron = "30 25 * * *"\n', "does not name times"),
        ('[schedule]\ncron = "30 2 * * *"\ntimezone = "UTC"\n', "Did you mean 'time_zone'"),
        ("[schedule]\nevery = 3\n", "every is 3"),
        ('[schedule]\nevery = "1h"\n[source2]\n', "unknown table 'source2'"),
    ],
)
def test_a_wrong_schedule_is_refused_before_any_work(
    scenefuse: Command, tmp_path: Path, schedule: str, said: str
) -> None:
    path = tmp_path / "nightly.toml"
    path.write_text(f'[source]\ncatalogs = ["a"]\n[output]\nproducts = "out"\n{schedule}', encoding="utf-8")
    ended = scenefuse("workflow", "serve", path)
    assert ended.code == UsageError.exit_code
    assert said in ended.stderr
    (line,) = scenefuse("workflow", "serve", path, "--log-json").stderr.splitlines()
    record = json.loads(line)
    assert (record["level"], record["event"], record["kind"], record["exit_code"]) == ("error", "end", "usage", 2)
    assert said in record["cause"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["nightly.toml"]


def test_an_output_that_is_not_ours_is_refused_before_the_service_begins(scenefuse: Command, tmp_path: Path) -> None:
    path = tmp_path / "nightly.toml"
    tables = '[source]\ncatalogs = ["a"]\n[output]\nproducts = "out"\n[schedule]\nevery = "1s"\n'
    path.write_text(tables, encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    ended = scenefuse("workflow", "serve", path)
    assert (ended.code, "holds something else" in ended.stderr) == (DataError.exit_code, True)
    path.write_text(f'{tables}[fuse]\nmodel = "magic"\n', encoding="utf-8")
    assert scenefuse("workflow", "serve", path).code in {UsageError.exit_code, ModelError.exit_code}


# --- products ---------------------------------------------------------------------------------------------------------


def test_an_empty_word_is_wrong_usage_and_not_the_folder_here(
    scenefuse: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls: list[tuple[object, ...]] = [
        ("fuse", *pair, "--out", ""),
        ("fuse", pair[0], "", "--out", "products"),
        ("search", ""),
        ("clean", "", "--yes"),
        ("verify", ""),
    ]
    for call in calls:
        assert_explained(scenefuse(*call, "--json"), UsageError.exit_code, "a path is empty", "set the variable")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call",
    [
        lambda place: ("verify", place / "absent"),
        lambda place: ("replay", place / "absent"),
        lambda place: ("publish", place / "absent", "--to", place / "catalogue"),
    ],
    ids=["verify", "replay", "publish"],
)
def test_a_product_that_is_not_there_is_refused(
    scenefuse: Command, tmp_path: Path, call: Callable[[Path], tuple[object, ...]]
) -> None:
    assert_explained(scenefuse(*call(tmp_path), "--json"), DataError.exit_code, "absent is not a folder", "give")
    assert not list(tmp_path.iterdir())


def test_a_catalogue_that_cannot_be_written_is_refused(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    for place in (Path("/proc/scenefuse"), pair[0] / "below-a-file"):
        ended = scenefuse("demo", "--out", place, "--json")
        assert_explained(ended, ResourceError.exit_code, f"{place.parent} cannot be written", "choose another --out")
    ended = scenefuse("demo", "--out", tmp_path / "demo", "--model", "hysure", "--json")
    assert_explained(ended, UsageError.exit_code, "no method is called 'hysure'", "Did you mean 'hysure-l2'")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "https://api.example/stac"), ("without an asset root", "--asset-root https://host/path")),
        (("--to", "gs://bucket/catalogue"), ("gs://bucket/catalogue is not a place", "s3://bucket/prefix")),
        (("--to", "out", "--check-assets"), ("checking assets of a static catalogue", "leave out --check-assets")),
        (("--to", "https://api.example", "--asset-root", "/srv/www"), ("asset root /srv/www", "s3://bucket/prefix")),
        (("--to", "https://api.example", "--asset-root", "https:/x"), ("asset root https:///x", "could not follow")),
        (
            (
                "--to",
                "https://me:secret@api.example",
                "--asset-root",
                "https://a.example",
                "--allow-host",
                "api.example",
            ),
            ("publish to https://api.example with a user name", "SCENEFUSE_STAC_TOKEN"),
        ),
        (
            ("--to", "https://api.example?key=secret", "--asset-root", "https://a.example"),
            ("publish to https://api.example with a user name, a query", "landing page"),
        ),
    ],
)
def test_a_catalogue_that_cannot_be_meant_is_wrong_usage(
    scenefuse: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    said: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = scenefuse("publish", tmp_path, *options, "--json")
    assert_explained(ended, UsageError.exit_code, *said)
    assert "secret" not in f"{ended.stdout}{ended.stderr}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://api.example/stac", "http can be altered on its way"),
        ("https://127.0.0.1:8080", "not a public address"),
        ("https://localhost", "the host is local"),
    ],
)
def test_an_api_that_the_policy_does_not_allow_is_refused(
    scenefuse: Command, tmp_path: Path, url: str, said: str
) -> None:
    ended = scenefuse("publish", tmp_path, "--to", url, "--asset-root", "https://a.example/fused", "--json")
    assert_explained(ended, DataError.exit_code, url, said, "--allow-host")


def test_methods_at_a_ratio_that_no_grid_has_are_wrong_usage(scenefuse: Command) -> None:
    for ratio in ("0", "-3", "7"):
        assert_explained(scenefuse("models", "--ratio", ratio, "--json"), UsageError.exit_code, f"ratio {ratio}")


def test_a_folder_that_is_not_there_has_nothing_to_refill(scenefuse: Command, tmp_path: Path) -> None:
    ended = scenefuse("refill", tmp_path / "absent", "--json")
    assert_explained(ended, DataError.exit_code, "absent is not a folder")


def test_a_demo_of_another_size_or_seed_is_not_put_upon_the_first(scenefuse: Command, tmp_path: Path) -> None:
    index = tmp_path / "archive" / "truth" / "index.json"
    index.parent.mkdir(parents=True)
    index.write_text(json.dumps({"size": "small", "seed": 0, "pairs": []}))
    for options in (("--seed", 7), ("--size", "medium")):
        ended = scenefuse("demo", "--out", tmp_path, *options, "--json")
        assert_explained(ended, UsageError.exit_code, "of size small and seed 0", "another --out")


def test_a_demo_is_not_put_among_products_nor_made_of_a_seed_that_is_none(scenefuse: Command, tmp_path: Path) -> None:
    (tmp_path / "collection.json").write_text('{"type": "Collection", "id": "scenefuse"}', encoding="utf-8")
    ended = scenefuse("demo", "--out", tmp_path, "--json")
    assert_explained(ended, DataError.exit_code, "holds products", "choose an empty folder")
    assert [path.name for path in tmp_path.iterdir()] == ["collection.json"]
    assert scenefuse("demo", "--out", tmp_path / "demo", "--seed", -1).code == UsageError.exit_code


def test_replay_with_one_new_place_only_is_wrong_usage(scenefuse: Command, tmp_path: Path) -> None:
    ended = scenefuse("replay", tmp_path, "--hs", "a.tif", "--json")
    assert_explained(ended, UsageError.exit_code, "only one of --hs and --ms", "Give both or none")


def test_the_record_of_an_error_is_the_only_thing_on_stdout(scenefuse: Command, tmp_path: Path) -> None:
    ended = scenefuse("search", tmp_path / "absent", "--json")
    assert json.loads(ended.stdout)["exit_code"] == DataError.exit_code
    ended = scenefuse("search", tmp_path / "absent")
    assert ended.stdout == ""


@pytest.mark.parametrize("call", [("search",), ("search", "--known", "earth-search")])
def test_search_lists_scenes_or_known_archives(scenefuse: Command, call: tuple[str, ...]) -> None:
    assert_explained(scenefuse(*call, "--json"), UsageError.exit_code, "--known", "give one of the two")


@pytest.mark.parametrize(("number", "ended"), [(errno.ENOSPC, SystemExit), (errno.ENOTDIR, SystemExit), (5, OSError)])
def test_what_the_system_refuses_explains_itself_and_anything_else_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, ended: type[BaseException]
) -> None:
    def refused(**_: object) -> None:
        raise OSError(number, "no such luck", "/data/a.tif")

    monkeypatch.setattr(cli_app, "app", refused)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["scenefuse"])
    with pytest.raises(ended) as found:
        cli_app.main()
    if isinstance(found.value, SystemExit):
        assert found.value.code == WorkError.exit_code
        assert "/data/a.tif: no such luck: the command stopped there. Remove the obstacle" in capsys.readouterr().err
