"""Files that come with the package: archives, weights and schemas, workflows to copy."""

from __future__ import annotations

from pathlib import Path

import scenefuse


def shipped_folder(name: str) -> Path:
    """The folder `catalogs` or `workflows`: below scenefuse/_shipped in the wheel, beside scenefuse in a checkout."""
    package = Path(scenefuse.__file__).parent
    in_wheel = package / "_shipped" / name
    return in_wheel if in_wheel.is_dir() else package.parent / name
