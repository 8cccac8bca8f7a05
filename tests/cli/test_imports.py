"""What a call imports: libraries that take seconds only where they are needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scenefuse.cli.app import COMMANDS
from tests.cli import scenes

ROOT = Path(__file__).parents[2]

SLOW = {
    "torch",
    "dask",
    "distributed",
    "xarray",
    "rioxarray",
    "pandas",
    "zarr",
    "scipy",
    "rasterio",
    "matplotlib",
    "pystac",
    "shapely",
}
"""Libraries that no help and no refusal of a call needs."""

COMPUTING = {"torch", "dask", "distributed", "xarray", "rioxarray", "pandas", "scipy", "matplotlib"}
"""Libraries that looking for scenes, and looking after products, does without."""

CODE = """
import json, sys
from click.testing import CliRunner
from scenefuse.cli.app import app
for call in json.loads(sys.argv[1]):
    before = set(sys.modules)
    code = CliRunner().invoke(app, call).exit_code
    print(json.dumps([code, sorted(set(sys.modules) - before)]))
"""


def imported_by(calls: Sequence[Sequence[str]]) -> list[tuple[int, set[str]]]:
    """Exit code of each call, and the libraries that it imported and those before it had not: all in one process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE, json.dumps(calls)]
    printed = subprocess.run(command, check=True, text=True, capture_output=True, env=environment).stdout
    ends = [json.loads(line) for line in printed.splitlines()]
    return [(code, {name.partition(".")[0] for name in modules}) for code, modules in ends]


def test_help_and_wrong_usage_of_every_command_import_nothing_slow() -> None:
    workflow = [["workflow", name, "--help"] for name in ("run", "serve", "backfill", "status")]
    helped = [["--help"], *([name, "--help"] for name in COMMANDS), *workflow]
    misused = [["fuse", "hs", "ms", "--out", "out", "--workers", "0"], *([name, "--nothing"] for name in COMMANDS)]
    ends = imported_by([*helped, *misused])
    assert [code for code, _ in ends] == [0] * len(helped) + [2] * len(misused)
    for call, (_, libraries) in zip([*helped, *misused], ends, strict=True):
        unwanted = libraries & SLOW
        assert not unwanted, call


def test_commands_that_compute_nothing_import_nothing_that_computes(tmp_path: Path) -> None:
    items = [scenes.write_item(tmp_path / f"{role}.json", href=f"./{role}.tif", role=role) for role in ("hsi", "msi")]
    catalogue, empty = scenes.write_catalogue(tmp_path, items), tmp_path / "empty"
    empty.mkdir()
    workflow = tmp_path / "w.toml"
    workflow.write_text(f'[source]\ncatalogs = ["{catalogue}"]\n[output]\nproducts = "{empty}"\npublish_to = "www"\n')
    calls = [
        ["workflow", "status", str(workflow)],
        ["workflow", "status", str(workflow), "--max-age", "1h"],
        ["sensors"],
        ["search", str(catalogue)],
        ["pair", str(catalogue)],
        ["clean", str(empty)],
        ["verify", str(empty)],  # refused: it holds nothing of a product
        ["publish", str(empty), "--to", str(tmp_path / "published")],  # likewise
    ]
    ends = imported_by(calls)
    assert [code for code, _ in ends] == [
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        1,
    ]  # what a command returns, only main() makes its exit code
    for call, (_, libraries) in zip(calls, ends, strict=True):
        unwanted = libraries & COMPUTING
        assert not unwanted, call
