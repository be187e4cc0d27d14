"""Start a session's terminal keeper, send it requests, and end it.

Functions take ``session_dir``, the session's folder on the host; the keeper's folder is ``term`` in
it, see ``mooring.terminals.keeper.server``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.errors import SessionStateError
from mooring.host.environment import minimal_environment
from mooring.terminals.keeper import protocol

if TYPE_CHECKING:
    from mooring.engines.base import Stream

START_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
# Arguments: the interpreter with mooring's dependencies, the session's folder, mooring's parent
# folder
_PROGRAM = (
    "import sys; sys.path[:0] = [sys.argv.pop()]; "
    "from mooring.terminals.keeper.process import main; main()"
)
ROOT = str(Path(__file__).parents[3])


class KeeperClient:
    """A keeper that serves or is starting; ``start`` does not wait for it."""

    def __init__(self, session_dir: Path, starting: int = 0) -> None:
        self.session_dir = session_dir
        self._starting = starting

    @classmethod
    def start(cls, session_dir: Path) -> KeeperClient:
        """Return the keeper of a session, after starting it unless it already serves.

        Raises:
            OSError: the process cannot be started, or a file cannot be written.
        """
        term = session_dir / "term"
        term.mkdir(mode=0o700, exist_ok=True)
        if keeper_serves(session_dir):
            return cls(session_dir)
        arguments = [sys.executable, str(session_dir), ROOT]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments],
            minimal_environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(term / "log"), flags, 0o600),
            ],
            setsid=True,
        )
        return cls(session_dir, pid)

    def connect(self) -> Link:
        """Connect to the keeper, retrying until it serves.

        Raises:
            SessionStateError: it does not start; the message includes the last line of its log.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        pause_s = 0.001
        while True:
            try:
                link = Link.open(self.session_dir)
            except OSError as error:
                if time.monotonic() > deadline or not session_exists(self.session_dir):
                    with contextlib.suppress(OSError):
                        log = (self.session_dir / "term" / "log").read_text(errors="replace")[
                            -2000:
                        ]
                        error = OSError(log.strip().rpartition("\n")[2] or error)
                    raise SessionStateError(
                        f"the keeper of the session's terminals does not start: {error}",
                        "see the session's state: mooring describe",
                    ) from error
            else:
                self.wait()
                return link
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.05)

    def wait(self) -> None:
        """Reap the process that forked the keeper. Idempotent."""
        if self._starting:
            pid, self._starting = self._starting, 0
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def hand_over(self, stream: Stream, name: str, about: Mapping[str, Any]) -> str:
        """Pass a stream to the keeper, after which the caller may close its own copy.

        Args:
            stream: the engine's stream of a terminal.
            name: ``main``, or empty for a name that the keeper chooses.
            about: the terminal's description: ``command`` (a list), ``container`` and ``exec`` (the
                engine's ids), ``size`` (rows, columns), ``label``.

        Returns:
            The terminal's name.

        Raises:
            SessionStateError: the keeper does not start, refuses the stream, or has exited.
        """
        described = {**about, "command": protocol.shortened(about.get("command") or ())}
        request = protocol.encode("open", terminal=name, about=described)
        descriptors = struct.pack("i", stream.socket().fileno())
        try:
            with contextlib.closing(self.connect()) as link:
                try:
                    return link.open_terminal(request, descriptors)
                except OSError:  # it was exiting: retry with a new keeper
                    pass
            with contextlib.closing(KeeperClient.start(self.session_dir).connect()) as link:
                return link.open_terminal(request, descriptors)
        except OSError as error:
            raise SessionStateError(
                f"the keeper of the session's terminals is gone: {error}", "try again"
            ) from error


class Link:
    """A connection to a keeper."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.frames = protocol.Frames()

    @classmethod
    def open(cls, session_dir: Path) -> Link:
        """Connect, without retrying. Raises OSError if no keeper serves."""
        # via a file descriptor of the folder, whose path may exceed the limit for socket paths
        term = os.open(session_dir / "term", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            connection.connect(f"/proc/self/fd/{term}/{protocol.SOCKET}")
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(term)
        return cls(connection)

    def open_terminal(self, request: bytes, descriptors: bytes) -> str:
        """Send an ``open`` request with the file descriptor of its stream.

        Args:
            request: the encoded request.
            descriptors: the file descriptor as a C int, for ``SCM_RIGHTS``.

        Returns:
            The terminal's name.

        Raises:
            OSError: the keeper has exited.
            SessionStateError: the keeper refuses the stream.
        """
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        sent = self.socket.sendmsg([request], rights)
        self.socket.sendall(request[sent:])
        return str(self.receive("opened")["terminal"])

    def list_terminals(self) -> list[dict[str, Any]]:
        """Return the ``about`` of each terminal, with its current state.

        Returns:
            ``about`` and ``id``, ``clients`` (a count), ``size`` (rows, columns), ``bytes`` (of
            output) and ``held`` (whether its stream is open) for each terminal.

        Raises:
            OSError: the keeper has exited.
            SessionStateError: the keeper refuses the request.
        """
        self.socket.sendall(protocol.encode("list"))
        terminals: list[dict[str, Any]] = self.receive("terminals")["terminals"]
        return terminals

    def receive(self, op: str) -> dict[str, Any]:
        """Receive the next message.

        Args:
            op: the expected ``op``.

        Returns:
            The fields of the message.

        Raises:
            OSError: the keeper has exited.
            SessionStateError: the message has another ``op``, or is not of this protocol.
        """
        while True:
            data = self.socket.recv(protocol.CHUNK)
            if not data:
                raise ConnectionResetError("it closed the connection")
            for message in self._messages(data):
                if message["op"] == op:
                    return message
                raise SessionStateError(f"the keeper refuses: {message.get('why', message['op'])}")

    def _messages(self, data: bytes) -> Iterator[dict[str, Any]]:
        try:
            for _, payload in self.frames.feed(data):
                yield protocol.decode(payload)
        except ValueError as error:
            raise not_understood(error) from error

    def close(self) -> None:
        self.socket.close()


def not_understood(error: Exception) -> SessionStateError:
    """Return the error of a client that received something else than this protocol."""
    return SessionStateError(
        f"the keeper's answer is not understood: {error}",
        "it may be of another version of mooring; open another terminal: mooring exec",
    )


def session_exists(session_dir: Path) -> bool:
    """Return whether the session exists, that is, was not removed."""
    return (session_dir / "record.json").exists()


def keeper_pid(session_dir: Path) -> int:
    """Return the process id of a session's keeper, or 0 if it has none."""
    try:
        lock = os.open(session_dir / "term" / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        # struct flock: type, whence, start, length, pid; the kernel fills in the lock's holder
        query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(lock, fcntl.F_GETLK, query))
    finally:
        os.close(lock)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def keeper_serves(session_dir: Path) -> bool:
    """Return whether a session has a keeper that accepts connections."""
    return (session_dir / "term" / protocol.SOCKET).exists() and keeper_pid(session_dir) > 0


def end_keeper(session_dir: Path, timeout_s: float = 3.0) -> None:
    """End the keeper of a session that is being removed, even if it holds terminals. Idempotent.

    Args:
        session_dir: the session's folder.
        timeout_s: how long to wait after SIGTERM before SIGKILL is sent, in seconds.
    """
    signum = signal.SIGTERM
    deadline = time.monotonic() + timeout_s
    while pid := keeper_pid(session_dir):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)
        if time.monotonic() > deadline:
            signum = signal.SIGKILL
        if time.monotonic() > deadline + 1:
            return
        time.sleep(0.005)
