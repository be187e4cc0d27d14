"""A session's terminals from the outside: start their keeper, hand it streams, ask it, join it.

What runs in the keeper is ``mooring.terminals.host``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.errors import EngineError, MooringError, SessionStateError
from mooring.terminals import wire as wire
from mooring.terminals.wire import MAIN

if TYPE_CHECKING:
    from mooring.engines.base import Engine, Stream
    from mooring.folder import Folder

STARTS_WITHIN_S = 10.0
ANSWERS_WITHIN_S = 30.0
# A process whose output is over has ended, or does so now; one that goes on after that lost its
# connection to an engine that was restarted
ENDS_WITHIN_S = 2.0
# The engine takes detach keys whatever one says; nobody types these, and everything else passes.
UNTYPED_KEYS = ",".join(["ctrl-@", "ctrl-^"] * 4)
_RUN = (
    "import sys; sys.path[:0] = [sys.argv.pop()]; from mooring.terminals.host import main; main()"
)
# All that an engine's client or Python itself looks at; the rest of an environment may be secret
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "VIRTUAL_ENV")
_PASSED_PREFIXES = ("MOORING_", "DOCKER_", "CONTAINER_", "XDG_", "PYTHON", "LC_")


@dataclass(frozen=True)
class TerminalEntry:
    """A terminal of a session, as its keeper tells.

    Attributes:
        id: ``main``, or ``t1``, ``t2``, …
        command: its arguments; empty for a shell.
        since: when it was opened, in seconds since the epoch.
        size: rows and columns.
        clients: how many are attached.
        bytes: printed so far.
        ended: its process has ended; until somebody has seen the rest, it is listed.
        code: its exit code, None while it runs or where nobody knows.
        lost: its keeper was killed, and nothing leads to it any more.
        label: the mark of the door that opened it.
    """

    id: str
    command: tuple[str, ...]
    since: float
    size: tuple[int, int]
    clients: int
    bytes: int
    ended: bool
    code: int | None
    lost: bool
    label: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "command": list(self.command),
            "since": self.since,
            "rows": self.size[0],
            "columns": self.size[1],
            "clients": self.clients,
            "bytes": self.bytes,
            "ended": self.ended,
            "code": self.code,
            "lost": self.lost,
        }


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
        root = str(Path(__file__).parents[2])
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


class Kept:
    """A terminal that a keeper holds: a ``Stream`` that outlives its clients.

    Attributes:
        name: ``main``, ``t1``, …
        exec_id: the engine's name for its process; empty for the container's main one.
        new: nobody has seen anything of it yet.
        taken_up: nobody had kept it until now: what it printed before may be missing.
    """

    tty = True

    def __init__(
        self,
        engine: Engine,
        container: str,
        folder: Folder,
        name: str,
        exec_id: str = "",
        *,
        new: bool = False,
    ) -> None:
        self.engine, self.container, self.folder = engine, container, folder
        self.name, self.exec_id = name, exec_id
        self.new, self.taken_up = new, False

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size. Raises EngineError."""
        self.engine.resize(self.container, rows, columns, exec_id=self.exec_id)

    def exit_code(self) -> int | None:
        """The process's exit code, or None while it runs. Raises EngineError."""
        if self.exec_id:
            return self.engine.exec_exit_code(self.exec_id)
        detail = self.engine.inspect(self.container)
        return 137 if detail is None else detail.exit_code

    def settle(self) -> int | None:
        """Its output is over: how it ended; None if it goes on. Raises EngineError."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        pause_s = 0.002
        while True:
            code = self.exit_code()
            if code is not None or time.monotonic() > deadline:
                return code
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.25)

    def take_up_again(self) -> bool:
        """Connect to the main process anew, after the engine or the keeper had let go of it.

        What it printed meanwhile is missing. False for other terminals: no engine gives back
        the stream of an exec.

        Raises:
            EngineError, OSError, SessionStateError
        """
        if self.exec_id or self.name != MAIN:
            return False
        keeping = Keeping.begin(self.folder)
        with contextlib.closing(_stream_of_main(self.engine, self.container)) as stream:
            keeping.hand_over(stream, MAIN, {"command": command_of(self.folder)})
        return True

    def has_rest(self) -> bool:
        """Whether there is something left to read of one that has ended, and is not kept now.

        Not of a session that is being removed. Raises EngineError.
        """
        left = self.name == MAIN and (self.folder.path / "term" / MAIN).exists()
        return left and self.engine.inspect(self.container) is not None

    def socket(self) -> socket.socket:
        raise MooringError("a kept terminal is joined through its keeper")

    def close_stdin(self) -> None:
        """A terminal's input has no end."""

    def close(self) -> None:
        """The terminal goes on."""


