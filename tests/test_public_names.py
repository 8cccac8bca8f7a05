from __future__ import annotations

import dataclasses
import inspect
import pydoc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
import pytest
import xarray

import scenefuse
from scenefuse.errors import UsageError


@pytest.mark.parametrize("name", scenefuse.__all__)
def test_every_public_name_can_be_seen_and_is_documented(name: str) -> None:
    assert name in dir(scenefuse)
    value = getattr(scenefuse, name)
    assert isinstance(value, str) or inspect.getdoc(value)


@pytest.mark.parametrize("name", ["Bounds", "PairRule", "RunConfig", "TrainConfig"])
def test_help_tells_what_each_field_means(name: str) -> None:
    cls = getattr(scenefuse, name)
    shown = pydoc.plain(pydoc.render_doc(cls))
    lines = [line.strip(" |").partition(": ") for line in shown.splitlines() if ": " in line]
    told = {name: words for name, _, words in reversed(lines)}
    for field in dataclasses.fields(cls):
        assert told[field.name].strip().endswith(".")
    if name == "RunConfig":
        assert told["core_px"].startswith("Side of a tile's core in fine pixels")
    assert getattr(scenefuse, name).__doc__.count("Attributes:") == 1


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = scenefuse.nothing


@pytest.mark.parametrize("function", [scenefuse.open_pair, scenefuse.fuse, scenefuse.plan_fusion])
@pytest.mark.parametrize(
    ("scene", "said"),
    [
        (xarray.DataArray([1.0]), "given as DataArray: .* Give the path or URL"),
        (pystac.Item("a", None, None, datetime.now(UTC), {}), r"given as Item: .* get_self_href\(\)"),
        (None, "given as NoneType: "),
    ],
)
def test_what_is_no_scene_is_refused_in_words(function: Any, scene: Any, said: str, tmp_path: Path) -> None:
    options = {} if function is scenefuse.open_pair else {"out": tmp_path / "out"}
    with pytest.raises(UsageError, match=said):
        function(scene, "ms.tif", **options)


def test_what_is_no_pair_is_refused_in_words(tmp_path: Path) -> None:
    config = scenefuse.TrainConfig(model="aelf-t")
    pairs: Any = ("hs.tif", "ms.tif")
    with pytest.raises(UsageError, match=r"pairs\[0\] is 'hs.tif': it is not a pair. Give an HSI and an MSI"):
        scenefuse.train(pairs, out=tmp_path, config=config)


def test_an_unknown_convention_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No convention is called 'wald': .* Use one of standard, aelf"):
        scenefuse.evaluate_product(tmp_path, convention="wald")


@pytest.mark.parametrize("config", ["run.toml", {"model": "gsa"}])
def test_what_is_no_configuration_is_refused_in_words(config: Any, tmp_path: Path) -> None:
    said = f"config is of type {type(config).__name__}: .* Give scenefuse.RunConfig"
    calls: list[tuple[Any, dict[str, Any]]] = [
        (scenefuse.open_pair, {}),
        (scenefuse.fuse, {"out": tmp_path}),
        (scenefuse.plan_fusion, {"out": tmp_path}),
    ]
    for function, options in calls:
        with pytest.raises(UsageError, match=said):
            function("hs.tif", "ms.tif", config=config, **options)
    with pytest.raises(UsageError, match=said):
        scenefuse.batch("catalog.json", out=tmp_path, config=config)
