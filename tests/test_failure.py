"""What an error is to those who go on after it: the same wherever it is recorded."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from scenefuse.engine.retry import kind_of
from scenefuse.errors import DataError, TransientError
from scenefuse.failure import Failure
from scenefuse.pipeline.each_product import ProductFailure, for_each_product
from scenefuse.pipeline.failures import PairWork

CASES = (
    (PermissionError(errno.EACCES, "Permission denied", "/a"), ("resource", False)),
    (OSError(errno.ENOSPC, "No space left on device"), ("resource", False)),
    (OSError(errno.EIO, "Input/output error"), ("transient", True)),
    (ConnectionResetError("reset by peer"), ("transient", True)),
    (TimeoutError("timed out"), ("transient", True)),
    (TransientError("503", "it could not be read", "Try again"), ("transient", True)),
    (DataError("no CRS", "it cannot be placed", "Assign one"), ("data", False)),
    (FileNotFoundError(errno.ENOENT, "No such file", "/a"), ("bug", False)),
    (KeyError("a"), ("bug", False)),
)


def of_task(error: Exception) -> tuple[str, bool]:
    return kind_of(error), kind_of(error) == "transient"


def of_pair(error: Exception) -> tuple[str, bool]:
    found = PairWork(hs_id="h", ms_id="m", hs_href="", ms_href="", model="gsa").because(error)
    return found.kind, found.retryable


def of_product(error: Exception) -> tuple[str, bool]:
    def look(_: object) -> None:
        raise error

    found = next(for_each_product(["a", "b"], look))
    assert isinstance(found, ProductFailure)
    return found.kind, found.retryable


def of_itself(error: Exception) -> tuple[str, bool]:
    found = Failure.of(error)
    assert str(error) in found.cause
    return found.kind, found.retryable


@pytest.mark.parametrize("judge", [of_itself, of_task, of_pair, of_product])
@pytest.mark.parametrize(("error", "expected"), CASES, ids=lambda value: str(value)[:30])
def test_an_error_is_of_one_kind_in_every_record(
    judge: Callable[[Exception], tuple[str, bool]], error: Exception, expected: tuple[str, bool]
) -> None:
    assert judge(error) == expected
