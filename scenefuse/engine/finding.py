"""What a checkup finds out about one thing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was checked."""

    name: str
    """What was checked."""
    verdict: Literal["ok", "warning", "failed"]
    """`failed`: a fusion would not run."""
    text: str
    """One line for people, with the cure when something is wrong."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The numbers, for programs; sizes in bytes."""
