"""This process's terminal and one that a keeper holds: joined until it ends or is left.

The connection between the two may break at any byte, and is made again for as long as the
session lives: what was printed goes on where it stopped, and what was typed and not taken is sent
again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

from mooring.errors import EngineError, EngineUnavailable, MooringError, SessionStateError
from mooring.terminals.keeper import protocol as wire
from mooring.terminals.keeper.client import Link, lives
from mooring.terminals.modes import Modes, Replay
from mooring.terminals.pump import key_codes, raw, write_all
from mooring.terminals.terminal import Kept, MainTerminal

UNTAKEN_BYTES = 64 << 10
# A key that may be the first of those that leave is passed on after so long
KEY_PATIENCE_S = 0.5
AGAIN_S, AGAIN_AT_MOST_S = 0.02, 2.0
# A size that the engine refuses is told again so many times
TELLINGS, TOLD_AGAIN_S = 5, 0.5
# Programs look at the size a moment after they hear of it
REDRAW_S = 0.05
APPLIED_WITHIN_S = 2.0


class LeavingKeys:
    """Holds back what may become the keys that leave, until it is known not to."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self.held = b""
        self.held_since = 0.0

    def feed(self, data: bytes, now: float) -> tuple[bytes, bool]:
        """What to pass on, and whether they were all typed."""
        data = self.held + data
        self.held = b""
        if not self._keys:
            return data, False
        at = data.find(self._keys)
        if at >= 0:
            return data[:at], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self.held, self.held_since = data[-length:], now
                return data[:-length], False
        return data, False

    def give_up(self) -> bytes:
        """What was held back too long."""
        held, self.held = self.held, b""
        return held


