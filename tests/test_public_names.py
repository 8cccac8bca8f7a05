from __future__ import annotations

import dataclasses
import inspect
import pydoc

import pytest

import scenefuse


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
