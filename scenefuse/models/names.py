"""Names of the methods, importable without torch, which takes seconds to load: too slow for shell completion."""

from __future__ import annotations

from importlib.metadata import entry_points

ENTRY_POINTS = "scenefuse.models"
"""Entry-point group in which other packages register a Method under its command-line name."""
WEIGHTLESS = ("bicubic", "gsa", "sfim", "mtf-glp-hs", "cnmf", "hysure-l2")
"""This package's methods that need no weights."""
NETWORKS = ("aelf", "aelf-t", "cofusion", "mossfuse", "smifnet", "s3rnet")
"""This package's methods that need weights."""


def known_names() -> tuple[str, ...]:
    """Sorted names of all methods: this package's and those other packages register, which are not imported here."""
    return tuple(sorted({*WEIGHTLESS, *NETWORKS, *(entry.name for entry in entry_points(group=ENTRY_POINTS))}))
