"""A client of Docker's HTTP API over a Unix socket.

Each request has a connection of its own: connecting to a Unix socket takes 0.1 ms, and nothing is
shared between threads or with forked processes.
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from mooring.errors import EngineError
from mooring.host.text import one_line

_RECEIVED_BYTES = 65536
_HEAD_BYTES = 1 << 20  # of a response, at most
_LINE_BYTES = 256  # of a chunk's size, at most
_RETRY_S = 0.01
_EMPTY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class ApiError(Exception):
    """The engine responded with an error.

    Attributes:
        status: the response's HTTP status.
        why: the engine's message.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class NotFound(ApiError):
    """The engine responded with status 404."""


class Client:
    """Sends requests to an engine, from any number of threads.

    Every method takes the path of the request in parts, each quoted as a whole, so that no name
    leads to another request. In a ``query``, None omits a parameter, and a mapping is sent as JSON.
    A ``timeout_s`` is the longest wait for the next bytes in seconds: None for the client's,
    ``math.inf`` for no limit.

    Args:
        address: the engine's, ``unix:///path``.
        timeout_s: see above.

    Attributes:
        version: the API version of the requests, ``1.41``; empty for the engine's newest.

    Raises:
        ApiError, NotFound: the engine refused the request.
        EngineError: a name cannot be part of a path.
        OSError: there is no connection to the engine; TimeoutError if it does not respond in time.
        ValueError: the response is not HTTP, is cut short, or is not JSON.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._path = address.removeprefix("unix://")
        self._timeout_s = timeout_s
        self.version = ""

    def get(self, *path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Request a document, and return it parsed."""
        return json.loads(self._text("GET", path, query))

    def post(
        self,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Post a body, JSON unless it is bytes, and return the parsed response; None if empty."""
        text = self._text("POST", path, query, body, timeout_s)
        return json.loads(text) if text else None

    def delete(self, *path: str, query: Mapping[str, Any] | None = None) -> None:
        """Delete something."""
        self._text("DELETE", path, query)

    def head(self, *path: str, query: Mapping[str, Any] | None = None) -> Mapping[str, str]:
        """Return the headers of a response, with lower-case names."""
        with contextlib.closing(self._send("HEAD", path, query)) as response:
            return response.headers

    def stream(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Generator[bytes]:
        """Yield the body of a response as it arrives; closing the generator ends the request."""
        sent = self._send(method, path, query, body, headers, timeout_s)
        with contextlib.closing(sent) as response:
            yield from response.chunks()

    def hijack(
        self, *path: str, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> socket.socket:
        """Post a body, and return the connection, which is a stream after the response's head."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        connection = self._send("POST", path, query, body, upgrade).connection
        connection.settimeout(None)
        return connection

    def _text(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, Any] | None,
        body: Any = None,
        timeout_s: float | None = None,
    ) -> bytes:
        sent = self._send(method, path, query, body, timeout_s=timeout_s)
        with contextlib.closing(sent) as response:
            return b"".join(response.chunks())

    def _send(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> _Response:
        """Send a request, and return the response unless the engine refuses the request."""
        request = _request(method, self._target(path, query), body, headers or {})
        connection = self._connect(self._timeout(timeout_s))
        try:
            with contextlib.suppress(BrokenPipeError):  # refused before it was read to its end
                connection.sendall(request)
            response = _Response(connection, method)
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise response.error()
        except BaseException:
            connection.close()
            raise
        return response

    def _target(self, path: tuple[str, ...], query: Mapping[str, Any] | None) -> str:
        for name in path:
            if {"", ".", ".."} & set(name.split("/")):
                raise EngineError(
                    f"{one_line(name, 100)!r} is not the name of an image or a container",
                    "check the name",
                )
        parts = (f"v{self.version}", *path) if self.version else path
        pairs = {
            key: json.dumps(value) if isinstance(value, (bool, Mapping)) else value
            for key, value in (query or {}).items()
            if value is not None
        }
        target = "/" + "/".join(quote(part, safe="/:") for part in parts)
        return f"{target}?{urlencode(pairs)}" if pairs else target

    def _timeout(self, timeout_s: float | None) -> float | None:
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        return None if math.isinf(wait_s) else max(wait_s, 0.001)

    def _connect(self, timeout_s: float | None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
        try:
            connection.settimeout(timeout_s)
            while True:
                try:
                    connection.connect(self._path)
                except BlockingIOError:  # many others are connecting; unix(7)
                    if time.monotonic() > deadline:
                        raise TimeoutError("timed out") from None
                    time.sleep(_RETRY_S)
                else:
                    return connection
        except BaseException:
            connection.close()
            raise


class _Response:
    """The head of a response, and the way to its body. RFC 9112.

    The head is read without a byte of what follows, which may be a stream.
    """

    def __init__(self, connection: socket.socket, method: str) -> None:
        self.connection = connection
        first, *lines = _head(connection).decode("latin-1").split("\r\n")
        protocol, _, rest = first.partition(" ")
        status = rest.partition(" ")[0]
        if not protocol.startswith("HTTP/1.") or not status.isdigit():
            raise ValueError("the response is not HTTP")
        self.status = int(status)
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._is_empty = method == "HEAD" or self.status in _EMPTY

    def close(self) -> None:
        """Close the connection, which ends the request."""
        self.connection.close()

    def error(self) -> ApiError:
        """The error that a response with such a status says."""
        text = b"".join(self.chunks()).decode(errors="replace")
        with contextlib.suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict):
                text = str(found.get("message") or found.get("cause") or text)
        kind = NotFound if self.status == HTTPStatus.NOT_FOUND else ApiError
        return kind(self.status, text or f"status {self.status}")

    def chunks(self) -> Iterator[bytes]:
        """The body, in pieces as they arrive."""
        if self._is_empty:
            return
        with self.connection.makefile("rb") as body:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := _chunk_size(body.readline(_LINE_BYTES)):
                    yield _exactly(body, size)
                    _exactly(body, 2)
            elif "content-length" in self.headers:
                yield _exactly(body, int(self.headers["content-length"]))
            else:
                while piece := body.read1(_RECEIVED_BYTES):
                    yield piece


def lines(chunks: Iterator[bytes]) -> Iterator[Any]:
    """Parse a stream of JSON documents, one on each line."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (json.loads(line) for line in whole if line.strip())
    if rest.strip():
        yield json.loads(rest)


def _request(method: str, target: str, body: Any, headers: Mapping[str, str]) -> bytes:
    fields = {"Host": "localhost", "Connection": "close", **headers}
    sent = b""
    if isinstance(body, bytes):
        sent = body
    elif body is not None:
        sent = json.dumps(body).encode()
        fields["Content-Type"] = "application/json"
    if method == "POST":
        fields["Content-Length"] = str(len(sent))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + sent


def _head(connection: socket.socket) -> bytes:
    """Read the head of a response, without the bytes that follow it."""
    head, end = b"", -1
    while end < 0:
        peeked = connection.recv(_RECEIVED_BYTES, socket.MSG_PEEK)
        if not peeked or len(head) > _HEAD_BYTES:
            raise ValueError("the response has no end of its head")
        end = (head + peeked).find(b"\r\n\r\n")
        head += connection.recv(len(peeked) if end < 0 else end + 4 - len(head))
    return head[:end]


def _chunk_size(line: bytes) -> int:
    return int(line.partition(b";")[0], 16)


def _exactly(body: BinaryIO, size: int) -> bytes:
    data = body.read(size)
    if len(data) < size:
        raise ValueError("the response is cut short")
    return data
