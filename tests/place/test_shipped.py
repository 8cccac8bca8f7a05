"""Files that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

import scenefuse
from scenefuse.place.shipped import shipped_folder


def test_catalogues_are_found_in_a_checkout_and_in_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (shipped_folder("catalogs") / "earth-search.toml").is_file()
    package = tmp_path / "scenefuse"
    (package / "_shipped" / "catalogs").mkdir(parents=True)
    monkeypatch.setattr(scenefuse, "__file__", str(package / "__init__.py"))
    assert shipped_folder("catalogs") == package / "_shipped" / "catalogs"
    assert shipped_folder("workflows") == tmp_path / "workflows"
