"""What is sent to an engine, and how its response is read; the engine is a socket of the test's."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.docker.client import ApiError, Client, NotFound, documents
from mooring.errors import EngineError

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
DEADLINE_S = 20.0


class Scripted:
    """Responds to every request with the same bytes, and keeps what was asked.

    Args:
        path: of its socket.
        response: what it responds, in pieces of ``piece`` bytes.
        stays: leave it to the client to close the connection.
    """

    def __init__(
        self,
        path: Path,
        response: bytes,
        *,
        piece: int = 1 << 20,
        stays: bool = True,
        pause_s: float = 0.001,
    ) -> None:
        self.asked: list[bytes] = []
        self.heard: list[bytes] = []
        self.open = 0
        self._response, self._piece, self._stays, self._pause_s = response, piece, stays, pause_s
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.address = f"unix://{path}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connected,)))
                self._threads[-1].start()

    def _serve(self, connected: socket.socket) -> None:
        self.open += 1
        with connected, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request and (data := connected.recv(65536)):
                request += data
            head, _, body = request.partition(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    while len(body) < int(line.split(b":")[1]):
                        body += connected.recv(65536)
            self.asked.append(head + b"\r\n\r\n" + body)
            for start in range(0, len(self._response), self._piece):
                connected.sendall(self._response[start : start + self._piece])
                if self._piece < 100:
                    time.sleep(self._pause_s)
            while self._stays and (data := connected.recv(65536)):
                self.heard.append(data)
        self.open -= 1

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        assert self.open == 0, "a connection was left open"


Serve = Callable[..., tuple[Client, Scripted]]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Make a client of an engine that responds as told; it must leave no connection open."""
    made: list[Scripted] = []

    def make(response: bytes, timeout_s: float = 5.0, **options: Any) -> tuple[Client, Scripted]:
        made.append(Scripted(tmp_path / f"s{len(made)}", response, **options))
        return Client(made[-1].address, timeout_s), made[-1]

    yield make
    for server in made:
        server.close()


@pytest.mark.parametrize(
    "name", ["../x", "a/../../containers/json", "a/./b", "..", "a//b", "/a", "a/", ""]
)
def test_a_name_leads_to_no_other_request(serve: Serve, name: str) -> None:
    """A name whose parts would be taken out of the URL's path is refused, and nothing is sent."""
    client, server = serve(OK + b"\r\n{}")
    for call in (client.get, client.post, client.hijack, client.open, client.send):
        with pytest.raises(EngineError, match="is not the name of an image or a container"):
            call("images", name, "json")
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("a/b:c", b"a/b:c"),
        ("a@sha256:abc", b"a%40sha256:abc"),
        ("a b?#%2e%2e", b"a%20b%3F%23%252e%252e"),
        ("a\r\nX: y", b"a%0D%0AX:%20y"),
        ("ü", b"%C3%BC"),
    ],
)
def test_other_names_are_sent(serve: Serve, name: str, sent: bytes) -> None:
    """Every other name is sent, quoted."""
    client, server = serve(OK + b"Content-Length: 2\r\n\r\n{}")
    client.version = "1.41"
    assert client.get("images", name, "json") == {}
    assert server.asked[0].startswith(b"GET /v1.41/images/" + sent + b"/json HTTP/1.1\r\n")


def test_a_request(serve: Serve) -> None:
    """Parameters that are None are left out, mappings are JSON, and so is the body."""
    client, server = serve(OK + b"Content-Length: 2\r\n\r\n{}")
    query = {"all": True, "t": 3, "no": None, "filters": {"label": ["a=b&c"]}}
    assert client.post("containers", "create", query=query, body={"a": "ü"}) == {}
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    assert first == (
        b"POST /containers/create?all=true&t=3&filters=%7B%22label%22%3A+%5B%22a%3Db%26c%22%5D%7D "
        b"HTTP/1.1"
    )
    assert json.loads(body) == {"a": "ü"}
    assert f"Content-Length: {len(body)}".encode() in fields
    assert b"Content-Type: application/json" in fields


