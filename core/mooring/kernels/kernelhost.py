"""Client for a session's kernel host, the parent process of its kernels.

The kernel host is ``guest/kernelhost.py``; it listens on a Unix socket in the session's run folder.
Programs in the session can write to that folder, so nothing in it is trusted: symbolic links are
never followed, and answers are limited in size and time.
"""

from __future__ import annotations

import contextlib
import enum
import json
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

from mooring.errors import KernelError
from mooring.guest.channel import Guest
from mooring.guest.clock import stop_reason
from mooring.host.untrusted import parse_json

SOCKET = "kernelhost.sock"
POLL_S = 0.002
MAX_ANSWER_BYTES = 1 << 20
ANSWER_TIMEOUT_S = 30.0
# It answers within a millisecond unless it is importing ipykernel or is paused, or the machine is
# busy
PING_TIMEOUT_S = 0.25
# How long a kernel host that has written to its log may take until it listens
BROKEN_HOST_S = 2.0
LOG_TAIL_LINES = 20


class Patience:
    """How long kernel hosts that may be hostile are waited for, several sessions' together.

    Args:
        total_s: for all sessions, in seconds.
    """

    def __init__(self, total_s: float = 2.0) -> None:
        self._left_s = total_s

    @property
    def exhausted(self) -> bool:
        """Whether all of it is spent."""
        return self._left_s <= 0

    @contextlib.contextmanager
    def turn(self, longest_s: float) -> Iterator[float]:
        """Context manager for one session; returns its deadline by the monotonic clock."""
        began = time.monotonic()
        try:
            yield began + min(longest_s, self._left_s)
        finally:
            self._left_s -= time.monotonic() - began


class HostState(enum.Enum):
    """The result of pinging a session's kernel host."""

    ANSWERS = "answers"
    #: It listens but does not answer before the timeout: it is busy, paused or stopped.
    SILENT = "does not answer in time"
    #: No process listens, or the process that listens is not a kernel host.
    GONE = "no process listens"


class HostLink:
    """A connection to a session's kernel host."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = b""

    @classmethod
    def connect(cls, guest: Guest, timeout_s: float = ANSWER_TIMEOUT_S) -> HostLink:
        """Connect, without retrying.

        Args:
            guest: the session's run folder.
            timeout_s: timeout for the connection, in seconds.

        Raises:
            BlockingIOError, TimeoutError: it listens but does not accept the connection.
            OSError: no process listens.
        """
        # pinned: symbolic links cannot redirect the connection, and the path may be of any length
        with guest.expose([SOCKET]) as (path,):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout_s)
            try:
                connection.connect(path)
            except BaseException:
                connection.close()
                raise
        return cls(connection)

    @classmethod
    def wait_for(cls, guest: Guest, deadline: float | None) -> HostLink:
        """Connect, retrying until it listens.

        Args:
            guest: the session's run folder.
            deadline: when to stop retrying, in seconds of the monotonic clock; None to try once.

        Raises:
            KernelError: no process listens; the message includes the end of its log.
        """
        began = time.monotonic()
        while True:
            try:
                return cls.connect(guest)
            except OSError as error:
                now = time.monotonic()
                log = log_tail(guest, "kernelhost.log")
                busy = isinstance(error, BlockingIOError | TimeoutError)  # it listens
                broken = bool(log) and not busy and now - began > BROKEN_HOST_S
                if deadline is None or now > deadline or broken or session_over(guest):
                    raise KernelError(
                        "the session's kernel host does not answer" + indented(log),
                        "see the session's state: mooring describe",
                    ) from error
            time.sleep(POLL_S)

    def ask(self, request: dict[str, Any], timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """Send a request and return the answer; ``guest/kernelhost.py`` documents both.

        Args:
            request: a JSON object.
            timeout_s: timeout for the whole answer, in seconds.

        Returns:
            The answer, a JSON object.

        Raises:
            TimeoutError: the answer was not complete before the timeout.
            OSError: the connection is broken, or the answer is too long or not a JSON object.
        """
        deadline = time.monotonic() + timeout_s
        self._socket.settimeout(timeout_s)
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while b"\n" not in self._received:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("timed out")
            if len(self._received) > MAX_ANSWER_BYTES:
                raise ConnectionAbortedError("its answer is too long")
            self._socket.settimeout(left_s)
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the connection was closed")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        try:
            answer = parse_json(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ConnectionAbortedError("its answer is not a JSON object")
        return answer

    def hung_up(self) -> bool:
        """Return whether the kernel host has closed the connection or exited. Never blocks."""
        poll = select.poll()
        try:
            poll.register(self._socket, 0)
            return bool(poll.poll(0))
        except (OSError, ValueError):  # another thread closed this end
            return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def host_state(guest: Guest, timeout_s: float = PING_TIMEOUT_S) -> HostState:
    """Ping a session's kernel host.

    Any answer counts: a kernel host of an older version answers the unknown request with an error.

    Args:
        guest: the session's run folder.
        timeout_s: timeout for the connection and for the answer, in seconds each.
    """
    try:
        link = HostLink.connect(guest, timeout_s)
    except (BlockingIOError, TimeoutError):
        return HostState.SILENT
    except OSError:
        return HostState.GONE
    try:
        link.ask({"op": "ping"}, timeout_s)
    except TimeoutError:
        return HostState.SILENT
    except OSError:
        return HostState.GONE
    finally:
        link.close()
    return HostState.ANSWERS


def host_lives(guest: Guest) -> bool:
    """Return whether a session's kernel host runs; one that does not answer counts as running."""
    return host_state(guest) is not HostState.GONE


def session_over(guest: Guest) -> bool:
    """Return whether a session was removed or ended by its timer, according to its run folder."""
    return guest.gone() or stop_reason(guest) is not None


def log_tail(guest: Guest, name: str) -> list[str]:
    """Return the last lines of a log, or an empty list if it cannot be read."""
    try:
        return guest.read(name, tail=True).splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        return []


def indented(lines: list[str]) -> str:
    """Format lines of a log to be appended to a message."""
    return "".join(f"\n    {line}" for line in lines)
