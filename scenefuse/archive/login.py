"""Logins for archives that need an account, and the errors for hosts that refuse access.

A token comes from the environment variable that the known archive names, user and password from netrc. Both are looked
up for each request, by the process that makes it: they are part of no address or document, and are never shown or
written down.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

from scenefuse.archive.known import KnownArchive, known_archives
from scenefuse.archive.netrc_line import netrc_line
from scenefuse.config import archive_token, netrc_file
from scenefuse.errors import DataError
from scenefuse.place.href import redact

LOGIN_METHOD = "GET"
"""The only HTTP method that a login is sent with."""
_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Credentials for a host that opens its files to accounts."""

    authorization: str = field(repr=False)
    """Value of the Authorization header."""
    host: str
    """The only host that it is sent to."""
    source: str
    """Where it comes from: `the variable EARTHDATA_TOKEN`, or the path of netrc."""


def login_for(url: str) -> Login | None:
    """The login for the URL's host: the token of its known archive, else its entry in netrc, else None.

    DataError if there is one that cannot be used.
    """
    host = _host(url)
    archive = _archives().get(host)
    variable = None if archive is None or archive.login is None else archive.login.token_of(host)
    token = None if variable is None else archive_token(variable)
    if token is not None:
        if not _TOKEN.fullmatch(token):
            raise DataError(
                f"the variable {variable} contains blanks or characters that a header cannot have",
                f"{host} would not accept it as a token",
                "set it to the token alone",
            )
        return Login(authorization=f"Bearer {token}", host=host, source=f"the variable {variable}")
    path = netrc_file()
    line = netrc_line(host, path)
    if line is None:
        return None
    packed = base64.b64encode(":".join(line).encode()).decode("ascii")
    return Login(authorization=f"Basic {packed}", host=host, source=str(path))


def not_opened(url: str, status: int, logins: Sequence[Login], *, method: str = LOGIN_METHOD) -> DataError:
    """The error for a reply that requires an account; url: where it came from; logins: those sent on the way."""
    host, told = _host(url), f"{redact(url)} answered {status}"
    if method != LOGIN_METHOD:
        return DataError(
            f"{told} to a {method}",
            "it needs credentials, and logins are sent only with reads, never with what a catalogue posts",
            "save its items as an ItemCollection, and give that file",
        )
    refused = [login for login in logins if login.host == host]
    if refused:
        archive = _archives().get(host)
        asks = "" if archive is None else f"; {archive.name} asks for {archive.credentials}"
        return DataError(
            told, f"it needs credentials, and those from {refused[-1].source} were refused", f"correct them{asks}"
        )
    if logins:
        told = f"{told}, where {logins[-1].host} redirected with the login from {logins[-1].source}"
    return DataError(told, "it needs credentials", _cure(url))


def page_in_place(url: str, asked: str, logins: Sequence[Login]) -> DataError:
    """The error for a web page sent instead of a part of the file at asked; url: where the page came from."""
    host, cure = _host(url), _cure(url)
    sent = f", with the login from {logins[-1].source} sent to {logins[-1].host}" if logins else ""
    if any(login.host == host for login in logins):
        cure = "correct that login; if the host accepts logins only in a web form, download the file in a browser"
    return DataError(
        f"{host} sent a web page instead of a part of {redact(asked)}{sent}",
        "it is most likely a login: the host needs credentials",
        cure,
    )


def _cure(url: str) -> str:
    """How to gain access to a host that needs an account."""
    host = _host(url)
    archive = _archives().get(host)
    known = None if archive is None else archive.login
    machines = known.machines if known is not None else (host,)
    lines = " and ".join(f"'machine {name} login USER password PASSWORD'" for name in machines)
    write = f"write {lines} into {netrc_file()}"
    if archive is None or known is None:
        return f"sign the href, or {write}; scenefuse search --known lists what known archives require"
    token = "" if known.token is None else f"set {known.token}, or "
    return f"{token}{write}; {archive.name} asks for {archive.credentials}"


def _host(url: str) -> str:
    """The URL's host in lower case and without port, as netrc names it."""
    return (urlsplit(url).hostname or "").lower()


@cache
def _archives() -> dict[str, KnownArchive]:
    """The known archive by host: the hosts that its login opens, and those that require it."""
    return {
        host: archive
        for archive in known_archives()
        if archive.login is not None
        for host in (*archive.login.machines, *archive.login.hosts)
    }
