"""What every command promises: its help, one JSON document, progress on stderr, an end that can be resumed."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psutil
import pytest
import rasterio

from scenefuse import __version__
from scenefuse.cli.app import COMMANDS
from scenefuse.cli.output import emit_json, print_table
from scenefuse.cli.progress import ProgressBar
from scenefuse.config import RunConfig
from scenefuse.cube.registration import Shift
from scenefuse.engine.protocols import Event
from scenefuse.errors import MismatchError, ResourceError, WorkError
from scenefuse.pipeline.planning import plan_fusion
from tests.cli import scenes
from tests.cli.command import Command, assert_explained, interrupt_at

Pair = tuple[Path, Path]
ROOT = Path(__file__).parents[2]


def started(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """`scenefuse` in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", "scenefuse", *map(str, arguments)]
    return subprocess.Popen(
        call, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd="/", **options
    )


def commands() -> list[tuple[str, ...]]:
    """Every command by its words, those of groups included."""
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command: click.Command = importlib.import_module(f"scenefuse.cli.{name}").command
        found += [(name, sub) for sub in command.commands] if isinstance(command, click.Group) else []
        found.append((name,))
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_says_what_every_command_does_and_takes(scenefuse: Command, words: tuple[str, ...]) -> None:
    ended = scenefuse(*words, "--help")
    assert (ended.code, ended.stderr) == (0, "")
    command: Any = importlib.import_module(f"scenefuse.cli.{words[0]}").command
    for word in words[1:]:
        command = command.commands[word]
    assert " ".join(command.help.split())[:40] in " ".join(ended.stdout.split())
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert option in ended.stdout
        if isinstance(parameter, click.Option) and not isinstance(command, click.Group):
            assert parameter.help or parameter.name in {"out", "size"}, f"{words}: {parameter.opts} has no help"


def test_help_lists_every_command_and_exit_code(scenefuse: Command) -> None:
    ended = scenefuse("--help")
    for name, line in COMMANDS.items():
        assert name in ended.stdout
        assert line in ended.stdout
    for code in ("0 done", "1 a bug", "2 usage", "3 work failed", "4 refused", "5 verify or replay", "130 interrupted"):
        assert code in " ".join(ended.stdout.split())


def test_the_version_is_printed(scenefuse: Command) -> None:
    ended = scenefuse("--version")
    assert (ended.code, ended.stdout) == (0, f"scenefuse, version {__version__}\n")


def test_known_archives_are_listed_with_what_their_pixels_ask_for(scenefuse: Command) -> None:
    ended = scenefuse("search", "--known")
    assert ended.code == 0
    login = "login: EARTHDATA_TOKEN, or netrc's lines for urs.earthdata.nasa.gov"
    for said in ("https://earth-search.aws.element84.com/v1", "sentinel-2-c1-l2a (msi)", "Earthdata Login", login):
        assert said in ended.stdout
    archives = scenefuse("search", "--known", "--json").document["archives"]
    assert [archive["name"] for archive in archives] == sorted(archive["name"] for archive in archives)
    assert "planetary-computer" in {archive["name"] for archive in archives}


def test_an_unknown_command_is_wrong_usage(scenefuse: Command) -> None:
    ended = scenefuse("fuze", "--json")
    assert ended.code == 2
    assert "No such command 'fuze'" in ended.stderr
    assert ended.document["exit_code"] == 2