class Joined:
    """One client of a kept terminal.

    Args:
        terminal: which one.
        stdin, stdout: file descriptors; ``stdin`` None sends nothing.
        size: rows and columns of the terminal here; None where there is none.
        detach_keys: as ``terminals.key_codes`` takes them.
        offset: begin with the byte of that number; else with
        replay: so many of the newest bytes, None for all there are.
        exact: not a byte is left out of what is shown once more.
        told: called with a line that a person should read.
    """

    def __init__(
        self,
        terminal: Kept,
        *,
        stdin: int | None = 0,
        stdout: int = 1,
        size: Callable[[], tuple[int, int]] | None = None,
        detach_keys: str = "",
        offset: int | None = None,
        replay: int | None = None,
        exact: bool = False,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._terminal = terminal
        self._stdin, self._stdout, self._size = stdin, stdout, size
        self._keys = LeavingKeys(key_codes(detach_keys))
        self._offset, self._replay, self._exact = offset, replay, exact
        self._told = told
        self._name = secrets.token_hex(8)
        self._link: Link | None = None
        self._greeted = False
        self._known = False  # a keeper has greeted this client before
        self._out = bytearray()
        self._untaken = bytearray()
        self._taken = 0  # the offset of the first of them in all that was typed
        self._modes = self._stands = Modes()
        self._shown_again: Replay | None = None
        self._code: int | None = None
        self._over = False
        self._again_at = 0.0
        self._pause_s = AGAIN_S
        self._sizer = _Sizer(terminal)
        self._wake = -1

    def run(self) -> int | None:
        """Go on until the terminal's process ends, or the detach keys are typed.

        Returns:
            Its exit code; None if it was left.

        Raises:
            BrokenPipeError: nobody reads our output any more.
            SessionStateError: nothing leads to the terminal any more.
            EngineUnavailable: how it ended cannot be asked.
        """
        with self._woken(), raw(self._stdin):
            try:
                while not self._over:
                    self._round()
            finally:
                self._hang_up()
                self._sizer.close()
                if self._size is not None:
                    with contextlib.suppress(OSError):
                        write_all(self._stdout, self._modes.undone())
        return self._code

    # the loop

    def _round(self) -> None:
        now = time.monotonic()
        if self._link is None and now >= self._again_at:
            self._connect()
            if self._over:
                return
        if self._keys.held and now - self._keys.held_since >= KEY_PATIENCE_S:
            self._type(self._keys.give_up())
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._stdin is not None and len(self._untaken) < UNTAKEN_BYTES:
            poll.register(self._stdin, select.POLLIN)
        if self._link is not None:
            poll.register(self._link.socket, select.POLLIN | (select.POLLOUT if self._out else 0))
        for number, events in poll.poll(self._timeout_ms(now)):
            if number == self._wake:
                os.read(self._wake, wire.CHUNK)
                self._tell_size()
            elif number == self._stdin:
                self._read_keys()
            elif self._link is not None:
                if events & select.POLLOUT:
                    self._send()
                if events & ~select.POLLOUT and self._link is not None:
                    self._hear()
            if self._over:
                return

    def _timeout_ms(self, now: float) -> float | None:
        ends = []
        if self._link is None:
            ends.append(self._again_at)
        if self._keys.held:
            ends.append(self._keys.held_since + KEY_PATIENCE_S)
        return max(0.0, min(ends) - now) * 1000 + 1 if ends else None

    # typing

    def _read_keys(self) -> None:
        assert self._stdin is not None  # noqa: S101
        try:
            data = os.read(self._stdin, wire.CHUNK)
        except OSError:  # the terminal was hung up
            data = b""
        if not data:
            self._stdin = None
            return
        data, leave = self._keys.feed(data, time.monotonic())
        self._type(data)
        if leave:
            self._flush()
            self._over = True

    def _type(self, data: bytes) -> None:
        if data:
            self._untaken += data
            if self._greeted:
                self._out += wire.data(data)
                self._send()

    def _flush(self) -> None:
        """What was typed before the detach keys is the program's."""
        if self._link is not None and self._out:
            with contextlib.suppress(OSError):
                self._link.socket.settimeout(1.0)
                self._link.socket.sendall(self._out)

    def _send(self) -> None:
        if self._link is None or not self._out:
            return
        try:
            del self._out[: self._link.socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up()

    def _tell_size(self) -> None:
        if self._size is not None and self._greeted:
            rows, columns = self._size()
            self._out += wire.said("size", rows=rows, columns=columns)
            self._send()

    # hearing

    def _hear(self) -> None:
        assert self._link is not None  # noqa: S101
        try:
            data = self._link.socket.recv(wire.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        link = self._link
        for kind, payload in link.frames.feed(data):
            if kind == wire.DATA:
                self._show(payload)
            else:
                self._understand(wire.understood(payload))
            if self._over or self._link is not link:
                return

    def _show(self, data: bytes) -> None:
        assert self._offset is not None  # noqa: S101
        self._offset += len(data)
        if self._shown_again is not None:
            again, data = self._shown_again.feed(data)
            write_all(self._stdout, again)
            self._modes.feed(again)  # for one who leaves in the middle
            if not self._shown_again.left:
                self._shown_again = None
                self._restore_modes()
        self._modes.feed(data)
        write_all(self._stdout, data)

    def _understand(self, said: dict[str, object]) -> None:
        op = said["op"]
        if op == "hello":
            self._greet(said)
        elif op == "ack":
            self._forget_taken(int(str(said["bytes"])))
        elif op == "apply":
            size = int(str(said["rows"])), int(str(said["columns"]))
            self._sizer.apply(size)
        elif op == "lost":
            assert self._offset is not None  # noqa: S101
            count = int(str(said["bytes"]))
            self._offset += count
            self._told(f"{count} bytes of the output are gone: they were too many to keep")
        elif op == "exit":
            self._end(said)
        elif op == "refused":
            raise SessionStateError(
                f"terminal {self._terminal.name}: {said.get('why')}",
                "mooring terminals tells which there are",
            )

    def _greet(self, said: dict[str, object]) -> None:
        offset, taken = int(str(said["offset"])), said["taken"]
        first = self._offset is None
        if self._offset is not None and offset != self._offset:
            self._told("the keeper of this terminal was replaced: output may be missing here")
        self._offset = offset
        if first and not self._exact:
            self._begin(said, offset)
        if not self._known and self._size is not None:
            self._sizer.apply(self._size(), anew=first)
            if not self._terminal.new:  # that has it already, if the image has stty
                self._sizer.wait()  # before anything that is typed
        if isinstance(taken, int):
            self._forget_taken(taken)
        elif self._known:
            # another keeper: whether it was taken nobody knows, and twice is worse than never
            self._taken = 0
            self._untaken.clear()
        self._greeted = self._known = True
        self._pause_s = AGAIN_S
        if self._untaken:
            self._out += wire.data(bytes(self._untaken))
        self._tell_size()
        self._send()

    def _begin(self, said: dict[str, object], offset: int) -> None:
        changed = said.get("modes")
        self._stands = Modes(changed if isinstance(changed, list) else [])
        length = int(str(said["end"])) - offset
        if length:
            self._shown_again = Replay(length, cut=offset > 0)
        else:
            self._restore_modes()

    def _restore_modes(self) -> None:
        """Bring this terminal to where the program has it, whatever was shown once more."""
        self._modes = self._stands
        if self._size is not None:
            write_all(self._stdout, self._modes.restored())

    def _forget_taken(self, taken: int) -> None:
        count = taken - self._taken
        if 0 < count <= len(self._untaken):
            del self._untaken[:count]
            self._taken = taken

    def _end(self, said: dict[str, object]) -> None:
        code = said.get("code")
        if isinstance(code, int):
            self._code, self._over = code, True
            return
        if said.get("lost"):
            raise SessionStateError(
                f"nothing leads to terminal {self._terminal.name} any more: its keeper was killed",
                "its program may go on in the session; open another: mooring exec",
            )
        try:
            code = self._terminal.settle()
            if code is None and self._terminal.take_up_again():
                self._told("the engine was restarted: output may be missing here")
                return
        except EngineUnavailable:
            return  # the keeper tells it once somebody knows
        self._out += wire.said("ended", code=code)
        self._flush()
        if code is None:
            raise SessionStateError(
                f"the engine has let go of terminal {self._terminal.name}",
                "its program may go on in the session; open another: mooring exec",
            )
        self._code, self._over = code, True

    # the connection

    def _connect(self) -> None:
        self._again_at = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, AGAIN_AT_MOST_S)
        try:
            link = Link.open(self._terminal.folder)
        except OSError:
            self._recover()
            return
        link.socket.setblocking(False)
        self._link = link
        self._out.clear()
        asked: dict[str, object] = {"terminal": self._terminal.name, "client": self._name}
        if self._offset is None:
            asked["replay"] = self._replay
        else:
            asked["offset"] = self._offset
        if self._size is not None:
            asked["rows"], asked["columns"] = self._size()
        self._out += wire.said("attach", **asked)
        self._send()

    def _recover(self) -> None:
        """No keeper answers: the session is over, or its keeper is, or it is about to serve."""
        try:
            code = self._terminal.exit_code()
            if code is not None and self._terminal.has_rest():
                MainTerminal(self._terminal.engine, self._terminal.folder).over("")
            elif code is not None:
                self._code, self._over = code, True
            elif not lives(self._terminal.folder):
                if not self._terminal.folder.exists:
                    raise SessionStateError("the session was removed", "mooring ps -a")
                if not self._terminal.take_up_again():
                    self._end({"lost": True})
                self._told("the keeper of this terminal was replaced: output may be missing here")
        except EngineUnavailable:
            return  # nothing is known: later
        except (EngineError, OSError):
            if self._pause_s >= AGAIN_AT_MOST_S:
                raise

    def _hang_up(self) -> None:
        self._greeted = False
        self._out.clear()
        if self._link is not None:
            self._link.close()
            self._link = None

    @contextlib.contextmanager
    def _woken(self) -> Iterator[None]:
        """Hear of a change of this terminal's size."""
        self._wake, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        # By Python's own handler, which may run in any thread, and not by ours: that one runs in
        # the main thread, which may wait for something else until then
        changed = self._size is not None
        before = signal.signal(signal.SIGWINCH, lambda *_: None) if changed else None
        woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False) if changed else -1
        try:
            yield
        finally:
            if changed:
                signal.set_wakeup_fd(woken)
                signal.signal(signal.SIGWINCH, before)
            os.close(writing)
            os.close(self._wake)


class _Sizer:
    """Gives the terminal its size, beside the loop: an engine takes its time, or is frozen."""

    def __init__(self, terminal: Kept) -> None:
        self._terminal = terminal
        self._wanted: tuple[tuple[int, int], bool] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._closed = False

    def apply(self, size: tuple[int, int], *, anew: bool = False) -> None:
        """The newest one counts; ``anew`` makes the program draw what it has drawn before."""
        with self._changed:
            self._wanted = size, anew or bool(self._wanted and self._wanted[1])
            self._done.clear()
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Until the terminal has it, if the engine answers soon."""
        self._done.wait(APPLIED_WITHIN_S)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        again = 0
        while True:
            with self._changed:
                while self._wanted is None and not self._closed:
                    self._changed.wait()
                if self._closed or self._wanted is None:
                    return
                (rows, columns), anew = self._wanted
                self._wanted = None
            try:
                if anew:
                    self._terminal.resize(rows, max(1, columns - 1))
                    time.sleep(REDRAW_S)
                self._terminal.resize(rows, columns)
            except MooringError:  # an engine in distress, or a process that has ended
                with self._changed:
                    if self._wanted is None and again < TELLINGS:
                        self._changed.wait(TOLD_AGAIN_S)
                        self._wanted = self._wanted or ((rows, columns), anew)
                        again += 1
                        continue
            again = 0
            self._done.set()
