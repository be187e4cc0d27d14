"""Kernels inside a session: five sockets in its folder, and the process behind them.

The process is started, signalled and waited for by ``guest/kernelhost.py`` in the container, over
a Unix socket in the session's folder. No call goes to the engine, so a frozen engine disturbs no
kernel, and a restart costs a fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mooring.errors import KernelError, SessionTimeout
from mooring.guest import shared
from mooring.host.paths import SOCKET_PATH_MAX
from mooring.sessions.history import History
from mooring.sessions.record import GUEST_RUN, Folder

CHANNELS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
POLL_S = 0.002
# A kernel that has no process by then was given up
BEGINS_WITHIN_S = 60.0
LOG_TAIL_LINES = 20
MAX_SIGNAL, MAX_EXIT_CODE = 64, 255
# A kernelspec's name, as jupyter_client has it
_KERNEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
MAX_ANSWER_BYTES = 1 << 20
ANSWER_TIMEOUT_S = 30.0
# How long a kernel waits for its recorder; then it goes on without its first words
WATCH_PATIENCE_S = 2.0
# How long a kernel host that has printed something may take to get its lock
BROKEN_HOST_S = 2.0


@dataclass(frozen=True)
class Connection:
    """How to speak to a kernel: the fields of a Jupyter connection file.

    Attributes:
        ip: the sockets' common path; a socket is ``{ip}-{port}``.
        key: signs every message.
        kernel_name: ``python3``, or a kernelspec of the image.
        curve_public_key, curve_secret_key: Z85 text; empty when the sockets are not encrypted.
    """

    ip: str
    key: bytes = field(repr=False)
    kernel_name: str = "python3"
    curve_public_key: str = ""
    curve_secret_key: str = field(default="", repr=False)

    def info(self) -> dict[str, Any]:
        """As jupyter_client wants it (``KernelConnectionInfo``): the key is bytes."""
        info: dict[str, Any] = {
            "transport": "ipc",
            "ip": self.ip,
            "key": self.key,
            "signature_scheme": "hmac-sha256",
            **{name: number for number, name in enumerate(CHANNELS, start=1)},
        }
        if self.curve_public_key:
            info["curve_publickey"] = self.curve_public_key
            info["curve_secretkey"] = self.curve_secret_key
        return info

    def sockets(self) -> list[str]:
        return [f"{self.ip}-{number}" for number in range(1, len(CHANNELS) + 1)]


class KernelHandle:
    """One kernel of a session, alive or not.

    Args:
        folder: the session's.
        kernel_id: at most 40 letters, digits and dashes; names the kernel's own folder.

    Raises:
        KernelError: the path of its sockets would be too long for a Unix socket.
    """

    def __init__(self, folder: Folder, kernel_id: str) -> None:
        self.folder = folder
        self.id = kernel_id
        self.path = folder.run / "k" / kernel_id
        self._link: _Link | None = None
        self._asking = threading.Lock()
        longest = max(len(os.fsencode(f"{self.path}/s-5")), len(os.fsencode(_Link.path(folder))))
        if longest > SOCKET_PATH_MAX:
            raise KernelError(
                f"{self.path} is too long for a socket ({longest} of {SOCKET_PATH_MAX} bytes)",
                "set MOORING_STATE_DIR to a shorter path, /var/tmp/mooring-$USER say",
            )

    # connection

    def write_connection(self, *, key: bytes, encrypt: bool, kernel_name: str) -> Connection:
        """Make the kernel's folder and connection file; the same one if it is there.

        Args:
            key: the message key, ASCII; an empty one is replaced by a random one.
            encrypt: make CurveZMQ keys.
        """
        existing = self.connection()
        if existing is not None:
            return existing
        public, secret = "", ""
        if encrypt:
            import zmq

            public, secret = (part.decode() for part in zmq.curve_keypair())
        connection = Connection(
            ip=f"{self.path}/s",
            key=key or secrets.token_hex(16).encode(),
            kernel_name=kernel_name,
            curve_public_key=public,
            curve_secret_key=secret,
        )
        shared.make_folder(self.folder.run, f"k/{self.id}")
        text = json.dumps(
            connection.info()
            | {
                "ip": f"{GUEST_RUN}/k/{self.id}/s",
                "key": connection.key.decode(),
                "kernel_name": kernel_name,
            }
        )
        shared.write(self.folder.run, f"k/{self.id}/c.json", text)
        return connection

    def connection(self) -> Connection | None:
        """What its connection file says, seen from this side of the container."""
        try:
            said = json.loads(shared.read(self.folder.run, f"k/{self.id}/c.json"))
            name = said.get("kernel_name", "python3")
            if not _KERNEL_NAME.fullmatch(name):
                return None
            return Connection(
                ip=f"{self.path}/s",
                key=said["key"].encode(),
                kernel_name=name,
                curve_public_key=said.get("curve_publickey", ""),
                curve_secret_key=said.get("curve_secretkey", ""),
            )
        except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
            return None

    # process

    def start(
        self,
        *,
        cwd: str,
        env: dict[str, str],
        arguments: Sequence[str] = (),
        timeout_s: float = 60.0,
    ) -> None:
        """Start the kernel's process and wait until its five sockets are there.

        ``write_connection`` comes first.

        Args:
            cwd: in the container.
            env: added to the container's.
            arguments: added to the kernel's own.
            timeout_s: for the whole of it.

        Raises:
            KernelError: it cannot be started, or ended at once; the message has its last words.
            SessionTimeout: it took longer than that.
        """
        deadline = time.monotonic() + timeout_s
        connection = self.connection()
        if connection is None:
            raise KernelError(f"kernel {self.id} has no connection file")
        kernel_name = connection.kernel_name
        request = {
            "op": "start",
            "id": self.id,
            "kernel": kernel_name,
            "cwd": cwd,
            "env": env,
            "arguments": list(arguments),
            "encrypted": bool(connection.curve_public_key),
        }
        answer = self._ask(request, deadline)
        if "error" in answer:
            raise KernelError(f"kernel {kernel_name} cannot start: {answer['error']}")
        sockets = connection.sockets()
        while not all(map(os.path.exists, sockets)):
            if self.poll() is not None:
                raise KernelError(
                    f"kernel {kernel_name} ended while starting ({self.how_it_ended()})"
                    + _indented(self.log_tail()),
                    f"its log is {self.path / 'log'}",
                )
            if time.monotonic() > deadline:
                raise SessionTimeout(
                    f"kernel {kernel_name} is not ready after {timeout_s:g} s"
                    + _indented(self.log_tail()),
                    f"its log is {self.path / 'log'}",
                )
            time.sleep(POLL_S)
        # what a kernel of another kind publishes is recorded once it is heard
        deadline = min(deadline, time.monotonic() + WATCH_PATIENCE_S)
        watched = kernel_name == "python3"
        while not watched and self.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
            watched = shared.exists(self.folder.run, f"k/{self.id}/watched")

    @contextlib.contextmanager
    def pinned_sockets(self) -> Iterator[list[str]]:
        """Paths of its sockets, in the order of ``CHANNELS``; ``start`` comes first.

        Raises:
            OSError: what stands there is no socket.
        """
        names = [f"k/{self.id}/s-{number}" for number in range(1, len(CHANNELS) + 1)]
        with shared.pinned_sockets(self.folder.run, names) as pinned:
            yield pinned

    def poll(self) -> int | None:
        """None while it runs, else its exit code, negative for a signal. Never blocks.

        A kernel host that is gone, or a container that has ended, takes its kernels along; then
        the code is -9.
        """
        if self._exit_text() is not None:
            code = self._exit().get("code")
            # the session can write there too
            possible = type(code) is int and -MAX_SIGNAL <= code <= MAX_EXIT_CODE
            return code if possible else -9
        if self.session_ended():
            return -9
        return None if host_lives(self.folder) else -9

    def session_ended(self) -> bool:
        """Whether its session was ended or removed, as far as the session's folder tells."""
        return not self.folder.exists or self.folder.end() is not None

    def send_signal(self, signum: int) -> bool:
        """Signal its process group; False when there is none any more. Never raises for that."""
        if self.poll() is not None:
            return False
        try:
            answer = self._ask({"op": "signal", "id": self.id, "signum": signum}, None)
        except KernelError:
            return False
        return bool(answer.get("sent"))

    def how_it_ended(self) -> str:
        """In words: ``exit code 1``, ``killed by SIGKILL``, ``out of memory (limit 2 GiB)``."""
        import signal

        code = self.poll()
        if code is None:
            return "still running"
        if self._was_out_of_memory():
            limit = self.folder.record().get("memory", "")
            return f"out of memory (limit {limit})" if limit else "out of memory"
        end = self.folder.end()
        if end is not None and self._exit_text() is None:
            return f"the session ended: {end.reason}"
        if code < 0:
            names = {int(number): number.name for number in signal.Signals}
            return f"killed by {names.get(-code, f'signal {-code}')}"
        return f"exit code {code}"

    def tell_end(self, history: History) -> bool:
        """Write its death into the history, if it has died and nobody has done so.

        Called by whoever sees it: the provisioner, and the reconciler for a kernel whose client
        is gone. Idempotent; True from the one call that wrote it.
        """
        text = self._exit_text()
        if text is None or not text.startswith("{"):
            return False  # it lives, or went with its session, whose end is an event of its own
        try:
            shared.create(self.folder.run, f"k/{self.id}/told")
        except OSError:
            return False
        at = shared.modified_at(self.folder.run, f"k/{self.id}/exit")
        connection = self.connection()
        name = connection.kernel_name if connection else "kernel"
        detail = f"{name} {self.id} ended: {self.how_it_ended()}"
        history.add(self.folder.id, "kernel", "engine", detail, at=at)
        return True

    def log_tail(self) -> list[str]:
        """The last lines it wrote to its standard output and error."""
        return _tail(self.folder, f"k/{self.id}/log")

    def forget(self) -> None:
        """Remove its folder, keys and sockets with it. For a kernel that has ended."""
        self.close()
        shared.remove_folder(self.folder.run, f"k/{self.id}")

    def close(self) -> None:
        """Let go of the connection to the kernel host; the next request makes a new one."""
        with self._asking:
            self._hang_up()

    def _exit_text(self) -> str | None:
        try:
            return shared.read(self.folder.run, f"k/{self.id}/exit")
        except OSError:
            return None

    def _was_out_of_memory(self) -> bool:
        return self._exit().get("oom") is True

    def _exit(self) -> dict[str, Any]:
        """What is written of its end; empty for what no kernel host writes."""
        try:
            found = json.loads(self._exit_text() or "")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _ask(self, request: dict[str, Any], deadline: float | None) -> dict[str, Any]:
        """One request over a connection that stays open; it is made again if it was cut."""
        with self._asking:
            for attempt in (1, 2):
                if self._link is None:
                    self._link = _Link.open(self.folder, deadline)
                try:
                    return self._link.ask(request)
                except OSError as error:
                    self._hang_up()
                    if attempt == 2 or isinstance(error, TimeoutError):
                        raise KernelError(
                            f"the session's kernel host does not answer: {error}"
                        ) from error
        raise AssertionError

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def others_live(folder: Folder, kernel_id: str) -> bool:
    """Whether a session has other kernels than that one, alive or about to be."""
    for kernel in folder.kernels():
        if kernel.id == kernel_id or kernel.exit is not None:
            continue
        made = shared.modified_at(folder.run, f"k/{kernel.id}/c.json")
        started = shared.exists(folder.run, f"k/{kernel.id}/pid")
        if started or time.time() - made < BEGINS_WITHIN_S:
            return True
    return False


