"""What sizes a network can have: its options are checked before a tensor is made."""

from __future__ import annotations


def require_size(name: str, value: int, *, least: int = 1, multiple: int = 1) -> None:
    """Refuse by ValueError an option that is less than `least` or no multiple of `multiple`."""
    if value < least or value % multiple:
        wanted = f"{least} or more" if multiple == 1 else f"a multiple of {multiple}, {least} or more"
        raise ValueError(f"{name} is {value}, and must be {wanted}")
