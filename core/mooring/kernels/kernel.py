"""A kernel inside a session: the five sockets in its folder, and its process.

The session's kernel host (``kernelhost``) starts, signals and waits for the process. The engine is
never called, so a frozen engine does not affect kernels, and a restart costs only a fork.

``guest`` is the session's run folder, /run/mooring in its container.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mooring.errors import KernelError, SessionTimeout
from mooring.guest.channel import Guest
from mooring.guest.clock import stop_reason
from mooring.guest.paths import GUEST_RUN
from mooring.host import forks
from mooring.host.paths import SOCKET_PATH_MAX
from mooring.host.untrusted import parse_json
from mooring.kernels.connection import CHANNELS, Connection
from mooring.kernels.exits import KILLED, Exit, ExitLog, parse_exit
from mooring.kernels.kernelhost import (
    ANSWER_TIMEOUT_S,
    HostLink,
    indented,
    log_tail,
    session_over,
)

POLL_S = 0.002
# The kernelspec names that jupyter_client accepts
_KERNEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
# How long a start waits for the recorder of a kernel other than python3; after this timeout the
# first output may be missing from the recording
WATCH_TIMEOUT_S = 2.0


def check_socket_path(guest: Guest, kernel_id: str) -> None:
    """Check that the paths of a kernel's sockets are short enough.

    Args:
        guest: the session's run folder.
        kernel_id: the name of the kernel's own folder.

    Raises:
        KernelError: a path would be too long for a Unix socket.
    """
    path = guest.socket_path(f"k/{kernel_id}")
    length = len(os.fsencode(f"{path}/s-5"))
    if length > SOCKET_PATH_MAX:
        raise KernelError(
            f"{path} is too long for a socket ({length} of {SOCKET_PATH_MAX} bytes)",
            "set MOORING_STATE_DIR to a shorter path, such as /var/tmp/mooring-$USER",
        )


class KernelHandle:
    """One kernel of a session, running or ended.

    Args:
        guest: the session's run folder.
        kernel_id: at most 40 letters, digits and dashes; the name of the kernel's own folder.
        session_id: the session's id, for its history.
        memory_limit: the session's memory limit as text for messages; empty for no limit.

    Raises:
        KernelError: the paths of its sockets would be too long for a Unix socket.
    """

    def __init__(
        self, guest: Guest, kernel_id: str, *, session_id: str = "", memory_limit: str = ""
    ) -> None:
        self.guest = guest
        self.id = kernel_id
        self.path = Path(guest.path(f"k/{kernel_id}"))
        self._ip = f"{guest.socket_path(f'k/{kernel_id}')}/s"
        self.session_id, self._memory_limit = session_id, memory_limit
        self._link: HostLink | None = None
        self._asking = threading.Lock()
        forks.watch(self)
        check_socket_path(guest, kernel_id)

    def after_fork(self) -> None:
        """Use another connection than the parent, of which a thread may have held the lock."""
        self._asking = threading.Lock()
        self._hang_up()

    # connection

    def write_connection(self, *, key: bytes, encrypt: bool, kernel_name: str) -> Connection:
        """Create the kernel's folder and connection file, or return the existing connection.

        Args:
            key: the message key, ASCII; an empty key is replaced by a random one.
            encrypt: generate CurveZMQ keys.
            kernel_name: ``python3``, or a kernelspec of the image.

        Raises:
            OSError: the session's folder does not exist, or the disk is full.
        """
        existing = self.connection()
        if existing is not None:
            return existing
        public, secret = "", ""
        if encrypt:
            import zmq

            public, secret = (part.decode() for part in zmq.curve_keypair())
        connection = Connection(
            ip=self._ip,
            key=key or secrets.token_hex(16).encode(),
            kernel_name=kernel_name,
            curve_public_key=public,
            curve_secret_key=secret,
        )
        self.guest.make_folder(f"k/{self.id}")
        text = json.dumps(
            connection.info()
            | {
                "ip": f"{GUEST_RUN}/k/{self.id}/s",
                "key": connection.key.decode(),
                "kernel_name": kernel_name,
            }
        )
        self.guest.write(f"k/{self.id}/c.json", text)
        return connection

    def connection(self) -> Connection | None:
        """Return the connection file with host paths, or None if there is no valid file."""
        try:
            fields = parse_json(self.guest.read(f"k/{self.id}/c.json"))
            name = fields.get("kernel_name") or "python3"  # some ipykernels write ""
            if not _KERNEL_NAME.fullmatch(name):
                return None
            curve = [fields.get(f"curve_{key}key", "") for key in ("public", "secret")]
            if not all(isinstance(key, str) for key in curve):
                return None
            return Connection(self._ip, fields["key"].encode(), name, *curve)
        except (OSError, ValueError, LookupError, AttributeError, TypeError):
            return None

    # process

    def start(
        self,
        *,
        cwd: str,
        cwd_optional: bool = False,
        env: dict[str, str],
        given: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        timeout_s: float = 60.0,
    ) -> None:
        """Start the kernel's process and wait until its five sockets exist.

        Call ``write_connection`` first.

        Args:
            cwd: working directory, a path in the container.
            cwd_optional: the kernel may run in the session's working directory instead.
            env: environment variables of the kernelspec, in which ``${NAME}`` is the value of a
                variable of the kernel's.
            given: environment variables that the client gives this kernel alone.
            arguments: command-line arguments, added to those of the kernelspec.
            timeout_s: timeout for the whole start, in seconds.

        Raises:
            KernelError: the process cannot be started, or exited while starting; the message
                includes the end of its log.
            SessionTimeout: the sockets did not exist before the timeout.
        """
        deadline = time.monotonic() + timeout_s
        connection = self.connection()
        if connection is None:
            raise KernelError(f"kernel {self.id} has no connection file")
        request = {
            "op": "start",
            "id": self.id,
            "kernel": connection.kernel_name,
            "cwd": cwd,
            "cwd_optional": cwd_optional,
            "env": env,
            "given": dict(given or {}),
            "arguments": list(arguments),
            "encrypted": bool(connection.curve_public_key),
        }
        self.guest.unpin(f"k/{self.id}")  # those of its previous process
        answer = self._ask(request, deadline)
        if "error" in answer:
            raise KernelError(f"kernel {connection.kernel_name} cannot start: {answer['error']}")
        self._wait_for_sockets(connection.kernel_name, deadline, timeout_s)
        # the output of a kernel other than python3 is recorded only once its watcher is connected
        deadline = min(deadline, time.monotonic() + WATCH_TIMEOUT_S)
        watched = connection.kernel_name == "python3"
        while not watched and self.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
            watched = self.guest.exists(f"k/{self.id}/watched")

    def _wait_for_sockets(self, name: str, deadline: float, timeout_s: float) -> None:
        while not self._pinned(name):
            if self.poll() is not None:
                how = f"ended while starting ({self.describe_exit()})"
                raise KernelError(f"kernel {name} {how}{self._last_words()}", self._log_hint())
            if time.monotonic() > deadline:
                how = f"is not ready after {timeout_s:g} s"
                raise SessionTimeout(f"kernel {name} {how}{self._last_words()}", self._log_hint())
            time.sleep(POLL_S)

    def _pinned(self, name: str) -> bool:
        """Pin its sockets; return False if they do not exist yet."""
        try:
            self.guest.pin(self._socket_names)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise KernelError(
                f"the sockets of kernel {name} cannot be used: {error.strerror}",
                "a program in the session has replaced them, or their folder",
            ) from error
        return True

    @property
    def _socket_names(self) -> list[str]:
        return [f"k/{self.id}/s-{number}" for number in range(1, len(CHANNELS) + 1)]

    def _last_words(self) -> str:
        return indented(self.log_tail())

    def _log_hint(self) -> str:
        return f"its log is {self.path / 'log'}"

    @contextlib.contextmanager
    def pinned_sockets(self) -> Iterator[list[str]]:
        """Yield the paths of its sockets, in the order of ``CHANNELS``.

        Call ``start`` first.

        Raises:
            OSError: a path is not a socket.
        """
        with self.guest.expose(self._socket_names) as pinned:
            yield pinned

    def pin(self) -> None:
        """Pin the sockets of a kernel that an earlier version started; no effect on any other."""
        names = self._socket_names
        if not os.path.lexists(self.guest.socket_path(names[0])):
            with contextlib.suppress(OSError):  # it has died
                self.guest.pin(names)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs. Never blocks.

        Kernels are killed with their kernel host and their container; the code is then -9.
        """
        exited = self._exit()
        if exited is not None:
            return exited.code
        if self.session_ended():
            return KILLED
        return None if self._host_connected() else KILLED

    @property
    def exit_recorded(self) -> bool:
        """Whether its kernel host has recorded its exit, which it cannot do when it dies too."""
        return self._exit_text() is not None

    def host_ended(self) -> bool:
        """Return whether it was killed with its kernel host, as in a container that is removed."""
        return not self.exit_recorded and not self._host_connected()

    def session_ended(self) -> bool:
        """Return whether its session was ended or removed, according to the session's folder."""
        return session_over(self.guest)

    def session_removed(self) -> bool:
        """Return whether its session's folder no longer exists."""
        return self.guest.gone()

    def send_signal(self, signum: int, timeout_s: float = ANSWER_TIMEOUT_S) -> bool:
        """Send a signal to its process group.

        Args:
            signum: the signal's number.
            timeout_s: timeout for the kernel host's answer, in seconds.

        Returns:
            Whether the signal was sent; False if the process has ended or the kernel host does
            not answer.
        """
        if self.poll() is not None:
            return False
        try:
            request = {"op": "signal", "id": self.id, "signum": signum}
            answer = self._ask(request, None, time.monotonic() + timeout_s)
        except KernelError:
            return False
        return bool(answer.get("sent"))

    def describe_exit(self) -> str:
        """Describe the exit: ``exit code 1``, ``killed by SIGKILL``, ``out of memory``."""
        code = self.poll()
        if code is None:
            return "still running"
        exited = self._exit()
        if exited is not None:
            return exited.describe(self._memory_limit)
        if self.guest.gone():
            return "its session was removed"
        end = stop_reason(self.guest)
        if end is not None:
            return f"its session is stopped: {end}"
        return Exit(code).describe()

    def exit_hint(self) -> str:
        """Return what a user can do about its exit; empty for nothing."""
        exited = self._exit()
        return exited.hint() if exited is not None else ""

    def record_exit(self, history: ExitLog) -> bool:
        """Record its exit in the history, unless it still runs or the exit is already recorded.

        Called by the provisioner, and by the reconciler for a kernel whose client is gone.
        Idempotent.

        Args:
            history: the history that the event is added to.

        Returns:
            True for the one call that recorded the exit.
        """
        text = self._exit_text()
        if text is None or not text.startswith("{"):
            return False  # it runs, or ended with its session, whose end is a separate event
        at = self.guest.modified_at(f"k/{self.id}/exit")
        connection = self.connection()
        name = connection.kernel_name if connection else "kernel"
        detail = f"{name} {self.id} ended: {self.describe_exit()}"
        if self._exit_text() != text:
            return False  # its id was given to another kernel meanwhile
        try:
            self.guest.create(f"k/{self.id}/told")
        except OSError:
            return False
        history.add(self.session_id, "kernel", "engine", detail, at=at)
        return True

    def log_tail(self) -> list[str]:
        """Return the last lines of its standard output and standard error."""
        return log_tail(self.guest, f"k/{self.id}/log")

    def last_output(self) -> list[str]:
        """Return the last lines that it printed itself, after ipykernel's startup message."""
        lines = self.log_tail()
        greetings = [number for number, line in enumerate(lines) if "--existing " in line]
        lines = lines[greetings[-1] + 1 :] if greetings else lines
        return [line for line in lines if line.strip()]

    def forget(self) -> None:
        """Remove its folder with its keys and sockets. Call this only for an ended kernel."""
        self.close()
        self.guest.unpin(f"k/{self.id}")
        self.guest.remove_folder(f"k/{self.id}")

    def close(self) -> None:
        """Close the connection to the kernel host; the next request opens a new one."""
        with self._asking:
            self._hang_up()

    def _exit_text(self) -> str | None:
        try:
            return self.guest.read(f"k/{self.id}/exit")
        except OSError:
            return None

    def _exit(self) -> Exit | None:
        """Return what its kernel host recorded of its exit; None for nothing."""
        text = self._exit_text()
        return None if text is None else parse_exit(text)

    def _ask(
        self,
        request: dict[str, Any],
        deadline: float | None,
        until: float | None = None,
    ) -> dict[str, Any]:
        """Send a request over the persistent connection, which is reopened once if it broke.

        Args:
            request: see ``HostLink.ask``.
            deadline: see ``HostLink.wait_for``; ignored with ``until``.
            until: try once, until then; None for the usual timeouts.
        """
        with self._asking:
            for attempt in (1, 2):
                try:
                    if self._link is None and until is not None:
                        self._link = HostLink.connect(self.guest, _left_s(until))
                    elif self._link is None:
                        self._link = HostLink.wait_for(self.guest, deadline)
                    return self._link.ask(request, _left_s(until))
                except OSError as error:
                    self._hang_up()
                    if attempt == 2 or isinstance(error, TimeoutError):
                        raise KernelError(
                            f"the session's kernel host does not answer: {error}"
                        ) from error
        raise AssertionError

    def _host_connected(self) -> bool:
        """Return whether the kernel host is alive, without waiting for an answer.

        The check uses the connection for requests, which closes when the kernel host exits.
        """
        if not self._asking.acquire(blocking=False):
            return True  # another thread's request, in progress, detects a closed connection
        try:
            if self._link is not None and self._link.hung_up():
                self._hang_up()
            if self._link is None:
                self._link = HostLink.connect(self.guest, timeout_s=0.0)
        except BlockingIOError:  # it listens but is stopped (SIGSTOP)
            return True
        except OSError:
            return False
        finally:
            self._asking.release()
        return True

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _left_s(until: float | None) -> float:
    return ANSWER_TIMEOUT_S if until is None else max(0.0, until - time.monotonic())
