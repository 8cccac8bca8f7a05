"""Failures as recorded: kind, cause, and whether the same call may succeed later."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from scenefuse.errors import ResourceError, SceneFuseError, TransientError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers that mean there is no room on a disk, in a quota or in a file system."""
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
"""Error numbers that mean a place may not be read or written."""
PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN}
"""Error numbers that mean a disk or mount does not respond just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed, in the form that records keep."""

    kind: str
    """Type of the failure: bug, usage, data, model, resource, busy, transient, work, mismatch."""
    cause: str
    """What went wrong: value, consequence and cure."""
    retryable: bool
    """True if the same call may succeed later with nothing changed."""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure for an exception; one that neither scenefuse nor the operating system explains is a bug."""
        if isinstance(error, SceneFuseError):
            return cls(kind=error.kind, cause=str(error), retryable=error.retryable)
        cause = f"{type(error).__name__}: {error}"
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, (ConnectionError, TimeoutError)) or number in PASSING:
            return cls(kind=TransientError.kind, cause=cause, retryable=True)
        if number in FULL | FORBIDDEN:
            return cls(kind=ResourceError.kind, cause=cause, retryable=False)
        return cls(kind=SceneFuseError.kind, cause=cause, retryable=False)
