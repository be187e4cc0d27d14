"""A session's run folder, and a stand-in for the kernel host that listens in it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.kernels.kernelhost import SOCKET

UNKNOWN = b'{"error": "unknown request"}\n'
ANSWER = b'{"kernels": {}, "problem": ""}\n'


@pytest.fixture
def run(state: Path) -> Path:
    """A session's run folder, whose path is short enough for sockets."""
    folder = state / "run"
    (folder / "k").mkdir(parents=True)
    return folder


class KernelHostStub:
    """Listens as a kernel host does.

    Args:
        answer: sent for each request; empty to hang up, None to send nothing.
    """

    def __init__(self, run: Path, answer: bytes | None = ANSWER) -> None:
        self.answer = answer
        self.requests: list[dict[str, object]] = []
        self.connections: list[socket.socket] = []
        self._closing = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(run / SOCKET))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closing:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                if not self._closing:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            for line in lines:
                self.requests.append(json.loads(line))
                if self.answer == b"":
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                with contextlib.suppress(OSError):
                    connection.sendall(self.answer or b"")

    def close(self) -> None:
        """End as a process does: the socket's file stays."""
        self._closing = True
        for ending in (self._listener, *self.connections):
            with contextlib.suppress(OSError):
                ending.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        for ending in (self._listener, *self.connections):
            ending.close()


@pytest.fixture
def start_host(run: Path) -> Iterator[Callable[..., KernelHostStub]]:
    """Starts a kernel host's stand-in: ``start_host(answer=…)``."""
    started: list[KernelHostStub] = []

    def start(answer: bytes | None = ANSWER) -> KernelHostStub:
        started.append(KernelHostStub(run, answer))
        return started[-1]

    yield start
    for host in started:
        host.close()
