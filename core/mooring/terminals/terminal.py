"""A terminal that a keeper holds, and the terminal of a session's main process."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring.engines.capabilities import SupportsAttach, SupportsDetachedExec, require
from mooring.errors import EngineError, MooringError, NotSupported, SessionStateError
from mooring.host.untrusted import parse_json
from mooring.terminals.keeper import protocol
from mooring.terminals.keeper.client import KeeperClient, Link, keeper_serves
from mooring.terminals.keeper.protocol import MAIN
from mooring.terminals.listing import terminals

if TYPE_CHECKING:
    from mooring.engines.base import Engine, Stream

# A process exits at the end of its output or soon afterwards; if it keeps running, the connection
# was lost because the engine was restarted
EXIT_TIMEOUT_S = 2.0
# The engine always has detach keys; these are never typed, so all other input is forwarded
UNTYPED_KEYS = ",".join(["ctrl-@", "ctrl-^"] * 4)


class PersistentTerminal:
    """A terminal that a keeper holds: a ``Stream`` that outlives its clients.

    Args:
        engine: the session's engine.
        container: the engine's id of the container.
        session_dir: the session's folder.
        name: ``main``, ``t1``, …
        exec_id: the engine's exec id of its process; empty for the container's main process.
        command: the argument list of the main process; empty for a shell.
        new: whether no client has received any of its output yet.

    Attributes:
        incomplete: whether earlier output may be missing, because no keeper held it before.
    """

    tty = True

    def __init__(
        self,
        engine: Engine,
        container: str,
        session_dir: Path,
        name: str,
        exec_id: str = "",
        *,
        command: Sequence[str] = (),
        new: bool = False,
    ) -> None:
        self.engine, self.container, self.session_dir = engine, container, session_dir
        self.name, self.exec_id, self.command = name, exec_id, command
        self.new, self.incomplete = new, False

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size in rows and columns. Raises EngineError or NotSupported."""
        engine = require(self.engine, SupportsDetachedExec)
        engine.resize(self.container, rows, columns, exec_id=self.exec_id)

    def exit_code(self) -> int | None:
        """Return the process's exit code, or None while it runs.

        The code is 137 if the container no longer exists.

        Raises:
            EngineError, NotSupported
        """
        if self.exec_id:
            return require(self.engine, SupportsDetachedExec).exec_exit_code(self.exec_id)
        detail = self.engine.inspect(self.container)
        return 137 if detail is None else detail.exit_code

    def wait_for_exit(self) -> int | None:
        """Return the exit code once the output has ended, or None if the process keeps running.

        Raises:
            EngineError, NotSupported
        """
        deadline = time.monotonic() + EXIT_TIMEOUT_S
        pause_s = 0.002
        while True:
            code = self.exit_code()
            if code is not None or time.monotonic() > deadline:
                return code
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.25)

    def reconnect(self) -> bool:
        """Reconnect to the main process after the engine or the keeper was restarted.

        Output from the time without a connection is lost.

        Returns:
            False for other terminals, because engines cannot reconnect to an exec.

        Raises:
            EngineError, NotSupported, OSError, SessionStateError
        """
        if self.exec_id or self.name != MAIN:
            return False
        keeper = KeeperClient.start(self.session_dir)
        with contextlib.closing(_stream_of_main(self.engine, self.container)) as stream:
            keeper.hand_over(stream, MAIN, _about_main(self.container, self.command))
        return True

    def has_unread_output(self) -> bool:
        """Return whether an ended main terminal has left a spool that no keeper serves.

        False if the container no longer exists, as while its session is being removed.

        Raises:
            EngineError
        """
        spooled = self.name == MAIN and (self.session_dir / "term" / MAIN).exists()
        return spooled and self.engine.inspect(self.container) is not None

    def socket(self) -> socket.socket:
        raise MooringError("a persistent terminal is joined through its keeper")

    def recv(self, size: int = 0) -> list[tuple[int, memoryview]]:
        raise MooringError("a persistent terminal is joined through its keeper")

    def close_stdin(self) -> None:
        """Does nothing: a terminal's input has no end."""

    def close(self) -> None:
        """Does nothing: the terminal stays open."""