def test_a_request_without_a_body(serve: Serve) -> None:
    """A request that has no body says so, and one of bytes is sent as it is."""
    client, server = serve(b"HTTP/1.1 204 No Content\r\n\r\n")
    client.send("POST", "containers", "c", "start")
    client.send("POST", "images", "create", body=b"\0\xff")
    client.send("DELETE", "containers", "c")
    assert b"Content-Length: 0\r\n" in server.asked[0]
    assert server.asked[1].endswith(b"Content-Length: 2\r\n\r\n\0\xff")
    assert server.asked[2].startswith(b"DELETE ")


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "response",
    [
        OK + b"Content-Length: 13\r\n\r\n" + b'{"a": [1, 2]}',
        OK + b"content-length:13\r\n\r\n" + b'{"a": [1, 2]}',
        CHUNKED + b'5\r\n{"a":\r\n8;x=y\r\n [1, 2]}\r\n0\r\n\r\n',
        OK + b"\r\n" + b'{"a": [1, 2]}',
        b'HTTP/1.0 200 OK\r\n\r\n{"a": [1, 2]}',
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b'\r\n{"a": [1, 2]}',
    ],
    ids="length lower-case chunks to-the-end http-1.0 interim".split(),
)
def test_a_document(serve: Serve, response: bytes, piece: int) -> None:
    """However a body is framed, and in whatever pieces it arrives, it is read to its end."""
    framed = b"ength" in response or b"chunked" in response
    client, _ = serve(response, piece=piece, stays=framed)
    assert client.get("info") == {"a": [1, 2]}


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"?!\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 okay\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        OK,
        OK + b"\r\n",
        OK + b"\r\n{}x",
        OK + b"Content-Length: 400\r\n\r\n[",
        OK + b"Content-Length: x\r\n\r\n[]",
        CHUNKED,
        CHUNKED + b"x\r\n",
        CHUNKED + b"2\r\n[]",
        CHUNKED + b"2\r\n[]\r\n",
        CHUNKED + b"40\r\n[]\r\n0\r\n\r\n",
        CHUNKED + b"1\r\n[]\r\n0\r\n\r\n",
        CHUNKED + b"-1\r\n[]\r\n0\r\n\r\n",
        CHUNKED + b"0_2\r\n[]\r\n0\r\n\r\n",
        CHUNKED + b"2;" + b"x" * 300 + b"\r\n[]\r\n0\r\n\r\n",
        OK + b"Content-Length: 4\r\n\r\nnull",
        OK + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        OK + b"X: y\r\n" * 200_000,
    ],
)
def test_nonsense(serve: Serve, response: bytes) -> None:
    """A response that is cut short, or is none, is a ValueError, or the connection's own error."""
    client, _ = serve(response, stays=False)
    for call in (client.get, client.post):
        with pytest.raises((ValueError, ConnectionError)):
            call("info")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"message": "no such thing"}', "no such thing"),
        (b'{"cause": "podman says"}', "podman says"),
        (b"plain \xff text", "plain \N{REPLACEMENT CHARACTER} text"),
        (b"[1]", "[1]"),
        (b"", "status 404"),
    ],
)
def test_a_refusal(serve: Serve, body: bytes, why: str) -> None:
    """What the engine says is in the error, in whatever form it says it."""
    head = f"HTTP/1.1 404 Not Found\r\nContent-Length: {len(body)}\r\n\r\n"
    client, _ = serve(head.encode() + body)
    for call in (client.get, client.post, client.hijack, partial(client.send, "DELETE")):
        with pytest.raises(NotFound) as caught:
            call("containers", "c")
        assert (caught.value.status, caught.value.why) == (404, why)
    with pytest.raises(NotFound, match="status 404"):
        client.open("HEAD", "containers", "c")


def test_another_refusal(serve: Serve) -> None:
    """A status other than 404 is an ApiError."""
    client, _ = serve(b'HTTP/1.1 500 \r\nContent-Length: 16\r\n\r\n{"message": "x"}')
    with pytest.raises(ApiError, match="x") as caught:
        client.get("info")
    assert caught.value.status == 500
    assert not isinstance(caught.value, NotFound)


@pytest.mark.parametrize("abrupt", [False, True])
def test_a_body_that_is_not_read(serve: Serve, abrupt: bool) -> None:
    """A refusal that comes before the body was read is told, and not a broken pipe."""
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 22\r\n\r\n"
    client, server = serve(head + b'{"message": "too big"}')

    def refuse(connected: socket.socket) -> None:
        with connected:
            connected.sendall(server._response)
            if not abrupt:
                connected.shutdown(socket.SHUT_RD)
                time.sleep(0.1)

    server._serve = refuse  # type: ignore[method-assign]
    with pytest.raises((ApiError, ConnectionError)) as caught:
        client.send("POST", "images", "create", body=bytes(8 << 20))
    assert abrupt or str(caught.value) == "too big"


def test_headers(serve: Serve) -> None:
    """The names of headers are in lower case, and a response to HEAD has no body."""
    client, _ = serve(OK + b"X-Docker-Stat:  abc \r\nContent-Length: 50\r\n\r\n")
    with client.open("HEAD", "containers", "c", "archive") as response:
        assert response.headers["x-docker-stat"] == "abc"
        assert response.read() == b""


