"""From a resolved spec to a session and this terminal in it: what create and run share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import SessionNotFound, SessionStateError, SessionTimeout, SpecError
from mooring_cli import options as opt
from mooring_cli.joining import Shown, forwarding, interruptible, join
from mooring_cli.output import note
from mooring_cli.waiting import Wait, steps

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.sessions.model import Session
    from mooring.spec.resolve import ResolvedSpec

LOOK_S = 0.3


@dataclass(frozen=True)
class Launch:
    """How a session is started, and what this terminal has to do with it.

    Attributes:
        detach: leave it in the background and print its name.
        remove: have it removed when its command has ended.
        tty: a terminal for its main process; None for one if here is one, or nobody at all.
        max_wait_s: give up when it does not run by then; None for as long as it takes.
        enqueue: leave it to itself, also when it has to wait; with ``max_wait_s`` only then.
        files: copied into its private home before it starts.
        tmux: be in the image's tmux, beside its command, or in its terminal if there is no tmux.
        folderless: it is not meant to have the current folder, so nothing is said of that.
    """

    detach: bool = False
    remove: bool = False
    tty: bool | None = None
    max_wait_s: float | None = None
    enqueue: bool = False
    files: Sequence[Path] = ()
    tmux: bool = False
    folderless: bool = False
    detach_keys: str = opt.DETACH_KEYS


def launch(resolved: ResolvedSpec, cwd: Path, how: Launch) -> int:
    """Create a session, be its terminal until its command ends, and return the exit code.

    Raises:
        SessionTimeout: it did not run within ``how.max_wait_s``.
        MooringError: as ``Mooring.create``.
    """
    from mooring.service import Mooring
    from mooring.sessions.model import State
    from mooring.terminals.pump import is_interactive, terminal_size
    from mooring_cli.cells import folder_note

    # what needs no GPU has nothing to queue for
    enqueue = how.enqueue and resolved.spec.gpus != 0
    background = how.detach or (how.enqueue and how.max_wait_s is None)
    if background and how.tmux:
        raise SpecError("--tmux attaches, and -d and --enqueue-only do not", "keep one of them")
    tty = (background or how.tmux or is_interactive()) if how.tty is None else how.tty
    mooring = Mooring()
    with interruptible(), steps() as progress:
        wait = Wait(how.max_wait_s, progress)
        created = mooring.create(
            resolved,
            cwd=cwd,
            attach=not (background or enqueue or how.tmux),
            tty=tty,
            size=terminal_size(),
            remove=how.remove,
            progress=wait.tell,
            cancelled=wait.over,
            detach_keys=how.detach_keys,
            max_wait_s=None if enqueue else how.max_wait_s,
            enqueue=enqueue,
            files=how.files,
        )
        session, stream = created.session, created.stream
        if enqueue and how.max_wait_s is not None:
            session = _await_turn(mooring, session, how.max_wait_s, progress)
    about = folder_note(session)
    if about and not how.folderless:
        note(about)
    if background:
        _tell_background(session)
        return 0
    if how.tmux and session.state is State.RUNNING:
        from mooring_cli.attaching import in_tmux

        left = in_tmux(mooring, session, how.detach_keys)
        note(f"{session.name} goes on; come back with: mooring attach --tmux {session.name}")
        return left
    if tty:
        note(f"session {session.name}; leave it running with {how.detach_keys}")
    if stream is None:
        return _join_late(mooring, session, how, tty)
    with forwarding(mooring, session, stream):
        code = join(stream, detach_keys=how.detach_keys)
    return _ended(mooring, session, code, how.remove)


def _tell_background(session: Session) -> None:
    from mooring.sessions.model import State

    print(session.name, flush=True)
    if session.state in (State.PENDING, State.STARTING):
        note(f"{session.waiting or 'queued'}; it starts by itself when its turn comes")
        note(f"watch it: mooring events -f {session.name}; cancel it: mooring stop {session.name}")
    else:
        note(f"running; open a shell in it: mooring exec {session.name}")


def _await_turn(
    mooring: Mooring, session: Session, max_wait_s: float, progress: Callable[[str], None]
) -> Session:
    """Wait for an enqueued session to run; what does not run by then stays in the queue."""
    from mooring.sessions.model import State

    deadline = time.monotonic() + max_wait_s
    try:
        while session.state in (State.PENDING, State.STARTING):
            progress(session.waiting)
            if time.monotonic() > deadline:
                raise SessionTimeout(
                    f"session {session.name} did not start within {max_wait_s:g} s; "
                    "it stays in the queue",
                    f"come back with: mooring attach {session.name}; "
                    f"cancel it: mooring stop {session.name}",
                )
            time.sleep(LOOK_S)
            session = _still(mooring, session)
    except (KeyboardInterrupt, SystemExit):
        mooring.remove(session, force=True)
        raise
    return session


def _still(mooring: Mooring, session: Session) -> Session:
    """What has become of one that waits. Raises SessionStateError: it could not be started."""
    try:
        return mooring.get(session.id)
    except SessionNotFound:
        past = mooring.past(session.id)
        why = past.reason if past is not None and past.reason else "nothing tells why"
        raise SessionStateError(
            f"session {session.name} did not start: {why}", f"mooring events {session.name}"
        ) from None


def _join_late(mooring: Mooring, session: Session, how: Launch, tty: bool) -> int:
    """Be the terminal of a session that came up by itself; what it printed meanwhile is shown."""
    from mooring.sessions.model import State

    stream = None
    if session.state is State.RUNNING and tty:
        stream = mooring.attach(session, detach_keys=how.detach_keys)
    if stream is None:
        for chunk in mooring.logs(session, follow=True):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return _ended(mooring, session, _code_of(mooring, session), how.remove)
    code = join(stream, detach_keys=how.detach_keys, shown=Shown(replay=None))
    return _ended(mooring, session, code, how.remove)


def _code_of(mooring: Mooring, session: Session) -> int:
    """How a session's command ended; its output ends a moment before the engine knows."""
    from mooring.sessions.model import State

    try:
        while (now := mooring.get(session.id)).state is State.RUNNING:
            time.sleep(LOOK_S)
        code = now.exit_code
    except SessionNotFound:
        past = mooring.past(session.id)
        code = past.exit_code if past else None
    return 1 if code is None else code


def _ended(mooring: Mooring, session: Session, code: int | None, remove: bool) -> int:
    """The exit code of a command whose output has ended; None when its terminal was left."""
    if code is None:
        note(f"left {session.name} running; come back with: mooring attach {session.name}")
        return 0
    mooring.sessions()  # writes down the end, and removes the session if that was asked for
    past = mooring.past(session.id) if remove else None
    if past is not None and past.exit_code is not None:
        return past.exit_code  # another one may have removed the container before we asked it
    return code
