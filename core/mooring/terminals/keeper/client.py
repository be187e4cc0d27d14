"""The process that keeps a session's terminals, from the outside: start it, talk to it, end it.

What runs in it is ``mooring.terminals.keeper.server``.
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
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.errors import SessionStateError
from mooring.terminals.keeper import protocol as wire

if TYPE_CHECKING:
    from mooring.engines.base import Stream
    from mooring.sessions.record import Folder

STARTS_WITHIN_S = 10.0
ANSWERS_WITHIN_S = 30.0
_RUN = (
    "import sys; sys.path[:0] = [sys.argv.pop()]; "
    "from mooring.terminals.keeper.server import main; main()"
)
# All that an engine's client or Python itself looks at; the rest of an environment may be secret
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_PASSED_PREFIXES = ("MOORING_", "DOCKER_", "CONTAINER_", "XDG_", "PYTHON", "LC_")


class Keeping:
    """A keeper that runs, or is about to: ``begin`` starts it and does not wait."""

    def __init__(self, folder: Folder, starting: int = 0) -> None:
        self.folder = folder
        self._starting = starting

    @classmethod
    def begin(cls, folder: Folder) -> Keeping:
        """The keeper of a session; started unless it serves already.

        Raises:
            OSError: no process can be started, or no file written.
        """
        term = folder.path / "term"
        term.mkdir(mode=0o700, exist_ok=True)
        if lives(folder):
            return cls(folder)
        environ = {
            key: value
            for key, value in os.environ.items()
            if key in _PASSED or key.startswith(_PASSED_PREFIXES)
        }
        root = str(Path(__file__).parents[3])
        command = [sys.executable, "-I", "-S", "-c", _RUN, sys.executable, str(folder.path), root]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            command,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(term / "log"), flags, 0o600),
            ],
            setsid=True,
        )
        return cls(folder, pid)

    def connect(self) -> Link:
        """A connection to it, as soon as it serves.

        Raises:
            SessionStateError: it does not start; the message has its last words.
        """
        deadline = time.monotonic() + STARTS_WITHIN_S
        pause_s = 0.001
        while True:
            try:
                link = Link.open(self.folder)
            except OSError as error:
                if time.monotonic() > deadline or not self.folder.exists:
                    with contextlib.suppress(OSError):
                        log = (self.folder.path / "term" / "log").read_text()[-2000:]
                        error = OSError(log.strip().rpartition("\n")[2] or error)
                    raise SessionStateError(
                        f"the keeper of the session's terminals does not start: {error}",
                        "mooring describe tells the session's state",
                    ) from error
            else:
                self.wait()
                return link
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.05)

    def wait(self) -> None:
        """Collect the process that left the keeper behind. Idempotent."""
        if self._starting:
            pid, self._starting = self._starting, 0
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def hand_over(self, stream: Stream, name: str, about: Mapping[str, Any]) -> str:
        """Have it hold a stream from now on; ours may be closed.

        Args:
            name: ``main``, or empty for a terminal that gets a name.
            about: what it is: ``command``, ``exec``, ``size``, ``label``.

        Returns:
            The terminal's name.

        Raises:
            SessionStateError
        """
        text = wire.said("open", terminal=name, about=dict(about))
        fds = struct.pack("i", stream.socket().fileno())
        try:
            with contextlib.closing(self.connect()) as link:
                try:
                    link.socket.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
                    return str(link.hear("opened")["terminal"])
                except OSError:  # it was about to end
                    return Keeping.begin(self.folder)._hand_over_once(text, fds)
        except OSError as error:
            raise SessionStateError(
                f"the keeper of the session's terminals is gone: {error}", "try again"
            ) from error

    def _hand_over_once(self, text: bytes, fds: bytes) -> str:
        with contextlib.closing(self.connect()) as link:
            link.socket.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            return str(link.hear("opened")["terminal"])


class Link:
    """A connection to a keeper."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.frames = wire.Frames()

    @classmethod
    def open(cls, folder: Folder) -> Link:
        """Connect at once. Raises OSError when no keeper serves."""
        # by the folder's descriptor: its path may be longer than a socket's may be
        term = os.open(folder.path / "term", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        connecting = socket.socket(socket.AF_UNIX)
        connecting.settimeout(ANSWERS_WITHIN_S)
        try:
            connecting.connect(f"/proc/self/fd/{term}/{wire.SOCKET}")
        except BaseException:
            connecting.close()
            raise
        finally:
            os.close(term)
        return cls(connecting)

    def hear(self, op: str) -> dict[str, Any]:
        """The next thing that is said, which is to be that. Raises OSError, SessionStateError."""
        while True:
            data = self.socket.recv(wire.CHUNK)
            if not data:
                raise ConnectionResetError("it closed the connection")
            for _, payload in self.frames.feed(data):
                said = wire.understood(payload)
                if said["op"] == op:
                    return said
                raise SessionStateError(f"the keeper refuses: {said.get('why', said['op'])}")

    def close(self) -> None:
        self.socket.close()


def keeper_of(folder: Folder) -> int:
    """The number of the process that keeps a session's terminals; 0 for none."""
    try:
        lock = os.open(folder.path / "term" / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        # struct flock: type, whence, start, length, pid; the system fills in who holds it
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    finally:
        os.close(lock)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def lives(folder: Folder) -> bool:
    """Whether a session's keeper serves."""
    return (folder.path / "term" / wire.SOCKET).exists() and keeper_of(folder) > 0


def end_keeper(folder: Folder, patience_s: float = 3.0) -> None:
    """End a session's keeper, whatever it holds. For a session that is removed. Idempotent."""
    number = signal.SIGTERM
    deadline = time.monotonic() + patience_s
    while pid := keeper_of(folder):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        if time.monotonic() > deadline + 1:
            return
        time.sleep(0.005)