def test_a_stream_is_read_as_it_arrives(serve: Serve) -> None:
    """The pieces of a response are there before its end, and closing it ends the request."""
    client, server = serve(CHUNKED + b"3\r\none\r\n3\r\ntwo\r\n")
    with client.open("GET", "containers", "c", "logs") as response:
        chunks = response.chunks(math.inf)
        assert [next(chunks), next(chunks)] == [b"one", b"two"]
        assert server.open == 1
        chunks.close()  # type: ignore[attr-defined]
        assert server.open == 1


def test_json_lines() -> None:
    """Documents are parsed however they lie in the pieces of a stream."""
    text = b'{"a": 1}\r\n\r\n{"b":\t2}\n{"c": 3}'
    for size in (1, 3, 100):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(documents(iter(pieces))) == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize("piece", [1, 30, 1 << 20])
def test_a_hijacked_connection_loses_nothing(serve: Serve, piece: int) -> None:
    """The first bytes of a stream may arrive together with the head: each is the stream's."""
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\n"
    client, server = serve(head + b"first\r\n\r\nbytes", piece=piece)
    with client.hijack("exec", "e", "start", body={"Tty": True}) as connection:
        got = b""
        while len(got) < 14:
            got += connection.recv(3)
        assert got == b"first\r\n\r\nbytes"
        assert connection.gettimeout() is None
        connection.sendall(b"keys")
    assert b"Upgrade: tcp\r\n" in server.asked[0]
    server.close()
    assert server.heard == [b"keys"]


@pytest.mark.parametrize("response", [b"", OK, OK + b"\r\n", CHUNKED + b"2\r\n"])
def test_silence(serve: Serve, response: bytes) -> None:
    """An engine that says nothing, or no more, is waited for no longer than the timeout."""
    client, _ = serve(response, timeout_s=0.2)
    began = time.monotonic()
    for call in (client.get, client.post, partial(client.send, "POST")):
        with pytest.raises(TimeoutError):
            call("info")
    assert time.monotonic() - began < 5


def test_patience(serve: Serve) -> None:
    """A response may be waited for longer than others, or less long, its head as its body."""
    client, _ = serve(OK + b"Content-Length: 2\r\n\r\n{}", 0.01, piece=4, pause_s=0.02)
    with pytest.raises(TimeoutError):
        client.get("info")
    for timeout_s in (5.0, math.inf):
        client.send("POST", "commit", timeout_s=timeout_s)
    client, _ = serve(OK + b"\r\n")
    with client.open("POST", "containers", "c", "wait") as response:
        for timeout_s in (0.0, 0.05):
            with pytest.raises(TimeoutError):
                response.read(timeout_s)


def test_a_connection_waits_its_turn(tmp_path: Path) -> None:
    """An engine whose queue of connections is full is not down: unix(7) fails at once there."""
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as others:
        listening.bind(str(tmp_path / "s"))
        listening.listen(0)
        client = Client(f"unix://{tmp_path}/s", timeout_s=0.3)
        with contextlib.suppress(BlockingIOError):
            while True:
                other = others.enter_context(socket.socket(socket.AF_UNIX))
                other.setblocking(False)
                other.connect(str(tmp_path / "s"))
        with pytest.raises(TimeoutError):
            client.get("info")
        client = Client(f"unix://{tmp_path}/s", timeout_s=DEADLINE_S)
        got: list[object] = []
        asking = threading.Thread(target=lambda: got.append(client.get("info")))
        asking.start()
        time.sleep(0.1)
        others.close()
        while not got:
            connected, _ = listening.accept()
            with connected, contextlib.suppress(OSError):
                if connected.recv(65536):
                    connected.sendall(OK + b"\r\n{}")
            asking.join(0.05)
        asking.join(DEADLINE_S)
    assert got == [{}]


@pytest.mark.parametrize(
    ("path", "error"),
    [("/nonexistent/s", FileNotFoundError), ("/dev/null", ConnectionRefusedError)],
)
def test_no_engine(path: str, error: type[OSError]) -> None:
    """What the system says of the socket is the error, and no descriptor is left."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(error):
            Client(f"unix://{path}", timeout_s=1.0).get("info")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """An argument with other bytes is an error before anything is sent: the engine would run the
    command with U+FFFD instead of them."""
    client = Client(f"unix://{tmp_path}/nothing", DEADLINE_S)
    with pytest.raises(EngineError, match=r"^a\\udcffb has bytes that are not UTF-8") as caught:
        client.post("exec", body={"Cmd": ["echo", "a\udcffb"], "Tty": False})
    assert caught.value.hint
