"""What a failure is to those who go on after it: its kind, its cause, and whether it may pass by itself."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from scenefuse.errors import ResourceError, SceneFuseError, TransientError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers of a disk, a quota or a file system without room."""
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
"""Error numbers of a place that may not be read or written."""
PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN}
"""Error numbers of a disk or a mount that does not answer just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed, as records tell it."""

    kind: str
    """Type of the failure: bug, usage, data, model, resource, busy, transient, work, mismatch."""
    cause: str
    """What went wrong: value, consequence and cure."""
    retryable: bool
    """True when the same call may succeed later, with nothing changed."""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an error is; what neither scenefuse nor the operating system explains is a bug."""
        if isinstance(error, SceneFuseError):
            return cls(kind=error.kind, cause=str(error), retryable=error.retryable)
        cause = f"{type(error).__name__}: {error}"
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, (ConnectionError, TimeoutError)) or number in PASSING:
            return cls(kind=TransientError.kind, cause=cause, retryable=True)
        if number in FULL | FORBIDDEN:
            return cls(kind=ResourceError.kind, cause=cause, retryable=False)
        return cls(kind=SceneFuseError.kind, cause=cause, retryable=False)