class MainTerminal:
    """The terminal of a session's main process; its keeper is started without waiting for it.

    Args:
        engine: the session's engine.
        session_dir: the session's folder.
        command: the argument list of the main process; empty for a shell.
    """

    def __init__(self, engine: Engine, session_dir: Path, command: Sequence[str] = ()) -> None:
        self._engine, self._session_dir, self._command = engine, session_dir, command
        self._keeper: KeeperClient | None = None
        with contextlib.suppress(OSError):  # the terminal then has no keeper
            self._keeper = KeeperClient.start(session_dir)

    def keep(self, container: str, detach_keys: str | None) -> Stream | None:
        """Let the keeper hold the terminal from its first byte on.

        Call this before the container starts.

        Args:
            container: the engine's id of the container.
            detach_keys: for the engine's own stream if no keeper holds the terminal; None if the
                caller does not attach, in which case failures are ignored.

        Returns:
            A ``PersistentTerminal``. If no keeper holds the terminal, the engine's own stream, or
            None if ``detach_keys`` is None.

        Raises:
            EngineError, NotSupported
        """
        try:
            with contextlib.closing(_stream_of_main(self._engine, container)) as stream:
                return self._hand_over(container, stream)
        except (EngineError, NotSupported, SessionStateError):
            if detach_keys is None:
                return None
        return _stream_of_main(self._engine, container, detach_keys)

    def find(self, container: str, detach_keys: str) -> Stream:
        """Return the terminal of a running main process; a keeper holds it from now on.

        Args:
            container: the engine's id of the container.
            detach_keys: for the engine's own stream, which is returned if no keeper holds it.

        Raises:
            EngineError, NotSupported
        """
        entries = terminals(self._session_dir) if keeper_serves(self._session_dir) else []
        if any(entry.id == MAIN and not entry.ended for entry in entries):
            return self._terminal(container)
        stream = self.keep(container, detach_keys)
        if isinstance(stream, PersistentTerminal):
            stream.new, stream.incomplete = False, True
        return stream or _stream_of_main(self._engine, container, detach_keys)

    def ended(self, container: str) -> PersistentTerminal:
        """Return the terminal of an ended main process, so that its output can be read.

        Args:
            container: the engine's id of the container.

        Raises:
            SessionStateError: the keeper does not start.
        """
        if self._keeper is not None:
            self._keeper.connect().close()
        return self._terminal(container)

    def _hand_over(self, container: str, stream: Stream) -> PersistentTerminal:
        if self._keeper is None:
            raise SessionStateError("no keeper was started")
        self._keeper.hand_over(stream, MAIN, _about_main(container, self._command))
        return self._terminal(container, new=True)

    def _terminal(self, container: str, *, new: bool = False) -> PersistentTerminal:
        return PersistentTerminal(
            self._engine, container, self._session_dir, MAIN, command=self._command, new=new
        )


def _stream_of_main(engine: Engine, container: str, detach_keys: str = UNTYPED_KEYS) -> Stream:
    return require(engine, SupportsAttach).attach(container, tty=True, detach_keys=detach_keys)


def _about_main(container: str, command: Sequence[str]) -> dict[str, Any]:
    return {"command": list(command), "container": container}


def command_of(spec: Mapping[str, Any]) -> list[str]:
    """Return a spec's command as an argument list; empty for a shell."""
    command = spec.get("command") or []
    return [command] if isinstance(command, str) else [str(part) for part in command]


def settle_all(engine: Engine, session_dir: Path) -> bool:
    """Get the exit codes of terminals whose output has ended, and send them to the keeper.

    Args:
        engine: the session's engine.
        session_dir: the session's folder.

    Returns:
        False if the engine failed for one of the terminals; call again later.

    Raises:
        OSError, SessionStateError: the keeper has exited.
    """
    with contextlib.closing(Link.open(session_dir)) as link:
        settled = True
        for row in link.list_terminals():
            if row["held"] or row.get("code") is not None or row.get("lost"):
                continue
            terminal = PersistentTerminal(
                engine,
                str(row.get("container") or _recorded_container(session_dir)),
                session_dir,
                str(row["id"]),
                str(row.get("exec", "")),
                command=row.get("command") or (),
            )
            try:
                code = terminal.wait_for_exit()
                if code is None and terminal.reconnect():
                    continue
            except (EngineError, NotSupported):
                settled = False
                continue
            link.socket.sendall(protocol.encode("ended", terminal=terminal.name, code=code))
        link.list_terminals()  # the keeper answers once it has received all of the above
    return settled


def _recorded_container(session_dir: Path) -> str:
    """Return the container id from the session's record; older keepers do not report it."""
    try:
        return str(parse_json((session_dir / "record.json").read_text()).get("container", ""))
    except (OSError, ValueError, AttributeError):
        return ""
