"""Places from user input: the only module that tells paths from URLs of stores."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from scenefuse.errors import UsageError
from scenefuse.place.href import redact
from scenefuse.place.local import LocalPlace
from scenefuse.place.place import Place
from scenefuse.place.store import StorePlace


def place_at(location: str | Path | Place) -> Place:
    """The place at a path or a URL s3://bucket/prefix; a Place is returned as it is.

    >>> str(place_at("products"))
    'products'
    >>> str(place_at("s3://bucket/products/") / "item")
    's3://bucket/products/item'
    """
    if isinstance(location, Path):
        return LocalPlace(path=own_path(location))
    if not isinstance(location, str):
        return location
    if "://" not in location:
        return LocalPlace(path=own_path(location))
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise _no_place(location) from error
    if parts.scheme != "s3" or not parts.netloc or {"@", ":"} & {*parts.netloc} or "?" in location or "#" in location:
        raise _no_place(location)
    return StorePlace(bucket=parts.netloc, key="/".join(part for part in parts.path.split("/") if part))


def own_path(text: str | Path) -> Path:
    """The path that a person wrote, with ~ expanded to a home folder, which shells do not do in `--out=~/x`.

    An empty path is refused: shells make one from an unset variable, and the current folder was not meant.
    """
    if text == "":
        raise UsageError(
            "a path is empty", "no file or folder is named by it", "Set the variable it came from, or write . for here"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{text} begins with ~",
            "it is not clear whose home folder is meant",
            "Write the path out, or ./~ for such a name",
        ) from error


def _no_place(location: str) -> UsageError:
    more = (
        ", because it continues with a ? or a #, which our keys never have"
        if "?" in location or "#" in location
        else ""
    )
    return UsageError(
        f"{redact(location)} is not a place for products{more}",
        "nothing can be written there",
        "Give a path, or s3://bucket/prefix with keys and endpoint in the environment (AWS_ENDPOINT_URL, ...)",
    )
