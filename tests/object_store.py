"""An object store for tests: moto's server in a process of its own, and a proxy before it that fails as it is told."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from tests.serving import serving

BUCKET = "products"
SECRET = "secret-that-nobody-may-see"  # noqa: S105 - the test server takes any
KEY_ID = "key-that-nobody-may-see"
TIMEOUT_S = 1.0
"""RetryPolicy of the tests' clients with one request."""

FaultKind = Literal["500", "503", "429", "403", "timeout", "slow", "reset", "lost", "truncated"]
"""timeout: no answer; slow: bit by bit; reset: before the request is passed on; lost: after it; truncated: half."""


@contextmanager
def moto_server() -> Iterator[str]:
    """Address of a running moto server with the bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tests.object_store", str(port)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=root) as process:
        try:
            _make_bucket(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _serve(port: int) -> None:
    """Run moto's server; writes one at a time, because moto looks at a condition and writes in two steps."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    serve, writing = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with nullcontext() if environ["REQUEST_METHOD"] in {"GET", "HEAD"} else writing:
            return serve(environ, start_response)  # type: ignore[no-any-return]

    run_simple("127.0.0.1", port, answer, threaded=True)


def _make_bucket(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("PUT", f"/{BUCKET}")
            assert connection.getresponse().status == 200
        except ConnectionError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()


@dataclass(kw_only=True)
class Fault:
    """What happens to some of the requests that match."""

    kind: FaultKind
    method: str = "GET|PUT|HEAD|POST|DELETE"
    """Pattern of the whole method."""
    path: str = ""
    """Pattern that is searched in the path with its query."""
    times: int = 1
    """Requests that it happens to."""
    after: int = 0
    """Matching requests that go through before."""
    seen: int = 0
    """Matching requests so far."""

    def strikes(self, method: str, path: str) -> bool:
        """Count a request; True when it is one of those that fail."""
        if not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.after < self.seen <= self.after + self.times


@dataclass(kw_only=True)
class Proxy:
    """A running proxy."""

    address: str
    """Its own."""
    faults: list[Fault] = field(default_factory=list)
    """What is to fail; the first that strikes counts."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Headers of every request, by names in small letters."""
    bearer: str | None = None
    """Token without which nobody may write; None where everybody may."""

    def fail(self, kind: FaultKind, **where: str | int) -> Fault:
        """From now on, let requests fail so."""
        fault = Fault(kind=kind, **where)  # type: ignore[arg-type] # the fields of a Fault by name
        self.faults.append(fault)
        return fault


@contextmanager
def fault_proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy before the server at upstream, as yet without faults."""
    server = _Server(upstream)
    with serving(server):
        yield server.proxy


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.proxy = Proxy(address=f"127.0.0.1:{self.server_address[1]}")
        self._counting = threading.Lock()

    def struck(self, method: str, path: str) -> FaultKind | None:
        """The fault that a request is to meet."""
        with self._counting:
            self.proxy.requests.append((method, path))
            struck = [fault.kind for fault in self.proxy.faults if fault.strikes(method, path)]
        return struck[0] if struck else None

    def handle_error(self, *_: object) -> None:
        """Nothing: clients that gave up are part of the plan."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.server.struck(self.command, self.path)
        self.server.proxy.headers.append({name.lower(): value for name, value in self.headers.items()})
        if kind == "timeout":
            time.sleep(TIMEOUT_S * 1.5)
        if kind in {"reset", "timeout"}:
            self._reset()
        elif kind in {"500", "503", "429", "403"}:
            wait = [("Retry-After", "1")] if kind == "429" else []
            self._answer(int(kind), wait, b"<Error><Code>Told</Code></Error>")
        elif not self._may_do():
            self._answer(401, [("Content-Type", "application/json")], b'{"detail": "Not authenticated"}')
        else:
            self._pass_on(body, kind)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _may_do(self) -> bool:
        bearer = self.server.proxy.bearer
        reads = self.command in {"GET", "HEAD"}
        return reads or bearer is None or self.headers.get("Authorization") == f"Bearer {bearer}"

    def _pass_on(self, body: bytes, kind: FaultKind | None) -> None:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.request(self.command, self.path, body=body, headers=dict(self.headers))
            response = connection.getresponse()
            data, headers = response.read(), response.getheaders()
        finally:
            connection.close()
        if kind == "lost":
            self._reset()
        else:
            self._answer(response.status, headers, data, kind)

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, kind: FaultKind | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection"}:
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self._send(data, kind)

    def _send(self, data: bytes, kind: FaultKind | None) -> None:
        if kind == "truncated":
            self.wfile.write(data[: len(data) // 2])
            self._reset()
        elif kind == "slow":
            size = max(1, len(data) // 8)
            for start in range(0, len(data), size):
                self.wfile.write(data[start : start + size])
                time.sleep(TIMEOUT_S / 4)
        else:
            self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def environment(address: str) -> dict[str, str]:
    """What the environment of a client says."""
    return {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_TIMEOUT": f"{TIMEOUT_S:g}s",
    }


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
