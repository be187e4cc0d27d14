"""An engine of a few answers, for what is asked of one."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NETWORK = {
    "Name": "mooring",
    "Id": "n",
    "Options": {"com.docker.network.bridge.enable_icc": "false"},
}
CONTAINER = {"Id": "made", "Config": {"Env": [], "Labels": {}}, "HostConfig": {}}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An engine that knows its versions and lists no container.

    ``head_s`` and ``body_s`` are how long it takes to begin its response to a POST, or a log, and
    to go on with it. At ``oom_at`` it learns that the kernel has killed a process. ``removal`` is
    what a client that waits for a removal by another one is told at its end.
    """

    daemon_threads = True
    oldest, newest = "1.24", "1.43"
    version = "24.0"
    commit_s = remove_s = head_s = body_s = 0.0
    oom_at = float("inf")
    removal: dict[str, object] | None = None
    podman = ""
    info: dict[str, object]
    asked: list[str]
    states: list[str]
    posted: list[dict[str, Any]]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.asked.append(path)
        reply: object = [] if path.endswith("/containers/json") else CONTAINER
        if path.endswith("/info"):
            reply = self.server.info
        if path.endswith("/networks"):
            reply = [NETWORK]
        if path.endswith("/version"):
            reply = {"Version": self.server.version, "MinAPIVersion": self.server.oldest}
        if path.endswith("/events"):
            until = float(dict(urllib.parse.parse_qsl(query))["until"])
            time.sleep(max(0.0, min(until, self.server.oom_at) - time.time()))
            reply = {"status": "oom"} if self.server.oom_at <= until else None
        filters = json.loads(dict(urllib.parse.parse_qsl(query)).get("filters", "{}"))
        self.server.states = filters.get("status", [])
        self._reply(reply, slow=path.endswith("/logs"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.posted.append(json.loads(body or "{}"))
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if path.endswith("/commit"):
            time.sleep(self.server.commit_s)
        removed = self.path.endswith("/wait?condition=removed")
        if removed and self.server.removal is not None:
            self.server.asked[-1] = self.path
            self._reply(self.server.removal, slow=False, body_s=self.server.remove_s)
            return
        self._reply({"Id": "made", "StatusCode": 3, "status": "done"}, slow=True)

    def do_DELETE(self) -> None:
        self.server.asked.append(self.path.partition("?")[0])
        if self.server.removal is not None:
            why = "Removal of container c is Already in Progress"
            self._reply({"message": why}, slow=False, status=409)
            return
        time.sleep(self.server.remove_s)
        self._reply(None, slow=False)

    def _reply(self, reply: object, slow: bool, *, status: int = 200, body_s: float = 0.0) -> None:
        body = b"" if reply is None else json.dumps(reply).encode()
        time.sleep(self.server.head_s if slow else 0)
        self.send_response(status)
        self.send_header("Api-Version", self.server.newest)
        if self.server.podman:
            self.send_header("Libpod-API-Version", self.server.podman)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(self.server.body_s if slow else body_s)
        if body:  # a client that reads no further has closed by now
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass

    def address_string(self) -> str:
        return "here"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(str(tmp_path / "s"), _Handler)
    server.asked, server.posted, server.states, server.info = [], [], [], {}
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
