"""Requests to an object store through obstore, and which of them are retried.

obstore's own retries are off, so that this module alone decides by type: a failure that may pass (500, 503, 429, a
timeout, a reset, a body cut short) is retried with growing pauses and then raises TransientError; denied access or a
missing bucket raises StorageError at once; everything else is left to the caller.
"""

from __future__ import annotations

import functools
import os
import random
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from scenefuse.errors import StorageError, TransientError, UsageError

if TYPE_CHECKING:
    from obstore.store import S3Store

T = TypeVar("T")

PAUSES_S = (0.25, 1.0, 4.0, 12.0)
"""Seconds before the second and later attempts at a request, each lengthened at random by up to a half."""
TIMEOUT_S = 120
"""Seconds for one request with its body, unless AWS_TIMEOUT is set in the environment."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_METADATA_HOST = "169.254.169.254"
"""Queried for keys on a cloud machine if the environment has none."""
_PASSING_CODES = {"RequestTimeout", "SlowDown"}
_PASSING_STATUS = {408, 409, 425, 429}


@functools.cache
def open_bucket(bucket: str) -> S3Store:
    """The bucket's client, one per process; endpoint, keys and region come from the environment (AWS_...)."""
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise UsageError(
            f"s3://{bucket} needs the library obstore ({error})",
            "object stores cannot be read or written without it",
            "Install the extra: pip install 'scenefuse[s3]'",
        ) from error
    # Not client_options: they would replace all client settings from the environment.
    config: Any = {} if "AWS_TIMEOUT" in os.environ else {"timeout": f"{TIMEOUT_S}s"}
    return S3Store(bucket, retry_config={"max_retries": 0}, config=config)


def attempt(request: Callable[[], T], what: str) -> T:
    """The request's result, retried while a failure may pass; what: names it in messages, `reading s3://bucket/key`.

    FileNotFoundError and obstore's AlreadyExistsError and PreconditionError are left to the caller.
    """
    from obstore import exceptions

    for pause_s in (*PAUSES_S, None):
        try:
            return request()
        except (exceptions.BaseError, OSError, CutShortError) as error:
            if isinstance(error, FileNotFoundError | exceptions.AlreadyExistsError | exceptions.PreconditionError):
                raise
            refused = _refusal(error, what)
            if refused is not None:
                raise refused from error
            if pause_s is None:
                raise TransientError(
                    f"{what} failed {len(PAUSES_S) + 1} times ({_said(error)})",
                    "what is finished is kept, and the rest is not visible to readers",
                    "Run the same command again, or scenefuse refill OUT, when the store answers",
                ) from error
            time.sleep(pause_s * random.uniform(1.0, 1.5))  # noqa: S311 - spreads retries, no secret
    raise AssertionError(what)


class CutShortError(Exception):
    """A body had fewer bytes than promised."""


def _refusal(error: Exception, what: str) -> StorageError | None:
    """The StorageError for a lasting refusal; None for a failure that may pass."""
    kept = "what is finished is kept, and the rest is not visible to readers"
    found = _STATUS.search(str(error))
    status = int(found[1]) if found else None
    if _METADATA_HOST in str(error):
        return StorageError(
            f"{what} needs keys, but none are set",
            kept,
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or for a public bucket AWS_SKIP_SIGNATURE=true",
        )
    if status in {401, 403}:
        return StorageError(
            f"{what} is not allowed ({_said(error)})",
            kept,
            "Check the keys (AWS_ACCESS_KEY_ID, ..., AWS_SESSION_TOKEN with temporary ones) and the bucket's policy "
            "(AWS_REQUEST_PAYER=requester where readers pay), then run the same command again",
        )
    # Without a status there was no answer or, for a builder error, no request.
    if status is None and "builder error" not in str(error):
        return None
    code = _CODE.search(str(error))
    if status is not None and (status >= 500 or status in _PASSING_STATUS or (code and code[1] in _PASSING_CODES)):
        return None
    return StorageError(
        f"{what} is refused ({_said(error)})",
        kept,
        "Check the endpoint (AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_REGION), then run the command again",
    )


def _said(error: Exception) -> str:
    """The error's first line, without the server's document, and its error code."""
    code = _CODE.search(str(error))
    text = str(error).partition("\n")[0].partition(": <")[0]
    return f"{text[:300]}: {code[1]}" if code else text[:300]
