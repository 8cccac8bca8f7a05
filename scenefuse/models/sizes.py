"""Checks of a network's size options, made before any tensor is created."""

from __future__ import annotations


def require_size(name: str, value: int, *, least: int = 1, multiple: int = 1) -> None:
    """Raise ValueError if an option is below `least` or not a multiple of `multiple`."""
    if value < least or value % multiple:
        wanted = f"{least} or more" if multiple == 1 else f"a multiple of {multiple}, {least} or more"
        raise ValueError(f"{name} is {value}, and must be {wanted}")
