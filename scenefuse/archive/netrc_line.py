"""User and password of a host as netrc has them, the file that curl, git and wget read, too."""

from __future__ import annotations

import netrc
from pathlib import Path

from scenefuse.errors import DataError

_DEFAULT = "default"
"""The entry for every machine that no line names: a password for whoever asks, and never used."""
_OTHERS = 0o077
"""Rights of all but a file's owner."""


def netrc_line(host: str, path: Path) -> tuple[str, str] | None:
    """User and password of the line for a host in small letters; None where there is no such file or line.

    DataError where the file has the host in it, and cannot be understood or be read by others: what is wrong with a
    file that does not name the host is no matter of the host's.
    """
    try:
        content, mode = path.read_bytes(), path.stat().st_mode
    except OSError:  # not there, or not for us: a host that asks for a login says where it is looked for
        return None
    if host.encode() not in content.lower():
        return None
    try:
        lines = netrc.netrc(path).hosts
    except (netrc.NetrcParseError, UnicodeDecodeError, OSError) as error:
        # Not the parser's words, which quote what it stumbled over: that may be a password.
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
