"""Names of the methods, without what makes them: torch takes seconds, and a shell that completes a word has none."""

from __future__ import annotations

from importlib.metadata import entry_points

ENTRY_POINTS = "scenefuse.models"
"""Group in which other packages announce a Method under the name it has on the command line."""
WEIGHTLESS = ("bicubic", "gsa", "sfim", "mtf-glp-hs", "cnmf", "hysure-l2")
"""Methods of this package that need no weights."""
NETWORKS = ("aelf", "aelf-t", "cofusion", "mossfuse", "smifnet", "s3rnet")
"""Methods of this package that do."""


def known_names() -> tuple[str, ...]:
    """Names of all methods, sorted: this package's and those that others announce, which are not looked at here."""
    return tuple(sorted({*WEIGHTLESS, *NETWORKS, *(entry.name for entry in entry_points(group=ENTRY_POINTS))}))
