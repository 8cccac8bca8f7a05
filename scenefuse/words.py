"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, noun: str, several: str | None = None) -> str:
    """A number and its noun, plural unless the number is 1; several: the plural, if it does not just add an s.

    >>> counted(1, "tile"), counted(2, "tile"), counted(0, "usable band"), counted(3, "mismatch", "mismatches")
    ('1 tile', '2 tiles', '0 usable bands', '3 mismatches')
    """
    return f"{count} {noun if count == 1 else several or f'{noun}s'}"
