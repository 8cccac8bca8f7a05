"""Archives known by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenefuse.archive import known as module
from scenefuse.archive import source as source_module
from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.known import known_archives
from scenefuse.errors import DataError


def test_known_archives_have_https_addresses_that_the_policy_allows() -> None:
    archives = known_archives()
    assert {"earth-search", "planetary-computer", "copernicus", "dlr", "lpcloud", "usgs"} <= {a.name for a in archives}
    for archive in archives:
        assert AccessPolicy().check(archive.url, archive.url) == archive.url
        assert archive.collections
        assert {collection.role for collection in archive.collections} <= {"hsi", "msi"}
    assert any(collection.role == "hsi" for archive in archives for collection in archive.collections)


def test_a_known_name_opens_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read(href: str, _: object) -> dict[str, object]:
        asked.append(href)
        links = [{"rel": "search", "href": f"{href}/search"}]
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "conformsTo": [],
            "links": links,
            "id": "x",
            "description": "",
        }

    monkeypatch.setattr(source_module, "read_document", read)
    assert source_module.open_source("earth-search").kind == "api"
    assert asked == ["https://earth-search.aws.element84.com/v1"]


def test_a_mistyped_name_is_told_apart_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"Did you mean 'earth-search'\?"):
        source_module.open_source("earth-serch")
    for path in ("./earth-serch", "archive", str(tmp_path / "earth-search")):
        with pytest.raises(DataError, match="does not exist"):
            source_module.open_source(path)


def test_a_catalogue_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('title = "x"\ncolour = "blue"\n')
    with pytest.raises(ValueError, match="colour"):
        module._read_archive(path)


def test_a_login_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    told = "".join(f'{name} = "x"\n' for name in ("title", "url", "signing", "credentials", "notes"))
    path = tmp_path / "x.toml"
    path.write_text(f'{told}[login]\nhosts = ["files.example.org"]\n')
    login = module._read_archive(path).login
    assert login is not None
    assert (login.machines, login.token) == (("files.example.org",), None)
    path.write_text(f'{told}[login]\nhosts = ["files.example.org"]\npassword = "x"\n')
    with pytest.raises(ValueError, match="password"):
        module._read_archive(path)
