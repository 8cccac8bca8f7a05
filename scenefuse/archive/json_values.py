"""Numbers and strings from JSON documents of others, checked."""

from __future__ import annotations

from typing import Any

from scenefuse.errors import DataError


def number(value: Any, where: str) -> float:
    """A JSON number, or one of STAC's strings `nan`, `inf`, `-inf`; DataError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise DataError(f"{where} has {len(str(value))} digits", "it is too large", "correct the item") from error
    if value in ("nan", "inf", "-inf"):
        return float(value)
    raise DataError(f"{where} is {value!r}", "it is not a number", "correct the item")


def number_or_none(value: Any, where: str) -> float | None:
    """The number; None if there is no value."""
    return None if value is None else number(value, where)


def texts(value: Any) -> list[str]:
    """The entries of a list as strings; empty if it is not a list."""
    return [str(entry) for entry in value] if isinstance(value, list) else []
