"""Files on the network, read by ranges: over https under the access policy, from S3 with the environment's keys.

A file is identified by its size and its ETag (or the time of its last change). Every later response must match both, so
that a scene replaced while it is read stops the work instead of being fused from two versions.
"""

from __future__ import annotations

import atexit
import functools
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.fetch import Fetcher, Part
from scenefuse.archive.signing import signed
from scenefuse.errors import DataError, StorageError
from scenefuse.place.href import redact
from scenefuse.place.store import StorePlace

_READABLE_SCHEMES = ("https", "http", "s3")

Span = tuple[int, int]
"""First byte, and the one after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on the network as it was when first opened. Picklable."""

    url: str = field(repr=False)
    """Its https:// or s3:// URL, including a query that may sign it; never shown: str() redacts it."""
    size_bytes: int
    """Its size in bytes."""
    tag: str
    """Its ETag, or the time of its last change."""
    policy: AccessPolicy
    """Which hosts and redirects are followed."""

    def __str__(self) -> str:
        return redact(self.url)

    def read(self, span: Span) -> bytes:
        """All bytes of the span.

        DataError if the file has changed since, TransientError if every attempt fails.
        """
        place = _store_place(self.url)
        if place is not None:
            data = place.read_unchanged(*span, self.tag)
            if data is None or len(data) != span[1] - span[0]:
                raise self._changed()
            return data
        part = _part(self.url, self.policy, span)
        if (part.total_bytes, part.tag) != (self.size_bytes, self.tag):
            raise self._changed()
        return part.data

    def _changed(self) -> DataError:
        return DataError(
            f"{self} changed while it was read",
            "its pixels would come from two different files",
            "run again; what is finished belongs to the old file",
        )


def open_remote(url: str, policy: AccessPolicy) -> RemoteFile:
    """The file at an https:// or s3:// URL as it is now; DataError if it cannot be read by ranges."""
    scheme = urlsplit(url).scheme
    if scheme not in _READABLE_SCHEMES:
        raise DataError(
            f"{redact(url)} lies on {scheme}://",
            "pixels are read from files, https:// and s3://",
            "give its https address, or copy it to this machine",
        )
    place = _store_place(url)
    if place is None:
        part = _part(policy.check(url, url), policy, (0, 1))
        if not part.tag:
            raise DataError(
                f"{redact(url)} is served with neither ETag nor Last-Modified",
                "if it were replaced, pixels of two files could be fused as one, and an old product would look current",
                "copy it to this machine, or have the server send one of the two",
            )
        return RemoteFile(url=url, size_bytes=part.total_bytes, tag=part.tag, policy=policy)
    try:
        found = place.stat()
    except StorageError as error:  # the fault is this input's, not that of the place for products
        raise DataError(error.value, "it cannot be read", error.cure) from error
    if found is None:
        raise DataError(f"{redact(url)} does not exist", "there is nothing to read", "check bucket and key")
    return RemoteFile(url=url, size_bytes=found[0], tag=found[1], policy=policy)


def read_object(url: str, *, most_bytes: int) -> bytes:
    """The whole object at an s3:// URL; DataError if there is none or it is larger than most_bytes."""
    file = open_remote(url, AccessPolicy())
    if file.size_bytes > most_bytes:
        raise DataError(
            f"{file} has {file.size_bytes / 2**20:.0f} MiB",
            f"documents of more than {most_bytes / 2**20:.0f} MiB are not read",
            "give the address of the document itself",
        )
    return file.read((0, file.size_bytes)) if file.size_bytes else b""


def _store_place(url: str) -> StorePlace | None:
    """The object of an s3:// URL; None for others. DataError for a key that a URL cannot hold.

    Text after a ? or # may be a signature as well as part of the key, and is never shown or recorded: two objects would
    count as one input.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3":
        return None
    if "?" in url or "#" in url:
        raise DataError(
            f"{redact(url)} continues with a ? or a #",
            "in a URL that is not part of the key, and another object would be read",
            "copy the object to a key without them",
        )
    return StorePlace(bucket=parts.netloc, key=parts.path.strip("/"))


def _part(url: str, policy: AccessPolicy, span: Span) -> Part:
    """The span of the file at an https:// URL, signed if a known archive issues tokens for it."""
    fetcher = _fetcher(policy)
    return fetcher.get_range(signed(url, fetcher.get), *span)


@functools.cache
def _fetcher(policy: AccessPolicy) -> Fetcher:
    """One per process and policy, so that connections are reused."""
    fetcher = Fetcher(policy)
    atexit.register(fetcher.close)
    return fetcher


os.register_at_fork(after_in_child=_fetcher.cache_clear)  # two processes on one connection would mix up replies
