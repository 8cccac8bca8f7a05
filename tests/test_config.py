"""RunConfig and TOML: what is accepted, and what is refused with value, consequence and cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenefuse.config import RunConfig, parse, parse_bytes, read_toml, weights_folder
from scenefuse.errors import UsageError


def test_toml_becomes_the_configuration_with_lists_as_tuples(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('model = "gsa"\ncore_px = 256\nhs_scale = 1\nformat = ["zarr"]\ndrop_bands = "band 3"\n')
    config = parse(RunConfig, read_toml(path), where="run.toml")
    assert config == RunConfig(model="gsa", core_px=256, hs_scale=1.0, format=("zarr",), drop_bands=("band 3",))
    assert isinstance(config.hs_scale, float)


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match=r"unknown key 'core_pixel' in run\.toml.*'core_px'"):
        parse(RunConfig, {"core_pixel": 256}, where="run.toml")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"precision": "fp8"}, "precision is 'fp8'.*auto, fp32, bf16, fp16"),
        ({"core_px": "256"}, "core_px is '256'.*int"),
        ({"core_px": True}, "core_px is True"),
        ({"core_px": 0}, "core_px is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"format": ["cog"]}, "format is cog"),
        ({"format": ["zarr", "png"]}, "format is 'png'"),
        ({"drop_bands": 3}, "drop_bands is 3.*list"),
        ({"scheduler": "tcp://a:1", "workers": 2}, "scheduler tcp://a:1 and workers 2"),
    ],
)
def test_a_wrong_value_is_refused_with_the_value(table: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(RunConfig, table, where="run.toml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "float32"}, "precision is 'float32'.*auto, fp32, bf16, fp16"),
        ({"device": "cuda:0"}, "device is 'cuda:0'.*auto, cpu, cuda"),
        ({"register": "no"}, "register is 'no'.*bool"),
        ({"core_px": 77.5}, r"core_px is 77\.5.*int"),
        ({"hs_scale": "1"}, "hs_scale is '1'.*float"),
        ({"memory_limit": 4}, "memory_limit is 4.*str"),
        ({"format": ("zarr", "png")}, "format is 'png'.*zarr, cog"),
    ],
)
def test_a_wrong_value_from_python_is_refused_as_one_from_a_file_is(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RunConfig(**values)


def test_values_from_python_become_what_a_file_gives() -> None:
    given: dict[str, Any] = {
        "drop_bands": "band 3",
        "format": ["zarr"],
        "weights": Path("aelf.safetensors"),
        "core_px": np.int64(256),
        "hs_scale": np.float32(0.5),
    }
    config = RunConfig(**given)
    assert config == RunConfig(
        drop_bands=("band 3",), format=("zarr",), weights="aelf.safetensors", core_px=256, hs_scale=0.5
    )
    assert (type(config.core_px), type(config.hs_scale)) == (int, float)


def test_options_of_the_command_line_go_over_the_file() -> None:
    base = RunConfig(model="gsa", core_px=256)
    assert base.updated({"model": None, "core_px": 128}) == RunConfig(model="gsa", core_px=128)


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 * 2**30), ("800 MB", 800 * 10**6), ("1000", 1000), (".5kib", 512), ("2 B", 2)]
)
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "4 Gigs", "-1GiB", "GiB", "1e3"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        parse_bytes(text)


def test_broken_and_missing_toml_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("model = \n")
    with pytest.raises(UsageError, match=r"broken\.toml is not valid TOML.*line 1"):
        read_toml(path)
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        read_toml(tmp_path / "none.toml")


def test_a_user_without_a_home_has_the_shelf_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)  # as a container may be run, without an account
    monkeypatch.setenv("SCENEFUSE_WEIGHTS", "/data/weights")
    assert weights_folder() == Path("/data/weights")
    monkeypatch.delenv("SCENEFUSE_WEIGHTS")
    assert not weights_folder().exists()
