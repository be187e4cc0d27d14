"""Processes of fake containers: Python functions with streams."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from mooring.engines.base import STDERR, STDOUT, ContainerConfig
from mooring.engines.streams import HEADER, SocketStream

SIGKILLED, SIGTERMED = 137, 143


class _End(socket.socket):
    """A process's side of a connection, closed without a warning when its container is dropped."""

    def __del__(self) -> None:
        self.close()


@dataclass
class FakeProcess:
    """A process in a fake container, passed to the function that runs as it.

    Attributes:
        container: the id of its container.
        stdin: its standard input; empty while no client is attached.
        size: rows and columns of its terminal, as last set.
        exit_code: None while it runs.
        terminated: set once the process was asked to terminate, or has exited.
        printed: all of its output.
        ends: this side's sockets of the clients' connections.
    """

    container: str
    argv: tuple[str, ...]
    env: dict[str, str]
    workdir: str
    user: str
    tty: bool
    stdin: BinaryIO = field(default_factory=BytesIO)
    size: tuple[int, int] = (0, 0)
    exit_code: int | None = None
    terminated: threading.Event = field(default_factory=threading.Event)
    printed: list[bytes] = field(default_factory=list)
    ends: list[socket.socket] = field(default_factory=list)

    def write(self, data: bytes, stderr: bool = False) -> None:
        """Write output to each attached client and to the log."""
        self.printed.append(data)
        number = STDERR if stderr else STDOUT
        framed = data if self.tty else HEADER.pack(number, len(data)) + data
        for end in list(self.ends):
            with contextlib.suppress(OSError):
                end.sendall(framed)

    def connect(self) -> socket.socket:
        """Open a connection to its streams; the first one is its standard input."""
        near, other = socket.socketpair()
        far = _End(fileno=other.detach())
        if not self.ends:
            self.stdin = far.makefile("rb")
        self.ends.append(far)
        return near

    def play(self, program: Program) -> int:
        """Run a function as this process, and return the exit code."""
        try:
            return program(self)
        except (OSError, ValueError):  # its streams were closed because it was killed
            return SIGKILLED

    def finish(self, code: int) -> None:
        """End the process. Idempotent; later exit codes are ignored."""
        if self.exit_code is None:
            self.exit_code = code
        self.terminated.set()
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.stdin.close()
        self.ends.clear()


#: A function that runs as a process, and returns its exit code.
Program = Callable[[FakeProcess], int]


@dataclass
class FakeContainer:
    """A container, which tests may inspect and modify."""

    id: str
    config: ContainerConfig
    main: FakeProcess
    state: str
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    oom_killed: bool = False
    network: bool = True
    ports: tuple[tuple[int, int], ...] = ()
    execs: list[FakeProcess] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        return self.state in ("running", "paused")

    def carries(self, key: str, value: str) -> bool:
        """Whether it has a label; an empty value matches any value."""
        return key in self.config.labels and value in ("", self.config.labels[key])


class FakeStream(SocketStream):
    """A ``mooring.engines.base.Stream`` over a socket pair."""

    def __init__(self, process: FakeProcess, tty: bool, exec_id: str = "") -> None:
        super().__init__(process.connect(), tty, exec_id)
        self.process = process

    def resize(self, rows: int, columns: int) -> None:
        if self.tty and rows > 0 and columns > 0:
            self.process.size = (rows, columns)

    def exit_code(self) -> int | None:
        return self.process.exit_code
