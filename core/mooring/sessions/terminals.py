"""Opening, listing and attaching to the terminals of a session."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

from mooring.engines.base import Stream
from mooring.engines.capabilities import SupportsAttach, require
from mooring.errors import SessionStateError
from mooring.guest.bundle import terminal_argv
from mooring.sessions.context import Context
from mooring.sessions.find import main_process
from mooring.sessions.model import Session, State
from mooring.sessions.processes import begin
from mooring.terminals.keeper.client import KeeperClient
from mooring.terminals.keeper.protocol import MAIN
from mooring.terminals.listing import TerminalEntry, exec_id_of, terminals
from mooring.terminals.terminal import (
    UNTYPED_KEYS,
    MainTerminal,
    PersistentTerminal,
    command_of,
)

log = logging.getLogger(__name__)


def open_terminal(
    ctx: Context,
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
    """Start a process in a terminal that outlives its clients; see ``Terminals.open``."""
    folder = ctx.folder(session.id)
    folder.describe_terminal((env or {}).get("TERM", ""))
    keeper = None
    try:
        keeper = KeeperClient.start(folder.path)
    except OSError as error:
        log.warning("nothing keeps this terminal: %s", error)
    stream = begin(
        ctx,
        session,
        terminal_argv(folder.programs_target, size, argv),
        tty=True,
        stdin=True,
        env=env,
        workdir=workdir,
        detach_keys=UNTYPED_KEYS if keeper else detach_keys,
    )
    if keeper is None:
        stream.resize(*size)
        return stream
    # not resized here: that would block until the process has started, and clients resize on attach
    about = {
        "command": list(argv if shown_as is None else shown_as),
        "container": session.container,
        "exec": stream.exec_id,
        "size": size,
        "label": label,
    }
    try:
        name = keeper.hand_over(stream, "", about)
    except SessionStateError as error:
        log.warning("nothing keeps this terminal: %s", error)
        return stream
    stream.close()
    return PersistentTerminal(
        ctx.engine, session.container, folder.path, name, stream.exec_id, new=True
    )


def list_terminals(ctx: Context, session: Session) -> list[TerminalEntry]:
    """Return the terminals of a session; see ``Terminals.list``."""
    entries = terminals(ctx.folder(session.id).path)
    if session.state is not State.STOPPED:
        return entries
    return [  # the keeper may have exited before the ends of its terminals were recorded
        dataclasses.replace(entry, ended=True, code=session.exit_code)
        if entry.id == MAIN
        else dataclasses.replace(entry, ended=True)
        for entry in entries
    ]


def attach(
    ctx: Context, session: Session, terminal: str = "", *, detach_keys: str = ""
) -> Stream | None:
    """Attach to a terminal of a session or to its main process; see ``Terminals.attach``."""
    folder = ctx.folder(session.id)
    main = main_process(ctx, session)
    if terminal and (terminal != MAIN or main == "none"):
        known = [entry.id for entry in terminals(folder.path)]
        if terminal not in known:
            raise SessionStateError(
                f"session {session.name} has no terminal {terminal}",
                f"it has: {', '.join(known)}"
                if known
                else f"open one: mooring exec {session.name}",
            )
        exec_id = exec_id_of(folder.path, terminal)
        return PersistentTerminal(ctx.engine, session.container, folder.path, terminal, exec_id)
    if main == "none":
        return None
    if main == "streams":
        engine = require(ctx.engine, SupportsAttach)
        return engine.attach(session.container, tty=False, detach_keys=detach_keys)
    return _main_terminal(ctx, session).find(session.container, detach_keys)


def last_output(ctx: Context, session: Session) -> PersistentTerminal | None:
    """Return the main terminal of an ended session whose last output is unread, else None.

    See ``Terminals.last_output``.
    """
    folder = ctx.folder(session.id)
    if session.state is not State.STOPPED or not (folder.path / "term" / MAIN).exists():
        return None
    return _main_terminal(ctx, session).ended(session.container)


def _main_terminal(ctx: Context, session: Session) -> MainTerminal:
    folder = ctx.folder(session.id)
    return MainTerminal(ctx.engine, folder.path, command_of(session.declared))
