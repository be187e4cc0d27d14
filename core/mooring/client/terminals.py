"""``Mooring.terminals``."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence

from mooring.engines.base import Stream
from mooring.sessions import terminals
from mooring.sessions.context import Context
from mooring.sessions.model import Session
from mooring.terminals.listing import TerminalEntry
from mooring.terminals.terminal import PersistentTerminal


class Terminals:
    """Terminals of sessions: the main process's, and further ones that outlive their clients."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def open(
        self,
        session: Session,
        argv: Sequence[str],
        *,
        size: tuple[int, int],
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        label: str = "",
        detach_keys: str = "",
        shown_as: Sequence[str] | None = None,
    ) -> Stream:
        """Start a process in a terminal that outlives its clients.

        Args:
            session: the running session.
            argv: the command; empty for a shell.
            size: rows and columns, set before the process starts.
            env: additional environment variables.
            workdir: working directory in the session; None for the session's default.
            label: a text by which the caller recognizes its own terminals in ``list``.
            detach_keys: detach key sequence of the plain stream that is returned without a keeper.
            shown_as: the command that ``list`` shows instead of ``argv``; empty for a shell.

        Returns:
            A persistent terminal; the plain stream if no keeper can be started, for example
            because the disk is full.

        Raises:
            SessionNotFound, SessionStateError: the session has ended meanwhile.
            EngineError
        """
        return terminals.open_terminal(
            self._ctx,
            session,
            argv,
            size=size,
            env=env,
            workdir=workdir,
            label=label,
            detach_keys=detach_keys,
            shown_as=shown_as,
        )

    def list(self, session: Session) -> builtins.list[TerminalEntry]:
        """Return the terminals of a session: the main one, then the opened ones, oldest first.

        A terminal whose process has exited is listed until a client has read its remaining output.
        """
        return terminals.list_terminals(self._ctx, session)

    def attach(
        self, session: Session, terminal: str = "", *, detach_keys: str = ""
    ) -> Stream | None:
        """Attach to a terminal of a session, or to its main process's streams.

        Args:
            session: the session.
            terminal: the terminal's id; empty for the main process.
            detach_keys: detach key sequence, as ``docker attach`` takes it.

        Returns:
            A persistent terminal, or the streams; None if the session's clock is its only main
            process.

        Raises:
            SessionStateError: it has no such terminal.
            EngineError
        """
        return terminals.attach(self._ctx, session, terminal, detach_keys=detach_keys)

    def last_output(self, session: Session) -> PersistentTerminal | None:
        """Return the main terminal of an ended session whose last output is unread, else None."""
        return terminals.last_output(self._ctx, session)
