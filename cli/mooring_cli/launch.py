"""Create a session from a launch plan and attach to it, for create and run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring import LaunchOptions, SpecError, Wait
from mooring_cli import options as opt
from mooring_cli.attach import attach_in_tmux, record_end
from mooring_cli.output import note, print_chunks
from mooring_cli.progress import PullDeadline, show_progress
from mooring_cli.terminal_io import Replay, forwarding, interruptible, join

if TYPE_CHECKING:
    from mooring import Created, LaunchPlan, Mooring, Session


@dataclass(frozen=True)
class LaunchFlags:
    """How ``create`` and ``run`` start a session and attach to it.

    Attributes:
        detach: run in the background and print the session's name.
        remove: remove the session when its command has ended.
        tty: whether its main process has a terminal; None to allocate one if standard input and
            output are terminals and used, or if the command does not attach to the main process.
        no_stdin: do not forward standard input.
        max_wait_s: timeout until the session runs, in seconds; None for no timeout.
        enqueue: return immediately if the session is queued, or after ``max_wait_s`` if that is
            set; the session stays in the queue.
        files: files to copy into its private home before it starts.
        tmux: attach inside the image's tmux, in addition to the main process; if the image has no
            tmux, attach to a terminal.
        folderless: do not print the note that the current folder is not mounted.
        detach_keys: as ``--detach-keys``.
    """

    detach: bool = False
    remove: bool = False
    tty: bool | None = None
    no_stdin: bool = False
    max_wait_s: float | None = None
    enqueue: bool = False
    files: Sequence[Path] = ()
    tmux: bool = False
    folderless: bool = False
    detach_keys: str = opt.DETACH_KEYS

    @property
    def stdin(self) -> int | None:
        """The file descriptor to forward; None for none."""
        return None if self.no_stdin else 0

    @property
    def background(self) -> bool:
        """Whether the command returns without attaching."""
        return self.detach or (self.enqueue and self.max_wait_s is None)


def launch(plan: LaunchPlan, flags: LaunchFlags) -> int:
    """Create a session and attach to it until its command ends.

    Args:
        plan: the result of ``plan_with_trust``.
        flags: how to start and attach.

    Returns:
        The exit code of its command; 0 if it runs in the background, or after detaching.

    Raises:
        SessionTimeout: it did not run within ``flags.max_wait_s``.
        MooringError: as ``Sessions.create``.
    """
    from mooring import Mooring, State, is_interactive

    if flags.background and flags.tmux:
        raise SpecError("--tmux attaches, and -d and --enqueue-only do not", "use only one of them")
    tty = flags.tty
    if tty is None:
        tty = flags.background or flags.tmux or (is_interactive() and not flags.no_stdin)
    mooring = Mooring()
    created = _create(mooring, plan, flags, tty)
    session, stream = created.session, created.stream
    about = mooring.records.note(session)
    if about and not flags.folderless:
        note(about)
    if flags.background:
        _report_background(session)
        return 0
    if flags.tmux and session.state is State.RUNNING:
        code = attach_in_tmux(mooring, session, flags.detach_keys)
        note(f"{session.name} is running; to attach again: mooring attach --tmux {session.name}")
        return code
    if tty:
        note(f"session {session.name}; detach with {flags.detach_keys}")
    if stream is None:
        return _join_late(mooring, session, flags, tty)
    with forwarding(mooring, session, stream):
        end = join(stream, stdin=flags.stdin, detach_keys=flags.detach_keys)
    return _exit_code(mooring, session, end, flags)


def _create(mooring: Mooring, plan: LaunchPlan, flags: LaunchFlags, tty: bool) -> Created:
    """Create a session and show the progress; if it is queued, wait for ``max_wait_s``."""
    from mooring import Created, terminal_size

    enqueue = flags.enqueue and plan.spec.gpus != 0  # without GPUs there is no queue
    with interruptible(), show_progress() as progress:
        deadline = PullDeadline(flags.max_wait_s, progress)
        created = mooring.sessions.create(
            plan,
            LaunchOptions(
                attach=not (flags.background or enqueue or flags.tmux),
                tty=tty,
                size=terminal_size(),
                remove=flags.remove,
                detach_keys=flags.detach_keys,
                enqueue=enqueue,
                files=tuple(flags.files),
            ),
            wait=Wait(
                progress=deadline.progress,
                cancelled=deadline.cancelled,
                max_wait_s=None if enqueue else flags.max_wait_s,
            ),
        )
        if not enqueue or flags.max_wait_s is None:
            return created
        session = mooring.sessions.wait_until_started(
            created.session,
            max_wait_s=flags.max_wait_s,
            progress=progress,
            remove_on_interrupt=True,
        )
        return Created(session, created.stream)


def _report_background(session: Session) -> None:
    from mooring import LAUNCHING

    name = session.name
    print(name, flush=True)
    if session.state in LAUNCHING:
        note(f"{session.waiting or 'queued'}; it starts by itself when its turn comes")
        note(f"to follow it: mooring events -f {name}; to cancel it: mooring stop {name}")
    elif session.declared.get("command"):
        note(f"started; its output: mooring logs {name}; a shell in it: mooring exec {name}")
    else:
        note(f"running; to open a shell in it: mooring exec {name}")


def _join_late(mooring: Mooring, session: Session, flags: LaunchFlags, tty: bool) -> int:
    """Attach to a session that was started from the queue, and show its output so far."""
    from mooring import State

    stream = None
    if session.state is State.RUNNING and tty:
        stream = mooring.terminals.attach(session, detach_keys=flags.detach_keys)
    if stream is None:
        print_chunks(mooring.sessions.logs(session, follow=True))
        # the output ends shortly before the engine reports the exit
        code = mooring.sessions.wait_until_ended(session)
        return record_end(mooring, session, 1 if code is None else code)
    replay = Replay(last_bytes=None)
    end = join(stream, stdin=flags.stdin, detach_keys=flags.detach_keys, replay=replay)
    return _exit_code(mooring, session, end, flags)


def _exit_code(mooring: Mooring, session: Session, code: int | None, flags: LaunchFlags) -> int:
    """Return the command's exit code; say at a terminal that the session is kept.

    Args:
        mooring: the core.
        session: the command's session.
        code: the result of ``join``; None after detaching.
        flags: how it was launched.
    """
    if code is None:
        note(f"detached from {session.name}; to attach again: mooring attach {session.name}")
        return 0
    files = mooring.records.home_files(session)
    code = record_end(mooring, session, code)
    if files and not mooring.records.exists(session.id):
        note(f"{session.name} is removed; {files.deletion_note}")
    elif not flags.remove and sys.stderr.isatty():
        name = session.name
        note(f"{name} has ended and is kept: mooring start {name}, mooring rm {name}")
    return code
