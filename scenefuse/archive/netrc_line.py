"""User and password of a host from netrc, the file that curl, git and wget also read."""

from __future__ import annotations

import netrc
from pathlib import Path

from scenefuse.errors import DataError

_DEFAULT = "default"
"""The entry for every other machine; never used, because any host that asks would get the password."""
_OTHERS = 0o077
"""Permission bits of everyone but the file's owner."""


def netrc_line(host: str, path: Path) -> tuple[str, str] | None:
    """User and password for a host in lower case; None if there is no such file or entry.

    DataError if the file mentions the host but cannot be parsed, or can be read by others. Faults in a file that does
    not mention the host are ignored.
    """
    try:
        content, mode = path.read_bytes(), path.stat().st_mode
    except OSError:  # missing or unreadable; the error for a host that needs a login names the file
        return None
    if host.encode() not in content.lower():
        return None
    try:
        lines = netrc.netrc(path).hosts
    except (netrc.NetrcParseError, UnicodeDecodeError, OSError) as error:
        # The parser's message is left out: it quotes the offending text, which may be a password.
        line = f" at line {error.lineno}" if isinstance(error, netrc.NetrcParseError) and error.lineno else ""
        raise DataError(
            f"{path} is not a netrc file{line}",
            f"the login for {host} cannot be read from it",
            "write lines such as: machine HOST login USER password PASSWORD",
        ) from None
    found = {name.lower(): entry for name, entry in lines.items() if name != _DEFAULT}.get(host)
    if found is None:
        return None
    if mode & _OTHERS:
        raise DataError(
            f"{path} can be read by others than its owner (mode {mode & 0o777:o})",
            f"the password for {host} in it is not secret, and is not used",
            f"restrict access: chmod 600 {path}",
        )
    user, _, password = found
    return user, password
