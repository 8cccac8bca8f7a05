"""HTTP requests: every redirect and address checked, retried by type of failure, limited in size."""

from __future__ import annotations

import logging
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from scenefuse.archive.access import AccessPolicy
from scenefuse.archive.cookies import HostCookies, no_cookies
from scenefuse.archive.error_body import message_from
from scenefuse.archive.login import LOGIN_METHOD, Login, login_for, not_opened, page_in_place
from scenefuse.errors import DataError, TransientError
from scenefuse.place.href import redact

MAX_REDIRECTS = 5
"""Redirects followed per request, each of them checked."""
MAX_JSON_BYTES = 64 * 2**20
"""Largest JSON document that is read; an item with 300 bands has about 0.1 MiB, a page of 100 of them 10 MiB."""
_ATTEMPTS = 4
"""Attempts at a request, the first included."""
_BACKOFF_S = 0.5
"""Pause before the second attempt, doubled before each later one."""
_LONGEST_WAIT_S = 30.0
"""Longest pause, whatever a server's Retry-After says."""
_PASSING = {408, 425, 429}
"""Statuses below 500 after which a retry may succeed."""
_LASTING = {501, 505}
"""Statuses from 500 on after which a retry cannot succeed: the server does not support the request."""
_KEPT_HEADERS = {"accept", "accept-encoding", "content-type", "range"}
"""Request headers that another host may see after a redirect; the others may be credentials."""
_MOST_READ_OUT_BYTES = 64 * 2**10
"""Most bytes read of a redirect's body; reading more would take longer than a new connection."""
_PAGES = {"text/html", "application/xhtml+xml"}
"""Media types of web pages."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")

T = TypeVar("T")

for _name in ("httpx", "httpcore"):  # below this level they log whole URLs, signatures included
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A byte range of a file."""

    data: bytes
    """The requested bytes, all of them."""
    total_bytes: int
    """Size of the file."""
    tag: str
    """Its ETag, else its Last-Modified as the server writes it, else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A server's response, whatever its status."""

    status: int
    """HTTP status."""
    url: str
    """Its URL, after redirects."""
    body: bytes
    """Its body."""
    size_bytes: int | None
    """Its Content-Length in bytes; None if it does not give one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hop:
    """Where a reply came from."""

    url: str
    """Its URL."""
    asked: str
    """The URL of the first request, before redirects."""
    logins: tuple[Login, ...]
    """Logins sent to it and to the hosts on the way."""


class Fetcher:
    """HTTP client under an AccessPolicy. Use it in a with statement: it holds connections.

    Reads (get, request, get_range) send each host the login that the environment or netrc has for it, with GET only;
    exchange sends only what its caller gives.
    """

    def __init__(
        self, policy: AccessPolicy, *, timeout_s: float = 30.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._policy = policy
        self._sleep = sleep
        self._client = httpx.Client(timeout=timeout_s, headers={"User-Agent": "scenefuse"}, cookies=no_cookies())
        self._cookies = HostCookies()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        max_bytes: int = MAX_JSON_BYTES,
    ) -> bytes:
        """The body of a GET, with query added to the URL's own; DataError if it is refused, absent or too large.

        TransientError after four attempts if a later one may succeed.
        """
        if query:
            url = str(httpx.URL(url).copy_merge_params(dict(query)))
        return self.request("GET", url, headers=headers, max_bytes=max_bytes)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        max_bytes: int = MAX_JSON_BYTES,
    ) -> bytes:
        """The body of a 2xx reply; body is sent as JSON. Only for requests that are safe to repeat."""
        return self._tried(
            lambda: self._follow(
                method, url, dict(headers or {}), body, lambda response, hop: _read(response, hop, max_bytes)
            ),
            url,
        )

    def exchange(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Any = None) -> Reply:
        """The reply, retried as long as a retry may change it; TransientError after four attempts.

        body is sent as JSON. The answer to a request that took effect may be lost, and the next attempt then finds it
        done: a caller that changes something must check the present state.
        """
        return self._tried(
            lambda: self._follow(method, url, dict(headers or {}), body, _received, with_logins=False), url
        )

    def get_range(self, url: str, first: int, end: int) -> Part:
        """Bytes [first, end) of the file at url; DataError if the server does not serve ranges of it."""
        asked = {"Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
        return self._tried(
            lambda: self._follow("GET", url, asked, None, lambda response, hop: _read_part(response, hop, first, end)),
            url,
        )

    def _tried(self, request: Callable[[], T], url: str) -> T:
        """The result of request, which is attempted at most _ATTEMPTS times."""
        if not url.startswith(("http://", "https://")):
            raise _refused(url, "documents are read over https and s3 only")
        reason = ""
        for attempt in range(_ATTEMPTS):
            wait_s = _BACKOFF_S * 2**attempt * (1 + random.random() / 4)  # noqa: S311 - spreads load, guards nothing
            try:
                return request()
            except _PassingError as passing:
                reason = str(passing)
                wait_s = min(passing.wait_s or wait_s, _LONGEST_WAIT_S)
            except (httpx.InvalidURL, httpx.DecodingError) as error:
                raise DataError(
                    f"{redact(url)}: {error}",
                    "the address is malformed, or the reply's Content-Encoding is wrong",
                    "correct the address, or the server's headers",
                ) from error
            except TransientError as error:
                reason = error.value
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
                if _is_mistrust(error):
                    raise DataError(
                        f"{redact(url)} has a certificate that is not trusted ({error})",
                        "what it sends may come from somebody else",
                        "if the certificate authority is yours, set SSL_CERT_FILE to its file",
                    ) from error
            if attempt < _ATTEMPTS - 1:
                self._sleep(wait_s)
        raise TransientError(
            f"{redact(url)} failed {_ATTEMPTS} times ({reason})", "it could not be read", "try again later"
        )

    def _follow(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Any,
        receive: Callable[[httpx.Response, _Hop], T],
        *,
        with_logins: bool = True,
    ) -> T:
        """What receive returns after at most MAX_REDIRECTS redirects, each checked like an href of the reply before."""
        hop = _Hop(url=url, asked=url, logins=())
        for _ in range(MAX_REDIRECTS + 1):
            self._policy.check(url, url)
            judged = {}
            if not self._is_proxied(url):
                self._policy.check_host(url)
                judged = {"trace": self._judge_of(url)}
            login = self._login_for(method, url, headers) if with_logins else None
            hop = replace(hop, url=url, logins=hop.logins if login is None else (*hop.logins, login))
            sent = headers if login is None else {**headers, "Authorization": login.authorization}
            with self._sent(method, url, sent, body, judged) as response:
                if not response.has_redirect_location:
                    return receive(response, hop)
                target = self._policy.check(response.headers["Location"], url)
                if response.status_code == httpx.codes.SEE_OTHER:
                    method, body = "GET", None
                _read_out(response)
            if not target.startswith(("http://", "https://")):
                raise _refused(url, f"it redirects to {redact(target)}")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:  # another host, or the same one without TLS
                headers = {key: value for key, value in headers.items() if key.lower() in _KEPT_HEADERS}
            url = target
        raise _refused(url, f"it redirects more than {MAX_REDIRECTS} times")

    @contextmanager
    def _sent(
        self, method: str, url: str, headers: dict[str, str], body: Any, extensions: dict[str, Any]
    ) -> Iterator[httpx.Response]:
        """The response to a request, which carries the cookies of its host."""
        request = self._client.build_request(method, url, headers=headers, json=body, extensions=extensions)
        self._cookies.add_to(request)
        with closing(self._client.send(request, stream=True)) as response:
            self._cookies.keep_from(response)
            yield response

    def _login_for(self, method: str, url: str, headers: Mapping[str, str]) -> Login | None:
        """The login for the URL's host; None if there is none or it must not be sent.

        It is sent only with GET: a catalogue decides what is posted where, and must not be able to post in our name.
        """
        if method != LOGIN_METHOD or any(name.lower() == "authorization" for name in headers):
            return None
        return login_for(url) if url.startswith("https://") or self._policy.allows(url) else None

    def _is_proxied(self, url: str) -> bool:
        """True if a proxy of the environment handles the URL: the proxy then resolves the name, by its own rules."""
        chosen = self._client._transport_for_url(httpx.URL(url))  # noqa: SLF001 - a guess at its rules would be a hole
        return chosen is not self._client._transport  # noqa: SLF001 - the one without a proxy

    def _judge_of(self, url: str) -> Callable[[str, Mapping[str, Any]], None]:
        """Trace hook that checks the connected address before sending: the name may resolve differently by then."""

        def judge(event: str, facts: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                stream = facts["return_value"]
                try:
                    self._policy.check_address(str(stream.get_extra_info("server_addr")[0]), url)
                except DataError:
                    stream.close()  # nothing else uses it yet
                    raise

        return judge


class _PassingError(Exception):
    """A reply after which a retry may succeed."""

    def __init__(self, status: int, wait_s: float | None, said: str = "") -> None:
        super().__init__(f"status {status}{said and ': '}{said}")
        self.wait_s = wait_s


def _read_out(response: httpx.Response) -> None:
    """Read a redirect's body, so that its connection can be reused; give up if it is long."""
    size = 0
    for part in () if response.is_stream_consumed else response.iter_raw():
        size += len(part)
        if size > _MOST_READ_OUT_BYTES:
            return


def _is_mistrust(error: BaseException | None) -> bool:
    """True if an untrusted certificate caused the error: a retry would fail the same way."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def _received(response: httpx.Response, hop: _Hop) -> Reply:
    """The reply with its body; _PassingError if a retry may succeed."""
    status, length = response.status_code, response.headers.get("Content-Length", "")
    body = _body(response, hop.url, MAX_JSON_BYTES)
    if _may_pass(status):
        raise _PassingError(status, _asked_wait_s(response), message_from(body))
    return Reply(status=status, url=hop.url, body=body, size_bytes=int(length) if length.isdigit() else None)


def _read(response: httpx.Response, hop: _Hop, max_bytes: int) -> bytes:
    """The body of a reply; raises for a failure status or a body over max_bytes."""
    _check_status(response, hop)
    return _body(response, hop.url, max_bytes)


def _body(response: httpx.Response, url: str, max_bytes: int) -> bytes:
    """The body of a reply; DataError if it is over max_bytes."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise _refused(url, f"it is larger than {max_bytes / 2**20:.0f} MiB")
    return bytes(body)


def _read_part(response: httpx.Response, hop: _Hop, first: int, end: int) -> Part:
    """The part in the reply to a range request."""
    status, url = response.status_code, hop.url
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise DataError(f"{redact(url)} ends before byte {end}", "it is empty or was cut short", "fetch it again")
    _check_status(response, hop)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if status != httpx.codes.PARTIAL_CONTENT and kind in _PAGES:
        raise page_in_place(url, hop.asked, hop.logins)
    coding = response.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise DataError(
            f"{redact(url)} is served with Content-Encoding: {coding}",
            "ranges refer to the compressed bytes, not to the file",
            "store it without that header, or copy it to this machine",
        )
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if status != httpx.codes.PARTIAL_CONTENT or found is None:
        raise DataError(
            f"{redact(url)} is only served whole (status {status} to a request for a part)",
            "each window would fetch the whole file",
            "copy it to this machine, or put it on a server that supports ranges",
        )
    if (int(found[1]), int(found[2]) + 1) != (first, end):
        raise DataError(f"{redact(url)} ends before byte {end}", "it is empty or was cut short", "fetch it again")
    data = _read(response, hop, end - first)
    if len(data) != end - first:
        raise _PassingError(status, None)
    tag = response.headers.get("ETag", "").removeprefix("W/") or response.headers.get("Last-Modified") or ""
    return Part(data=data, total_bytes=int(found[3]), tag=tag)


def _check_status(response: httpx.Response, hop: _Hop) -> None:
    """Raise for a status that is not 2xx: _PassingError if a retry may succeed, else DataError."""
    status = response.status_code
    if _may_pass(status):
        raise _PassingError(status, _asked_wait_s(response))
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise not_opened(hop.url, status, hop.logins, method=response.request.method)
    if not response.is_success:
        raise DataError(f"{redact(hop.url)} answered {status}", "there is nothing to read", "check the address")


def _may_pass(status: int) -> bool:
    """True for a status after which a retry may succeed."""
    return status in _PASSING or (status >= httpx.codes.INTERNAL_SERVER_ERROR and status not in _LASTING)


def _asked_wait_s(response: httpx.Response) -> float | None:
    """Seconds to wait by Retry-After, a number or a date relative to the reply's own Date; None without one."""
    after = response.headers.get("Retry-After", "")
    if after.isascii() and after.isdigit():
        return float(after)
    try:
        then, now = (parsedate_to_datetime(text) for text in (after, response.headers.get("Date", "")))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):  # not a date, or only one of the two has a zone
        return None


def _refused(url: str, why: str) -> DataError:
    return DataError(redact(url), f"{why}, so it is not read", "give the address of the document itself")
