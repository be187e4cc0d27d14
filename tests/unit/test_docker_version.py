"""What is asked of the engine, and how: the API's version, its words, how long it may take."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.engines.docker import DockerEngine

CONTAINER = {"Config": {"Env": [], "Labels": {}}, "HostConfig": {}}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An engine that knows its versions and lists no container."""

    daemon_threads = True
    oldest = "1.24"
    commit_s = 0.0
    components: tuple[str, ...] = ()
    asked: list[str]
    states: list[str]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.asked.append(path)
        said: object = [] if path.endswith("/containers/json") else CONTAINER
        if path == "/version":
            parts = [{"Name": name} for name in self.server.components]
            said = {"MinAPIVersion": self.server.oldest, "Components": parts}
        filters = json.loads(dict(urllib.parse.parse_qsl(query)).get("filters", "{}"))
        self.server.states = filters.get("status", [])
        self._say(said)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if path.endswith("/commit"):
            time.sleep(self.server.commit_s)
        self._say({"Id": "made", "Warnings": []})

    def _say(self, said: object) -> None:
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


@pytest.mark.parametrize(
    ("part", "states"),
    [("Engine", ["running", "paused", "restarting"]), ("Podman Engine", ["running", "paused"])],
)
def test_what_lives_is_asked_for_in_the_engines_own_words(
    server: _Server, part: str, states: list[str]
) -> None:
    """Podman answers 500 to a state that it does not know, and then nobody knows of any GPU."""
    server.components = (part,)
    engine = DockerEngine(f"unix://{server.server_address}")
    assert engine.list({}, alive=True) == []
    engine.close()
    assert server.states == states


def test_many_files_may_take_their_time(server: _Server) -> None:
    """Keeping a container's files is no plain request: the engine would do it all the same, and
    with each try once more."""
    server.commit_s = 0.5
    engine = DockerEngine(f"unix://{server.server_address}", timeout_s=0.2)
    made = engine.remake(
        "c", image="i:1", name="n", labels={}, env={}, binds={}, groups=(), gpus=(), devices=()
    )
    engine.close()
    assert made == "made"
    assert server.asked[-2:] == ["/v1.41/commit", "/v1.41/containers/create"]
