"""A small HTTP server on loopback: a STAC API over a list of items, and scripted replies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.serving import serving

PAGE = 2


@dataclass
class Stub:
    """What the server answers, and what it was asked."""

    items: list[dict[str, Any]] = field(default_factory=list)
    replies: dict[str, list[tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    posts: bool = True
    url: str = ""
    connections: int = 0

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def api(self, method: str, target: str, body: Any) -> dict[str, Any]:
        """The landing page, or a page of the items of the collections asked for."""
        if urlsplit(target).path.rstrip("/") == "":
            return self._landing()
        query = body or {key: values[0] for key, values in parse_qs(urlsplit(target).query).items()}
        collections = query.get("collections")
        wanted = collections.split(",") if isinstance(collections, str) else collections
        found = [item for item in self.items if wanted is None or item.get("collection") in wanted]
        start = int(query.get("token", 0))
        page: dict[str, Any] = {"type": "FeatureCollection", "features": found[start : start + PAGE], "links": []}
        if start + PAGE < len(found):
            link: dict[str, Any] = {"rel": "next", "href": f"{self.url}/search", "method": method}
            if method == "POST":
                link |= {"body": {**query, "token": start + PAGE}}
            else:
                link["href"] += f"?token={start + PAGE}" + (f"&collections={collections}" if collections else "")
            page["links"] = [link]
        return page

    def _landing(self) -> dict[str, Any]:
        method = {"method": "POST"} if self.posts else {}
        return {
            "type": "Catalog", "id": "stub", "stac_version": "1.0.0", "description": "stub",
            "conformsTo": [f"https://api.stacspec.org/v1.0.0/{name}" for name in ("core", "item-search")],
            "links": [{"rel": "search", "href": f"{self.url}/search", "type": "application/geo+json", **method}],
        }  # fmt: skip

    def answer(self, method: str, target: str, body: Any) -> tuple[int, dict[str, str], bytes]:
        """The scripted reply of a path, the last one for ever; else the API's."""
        scripted = self.replies.get(urlsplit(target).path)
        if scripted:
            return scripted.pop(0) if len(scripted) > 1 else scripted[0]
        return 200, {}, json.dumps(self.api(method, target, body)).encode()


@contextmanager
def serve(served: Stub | None = None) -> Iterator[Stub]:
    """A running server."""
    stub = served or Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open

        def setup(self) -> None:
            stub.connections += 1
            super().setup()

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            stub.requests.append((self.command, self.path, dict(self.headers), body))
            status, headers, content = stub.answer(self.command, self.path, body)
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield stub
