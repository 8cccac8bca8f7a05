"""Requests over HTTP: every redirect and address checked, retried by type, limited in size."""

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
"""Redirects that are followed, each of them checked."""
MAX_JSON_BYTES = 64 * 2**20
"""Largest JSON document that is read; an item of 300 bands has about 0.1 MiB, a page of 100 of them 10 MiB."""
_ATTEMPTS = 4
"""Attempts at one request in all."""
_BACKOFF_S = 0.5
"""Pause before the second attempt; twice as long before each later one."""
_LONGEST_WAIT_S = 30.0
"""Longest pause, whatever a server's Retry-After asks for."""
_PASSING = {408, 425, 429}
"""Statuses below 500 of a reply that may be another one later."""
_LASTING = {501, 505}
"""Those from 500 on that will be the same later: what was asked for is not implemented."""
_KEPT_HEADERS = {"accept", "accept-encoding", "content-type", "range"}
"""What of a request's headers another host may see after a redirect; the rest may be credentials."""
_MOST_READ_OUT_BYTES = 64 * 2**10
"""Of a redirect's body: to read more would take longer than another connection."""
_PAGES = {"text/html", "application/xhtml+xml"}
"""Media types of pages for people."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")

T = TypeVar("T")

for _name in ("httpx", "httpcore"):  # at levels below they log whole addresses, and so signatures
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some bytes of a file."""

    data: bytes
    """The bytes, as many as were asked for."""
    total_bytes: int
    """Size of the file."""
    tag: str
    """Its ETag, else the time of its last change as the server writes it, else nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answered, of whatever status."""

    status: int
    """HTTP status."""
    url: str
    """Where it came from, after redirects."""
    body: bytes
    """Its body."""
    size_bytes: int | None
    """What it says of its length; None when it does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hop:
    """Where a reply came from."""

    url: str
    """Its address."""
    asked: str
    """The address that was asked for first, before redirects."""
    logins: tuple[Login, ...]
    """What was sent to it and to the hosts on the way."""


class Fetcher:
    """Requests under an AccessPolicy. Use it in a with statement: it holds connections.

    What is read (get, request, get_range) is asked for with the login of each host that the environment or netrc has
    one for; exchange sends what its caller gives alone.
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
        """Let the connections go."""
        self._client.close()

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        max_bytes: int = MAX_JSON_BYTES,
    ) -> bytes:
        """The body of a GET, query added to the URL's own; DataError when it is refused, absent or too large.

        TransientError after four attempts that may succeed later.
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
        """The body of a reply with status 2xx; body is sent as JSON. Only safe to repeat requests belong here."""
        return self._tried(
            lambda: self._follow(
                method, url, dict(headers or {}), body, lambda response, hop: _read(response, hop, max_bytes)
            ),
            url,
        )

    def exchange(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: Any = None) -> Reply:
        """The reply, unless it may be another one later: then it is asked for again, and after four a TransientError.

        body is sent as JSON. The answer to a request that was done may get lost, and the next attempt finds it done:
        who sends one that changes something looks what is there.
        """
        return self._tried(
            lambda: self._follow(method, url, dict(headers or {}), body, _received, with_logins=False), url
        )

    def get_range(self, url: str, first: int, end: int) -> Part:
        """The bytes from first to before end of the file at url; DataError when the server gives no parts of it."""
        asked = {"Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
        return self._tried(
            lambda: self._follow("GET", url, asked, None, lambda response, hop: _read_part(response, hop, first, end)),
            url,
        )

    def _tried(self, request: Callable[[], T], url: str) -> T:
        """What the request returns, after at most _ATTEMPTS of it."""
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
        """What is received after at most MAX_REDIRECTS redirects, each checked like an href of the reply before."""
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
        """The response to a request, with the cookies of its host."""
        request = self._client.build_request(method, url, headers=headers, json=body, extensions=extensions)
        self._cookies.add_to(request)
        with closing(self._client.send(request, stream=True)) as response:
            self._cookies.keep_from(response)
            yield response

    def _login_for(self, method: str, url: str, headers: Mapping[str, str]) -> Login | None:
        """What opens the URL's host; None where there is nothing, or where it must not be sent.

        Never with what is no GET: a catalogue says what is posted where, and must not have it done in our name.
        """
        if method != LOGIN_METHOD or any(name.lower() == "authorization" for name in headers):
            return None
        return login_for(url) if url.startswith("https://") or self._policy.allows(url) else None

    def _is_proxied(self, url: str) -> bool:
        """True when a proxy of the environment gets the URL's requests: it resolves the name, by its own rules."""
        chosen = self._client._transport_for_url(httpx.URL(url))  # noqa: SLF001 - a guess at its rules would be a hole
        return chosen is not self._client._transport  # noqa: SLF001 - the one without a proxy

    def _judge_of(self, url: str) -> Callable[[str, Mapping[str, Any]], None]:
        """Judges the address that was connected to, before anything is sent: a name may resolve anew meanwhile."""

        def judge(event: str, facts: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                stream = facts["return_value"]
                try:
                    self._policy.check_address(str(stream.get_extra_info("server_addr")[0]), url)
                except DataError:
                    stream.close()  # nobody else has it yet
                    raise

        return judge


class _PassingError(Exception):
    """A reply that may be another one later."""

    def __init__(self, status: int, wait_s: float | None, said: str = "") -> None:
        super().__init__(f"status {status}{said and ': '}{said}")
        self.wait_s = wait_s


def _read_out(response: httpx.Response) -> None:
    """Read what a redirect says besides its place: its connection can then be used again. Not if it is long."""
    size = 0
    for part in () if response.is_stream_consumed else response.iter_raw():
        size += len(part)
        if size > _MOST_READ_OUT_BYTES:
            return


def _is_mistrust(error: BaseException | None) -> bool:
    """True when the server's certificate is behind the error: it will be the same later."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def _received(response: httpx.Response, hop: _Hop) -> Reply:
    """The reply with its body, unless it may be another one later."""
    status, length = response.status_code, response.headers.get("Content-Length", "")
    body = _body(response, hop.url, MAX_JSON_BYTES)
    if _may_pass(status):
        raise _PassingError(status, _asked_wait_s(response), message_from(body))
    return Reply(status=status, url=hop.url, body=body, size_bytes=int(length) if length.isdigit() else None)


def _read(response: httpx.Response, hop: _Hop, max_bytes: int) -> bytes:
    """The body of a reply, refused by status and by size."""
    _check_status(response, hop)
    return _body(response, hop.url, max_bytes)


def _body(response: httpx.Response, url: str, max_bytes: int) -> bytes:
    """The body of a reply, refused by size."""
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise _refused(url, f"it is larger than {max_bytes / 2**20:.0f} MiB")
    return bytes(body)


def _read_part(response: httpx.Response, hop: _Hop, first: int, end: int) -> Part:
    """The part in a reply to a request for it."""
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
    """Raise for a status that is not 2xx: _PassingError where the same request may succeed later, else DataError."""
    status = response.status_code
    if _may_pass(status):
        raise _PassingError(status, _asked_wait_s(response))
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise not_opened(hop.url, status, hop.logins, method=response.request.method)
    if not response.is_success:
        raise DataError(f"{redact(hop.url)} answered {status}", "there is nothing to read", "check the address")


def _may_pass(status: int) -> bool:
    """True for the status of a reply that may be another one later."""
    return status in _PASSING or (status >= httpx.codes.INTERNAL_SERVER_ERROR and status not in _LASTING)


def _asked_wait_s(response: httpx.Response) -> float | None:
    """Seconds of the reply's Retry-After, a number or a date counted from the reply's own; None without."""
    after = response.headers.get("Retry-After", "")
    if after.isascii() and after.isdigit():
        return float(after)
    try:
        then, now = (parsedate_to_datetime(text) for text in (after, response.headers.get("Date", "")))
        return max(0.0, (then - now).total_seconds())
    except (ValueError, TypeError):  # no date; one with a zone and one without
        return None


def _refused(url: str, why: str) -> DataError:
    return DataError(redact(url), f"{why}, so it is not read", "give the address of the document itself")
