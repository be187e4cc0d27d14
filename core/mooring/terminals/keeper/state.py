"""The state of a keeper: its session's terminals, and the connections of its clients.

Paths are relative to the keeper's working directory, see ``server``.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket

from mooring.terminals.keeper import protocol
from mooring.terminals.keeper.spool import Spool
from mooring.terminals.modes import Modes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Whether a client was notified of the end of a terminal's output: not yet, without an exit code
# (which the client then gets from the engine), or with one
UNNOTIFIED, ASKED, NOTIFIED = 0, 1, 2
REMEMBERED_CLIENTS = 64


class Terminal:
    """One terminal of the session, running or ended.

    Args:
        name: its name and that of its folder, which is created if it does not exist.
        about: its description, saved in ``NAME/about``: ``command``, ``container``, ``exec``,
            ``size``, ``label``, ``since``, and after its end ``ended_at`` and ``code`` or ``lost``.
    """

    def __init__(self, name: str, about: dict[str, Any]) -> None:
        self.name = name
        self.about = about
        self.stream: socket.socket | None = None
        self.modes = Modes(about.pop("modes", None))  # saved with it, but not listed
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700)
        self.spool = Spool(f"{name}/spool")
        self.input = bytearray()  # accepted from clients, not yet written to the stream
        self.accepted: dict[str, int] = {}  # bytes of input accepted, by the client's name
        self.size: list[int] = list(about.get("size") or (24, 80))
        self.disconnected_at = 0.0  # when the stream ended; 0 while open or once the cause is known
        self.delivered = False  # whether a client has received all output and the exit code

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs, or if the code is not known."""
        code = self.about.get("code")
        return code if isinstance(code, int) else None

    @property
    def ended(self) -> bool:
        return self.code is not None or self.lost

    @property
    def lost(self) -> bool:
        """Whether no client can reach it any more; it stays listed when clients have been told."""
        return bool(self.about.get("lost"))

    def row(self, clients: int) -> dict[str, Any]:
        """Return its row in the list of terminals, with the number of its clients."""
        return self.about | {
            "id": self.name,
            "clients": clients,
            "size": self.size,
            "bytes": self.spool.end,
            "held": self.stream is not None,
        }

    def read(self) -> bytes | None:
        """Read output without blocking: None if none is available, empty at its end."""
        assert self.stream is not None  # noqa: S101
        try:
            return self.stream.recv(protocol.CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def write(self) -> None:
        """Write as much of the pending input as possible without blocking."""
        assert self.stream is not None  # noqa: S101
        try:
            del self.input[: self.stream.send(self.input)]
        except BlockingIOError:
            pass
        except OSError:
            self.input.clear()  # the stream is closed; ``read`` returns its end

    def accept(self, client: str, count: int, connected: set[str]) -> None:
        """Count accepted input, so that a reconnecting client knows what to send again.

        Args:
            client: the client's name.
            count: number of bytes; 0 only records the client.
            connected: names of clients to remember even beyond ``REMEMBERED_CLIENTS``.
        """
        self.accepted[client] = self.accepted.pop(client, 0) + count
        surplus = len(self.accepted) - REMEMBERED_CLIENTS
        if surplus > 0:
            for name in [name for name in self.accepted if name not in connected][:surplus]:
                del self.accepted[name]

    def save(self) -> None:
        with contextlib.suppress(OSError):
            draft = f"{self.name}/.about"
            with open(draft, "w") as file:
                json.dump(self.about | {"modes": self.modes.saved}, file)
            os.replace(draft, f"{self.name}/about")

    def remove(self) -> None:
        self.close()
        self.spool.remove()
        for name in ("about", ".about"):
            with contextlib.suppress(OSError):
                os.unlink(f"{self.name}/{name}")
        with contextlib.suppress(OSError):
            os.rmdir(self.name)

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None


class Client:
    """A client's connection to the keeper."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.frames = protocol.Frames()
        self.outgoing = bytearray()
        self.descriptors: list[int] = []
        self.terminal: Terminal | None = None
        self.name = ""
        self.position = 0  # offset of the next byte of output to send
        self.size = [0, 0]
        self.active_at = 0.0
        self.progressed_at = 0.0
        self.caught_up = False  # whether back-pressure for this client may block the program
        self.exit_notice = UNNOTIFIED

    @property
    def lag(self) -> int:
        """Bytes of the terminal's output that were not yet queued for the client."""
        return self.terminal.spool.end - self.position if self.terminal else 0

    def queue(self, op: str, **fields: Any) -> None:
        """Queue a message, which is sent once the socket is writable."""
        self.outgoing += protocol.encode(op, **fields)

    def refuse(self, error: Exception) -> None:
        self.queue("refused", why=f"not understood: {error}"[:1000])

    def receive(self) -> bytes | None:
        """Receive bytes without blocking, and store the file descriptors sent with them.

        Returns:
            None if no bytes are available, empty at the end of the connection.
        """
        received = array.array("i")
        room = socket.CMSG_SPACE(2 * received.itemsize)
        try:
            data, extra, _, _ = self.socket.recvmsg(protocol.CHUNK, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        for level, kind, content in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.frombytes(content[: len(content) - len(content) % received.itemsize])
        self.descriptors += received
        return data

    def take_stream(self) -> socket.socket | None:
        """Return the stream whose file descriptor the client has passed, or None."""
        if not self.descriptors:
            return None
        stream = socket.socket(fileno=self.descriptors.pop(0))
        stream.setblocking(False)
        return stream

    def fill(self) -> None:
        """Queue the next output of its terminal, unless anything is queued.

        Raises:
            OSError: the output cannot be read, for example because too many files are open.
        """
        terminal = self.terminal
        if self.outgoing or terminal is None or self.lag <= 0:
            return
        try:
            data = terminal.spool.read(self.position, protocol.CHUNK)
        except LookupError:
            start = terminal.spool.start
            self.queue("lost", bytes=start - self.position)
            self.position = start
        else:
            self.position += len(data)
            self.outgoing += protocol.encode_data(data)

    def notify_exit(self) -> None:
        """Notify the client of the end of the output, once it has received all of it."""
        terminal = self.terminal
        if terminal is None or terminal.stream is not None or self.lag or self.outgoing:
            return
        if terminal.ended and self.exit_notice != NOTIFIED:
            self.queue("exit", code=terminal.code, lost=terminal.lost)
            self.exit_notice = NOTIFIED
        elif not terminal.ended and self.exit_notice == UNNOTIFIED:
            self.queue("exit", code=None)
            self.exit_notice = ASKED

    def close(self) -> None:
        self.socket.close()
        for number in self.descriptors:
            os.close(number)
        self.descriptors.clear()
