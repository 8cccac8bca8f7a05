"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check."""

    name: str
    """What was checked."""
    verdict: Literal["ok", "warning", "failed"]
    """`failed` means that a fusion would not run."""
    text: str
    """One line for users, with the cure if something is wrong."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Figures for programs; sizes in bytes."""
