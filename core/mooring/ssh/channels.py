"""Session channels: a shell, a command or SFTP, with or without a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from importlib import resources

import asyncssh

from mooring.engines.base import Stream
from mooring.errors import MooringError
from mooring.host.text import one_line
from mooring.sessions.model import Session
from mooring.ssh.connection import ConnectionState
from mooring.ssh.relay import Bytes, Relay, Relaying
from mooring.ssh.terminal import AttachedTerminal
from mooring.ssh.threads import in_thread
from mooring.terminals.terminal import PersistentTerminal

#: The exit code for a failure of mooring's own, as ssh's for one of its own.
FAILED = 255
# As Debian's sshd accepts them
_ACCEPTED = re.compile(rb"LANG|LC_[A-Z0-9_]{1,40}|TERM")
_MOST_VARIABLE_BYTES = 4096
# https://datatracker.ietf.org/doc/html/rfc4254#section-6.10
_SIGNALS = frozenset(
    ("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1")
)
# After a client has gone: how long output of before may still arrive
DRAIN_S = 0.5
_KILLED = 128


class SessionChannel(Relaying, asyncssh.SSHServerSession[bytes]):
    """A channel that runs one program in the session.

    Args:
        state: what the connection's channels share.
    """

    def __init__(self, state: ConnectionState) -> None:
        super().__init__()
        self._state = state
        self._mark = secrets.token_hex(8)
        self._mode, self._argument = "login", ""
        self._term = ""
        self._size: tuple[int, int] | None = None
        self._terminal: AttachedTerminal | None = None
        self._session: Session | None = None
        self._stream: Stream | None = None

    # what the client asks for, in asyncssh's names

    def pty_requested(
        self,
        term_type: str | None,
        term_size: tuple[int, int, int, int],
        term_modes: Mapping[int, int],
    ) -> bool:
        self._term = term_type or ""
        self._size = _rows_columns(*term_size[:2])
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        self._mode, self._argument = "command", command
        return "\0" not in command

    def subsystem_requested(self, subsystem: str) -> bool:
        self._mode = "sftp"
        return subsystem == "sftp"

    def session_started(self) -> None:
        self._state.spawn(self._run())

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        self._size = _rows_columns(width, height)
        if self._terminal is not None:
            self._terminal.resize(self._size)
        elif self._stream is not None and self._stream.tty:
            self._state.spawn(self._resize(self._stream, self._size))

    def signal_received(self, signal: str) -> None:
        if signal in _SIGNALS and self._size is None:
            self._state.spawn(self._signal(signal))

    # the program

    async def _run(self) -> None:
        """Start the program, carry its streams, and tell the client how it ended."""
        try:
            variables = self._variables()
            if self._state.agent_wanted:
                variables["SSH_AUTH_SOCK"] = await self._state.agent_path()
            began = time.time()
            stream = await in_thread(self._start, variables)
            relay = self.start_relay(self._bytes_of(stream))
            try:
                await asyncio.wait({relay.ended, self.lost}, return_when=asyncio.FIRST_COMPLETED)
                if relay.ended.done():
                    await self._finish(began)
                elif self._terminal is None:
                    await self._leave(relay)
            finally:
                relay.close()
        except (MooringError, OSError) as error:
            self._complain(error if isinstance(error, MooringError) else MooringError(str(error)))
            self.channel.exit(FAILED)
        finally:
            self.channel.close()

    def _variables(self) -> dict[str, str]:
        """Return the environment variables that the client sent and sshd would accept."""
        sent = self.channel.get_environment_bytes()
        accepted = {
            os.fsdecode(name): os.fsdecode(value)
            for name, value in sent.items()
            if _ACCEPTED.fullmatch(name)
            and len(value) <= _MOST_VARIABLE_BYTES
            and b"\0" not in value
        }
        return accepted | ({"TERM": self._term} if self._term else {})

    def _start(self, variables: dict[str, str]) -> Stream:
        """Start the program; blocks. Raises MooringError."""
        self._session = session = self._state.session()
        argv = program(self._mode, self._argument)
        if self._size is None:
            return self._state.mooring.sessions.exec(
                session, argv, stdin=True, env=variables, mark=self._mark
            )
        return self._state.mooring.terminals.open(
            session,
            argv,
            size=self._size,
            env={"TERM": "xterm-256color"} | variables,
            label="ssh",
            shown_as=[self._argument] if self._argument else [],
        )

    def _bytes_of(self, stream: Stream) -> Bytes:
        """Return what to relay of a stream; a persistent terminal is attached to."""
        if isinstance(stream, PersistentTerminal) and self._size is not None:
            self._terminal = AttachedTerminal(stream, self._size, self._note)
            return self._terminal.start()
        self._stream = stream
        return stream

    async def _finish(self, began: float) -> None:
        """Tell the client the exit code of a program whose output has ended."""
        code = await self._exit_code()
        if self.lost.done():
            return
        if code > _KILLED and (why := await in_thread(self._why, began)):
            self._note(why)
        self.channel.exit(code)

    async def _exit_code(self) -> int:
        """Return the exit code, once the engine has it, or else ``FAILED``.

        Raises:
            MooringError: the engine failed, or the terminal cannot be reached any more.
        """
        if self._terminal is not None:
            code = await self._terminal.ended
            return FAILED if code is None else code
        pause_s = 0.002
        while self._stream is not None and not self.lost.done():
            code = await in_thread(self._stream.exit_code)
            if code is not None:
                return code
            await asyncio.wait({self.lost}, timeout=pause_s)
            pause_s = min(pause_s * 1.5, 0.25)
        return FAILED

    def _why(self, began: float) -> str:
        """Return why a signal ended a program; empty if unknown."""
        sessions, session = self._state.mooring.sessions, self._session
        if session is None:
            return ""
        with contextlib.suppress(MooringError):
            reason = ""
            if not self._state.mooring.records.has_ended(session.id):
                reason = sessions.why_killed(session, began)
            if reason:
                return f"killed in {session.name}: {reason}"
            if ended := sessions.why_ended(session):
                return f"session {session.name} is {ended}"
        return ""

    async def _leave(self, relay: Relay) -> None:
        """End the program's part in a connection that is gone, as closed pipes would.

        Its input ends. What then still writes is ended by SIGPIPE or, if it ignores that, SIGTERM;
        what is silent goes on, as with sshd.
        """
        relay.resume()
        relay.send_eof()
        await asyncio.wait({relay.ended}, timeout=DRAIN_S)
        for name in ("PIPE", "TERM"):
            before = relay.received
            await asyncio.wait({relay.ended}, timeout=DRAIN_S)
            if relay.ended.done() or relay.received == before:
                return
            await self._signal(name)

    async def _signal(self, name: str) -> None:
        session = self._session
        if session is not None:
            with contextlib.suppress(MooringError):  # it has ended meanwhile
                await in_thread(self._state.mooring.sessions.signal, session, name, self._mark)

    async def _resize(self, stream: Stream, size: tuple[int, int]) -> None:
        await in_thread(stream.resize, *size)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._terminal is not None:
            self._terminal.detach()

    # what is told

    def _complain(self, error: MooringError) -> None:
        lines = [f"error: {one_line(error.message, None)}"]
        lines += [f"hint: {one_line(error.hint, None)}"] if error.hint else []
        for line in lines:
            self._tell(line)

    def _note(self, text: str) -> None:
        self._tell(f"mooring: {one_line(text, None)}")

    def _tell(self, line: str) -> None:
        """Write a line to the client's standard error; a terminal has no other."""
        end = "\r\n" if self._size else "\n"
        with contextlib.suppress(OSError):
            self.channel.write_stderr(f"{line}{end}".encode(errors="replace"))


def program(mode: str, argument: str) -> list[str]:
    """Return the command line that runs in the session.

    Args:
        mode: ``login``, ``command`` or ``sftp``, see ``ssh.sh``.
        argument: the command line of ``command``.
    """
    guest = resources.files("mooring") / "guest"
    if mode == "sftp":
        argument = (guest / "sftp.py").read_text()
    return ["/bin/sh", "-c", (guest / "ssh.sh").read_text(), "ssh", mode, argument]


def _rows_columns(width: int, height: int) -> tuple[int, int]:
    """Return a terminal's rows and columns; a client without a terminal sends zeros."""
    return (min(height, 9999) or 24), (min(width, 9999) or 80)
