"""Connect this process's terminal to a process in a session: bytes, size, signals, exit code."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from mooring import MooringError
from mooring_cli.output import note

if TYPE_CHECKING:
    from mooring import Mooring, PersistentTerminal, Session, Stream

REPLAY_BYTES = 256 << 10  # several thousand lines
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Replay:
    """The earlier output of a terminal to show to a client that attaches.

    Attributes:
        last_bytes: how many of the last bytes; None for all.
        since: offset of the first byte, which overrides ``last_bytes``; None to use that.
    """

    last_bytes: int | None = REPLAY_BYTES
    since: int | None = None


def join(
    stream: Stream, *, stdin: int | None = 0, detach_keys: str, replay: Replay | None = None
) -> int | None:
    """Connect this process's terminal or pipes to a process until it ends or the user detaches.

    A broken connection to a persistent terminal is reopened.

    Args:
        stream: the process's stream.
        stdin: the file descriptor to read from; None to send no input. Without a terminal in the
            session, no input is sent either while this process runs in the background of its own.
        detach_keys: as ``--detach-keys``; empty for none.
        replay: for a persistent terminal that is not new; a new one is shown from its first byte.

    Returns:
        The exit code of the process; None after detaching.

    Raises:
        BrokenPipeError: the reader of standard output has closed the pipe.
        MooringError: the terminal cannot be reached any more, or the engine failed.
    """
    from mooring import PersistentTerminal, connect, exit_code, in_background, terminal_size

    if isinstance(stream, PersistentTerminal):
        return _join_persistent(stream, stdin, detach_keys, replay or Replay())
    size = terminal_size if stream.tty else None
    if not stream.tty and in_background():
        stdin = None
    if connect(stream, stdin=stdin, size=size, detach_keys=detach_keys):
        print(file=sys.stderr)  # end the line of the program's last output
        return None
    return exit_code(stream)


def _join_persistent(
    terminal: PersistentTerminal, stdin: int | None, detach_keys: str, replay: Replay
) -> int | None:
    from mooring import Attachment, terminal_size

    here = sys.stdout.isatty()
    code = Attachment(
        terminal,
        stdin=stdin,
        size=terminal_size,
        detach_keys=detach_keys,
        offset=0 if terminal.new else replay.since,
        replay=replay.last_bytes,
        exact=not here or terminal.new,
        warn=lambda text: note(text, raw=here),
    ).run()
    if code is None:
        print("\r", file=sys.stderr)  # end the line of the program's last output
    return code


@contextlib.contextmanager
def forwarding(
    mooring: Mooring, session: Session, stream: Stream, mark: str = ""
) -> Iterator[None]:
    """Forward the first SIGINT, SIGTERM or SIGHUP in the block to a process in a session.

    This command then returns the process's exit code; a second signal ends only this command. With
    a terminal no signal is forwarded, because keys such as Ctrl-C reach the process as bytes.

    Args:
        mooring: the core.
        session: the process's session.
        stream: the process's stream.
        mark: the ``mark`` that was passed to ``Sessions.exec``; empty for the main process.
    """
    if stream.tty:
        yield
        return
    before = {number: signal.getsignal(number) for number in not_ignored(*ENDING)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def pass_on(number: int, frame: FrameType | None = None) -> None:
        restore()
        # in a thread, because the interrupted code may hold a lock of the engine's client
        threading.Thread(target=send, args=(number,), daemon=True).start()

    def send(number: int) -> None:
        with contextlib.suppress(MooringError):  # the process has ended meanwhile
            mooring.sessions.signal(session, signal.Signals(number).name.removeprefix("SIG"), mark)

    for number in before:
        signal.signal(number, pass_on)
    try:
        yield
    except BrokenPipeError:
        if mark:  # a local command would receive SIGPIPE
            send(signal.SIGPIPE)
        raise
    finally:
        restore()


def not_ignored(*numbers: signal.Signals) -> list[signal.Signals]:
    """Return the signals that are not ignored; programs started with nohup ignore SIGHUP."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first signal interrupt the block, and ignore later ones during the cleanup.

    Raises:
        KeyboardInterrupt: at SIGINT.
        SystemExit: at SIGTERM or SIGHUP.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, interrupt) for number in not_ignored(*ENDING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
