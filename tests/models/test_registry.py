"""Methods that other packages register."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint

import pytest

from scenefuse.errors import ModelError
from scenefuse.models import bicubic, registry
from scenefuse.models.names import ENTRY_POINTS
from scenefuse.models.registry import Method, model_names, require_method

FOREIGN = Method(build=bicubic.build)

Announce = Callable[[str, str], None]


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Iterator[Announce]:
    """Registers a method, by its name and the place of its object, as an installed package would."""

    def announced(name: str, value: str) -> None:
        entry = EntryPoint(name=name, value=value, group=ENTRY_POINTS)
        monkeypatch.setattr(registry, "entry_points", lambda *, group: [entry] if group == ENTRY_POINTS else [])
        registry._announced.cache_clear()

    yield announced
    registry._announced.cache_clear()


def test_a_method_of_another_package_is_one_of_the_methods(announce: Announce) -> None:
    announce("theirs", f"{__name__}:FOREIGN")
    assert "theirs" in model_names()
    assert require_method("theirs") is FOREIGN


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bicubic", f"{__name__}:FOREIGN", "its name is taken"),
        ("theirs", f"{__name__}:Announce", "it is not a scenefuse.models.registry.Method"),
        ("theirs", "no_such_package:METHOD", r"No module named 'no_such_package'"),
        ("theirs", f"{__name__}:missing", "has no attribute 'missing'"),
    ],
)
def test_a_method_of_another_package_that_cannot_be_used_is_told_by_its_entry_point(
    announce: Announce, name: str, value: str, said: str
) -> None:
    announce(name, value)
    with pytest.raises(ModelError, match=said) as refused:
        model_names()
    assert refused.value.value.startswith(f"Entry point {name} = {value}")
    require_method("gsa")  # this package's own methods stay usable
