"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, noun: str, several: str | None = None) -> str:
    """A number with its noun, in the plural unless there is one; several: a plural that does not just take an s.

    >>> counted(1, "tile"), counted(2, "tile"), counted(0, "usable band"), counted(3, "mismatch", "mismatches")
    ('1 tile', '2 tiles', '0 usable bands', '3 mismatches')
    """
    return f"{count} {noun if count == 1 else several or f'{noun}s'}"