def host_lives(folder: Folder) -> bool:
    """Whether the session's kernel host runs: it holds its lock for as long as it lives."""
    return _locked(folder, "kernelhost.lock")


class _Link:
    """A connection to the kernel host of a session."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._file = connected.makefile("rb")

    @staticmethod
    def path(folder: Folder) -> str:
        return str(folder.run / "kernelhost.sock")

    @classmethod
    def open(cls, folder: Folder, deadline: float | None) -> _Link:
        """Connect, trying until ``deadline`` (monotonic seconds), or once when it is None.

        Raises:
            KernelError: nobody answers; the message has the host's last words.
        """
        opened = time.monotonic()
        while True:
            connecting = socket.socket(socket.AF_UNIX)
            connecting.settimeout(ANSWER_TIMEOUT_S)
            try:
                connecting.connect(cls.path(folder))
                return cls(connecting)
            except OSError as error:
                connecting.close()
                now = time.monotonic()
                log = _tail(folder, "kernelhost.log")
                gone = folder.end() is not None or not folder.exists
                if log and now - opened > BROKEN_HOST_S and not host_lives(folder):
                    gone = True
                if deadline is None or gone or now > deadline:
                    raise KernelError(
                        "the session's kernel host does not answer" + _indented(log),
                        "mooring describe tells the session's state",
                    ) from error
            time.sleep(POLL_S)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        line = self._file.readline(MAX_ANSWER_BYTES)
        if not line:
            raise ConnectionResetError("the connection was closed")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise ConnectionAbortedError("what it says is no answer")
        return answer

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            self._socket.close()


def _locked(folder: Folder, name: str) -> bool:
    """Whether a process of the container holds this lock now."""
    try:
        with shared.opened(folder.run, name) as file:
            # shared: two that ask at once must not take each other for the holder
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _tail(folder: Folder, name: str) -> list[str]:
    try:
        return shared.read(folder.run, name, tail=True).splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        return []


def _indented(lines: list[str]) -> str:
    return "".join(f"\n    {line}" for line in lines)
