"""The process in a session that makes the connections of a port-forward.

Where the image has python3, it passes connected sockets through a Unix socket in the session's run
folder: guest/relay.py. Elsewhere it is a guard, which kills the processes that relay a connection
each when this program ends: ``port_streams``.
"""

from __future__ import annotations

import array
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Sequence
from importlib import resources

from mooring.engines.base import Stream
from mooring.errors import EngineError
from mooring.guest.channel import Guest
from mooring.guest.paths import GUEST_RUN
from mooring.sessions.context import Context
from mooring.sessions.model import Session

CHUNK = 1 << 16
#: How long the session's side may take for a connection, in seconds.
TIMEOUT_S = 15.0
_TCP = (socket.AF_INET, socket.AF_INET6)


class Refused(Exception):
    """Nothing listens there in the session."""


class RelayEnded(Exception):
    """The session's process has ended."""


class PortRelay:
    """A process in the session, from its start to its end.

    Args:
        ctx: the client's context.
        session: the running session.

    Attributes:
        stream: its standard streams; it ends when its input is closed.
        is_guard: whether it is a guard, because the image has no python3.

    Raises:
        EngineError: it does not start.
    """

    def __init__(self, ctx: Context, session: Session) -> None:
        self._guest: Guest = ctx.folder(session.id).guest
        self._name = f"forward-{secrets.token_hex(8)}"
        self._lock = threading.Lock()
        source = (resources.files("mooring") / "guest" / "relay.py").read_text()
        self.stream = start(ctx, session, "serve", source, f"{GUEST_RUN}/{self._name}")
        said = first_line(self.stream)
        self.is_guard = said == "guard"
        if said not in ("relay", "guard"):  # the image's Python does not work
            self.stream.close()
            self.stream = start(ctx, session, "guard")
            self.is_guard = True

    def connect(self, there: int | str) -> socket.socket:
        """Return a socket that is connected to a service of the session, in blocking mode.

        Args:
            there: a port, or the path of a Unix socket in the session; a relative one is in its
                home.

        Raises:
            Refused, RelayEnded: see there.
            EngineError: the session's side answers with something else.
        """
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(TIMEOUT_S)
            try:
                with self._guest.expose([self._name]) as (path,):
                    asked.connect(path)
                asked.sendall(os.fsencode(f"{there}\n"))
                answer, passed = _received(asked)
            except TimeoutError:
                raise EngineError("the session's side of the forward does not answer") from None
            except OSError as error:
                raise RelayEnded from error
        far = _checked(passed, _TCP if isinstance(there, int) else (socket.AF_UNIX,))
        if far is not None and answer == b"open\n":
            far.settimeout(None)
            return far
        if far is not None:
            far.close()
        if answer == b"refused\n":
            raise Refused
        if not answer:
            raise RelayEnded
        raise EngineError("the session's side of the forward answers with no connection")

    def tell(self, line: str) -> None:
        """Send a line to a guard."""
        with self._lock, contextlib.suppress(OSError):
            self.stream.socket().sendall(f"{line}\n".encode())

    def close(self) -> None:
        """End it, and what it guards. Idempotent."""
        self.stream.close_stdin()
        self.stream.close()
        with contextlib.suppress(OSError):
            self._guest.remove(self._name)


def start(ctx: Context, session: Session, *mode: str) -> Stream:
    """Start forward.sh in a session. Raises EngineError."""
    script = (resources.files("mooring") / "guest" / "forward.sh").read_text()
    argv: Sequence[str] = ["/bin/sh", "-c", script, "forward", *mode]
    # not `processes.exec_in`, which counts as activity
    ctx.folder(session.id).refuse_unverified()
    return ctx.engine.exec(session.container, argv, stdin=True)


def first_line(stream: Stream) -> str:
    """Read the first line of a process that prints one; closes the stream if it prints none.

    Raises:
        EngineError: it has ended.
    """
    said = b""
    with contextlib.ExitStack() as unless_said:
        unless_said.callback(stream.close)
        while b"\n" not in said:
            pieces = stream.recv(CHUNK)
            if not pieces:
                raise EngineError("the session takes no process")
            said += b"".join(piece for _, piece in pieces)
        unless_said.pop_all()
    return said.decode(errors="replace").partition("\n")[0].strip()


def _received(asked: socket.socket) -> tuple[bytes, list[int]]:
    """The line of an answer, and the descriptors that came with it."""
    passed = array.array("i")
    flags = socket.MSG_CMSG_CLOEXEC
    answer, extra, _, _ = asked.recvmsg(64, socket.CMSG_SPACE(passed.itemsize), flags)
    for level, kind, content in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            passed.frombytes(content[: len(content) - len(content) % passed.itemsize])
    return answer, list(passed)


def _checked(passed: list[int], families: Sequence[int]) -> socket.socket | None:
    """The socket that was passed, if it is a connected stream: a session may pass anything."""
    good: socket.socket | None = None
    for number in passed:
        try:
            far = socket.socket(fileno=number)  # takes its family and type from the kernel
        except OSError:
            with contextlib.suppress(OSError):
                os.close(number)
            continue
        try:
            far.getpeername()
            if good is None and far.family in families and far.type == socket.SOCK_STREAM:
                good = far
                continue
        except OSError:
            pass
        far.close()
    return good
