"""Which version of the engine's API is spoken."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.engines.docker import DockerEngine


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An engine that knows its versions and lists no container."""

    daemon_threads = True
    oldest = "1.24"
    asked: list[str]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path.partition("?")[0])
        said = {"MinAPIVersion": self.server.oldest} if self.path == "/version" else []
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass

    def address_string(self) -> str:
        return "here"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    server = _Server(str(tmp_path / "s"), _Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("oldest", "spoken"), [("1.24", "1.41"), ("1.44", "1.44"), ("", "1.41")])
def test_no_older_version_than_the_engine_takes(server: _Server, oldest: str, spoken: str) -> None:
    """An engine that has let go of the version that is enough is spoken to in its oldest."""
    server.oldest = oldest
    engine = DockerEngine(f"unix://{server.server_address}")
    assert engine.list({}) == []
    assert engine.list({}) == []
    engine.close()
    listing = f"/v{spoken}/containers/json"
    assert server.asked == ["/version", listing, listing]
