"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A number with its noun, which takes an s unless there is one.

    >>> counted(1, "tile"), counted(2, "tile"), counted(0, "usable band")
    ('1 tile', '2 tiles', '0 usable bands')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