class MainTerminal:
    """The terminal of a session's main process, and its keeper: started here, beside the rest."""

    def __init__(self, engine: Engine, folder: Folder) -> None:
        self._engine, self._folder = engine, folder
        self._keeping: Keeping | None = None
        with contextlib.suppress(OSError):  # then it is as it was without one
            self._keeping = Keeping.begin(folder)

    def keep(self, container: str, detach_keys: str | None) -> Stream | None:
        """Have it kept from its first byte on. To be called before the container starts.

        Args:
            detach_keys: for whoever wants to join it now; None when nobody does, and then nothing
                that fails here is raised.

        Returns:
            The terminal, or the engine's own stream where nobody keeps it; None for nobody.

        Raises:
            EngineError
        """
        try:
            with contextlib.closing(_stream_of_main(self._engine, container)) as stream:
                return self._hand_over(container, stream)
        except (EngineError, SessionStateError):
            if detach_keys is None:
                return None
        return self._engine.attach(container, tty=True, detach_keys=detach_keys)

    def find(self, container: str, detach_keys: str) -> Stream:
        """The terminal of a main process that runs; kept from now on if nobody did.

        Raises:
            EngineError
        """
        rows = {one.id: one for one in terminals(self._folder)} if lives(self._folder) else {}
        main = rows.get(MAIN)
        if main is not None and not main.ended:
            return Kept(self._engine, container, self._folder, MAIN)
        stream = self.keep(container, detach_keys)
        if isinstance(stream, Kept):
            stream.new, stream.taken_up = False, True
        return stream or self._engine.attach(container, tty=True, detach_keys=detach_keys)

    def over(self, container: str) -> Kept:
        """The terminal of a main process that has ended: for the rest of what it printed.

        Raises:
            SessionStateError
        """
        if self._keeping is not None:
            self._keeping.connect().close()
        return Kept(self._engine, container, self._folder, MAIN)

    def _hand_over(self, container: str, stream: Stream) -> Kept:
        if self._keeping is None:
            raise SessionStateError("no keeper was started")
        about = {"command": command_of(self._folder)}
        self._keeping.hand_over(stream, MAIN, about)
        return Kept(self._engine, container, self._folder, MAIN, new=True)


def _stream_of_main(engine: Engine, container: str) -> Stream:
    return engine.attach(container, tty=True, detach_keys=UNTYPED_KEYS)


def command_of(folder: Folder) -> list[str]:
    """The session's own command; empty for a shell."""
    found = folder.record().get("spec", {}).get("command") or []
    return [found] if isinstance(found, str) else [str(part) for part in found]


def terminals(folder: Folder) -> list[TerminalEntry]:
    """What terminals a session has, the main one first; none where nobody keeps any."""
    try:
        with contextlib.closing(Link.open(folder)) as link:
            link.socket.sendall(wire.said("list"))
            rows = link.hear("terminals")["terminals"]
    except OSError:
        rows = _left_behind(folder)
    found = [_entry(row) for row in rows]
    return sorted(found, key=lambda one: (one.id != MAIN, len(one.id), one.id))


def exec_id_of(folder: Folder, name: str) -> str:
    """The engine's name for a terminal's process; empty for the main one."""
    try:
        about = json.loads((folder.path / "term" / name / "about").read_text())
        return str(about.get("exec", ""))
    except (OSError, ValueError):
        return ""


def _left_behind(folder: Folder) -> list[dict[str, Any]]:
    """What a keeper that was killed has left."""
    rows = []
    for path in sorted((folder.path / "term").glob("*/about")):
        with contextlib.suppress(OSError, ValueError):
            about = json.loads(path.read_text())
            lost = path.parent.name != MAIN and about.get("code") is None
            rows.append(about | {"id": path.parent.name, "lost": lost})
    return rows


def _entry(row: dict[str, Any]) -> TerminalEntry:
    size = row.get("size") or (24, 80)
    return TerminalEntry(
        id=str(row["id"]),
        command=tuple(map(str, row.get("command") or ())),
        since=float(row.get("since") or 0),
        size=(int(size[0]), int(size[1])),
        clients=int(row.get("clients") or 0),
        bytes=int(row.get("bytes") or 0),
        ended=row.get("code") is not None or bool(row.get("lost")),
        code=row.get("code"),
        lost=bool(row.get("lost")),
        label=str(row.get("label") or ""),
    )


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


def unattached(found: Sequence[TerminalEntry], label: str | None = None) -> str:
    """The newest terminal that nobody is attached to; empty for none.

    Args:
        label: only those that were opened with it, to work in. Without, one that has ended is
            taken where there is no other, for the rest of what it printed.
    """
    free = [one for one in found if not one.clients and not one.lost and label in (None, one.label)]
    going = [one for one in free if not one.ended]
    newest = (going or (free if label is None else []))[-1:]
    return newest[0].id if newest else ""


def settle_all(engine: Engine, container: str, folder: Folder) -> bool:
    """Ask the engine how the terminals ended whose output is over, and tell their keeper.

    Returns:
        False while there is one of which it does not know.
    """
    with contextlib.closing(Link.open(folder)) as link:
        link.socket.sendall(wire.said("list"))
        rows = link.hear("terminals")["terminals"]
        settled = True
        for row in rows:
            if row["held"] or row.get("code") is not None or row.get("lost"):
                continue
            kept = Kept(engine, container, folder, str(row["id"]), str(row.get("exec", "")))
            try:
                code = kept.settle()
                if code is None and kept.take_up_again():
                    continue
            except EngineError:
                settled = False
                continue
            link.socket.sendall(wire.said("ended", terminal=kept.name, code=code))
        link.socket.sendall(wire.said("list"))
        link.hear("terminals")  # what was said before has been heard
    return settled