def test_a_bug_has_a_traceback_and_still_one_document(
    scenefuse: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("scenefuse.cli.sensors.sensors", broken)
    with pytest.raises(ZeroDivisionError):
        scenefuse("sensors", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 1
    assert document["error"]["kind"] == "bug"
    assert "ZeroDivisionError: by zero" in document["error"]["value"]


@pytest.mark.parametrize(
    ("call", "keys"),
    [
        (("models",), {"models", "default"}),
        (("sensors",), {"sensors"}),
        (("search", "ARCHIVE"), {"scenes", "skipped_items"}),
        (("pair", "ARCHIVE"), {"pairs", "unpaired", "skipped_items"}),
        (("doctor", "--out", "OUT"), {"findings"}),
        (("plan", "HS", "MS", "--out", "OUT", "--workers", "1"), {"item_id", "plan", "notes"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_json_is_one_document_and_nothing_else(
    scenefuse: Command, archive: Path, pair: Pair, tmp_path: Path, call: tuple[str, ...], keys: set[str]
) -> None:
    places = {"ARCHIVE": archive, "OUT": tmp_path, "HS": pair[0], "MS": pair[1]}
    ended = scenefuse(*(places.get(word, word) for word in call), "--json")
    assert ended.code == 0, ended.stderr
    assert keys <= ended.document.keys()
    assert not list(tmp_path.iterdir())


def test_a_plan_says_the_pixel_of_a_geographic_pair_in_metres(scenefuse: Command, tmp_path: Path) -> None:
    place: dict[str, Any] = {"crs": "EPSG:4326", "corner": (13.5, 0.5)}
    hs = scenes.write_hs(tmp_path / "hs.tif", gsd_m=3e-4, **place)
    ms = scenes.write_ms(tmp_path / "ms.tif", gsd_m=1e-4, **place)
    ended = scenefuse("plan", hs, ms, "--out", tmp_path / "out", "--workers", 1)
    assert ended.code == 0, ended.stderr
    assert "60 x 60 px of 11.09" in ended.stdout
    assert re.search(r"reads \d+ KiB, writes up to \d+ KiB, [\d.]+ [GM]iB of memory per worker", ended.stdout)


@pytest.mark.usefixtures("no_workers")
def test_a_plan_says_how_long_each_phase_takes_and_what_is_not_in_it(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    call = ("plan", *pair, "--out", tmp_path / "out", "--workers", 1, "--no-register")
    short = r"(under )?\d+ s"
    assert re.search(
        rf"  (roughly \d+|under 1) s \(preparation {short}, tiles {short}, overviews and COG {short}\); plus opening, "
        r"starting workers and the report\n",
        scenefuse(*call).stdout,
    )
    assert ", overviews under 1 s)" in scenefuse(*call, "--format", "zarr").stdout
    told = scenefuse(*call, "--json").document
    assert list(told["seconds"]) == ["prepare", "tiles", "finish"]
    assert told["seconds"]["tiles"] == told["plan"]["seconds"]
    assert told["exists"] is False
    without_cog = (*call, "--format", "zarr")
    assert scenefuse("fuse", *without_cog[1:]).code == 0
    assert "exists already: fuse would find it" in scenefuse(*without_cog).stdout
    assert scenefuse(*without_cog, "--json").document["exists"] is True
    assert scenefuse(*call, "--json").document["exists"] is False, "fuse would add the COG"


def test_a_pair_that_could_not_be_registered_is_told_to_who_plans(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    def said(ms: Path, *options: str) -> str:
        ended = scenefuse("plan", pair[0], ms, "--out", tmp_path / "out", "--workers", 1, *options)
        assert ended.code == 0, ended.stderr
        return ended.stdout

    why = "no shift between the two was found, for {}: if they lie apart, the detail is beside its spectra"
    assert why.format("no MSI band within the HSI's range has both wavelength and width") in said(pair[1])
    assert "no shift" not in said(pair[1], "--no-register")
    with_widths = scenes.write_ms(tmp_path / "ms.tif")
    with rasterio.open(with_widths, "r+") as file:
        for band in file.indexes:
            file.update_tags(band, fwhm="60", fwhm_units="nm")
    assert why.format("the ground that both show is too small, or too much of it has no data") in said(with_widths)


def test_images_that_are_too_unlike_to_be_registered_are_told(pair: Pair, tmp_path: Path) -> None:
    opened = plan_fusion(*pair, out=tmp_path / "out", config=RunConfig(workers=1, register=False)).opened
    shift = Shift(dy_px=0.0, dx_px=0.0, peak=0.123, significant=False, spread=0.0, windows=16)
    (note,) = set(replace(opened, shift=shift).notes()) - set(opened.notes())
    assert "too unlike (coherence 0.12, at least 0.3 is needed)" in note
    assert set(replace(opened, shift=replace(shift, peak=0.9)).notes()) == set(opened.notes())


@pytest.fixture(scope="module")
def archive(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of an MSI and two HSIs that fit it, of which one's file is cut short."""
    folder = tmp_path_factory.mktemp("archive")
    items = scenes.write_pair_items(folder, pair)
    (folder / "torn.tif").write_bytes(pair[0].read_bytes()[:2000])
    return scenes.write_catalogue(folder, [*items, scenes.write_item(folder / "torn.json", href="./torn.tif")])


@pytest.mark.usefixtures("no_workers")
def test_a_product_goes_through_every_command_as_one_document_each(
    scenefuse: Command, pair: Pair, tmp_path: Path
) -> None:
    out, options = tmp_path / "out", ("--workers", 1, "--format", "zarr", "--json")
    fused = scenefuse("fuse", *pair, "--out", out, *options)
    assert (fused.code, fused.document["status"]) == (0, "done")
    assert "1 tile\n" in fused.stderr, "progress is for stderr"
    folder = Path(fused.document["item"]).parent
    again = scenefuse("fuse", *pair, "--out", out, *options)
    assert (again.code, again.document["status"]) == (0, "found")
    verified = scenefuse("verify", folder, "--json")
    assert (verified.code, verified.document["products"][0]["ok"]) == (0, True)
    replayed = scenefuse("replay", folder, "--json")
    assert (replayed.code, replayed.document["products"][0]["ok"]) == (0, True)
    published = scenefuse("publish", folder, "--to", tmp_path / "catalogue", "--json")
    assert (published.code, published.document["published"][0]["outcome"]) == (0, "added")
    (tmp_path / "file").write_bytes(b"")
    for place in (Path("/proc/scenefuse"), tmp_path / "file"):
        unwritten = scenefuse("publish", folder, "--to", place, "--json")
        assert (unwritten.code, unwritten.document["error"]["kind"]) == (ResourceError.exit_code, "resource")
        assert f"{place} cannot be created as a folder" in unwritten.stderr
    (folder / "quicklook.png").write_bytes(b"")
    damaged = scenefuse("verify", folder, "--json")
    assert (damaged.code, damaged.document["products"][0]["ok"]) == (MismatchError.exit_code, False)
    refused = scenefuse("publish", folder, "--to", tmp_path / "other", "--json")
    assert (refused.code, refused.document["error"]["kind"]) == (MismatchError.exit_code, "mismatch")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("no_workers")
def test_a_bad_pair_does_not_stop_the_batch(scenefuse: Command, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = scenefuse("batch", archive, "--out", out, "--workers", 1, "--format", "zarr", "--json")
    assert ended.code == WorkError.exit_code, ended.stderr
    report = ended.document
    assert [product["status"] for product in report["products"]] == ["done"]
    (failure,) = report["failures"]
    assert (failure["hs_id"], failure["kind"], failure["retryable"]) == ("torn", "data", False)
    assert "torn.tif" in failure["cause"]
    records = [json.loads(line) for line in (out / "failures.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [{key: record[key] for key in failure} for record in records] == [failure]
    assert "torn.tif" in ended.stderr
    product = report["products"][0]["item_id"]
    visible = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert visible == {product, "catalog.json", "collection.json", "failures.jsonl"}
    again = scenefuse("batch", archive, "--out", out, "--workers", 1, "--format", "zarr")
    assert again.code == WorkError.exit_code
    assert "2 pairs: 0 fused, 1 found, 1 failed; 0 scenes in no pair" in again.stdout


def tiles_done(out: Path) -> int:
    """Tiles in the ledger of the only product in out."""
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in out.glob("*/ledger.jsonl"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.bench)])
def test_an_interrupted_run_ends_with_130_and_the_same_call_resumes(
    scenefuse: Command, tmp_path: Path, number: signal.Signals
) -> None:
    hs, ms = scenes.enlarged(6)
    pair = scenes.write_hs(tmp_path / "hs.tif", hs), scenes.write_ms(tmp_path / "ms.tif", ms)
    out = tmp_path / "out"
    options = ("--workers", 1, "--core-px", 48, "--format", "zarr", "--no-register", "--json")
    process = started("fuse", *pair, "--out", out, *options)
    deadline = time.monotonic() + 120
    while process.poll() is None and tiles_done(out) == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert not psutil.wait_procs(family, timeout=10)[1], "its workers end with it"
    assert json.loads(stdout)["exit_code"] == 130
    assert "Interrupted: what is finished is kept. The same command resumes." in stderr
    assert "Traceback" not in stderr
    assert not list(out.glob("*/*.json")), "what has no item does not exist for readers"
    resumed = scenefuse("fuse", *pair, "--out", out, *options)
    assert resumed.code == 0, resumed.stderr
    assert resumed.document["status"] == "resumed"
    assert scenefuse("verify", Path(resumed.document["item"]).parent).code == 0


def test_a_document_has_its_times_as_iso_8601(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"acquired": datetime(2024, 6, 4, 10, 45, tzinfo=UTC), "out": Path("a/b")})
    assert json.loads(capsys.readouterr().out) == {"acquired": "2024-06-04T10:45:00+00:00", "out": "a/b"}


def test_a_row_of_a_piped_table_is_a_line_whatever_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"product-{i}-{'x' * 150}", "y" * 120, 0.5) for i in range(2)]
    print_table("Scores", ("name", "method", "psnr_db"), rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.strip()][-2:] == [[*row[:2], "0.5"] for row in rows]
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [80, 60])
def test_numbers_stay_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    for name, value in (("COLUMNS", str(width)), ("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1")):
        monkeypatch.setenv(name, value)
    columns = ("name", "parameters", "multiply_adds_per_pixel", "spectral_consistency_rmse", "spatial_consistency_cc")
    print_table("Scores", columns, [("a product of a long name " * 3, 45475108, 25457936.0, 0.000986, 0.98771)])
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for number in ("45475108", "25,457,936", "0.000986", "0.9877"):
        assert re.search(rf"(?<!\S){number}(?!\S)", printed), printed
    assert max(map(len, printed.splitlines())) <= width


@pytest.mark.parametrize("terminal", [True, False])
def test_text_of_others_is_printed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, terminal: bool
) -> None:
    """Rich would take brackets for styles, stop at one that closes none, and draw a picture for what is in colons."""
    monkeypatch.setenv("COLUMNS", "160")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
    names = ("scene[b]1", "/data/[archive]/x", "[/old]", "10:100:20", ":warning:")
    print_table("Scores of [all]", ("name [of]",), [(name,) for name in names])
    with ProgressBar() as bar:
        for name in names:
            bar.notify(Event(kind="warning", facts={"message": name}))
            bar.notify(Event(kind="begin", facts={"item_id": f"item {name}"}))
    printed = capsys.readouterr()
    for name in ("Scores of [all]", "name [of]", *names):
        assert name in printed.out
    for name in names:
        assert f"warning: {name}" in printed.err
        assert f"item {name}" in printed.err


@pytest.mark.usefixtures("no_workers")
def test_clipped_pixels_are_told_with_their_share(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    cube = scenes.hs_cube()
    cube[5, 10, 4:6] = 9.0
    bright = scenes.write_hs(tmp_path / "hs.tif", cube)
    call = ("fuse", bright, pair[1], "--out", tmp_path / "out", "--workers", 1, "--model", "bicubic", "--no-register")
    made = scenefuse(*call)
    assert made.code == 0, made.stderr
    found = scenefuse(*call, "--json").document
    with rasterio.open(Path(found["item"]).with_name("quality.tif")) as quality:
        clipped = int(((quality.read(1) & 8) > 0).sum())
    assert found["checks"]["clipped_px"] == clipped > 0
    assert f"  Clipped: {100 * clipped / 3600:.2g} % of the pixels" in made.stdout
    plain = scenefuse("fuse", *pair, *call[3:])
    assert "Clipped" not in plain.stdout


@pytest.mark.usefixtures("no_workers")
def test_of_several_products_those_that_can_be_checked_are(
    scenefuse: Command, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    options = ("--workers", 1, "--format", "zarr", "--no-report", "--no-register")
    for model in ("bicubic", "gsa"):
        assert scenefuse("fuse", *pair, "--out", out, "--model", model, *options).code == 0
    (out / "notes.txt").write_text("ours")
    everything = sorted(path for path in out.iterdir() if path.name[0] != ".")
    first, second = sorted(out.glob("hs_ms_*"))
    for command in ("verify", "replay"):
        told = scenefuse(command, *everything, "--json")
        assert told.code == WorkError.exit_code
        assert [entry["product"] for entry in told.document["products"]] == [first.name, second.name]
        assert [(Path(entry["product"]).name, entry["kind"]) for entry in told.document["failures"]] == [
            ("notes.txt", "data")
        ]
    printed = scenefuse("verify", *everything)
    assert printed.code == WorkError.exit_code
    assert f"{second.name}: ok" in printed.stdout
    assert f"Failed: {out / 'notes.txt'} (data)" in printed.stdout
    (second / "quicklook.png").write_bytes(b"")
    assert scenefuse("verify", *everything).code == MismatchError.exit_code
    interrupt_at(monkeypatch, "scenefuse.product.verify.schema_errors", call=2, number=signal.SIGINT)
    stopped = scenefuse("verify", first, second)
    assert (stopped.code, stopped.stdout.count("ok; ")) == (130, 1)
    assert "Error: Interrupted after 1 of 2 products" in stopped.stderr


@pytest.mark.usefixtures("no_workers")
def test_what_a_shell_makes_of_an_outputs_folder_is_its_products(
    scenefuse: Command, archive: Path, tmp_path: Path
) -> None:
    """`products/*` names the catalogue, the collection and the record of failures, too."""
    out = tmp_path / "out"
    for model in ("bicubic", "gsa"):
        scenefuse("batch", archive, "--out", out, "--model", model, "--workers", 1, "--format", "zarr")
    everything = sorted(path for path in out.iterdir() if path.name[0] != ".")
    assert {"catalog.json", "collection.json", "failures.jsonl"} < {path.name for path in everything}
    products = [path.name for path in everything if path.is_dir()]
    for command in ("verify", "replay", "report"):
        told = scenefuse(command, *everything, "--json")
        assert told.code == 0, told.stderr
        assert (len(told.document["products"]), told.document["failures"]) == (2, [])
    reports = [f"Report: {out / name / 'report.html'}" for name in products]
    assert [line for line in scenefuse("report", *everything).stdout.splitlines() if line in reports] == reports
    scored = scenefuse("evaluate", *everything, "--json")
    assert (scored.code, [entry["name"] for entry in scored.document["scores"]]) == (0, products)
    published = scenefuse("publish", *everything, "--to", tmp_path / "catalogue", "--json")
    assert (published.code, [entry["item_id"] for entry in published.document["published"]]) == (0, products)
    verified = scenefuse("verify", *everything).stdout
    assert (verified.count("not carried"), verified.count("  unchecked   as before")) == (3, 1)
    several = ("report", *everything, "--json")
    assert_explained(scenefuse(*several, "--out", "a.html"), 2, "--out a.html with 2 products", "one file")
    assert_explained(scenefuse(*several, "--hs", "a", "--ms", "b"), 2, "with 2 products", "a pair of its own")
    assert_explained(scenefuse("verify", out, "--json"), 4, f"or {out}/* for all")
    assert_explained(scenefuse("verify", out / "catalog.json", "--json"), 4, "is a file, and no product's item")


@pytest.mark.usefixtures("no_workers")
def test_what_a_run_has_not_finished_is_no_bad_product(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    """Beside a run that is at work, what is finished is published and checked."""
    out = tmp_path / "out"
    for model in ("bicubic", "gsa"):
        options = ("--workers", 1, "--format", "zarr", "--no-report", "--no-register")
        assert scenefuse("fuse", *pair, "--out", out, "--model", model, *options).code == 0
    begun, finished = sorted(out.glob("hs_ms_*"))
    for path in (begun / f"{begun.name}.json", begun / "provenance.json", begun / "fused.zarr.manifest"):
        path.unlink()
    for command in ("verify", "replay", "report", "publish"):
        more = ("--to", tmp_path / "none") if command == "publish" else ()
        assert_explained(scenefuse(command, begun, *more, "--json"), 4, f"{begun} is not finished", "to resume it")
    told = scenefuse("verify", begun, finished, "--json")
    assert (told.code, [entry["kind"] for entry in told.document["failures"]]) == (WorkError.exit_code, ["data"])
    published = scenefuse("publish", begun, finished, "--to", tmp_path / "catalogue", "--json")
    assert published.code == 0, published.stderr
    assert [entry["item_id"] for entry in published.document["published"]] == [finished.name]
    assert published.document["left_out"] == [str(begun)]
    assert f"Left out {begun}: it is not finished" in published.stderr


def test_a_tilde_that_the_shell_left_is_the_home_folder(
    scenefuse: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "run.toml"
    config.write_text('model = "none-such"')
    ended = scenefuse("plan", "~/hs.tif", "~/ms.tif", "--out=~/out", "--config=~/run.toml")
    assert "none-such" in ended.stderr, "the file was read"
    assert scenefuse("doctor", "--out=~", "--json").document["findings"]
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


NEXT_DESCRIPTOR = """
import os
os.closerange(0, 3)
from scenefuse.cli import app
app.app = lambda **_: os._exit(os.open(os.devnull, os.O_RDONLY))
app.main()
"""


def test_no_file_of_a_run_becomes_a_standard_stream_that_its_caller_closed() -> None:
    done = subprocess.run([sys.executable, "-c", NEXT_DESCRIPTOR], timeout=60, check=False)
    assert done.returncode == 3


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = started("sensors", "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0


@pytest.mark.bench
def test_nobody_reading_the_progress_stops_no_work(tmp_path: Path) -> None:
    hs, ms = scenes.enlarged(2)
    pair = scenes.write_hs(tmp_path / "hs.tif", hs), scenes.write_ms(tmp_path / "ms.tif", ms)
    out, options = tmp_path / "out", ("--workers", 1, "--core-px", 48, "--format", "zarr", "--no-register")
    process = started("fuse", *pair, "--out", out, *options)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    assert process.wait(timeout=120) == 0
    assert len(list(out.glob("*/*_hysure-l2_*.json"))) == 1


@pytest.mark.usefixtures("no_workers")
def test_one_of_a_kind_is_no_plural(scenefuse: Command, pair: Pair, tmp_path: Path) -> None:
    catalogue, out = scenes.archive_of(pair, tmp_path / "archive"), tmp_path / "out"
    said = [scenefuse("pair", catalogue), scenefuse("plan", *pair, "--out", out, "--workers", 1)]
    said += [scenefuse("batch", catalogue, "--out", out, "--model", "sfim", "--format", "zarr")]
    (product,) = out.glob("*_sfim_*")
    said += [scenefuse(command, product) for command in ("verify", "replay", "evaluate")]
    printed = "\n".join(ended.stdout + ended.stderr for ended in said)
    assert "1 pair: 1 fused" in printed
    assert "1 tile of" in printed
    wrong = [word for word in re.findall(r"\b1 (\w+)", printed) if word.endswith("s") and word != "s"]
    assert not wrong, printed
