"""What a shell is offered for a word that is begun, by the very protocol of click's completion scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scenefuse.cli.app import COMMANDS
from scenefuse.models import names
from scenefuse.models.registry import MODELS, model_names, weightless_names

ROOT = Path(__file__).parents[2]
CODE = """
import json, sys, time
from scenefuse.cli.app import main
sys.argv = ["scenefuse"]
try:
    main()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def completed(line: str) -> tuple[list[tuple[str, str]], set[str]]:
    """Kind and value of each item offered for the last word, and the libraries that were imported."""
    words = line.split(" ")
    asked = {"_SCENEFUSE_COMPLETE": "bash_complete", "COMP_WORDS": line.strip(), "COMP_CWORD": str(len(words) - 1)}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | asked
    printed = subprocess.run([sys.executable, "-c", CODE], check=False, text=True, capture_output=True, env=environment)
    *lines, modules = printed.stdout.splitlines()
    return [(kind, value) for kind, _, value in (entry.partition(",") for entry in lines)], set(json.loads(modules))


def test_methods_are_offered_without_importing_them() -> None:
    offered, libraries = completed("scenefuse fuse a.tif b.tif --model ")
    assert [value for _, value in offered] == list(model_names())
    assert not libraries & {"torch", "scipy", "rasterio", "xarray", "dask", "zarr", "matplotlib"}


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("scenefuse fuse a.tif b.tif --model aelf", ["aelf", "aelf-t"]),
        ("scenefuse evaluate a.tif b.tif --methods gsa,s", ["gsa,s3rnet", "gsa,sfim", "gsa,smifnet"]),
        ("scenefuse demo --model mtf", ["mtf-glp-hs"]),
    ],
)
def test_what_is_begun_is_completed(line: str, values: list[str]) -> None:
    assert [value for _, value in completed(line)[0]] == values


def test_commands_are_offered_in_their_order() -> None:
    offered, libraries = completed("scenefuse ")
    assert [value for _, value in offered] == list(COMMANDS)
    assert "torch" not in libraries


@pytest.mark.parametrize("line", ["scenefuse fuse en", "scenefuse verify pro", "scenefuse batch ca"])
def test_paths_are_left_to_the_shell(line: str) -> None:
    assert completed(line)[0] == [("file", line.rpartition(" ")[2])]


def test_the_names_are_those_of_the_registry() -> None:
    assert names.known_names() == model_names()
    assert {*names.WEIGHTLESS, *names.NETWORKS} == set(MODELS)
    assert weightless_names() == names.WEIGHTLESS
