"""A terminal that a keeper holds, and that of a session's main process."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from mooring.errors import EngineError, MooringError, SessionStateError
from mooring.terminals.keeper import protocol as wire
from mooring.terminals.keeper.client import Keeping, Link, lives
from mooring.terminals.keeper.protocol import MAIN
from mooring.terminals.listing import terminals

if TYPE_CHECKING:
    from mooring.engines.base import Engine, Stream
    from mooring.sessions.record import Folder

# A process whose output is over has ended, or does so now; one that goes on after that lost its
# connection to an engine that was restarted
ENDS_WITHIN_S = 2.0
# The engine takes detach keys whatever one says; nobody types these, and everything else passes.
UNTYPED_KEYS = ",".join(["ctrl-@", "ctrl-^"] * 4)


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
