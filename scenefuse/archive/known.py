"""Archives known by name: one TOML file each, in the repository's catalogs/ and inside the wheel."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from scenefuse.place.shipped import shipped_folder
from scenefuse.sensors.sensor import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCollection:
    """A collection of a known archive."""

    id: str
    """STAC collection id."""
    role: Role
    """Side of a pair that its scenes take."""
    title: str
    """One-line title."""
    licence: str
    """Licence of the data, as the archive states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """Where an archive issues tokens that open its files to everyone."""

    hosts: tuple[str, ...]
    """Hosts of the files."""
    url: str
    """Address that issues a token, with {account} and {container} for the first parts of a file's host and path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLogin:
    """The account that opens an archive's files."""

    hosts: tuple[str, ...]
    """Hosts of the files, to which a token is sent."""
    machines: tuple[str, ...]
    """Hosts that ask for user and password, as named in netrc: the files' own, or one that they redirect to."""
    token: str | None = None
    """Environment variable that may hold a token; None if the archive issues none."""

    def token_of(self, host: str) -> str | None:
        """The variable with the token for a host; None if the host is sent none."""
        return self.token if host in self.hosts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownArchive:
    """A public archive and what one needs to know to use it."""

    name: str
    """Name on the command line: `earth-search`."""
    title: str
    """One-line title."""
    url: str
    """Landing page of its STAC API."""
    signing: str
    """How asset hrefs become readable: `none`, or the procedure in words."""
    credentials: str
    """What an operator needs: `none`, or the account."""
    notes: str
    """What may surprise its users."""
    collections: tuple[KnownCollection, ...]
    """Collections that can be fused."""
    tokens: TokenSource | None = None
    """Where tokens for its files come from; None if they are open or need an account."""
    login: KnownLogin | None = None
    """The account that opens its files; None if none does, or if an object store's keys do."""


@cache
def known_archives() -> tuple[KnownArchive, ...]:
    """All archives with a TOML in catalogs/, sorted by name."""
    folder = shipped_folder("catalogs")
    return tuple(_read_archive(path) for path in sorted(folder.glob("*.toml")))


def _read_archive(path: Path) -> KnownArchive:
    """The archive that a TOML file describes; ValueError for an unknown or missing key."""
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    collections, tokens, login = (table.pop(key, None) for key in ("collections", "tokens", "login"))
    expected = {field.name for field in fields(KnownArchive)} - {"name", "collections", "tokens", "login"}
    if set(table) != expected:
        raise ValueError(f"{path}: keys differ from the expected ones: {sorted(set(table) ^ expected)}")
    return KnownArchive(
        name=path.stem,
        collections=tuple(KnownCollection(**row) for row in collections or ()),
        tokens=None if tokens is None else TokenSource(hosts=tuple(tokens["hosts"]), url=tokens["url"]),
        login=None if login is None else _read_login(path, **login),
        **table,
    )


def _read_login(
    path: Path, *, hosts: list[str], machines: list[str] | None = None, token: str | None = None, **more: Any
) -> KnownLogin:
    """The [login] table; ValueError for an unknown key."""
    if more:
        raise ValueError(f"{path}: [login] has keys that nobody reads: {sorted(more)}")
    return KnownLogin(hosts=tuple(hosts), machines=tuple(machines or hosts), token=token)
