from __future__ import annotations

import inspect

import pytest

import scenefuse


@pytest.mark.parametrize("name", scenefuse.__all__)
def test_every_public_name_can_be_seen_and_is_documented(name: str) -> None:
    assert name in dir(scenefuse)
    value = getattr(scenefuse, name)
    assert isinstance(value, str) or inspect.getdoc(value)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = scenefuse.nothing
