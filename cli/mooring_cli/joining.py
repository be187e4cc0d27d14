"""This terminal and a process in a session: bytes, sizes, signals, and the exit code back."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from mooring.errors import MooringError
from mooring_cli.output import note

if TYPE_CHECKING:
    from mooring.engines.base import Stream
    from mooring.service import Mooring
    from mooring.sessions.model import Session
    from mooring.terminals.terminal import Kept

# Of what a terminal printed, so much is shown to one who comes back: some thousand lines
REPLAY_BYTES = 256 << 10
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Shown:
    """What of a terminal's output is shown to one who comes back: bytes from the end, or from
    the byte of that number on; None for everything there is, and for nothing special.
    """

    replay: int | None = REPLAY_BYTES
    since: int | None = None


def join(
    stream: Stream, *, stdin: int | None = 0, detach_keys: str, shown: Shown | None = None
) -> int | None:
    """Be the process's terminal or pipes until it ends or is left.

    A terminal that is kept is joined anew whenever the connection to it breaks.

    Args:
        shown: of a terminal that is kept; a new one is shown from its first byte.

    Returns:
        Its exit code; None if the user typed the detach keys.
    """
    from mooring.terminals.pump import connect, exit_code, terminal_size
    from mooring.terminals.terminal import Kept

    if isinstance(stream, Kept):
        return _join_kept(stream, stdin, detach_keys, shown or Shown())
    size = terminal_size if stream.tty else None
    if connect(stream, stdin=stdin, size=size, detach_keys=detach_keys):
        print(file=sys.stderr)  # the cursor stands behind what the program wrote last
        return None
    return exit_code(stream)


def _join_kept(terminal: Kept, stdin: int | None, detach_keys: str, shown: Shown) -> int | None:
    from mooring.terminals.attach import Joined
    from mooring.terminals.pump import terminal_size

    here = sys.stdout.isatty()
    code = Joined(
        terminal,
        stdin=stdin,
        size=terminal_size,
        detach_keys=detach_keys,
        offset=0 if terminal.new else shown.since,
        replay=shown.replay,
        exact=not here or terminal.new,
        told=lambda text: note(text, raw=here),
    ).run()
    if code is None:
        print("\r", file=sys.stderr)  # the cursor stands behind what the program wrote last
    return code


@contextlib.contextmanager
def forwarding(
    mooring: Mooring, session: Session, stream: Stream, mark: str = ""
) -> Iterator[None]:
    """Pass the first SIGINT, SIGTERM or SIGHUP on to a process without a terminal.

    It ends as it would have ended here, and its exit code tells. The second one ends this
    command alone. A terminal needs none of this: its keys are bytes.
    """
    if stream.tty:
        yield
        return
    before = {number: signal.getsignal(number) for number in heeded(*ENDING)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def pass_on(number: int, frame: FrameType | None = None) -> None:
        restore()
        # not here: what was interrupted may hold a lock of the engine's client
        threading.Thread(target=send, args=(number,), daemon=True).start()

    def send(number: int) -> None:
        with contextlib.suppress(MooringError):  # it has ended meanwhile
            mooring.signal(session, signal.Signals(number).name.removeprefix("SIG"), mark)

    for number in before:
        signal.signal(number, pass_on)
    try:
        yield
    except BrokenPipeError:
        if mark:  # what a command on this machine would get, too
            send(signal.SIGPIPE)
        raise
    finally:
        restore()


def heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those of some signals that whoever started this did not have ignored, as nohup does."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, the first Ctrl-C interrupts and the next ones wait for what it takes back."""

    def once(number: int, frame: FrameType | None) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, once) for number in heeded(*ENDING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
