"""A web server on loopback that serves a folder by ranges, and fails as it is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from tests.serving import serving

FaultKind = Literal["500", "403", "whole", "short", "elsewhere"]
"""whole: no ranges; short: half of what it promises; elsewhere: a redirect to another server."""


@dataclass(kw_only=True)
class WebFolder:
    """A running server."""

    folder: Path
    """What it serves."""
    host: str = ""
    """Its name and port."""
    faults: list[FaultKind] = field(default_factory=list)
    """What happens to the next requests, first to last."""
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, first byte and the one after the last of each range that was served."""
    etags: bool = True
    """Whether it says ETags."""
    times: bool = True
    """Whether it says the time of the last change."""

    def url(self, name: str) -> str:
        """Address of a file."""
        return f"http://{self.host}/{name}?sig=secret"

    @property
    def served_bytes(self) -> int:
        """Bytes of all ranges."""
        return sum(end - first for _, first, end in self.ranges)


@contextmanager
def web_folder(folder: Path) -> Iterator[WebFolder]:
    """A server of the folder."""
    web = WebFolder(folder=folder)
    server = _Server(web)
    web.host = f"127.0.0.1:{server.server_port}"
    with serving(server):
        yield web


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, web: WebFolder) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.web = web

    def handle_error(self, *_: object) -> None:
        """Nothing: clients that gave up are part of the plan."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        fault = self.server.web.faults.pop(0) if self.server.web.faults else None
        path = self.server.web.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if fault in {"500", "403"}:
            self._send(int(fault), {}, b"told")
        elif fault == "elsewhere":
            self._send(302, {"Location": "http://192.0.2.1/inside"}, b"")
        elif not path.is_file():
            self._send(404, {}, b"")
        else:
            self._send_file(path, fault)

    def _send_file(self, path: Path, fault: FaultKind | None) -> None:
        data, stat = path.read_bytes(), path.stat()
        headers = {"Last-Modified": self.date_time_string(int(stat.st_mtime))} if self.server.web.times else {}
        if self.server.web.etags:
            headers["ETag"] = f'"{stat.st_mtime_ns:x}-{len(data):x}"'
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or fault == "whole":
            self._send(200, headers, data)
            return
        first, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
        if first >= len(data):
            self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            return
        self.server.web.ranges.append((path.name, first, end))
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
        self._send(206, headers, data[first:end], cut=fault == "short")

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut
