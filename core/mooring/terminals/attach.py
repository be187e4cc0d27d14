"""Attach this process's terminal to a terminal that a keeper holds.

The connection may break at any byte and is reopened for as long as the session exists: output
continues where it stopped, and input that the keeper did not acknowledge is sent again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import time
from collections.abc import Callable

from mooring.errors import EngineError, EngineUnavailable, NotSupported, SessionStateError
from mooring.terminals.detach_keys import DetachKeys
from mooring.terminals.keeper import protocol
from mooring.terminals.keeper.client import Link, keeper_serves, not_understood, session_exists
from mooring.terminals.modes import Modes
from mooring.terminals.pump import key_codes, raw, undo, write_all
from mooring.terminals.replay import Replay
from mooring.terminals.resize import Resizer, size_changes
from mooring.terminals.terminal import MainTerminal, PersistentTerminal

MAX_UNACCEPTED_BYTES = 64 << 10
MIN_RETRY_S, MAX_RETRY_S = 0.02, 2.0

REPLACED = "the keeper of this terminal was replaced: output may be missing here"


class Attachment:
    """One client of a persistent terminal.

    Args:
        terminal: the terminal to attach to.
        stdin, stdout: file descriptors; if ``stdin`` is None, no input is sent.
        size: returns the rows and columns of this process's terminal; None if it has none.
        detach_keys: in the format of ``pump.key_codes``.
        offset: offset of the first byte of output to show; None to use ``replay``.
        replay: how many of the newest bytes to show first; None for all that are kept.
        exact: show the replay byte for byte, and do not change the modes of this terminal.
        resized: a file descriptor that becomes readable when ``size`` has changed; None for this
            process's own terminal, whose changes only the main thread can be told of.
        detach_at_end: detach at the end of the input, as if the detach keys had been typed.
        warn: called with a line of text for the user.
    """

    def __init__(
        self,
        terminal: PersistentTerminal,
        *,
        stdin: int | None = 0,
        stdout: int = 1,
        size: Callable[[], tuple[int, int]] | None = None,
        detach_keys: str = "",
        offset: int | None = None,
        replay: int | None = None,
        exact: bool = False,
        resized: int | None = None,
        detach_at_end: bool = False,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._terminal = terminal
        self._stdin, self._stdout, self._size = stdin, stdout, size
        self._keys = DetachKeys(key_codes(detach_keys))
        self._offset, self._replay_bytes, self._exact = offset, replay, exact
        self._resized, self._detach_at_end = resized, detach_at_end
        self._warn = warn
        self._name = secrets.token_hex(8)
        self._link: Link | None = None
        self._greeted = False
        self._known = False  # a keeper has greeted this client before
        self._outgoing = bytearray()
        self._unaccepted = bytearray()
        self._accepted = 0  # bytes of input before the unaccepted ones
        # The modes of this process's terminal, and those that the program has set
        self._modes, self._program_modes = Modes(), Modes()
        self._replay: Replay | None = None
        self._code: int | None = None
        self._over = False
        self._retry_at = 0.0
        self._retry_s = MIN_RETRY_S
        self._resizer = Resizer(terminal)

    def run(self) -> int | None:
        """Transfer input and output until the terminal's process ends or the user detaches.

        Returns:
            The process's exit code, or None after the detach keys.

        Raises:
            BrokenPipeError: the reader of this process's output has closed the pipe.
            SessionStateError: the terminal cannot be reached any more, or its keeper's answer is
                not understood.
            EngineError, NotSupported, OSError: reconnecting to the terminal failed repeatedly.
        """
        with self._size_changes() as resized, raw(self._stdin):
            try:
                while not self._over:
                    self._step(resized)
            finally:
                self._disconnect()
                self._resizer.close()
                if self._size is not None:
                    undo(self._modes, self._stdin, self._stdout)
        return self._code

    def _size_changes(self) -> contextlib.AbstractContextManager[int]:
        if self._resized is not None:
            return contextlib.nullcontext(self._resized)
        return size_changes(self._size is not None)

    # the loop

    def _step(self, resized: int) -> None:
        now = time.monotonic()
        if self._link is None and now >= self._retry_at:
            self._connect()
            if self._over:
                return
        if self._keys.deadline is not None and now >= self._keys.deadline:
            self._send_input(self._keys.flush())
        poll = select.poll()
        poll.register(resized, select.POLLIN)
        if self._stdin is not None and len(self._unaccepted) < MAX_UNACCEPTED_BYTES:
            poll.register(self._stdin, select.POLLIN)
        if self._link is not None:
            writable = select.POLLOUT if self._outgoing else 0
            poll.register(self._link.socket, select.POLLIN | writable)
        for number, events in poll.poll(self._timeout_ms(now)):
            if number == resized:
                os.read(resized, protocol.CHUNK)
                self._send_size()
            elif number == self._stdin:
                self._read_keys()
            elif self._link is not None:
                if events & select.POLLOUT:
                    self._send()
                if events & ~select.POLLOUT and self._link is not None:
                    self._receive(self._link)
            if self._over:
                return

    def _timeout_ms(self, now: float) -> float | None:
        deadlines = [] if self._keys.deadline is None else [self._keys.deadline]
        if self._link is None:
            deadlines.append(self._retry_at)
        return max(0.0, min(deadlines) - now) * 1000 + 1 if deadlines else None

    # input

    def _read_keys(self) -> None:
        assert self._stdin is not None  # noqa: S101
        try:
            data = os.read(self._stdin, protocol.CHUNK)
        except OSError:  # the terminal has hung up
            data = b""
        if not data:
            self._stdin = None
            if self._detach_at_end:
                self._flush()
                self._over = True
            return
        data, detach = self._keys.feed(data, time.monotonic())
        self._send_input(data)
        if detach:
            self._flush()
            self._over = True

    def _send_input(self, data: bytes) -> None:
        if data:
            self._unaccepted += data
            if self._greeted:
                self._outgoing += protocol.encode_data(data)
                self._send()

    def _flush(self) -> None:
        """Send the queued input, which includes keys typed before the detach keys."""
        if self._link is not None and self._outgoing:
            with contextlib.suppress(OSError):
                self._link.socket.settimeout(1.0)
                self._link.socket.sendall(self._outgoing)

    def _send(self) -> None:
        if self._link is None or not self._outgoing:
            return
        try:
            del self._outgoing[: self._link.socket.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._disconnect()

    def _send_size(self) -> None:
        if self._size is not None and self._greeted:
            rows, columns = self._size()
            self._outgoing += protocol.encode("size", rows=rows, columns=columns)
            self._send()

    # output and messages

    def _receive(self, link: Link) -> None:
        try:
            data = link.socket.recv(protocol.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            return
        try:
            for kind, payload in link.frames.feed(data):
                if kind == protocol.DATA:
                    self._show(payload)
                else:
                    self._handle(protocol.decode(payload))
                if self._over or self._link is not link:
                    return
        except (ValueError, KeyError) as error:
            raise not_understood(error) from error

    def _advance(self, count: int) -> None:
        if self._offset is None:
            raise ValueError("output before hello")
        self._offset += count

    def _show(self, data: bytes) -> None:
        self._advance(len(data))
        if self._replay is not None:
            replayed, data = self._replay.feed(data)
            self._write(replayed)  # undone if the user detaches during the replay
            if not self._replay.left:
                self._replay = None
                self._restore_modes()
        self._write(data)

    def _write(self, data: bytes) -> None:
        after = self._modes.feed(data)
        write_all(self._stdout, data)
        if after and self._size is not None:  # a terminal
            write_all(self._stdout, after)

    def _handle(self, message: dict[str, object]) -> None:
        op = message["op"]
        if op == "hello":
            self._on_hello(message)
        elif op == "ack":
            self._forget_accepted(_number(message["bytes"]))
        elif op == "apply":
            self._resizer.apply((_number(message["rows"]), _number(message["columns"])))
        elif op == "lost":
            count = _number(message["bytes"])
            self._advance(count)
            self._warn(f"{count} bytes of earlier output were discarded")
        elif op == "exit":
            self._on_exit(message)
        elif op == "refused":
            raise SessionStateError(
                f"terminal {self._terminal.name}: {message.get('why')}",
                "to list terminals: mooring terminals",
            )

    def _on_hello(self, message: dict[str, object]) -> None:
        offset, accepted = _number(message["offset"]), message["taken"]
        first = self._offset is None
        if not first and offset != self._offset:
            self._warn(REPLACED)
        self._offset = offset
        if first and not self._exact:
            self._begin_replay(message, offset)
        if not self._known and self._size is not None:
            self._resizer.apply(self._size(), redraw=first)
            if not self._terminal.new:  # a new one already has its size, if the image has stty
                self._resizer.wait()  # before input is sent
        if isinstance(accepted, int):
            self._forget_accepted(accepted)
        elif self._known:
            # A new keeper does not know whether the input was accepted; losing it is better than
            # sending it twice
            self._accepted = 0
            self._unaccepted.clear()
        self._greeted = self._known = True
        self._retry_s = MIN_RETRY_S
        if self._unaccepted:
            self._outgoing += protocol.encode_data(bytes(self._unaccepted))
        self._send_size()
        self._send()

    def _begin_replay(self, message: dict[str, object], offset: int) -> None:
        self._program_modes = Modes(message.get("modes"))
        length = _number(message["end"]) - offset
        if length:
            self._replay = Replay(length, cut=offset > 0)
        else:
            self._restore_modes()

    def _restore_modes(self) -> None:
        """Set the modes of this terminal to the program's, regardless of the replay."""
        data = self._modes.become(self._program_modes)
        if self._size is not None:
            write_all(self._stdout, data)

    def _forget_accepted(self, accepted: int) -> None:
        count = accepted - self._accepted
        if 0 < count <= len(self._unaccepted):
            del self._unaccepted[:count]
            self._accepted = accepted

    def _on_exit(self, message: dict[str, object]) -> None:
        code = message.get("code")
        if isinstance(code, int):
            self._code, self._over = code, True
            return
        if message.get("lost"):
            raise SessionStateError(
                f"terminal {self._terminal.name} cannot be reached any more: its keeper was killed",
                "its program may still run in the session; open another terminal: mooring exec",
            )
        try:
            code = self._terminal.wait_for_exit()
            if code is None and self._terminal.reconnect():
                self._warn("the engine was restarted: output may be missing here")
                return
        except EngineUnavailable:
            return  # the keeper sends the code once the engine has answered
        self._outgoing += protocol.encode("ended", code=code)
        self._flush()
        if code is None:
            raise SessionStateError(
                f"the engine has disconnected terminal {self._terminal.name}",
                "its program may still run in the session; open another terminal: mooring exec",
            )
        self._code, self._over = code, True

    # the connection

    def _connect(self) -> None:
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, MAX_RETRY_S)
        try:
            link = Link.open(self._terminal.session_dir)
        except OSError:
            self._recover()
            return
        link.socket.setblocking(False)
        self._link = link
        self._outgoing.clear()
        request: dict[str, object] = {"terminal": self._terminal.name, "client": self._name}
        if self._offset is None:
            request["replay"] = self._replay_bytes
        else:
            request["offset"] = self._offset
        if self._size is not None:
            request["rows"], request["columns"] = self._size()
        self._outgoing += protocol.encode("attach", **request)
        self._send()

    def _recover(self) -> None:
        """Handle a keeper that does not answer: it or its session has ended, or it is starting."""
        terminal = self._terminal
        try:
            code = terminal.exit_code()
            if code is not None and terminal.has_unread_output():
                main = MainTerminal(terminal.engine, terminal.session_dir, terminal.command)
                main.ended(terminal.container)
            elif code is not None:
                self._code, self._over = code, True
            elif not keeper_serves(terminal.session_dir):
                if not session_exists(terminal.session_dir):
                    raise SessionStateError(
                        "the session was removed", "to list sessions: mooring ps -a"
                    )
                if not terminal.reconnect():
                    self._on_exit({"lost": True})
                self._warn(REPLACED)
        except EngineUnavailable:
            return  # the state is unknown; retried later
        except (EngineError, NotSupported, OSError):
            if self._retry_s >= MAX_RETRY_S:
                raise

    def _disconnect(self) -> None:
        self._greeted = False
        self._outgoing.clear()
        if self._link is not None:
            self._link.close()
            self._link = None


def _number(value: object) -> int:
    return int(str(value))
