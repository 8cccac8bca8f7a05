"""Access rules for hrefs in documents: schemes, hosts and addresses, and how messages show an href."""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from scenefuse.errors import DataError, TransientError
from scenefuse.place.href import is_url, redact, scheme_of
from scenefuse.place.location import own_path

STORE_SCHEMES = ("s3", "gs", "abfs")
"""Schemes of object stores; their endpoints come from the operator's configuration, never from an href."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses as reached from an IPv6-only network."""
_UNICAST = ipaddress.ip_network("2000::/3")
"""All IPv6 space that IANA has made public; outside it, Python's is_global misses non-public ranges: fec0::/10, ..."""
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")
_LOCAL_NAMES = ("localhost", "local", "internal", "localdomain", "home.arpa")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """Which hrefs in a catalogue's documents are followed.

    Paths given by the operator are trusted and never checked here; hrefs inside documents are. Allowed are https, s3,
    gs and abfs, and files below `roots` once symlinks are resolved. GDAL's /vsi paths and other schemes are always
    refused. User names in URLs, http, and loopback, link-local and private addresses are accepted only for
    `allow_hosts`.
    """

    roots: tuple[Path, ...] = ()
    """Folders whose files may be read; if empty, the folder of the document with the href."""
    allow_hosts: tuple[str, ...] = ()
    """Hosts, `name` or `name:port`, for which http and any address are allowed."""

    def with_root(self, folder: Path) -> AccessPolicy:
        """A copy that also allows the files below a folder."""
        return replace(self, roots=(*self.roots, folder))

    def check(self, href: str, base: str) -> str:
        """The href resolved against the document at base, as absolute path or URL; DataError if it is not allowed.

        Literal addresses are checked here, host names when they are resolved (check_host).
        """
        if not href or "\x00" in href or href.lower().startswith("/vsi"):
            raise _refused(href, base, "it is empty or one of GDAL's virtual paths")
        scheme = scheme_of(href)
        if scheme in ("", "file"):
            if is_url(base) and scheme == "":
                try:
                    joined = _join_url(base, href)
                except ValueError as error:
                    raise _refused(href, base, "it is not a URL") from error
                return self._checked_url(joined, base)
            return self._checked_path(href, base)
        return self._checked_url(href, base)

    def check_host(self, url: str) -> None:
        """Raise DataError if the URL's host does not exist or resolves to an address that is not public.

        TransientError if the name could not be looked up.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        if self.allows(url):
            return
        try:
            found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            unknown = isinstance(error, UnicodeError) or error.errno == socket.EAI_NONAME
            raise (DataError if unknown else TransientError)(
                f"{host} has no address ({error})", f"{redact(url)} cannot be read", "check the name and the network"
            ) from error
        for *_, address in found:
            self.check_address(str(address[0]), url)

    def check_address(self, address: str, url: str) -> None:
        """Raise DataError if an address that the URL's host resolved or connected to is not public."""
        if not self.allows(url) and not _is_public(ipaddress.ip_address(address.partition("%")[0])):
            raise DataError(
                f"{redact(url)} leads to {address}",
                "it is not a public address, and a catalogue could reach this internal network through it",
                f"if the host is yours, allow it with --allow-host {urlsplit(url).hostname}",
            )

    def allows(self, url: str) -> bool:
        """True if the operator has allowed the URL's host, for http and any address."""
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        return host in self.allow_hosts or f"{host}:{parts.port}" in self.allow_hosts

    def _checked_url(self, url: str, base: str) -> str:
        """The URL, if its scheme and host are allowed."""
        if _UNPRINTABLE.search(url):
            raise _refused(url, base, "it has a blank, a backslash or a control character")
        try:
            parts = urlsplit(url)
            host, _ = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError as error:
            raise _refused(url, base, "it is not a URL") from error
        if parts.scheme not in (*STORE_SCHEMES, "http", "https"):
            raise _refused(url, base, f"the scheme {parts.scheme} is not one of https, s3, gs, abfs")
        if not host:
            raise _refused(url, base, "it has no host")
        if parts.scheme not in STORE_SCHEMES and not self.allows(url):
            self._check_host_name(url, host, base)
        return url

    def _check_host_name(self, url: str, host: str, base: str) -> None:
        """Refuse user names, http, local names and literal addresses that are not public."""
        if "@" in urlsplit(url).netloc:
            raise _refused(url, base, "it has a user name")
        if urlsplit(url).scheme == "http":
            raise _refused(url, base, f"http can be altered on its way: use https, or --allow-host {host}")
        literal = _literal_address(host)
        if literal is not None:
            self.check_address(str(literal), url)
        elif any(host == name or host.endswith(f".{name}") for name in _LOCAL_NAMES):
            raise _refused(url, base, f"the host is local; if it is yours: --allow-host {host}")

    def _checked_path(self, href: str, base: str) -> str:
        """The absolute path of a file below the roots."""
        if is_url(base):
            raise _refused(href, base, "a document from the network cannot name a local file")
        folder = Path(base).resolve().parent
        if scheme_of(href) == "file":
            parts = urlsplit(href)
            if parts.netloc not in ("", "localhost"):
                raise _refused(href, base, "it names a file on another machine")
            href = unquote(parts.path)
            if "\x00" in href or href.startswith("/vsi"):
                raise _refused(href, base, "it is one of GDAL's virtual paths")
        try:
            path = (folder / href).resolve()
        except (OSError, RuntimeError) as error:
            raise _refused(href, base, f"it cannot be resolved ({error})") from error
        if not any(path.is_relative_to(root.resolve()) for root in self.roots or (folder,)):
            raise _refused(href, base, "it lies outside the catalogue's folder")
        return str(path)


def trusted_path(href: str) -> Path:
    """The absolute path for a path or file:// URL that the operator gave."""
    return own_path(unquote(urlsplit(href).path) if scheme_of(href) == "file" else href).absolute()


def check_links(path: str, root: str) -> None:
    """Raise DataError if path, or anything in it if it is a folder, is a symlink to outside root."""
    below = (Path(here, name) for here, folders, files in os.walk(path) for name in (*folders, *files))
    for found in itertools.chain([Path(path)], below):
        if found.is_symlink() and not found.resolve().is_relative_to(Path(root).resolve()):
            raise _refused(str(found.readlink()), str(found), "it lies outside the catalogue's folder")


def shown(href: str, base: str) -> str:
    """The href in the document at base as messages show it: redacted, and made absolute if base is a URL."""
    said = redact(href)
    if said != href or scheme_of(href) or not is_url(base):
        return said
    try:
        return redact(_join_url(base, href))
    except ValueError:
        return "..."


def _refused(href: str, base: str, why: str) -> DataError:
    if href == base:  # written by a person, not found in a document
        return DataError(redact(href), f"{why}, so it is not read", "correct the address")
    return DataError(
        f"{redact(base)} refers to {shown(href, base)!r}",
        f"{why}, so it is not followed",
        "correct the href, or move the file below the catalogue",
    )


def _join_url(base: str, href: str) -> str:
    """The href resolved against base, also for schemes that urllib does not know to have paths."""
    parts = urlsplit(base)
    if parts.scheme in ("http", "https"):
        return urljoin(base, href)
    joined = urlsplit(urljoin(urlunsplit(("https", *parts[1:])), href))
    return urlunsplit((parts.scheme, *joined[1:]))


def _literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host spells out, also as 127.1 or 0x7f000001; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """True for a public address; an IPv4 address embedded in an IPv6 one is checked as well."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour  # Teredo addresses are never global
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not _is_public(inner):
            return False
        if address not in _NAT64 and address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast
