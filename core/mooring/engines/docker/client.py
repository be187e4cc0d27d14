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
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from mooring.errors import EngineError
from mooring.host.text import one_line
from mooring.host.untrusted import parse_json

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
    A ``body`` is sent as JSON unless it is bytes. A ``timeout_s`` is the longest wait in seconds
    for the connection and for the next bytes: None for the client's, ``math.inf`` for no limit.

    Args:
        address: the engine's, ``unix:///path``.
        timeout_s: see above.

    Attributes:
        version: the API version of the requests, ``1.41``; empty for the engine's newest.

    Raises:
        ApiError, NotFound: the engine refused the request.
        EngineError: a name cannot be part of a path, or a text of a body is not UTF-8.
        OSError: there is no connection to the engine; TimeoutError if it does not respond in time.
        ValueError: the response is not HTTP, is cut short, or is not JSON.
    """

    def __init__(self, address: str, timeout_s: float) -> None:
        self._path = address.removeprefix("unix://")
        self._timeout_s = timeout_s
        self.version = ""

    def ping(self) -> Mapping[str, str]:
        """Ask whether the engine is there: the headers of its answer, names in lower case."""
        with self.open("GET", "_ping") as response:
            response.read()
            return response.headers

    def get(self, *path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Request a document: a JSON object or array."""
        with self.open("GET", *path, query=query) as response:
            return response.document()

    def post(self, *path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """Post something, and return the document that is the response."""
        with self.open("POST", *path, query=query, body=body) as response:
            return response.document()

    def send(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        timeout_s: float | None = None,
    ) -> None:
        """Send a request whose response says no more than that it was done."""
        with self.open(method, *path, query=query, body=body, timeout_s=timeout_s) as response:
            response.read()

    def hijack(
        self, *path: str, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> socket.socket:
        """Post something, and return the connection, a stream after the response's head."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        response = self.open("POST", *path, query=query, body=body, headers=upgrade)
        response.connection.settimeout(None)
        return response.connection

    def open(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Send a request, and return the response as soon as its head is there.

        Returns:
            The response, a context manager; the caller closes it.
        """
        request = _request(method, self._target(path, query), body, headers or {})
        limit_s = _limit(self._timeout_s if timeout_s is None else timeout_s)
        connection = self._connect(limit_s)
        try:
            # refused before it was read to its end
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            response = Response(connection, method)
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


class Response:
    """A response to a request, which ends with it. RFC 9112.

    Its head is read without a byte of what follows, which may be a stream.

    Attributes:
        connection: the connection to the engine.
        status: the HTTP status.
        headers: the headers, with names in lower case.
    """

    def __init__(self, connection: socket.socket, method: str) -> None:
        self.connection = connection
        self.status, self.headers = _parsed(_head(connection))
        while self.status < HTTPStatus.OK and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.status, self.headers = _parsed(_head(connection))  # the other one was interim
        self._is_empty = method == "HEAD" or self.status in _EMPTY

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def document(self, timeout_s: float | None = None) -> Any:
        """The body, a JSON object or array.

        Args:
            timeout_s: as for ``chunks``.
        """
        found = parse_json(self.read(timeout_s))
        if not isinstance(found, (dict, list)):
            raise ValueError("the response is not a document")
        return found

    def read(self, timeout_s: float | None = None) -> bytes:
        """The whole body.

        Args:
            timeout_s: as for ``chunks``.
        """
        return b"".join(self.chunks(timeout_s))

    def chunks(self, timeout_s: float | None = None) -> Iterator[bytes]:
        """The body, in pieces as they arrive.

        Args:
            timeout_s: the longest wait for the next one in seconds, ``math.inf`` for no limit; None
                for that of the head.
        """
        if self._is_empty:
            return
        if timeout_s is not None:
            self.connection.settimeout(_limit(timeout_s))
        with self.connection.makefile("rb") as body:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := _chunk_size(body.readline(_LINE_BYTES)):
                    yield _exactly(body, size)
                    if _exactly(body, 2) != b"\r\n":
                        raise ValueError("a chunk of the response is longer than it says")
            elif "content-length" in self.headers:
                yield _exactly(body, int(self.headers["content-length"]))
            else:
                while piece := body.read1(_RECEIVED_BYTES):
                    yield piece

    def error(self) -> ApiError:
        """The error that a response with such a status says."""
        text = self.read().decode(errors="replace")
        with contextlib.suppress(ValueError):
            found = parse_json(text)
            if isinstance(found, dict):
                text = str(found.get("message") or found.get("cause") or text)
        kind = NotFound if self.status == HTTPStatus.NOT_FOUND else ApiError
        return kind(self.status, text or f"status {self.status}")


def documents(chunks: Iterator[bytes]) -> Iterator[Any]:
    """Parse a stream of JSON documents, one on each line."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (parse_json(line) for line in whole if line.strip())
    if rest.strip():
        yield parse_json(rest)


def _request(method: str, target: str, body: Any, headers: Mapping[str, str]) -> bytes:
    fields = {"Host": "localhost", "Connection": "close", **headers}
    sent = b""
    if isinstance(body, bytes):
        sent = body
    elif body is not None:
        sent = _json(body)
        fields["Content-Type"] = "application/json"
    if method == "POST":
        fields["Content-Length"] = str(len(sent))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + sent


def _json(body: Any) -> bytes:
    """Encode a body. The engine would replace bytes that are not UTF-8, in an argument say."""
    text = json.dumps(body, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        value = text[text.rfind('"', 0, error.start) + 1 : text.find('"', error.end)]
        raise EngineError(
            f"{one_line(value)} has bytes that are not UTF-8, and the engine accepts only UTF-8",
            "rename it, or pass it in a file",
        ) from None


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


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    """Parse a head: the status, and the headers with names in lower case."""
    first, *rest = head.decode("latin-1").split("\r\n")
    protocol, _, status = first.partition(" ")
    number = status.partition(" ")[0]
    if not protocol.startswith("HTTP/1.") or not (number.isascii() and number.isdigit()):
        raise ValueError("the response is not HTTP")
    pairs = (line.partition(":") for line in rest)
    return int(number), {name.strip().lower(): value.strip() for name, _, value in pairs}


def _limit(wait_s: float) -> float | None:
    """Convert a timeout to a socket's, which has None for no limit and no zero."""
    return None if math.isinf(wait_s) else max(wait_s, 0.001)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not line.endswith(b"\r\n") or not digits.isalnum():
        raise ValueError("a chunk of the response has no size")
    return int(digits, 16)


def _exactly(body: BinaryIO, size: int) -> bytes:
    data = body.read(size)
    if len(data) < size:
        raise ValueError("the response is cut short")
    return data
