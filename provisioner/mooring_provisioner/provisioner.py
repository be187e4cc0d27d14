"""The kernel provisioner: Jupyter asks, a session answers.

The calls and their order are jupyter_client's (``jupyter_client.provisioning``). What each does to
the session is decided by one rule: *kill*, *terminate* and *signal* concern the kernel's process
alone; only ``cleanup(restart=False)`` ends a session, and only one that this kernel created.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from tornado.web import HTTPError
from traitlets import Dict, Float, Unicode

from mooring.errors import KernelError, MooringError, SessionStateError
from mooring.kernels.kernel import Connection, KernelHandle, host_lives
from mooring.service import Mooring
from mooring.sessions import kernel_owners
from mooring.sessions.model import Session, State, from_record
from mooring.sessions.record import Folder
from mooring_provisioner.opening import Wanted, open_session

T = TypeVar("T")

POLL_S = 0.05
# For a kernel that its client has told to end, on the way out
EXIT_PATIENCE_S = 2.0

# Bounded: twenty notebooks that start at once must not be a hundred threads. A launch may wait for
# minutes, for a pull say, and an interrupt or an end must never wait behind it.
_launching = ThreadPoolExecutor(max_workers=32, thread_name_prefix="mooring-launch")
_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="mooring")


@lru_cache(maxsize=1)
def _mooring() -> Mooring:
    """One for the process: its kernels share the connections to the engine."""
    return Mooring()


async def in_thread(call: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
    """Run a blocking call of the core beside the event loop."""
    try:
        working = asyncio.get_running_loop().run_in_executor(pool or _threads, call)
    except RuntimeError:  # clients that clean up at exit come when there are no threads any more
        return call()
    return await working


class LaunchFailed(HTTPError):
    """A kernel did not start: says why in the client's own dialog.

    An HTTP error, because Jupyter Server hands only those to its clients word for word.
    """

    def __init__(self, error: MooringError) -> None:
        self.text = f"{error.message}\nhint: {error.hint}" if error.hint else error.message
        super().__init__(500, self.text, reason=type(error).__name__)

    def __str__(self) -> str:
        return self.text


class MooringProvisioner(KernelProvisionerBase):
    """Runs a kernel inside a session, as the kernelspec that ``mooring kernel`` wrote says."""

    spec = Unicode("", help="Path of the session's spec file; empty for the defaults.").tag(
        config=True
    )
    flags = Dict(help="Values of the spec that win over the file.").tag(config=True)
    session = Unicode(
        "", help="Name of a session to share; found or created. Empty: a new one for each kernel."
    ).tag(config=True)
    profile = Unicode(
        "", help="Name of a profile of the user's, under the spec file; empty for none."
    ).tag(config=True)
    start_timeout_s = Float(
        60.0, help="Seconds a kernel's process may take to open its sockets; pulls not included."
    ).tag(config=True)

    _session: Session | None = None
    _handle: KernelHandle | None = None
    _taken_up = False
    _alive = False
    _hold: kernel_owners.Hold | None = None
    _wanted_session = ""  # by the client that starts the kernel: a session's id
    _opened_by = ""
    _asked_for = True  # a person wants this launch, not the restarter
    _arguments: list[str]
    _working: threading.Lock  # a launch that was given up goes on in its thread for a while
    _given_up: threading.Event  # which looks at this

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._arguments = []
        self._working = threading.Lock()
        self._given_up = threading.Event()

    # what the kernel manager asks

    @property
    def has_process(self) -> bool:
        """True from launch to the end of ``wait``."""
        return self._alive

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """First step of ``start_kernel``; the command is the image's business, not ours.

        Args:
            mooring_session: the id of a session to start the kernel in, whatever the kernelspec
                says.
        """
        self._arguments = list(kwargs.pop("extra_arguments", None) or [])
        self._wanted_session = str(kwargs.pop("mooring_session", ""))
        if "last_activity" in getattr(self.parent, "trait_names", list)():
            # Jupyter Server lists a kernel a moment before it sets this, and then its /api/status
            # fails; it is the server's own first value
            self.parent.last_activity = datetime.now(timezone.utc)  # type: ignore[union-attr]
        # where Jupyter Server says which notebook asks
        self._opened_by = (kwargs.get("env") or {}).get("JPY_SESSION_NAME", "")
        kwargs.pop("transport_encryption", None)
        prepared: dict[str, Any] = await super().pre_launch(cmd=["mooring"], **kwargs)
        return prepared

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Find or make the session, start the kernel in it, and say where its sockets are.

        On a restart the session, the folder, the key and the sockets' names are the same.

        Raises:
            LaunchFailed: with the reason, a hint, and the kernel's last words.
        """
        cwd = str(kwargs.get("cwd") or os.getcwd())
        first = self._session is None
        self._given_up = threading.Event()
        try:
            info = await in_thread(lambda: self._launch(cwd), _launching)
        except BaseException as error:
            self._given_up.set()
            await in_thread(self._take_back if first else self._end_kernel)
            if not self._asked_for:
                self._tell_dead(forget=not isinstance(error, SessionStateError))
            if isinstance(error, MooringError):
                raise LaunchFailed(error) from error
            if isinstance(error, OSError):
                reason = KernelError(f"cannot start the kernel: {error}")
                raise LaunchFailed(reason) from error
            raise
        self._alive = True
        self._asked_for = False
        self.connection_info = info
        return info

    async def poll(self) -> int | None:
        """Asked every three seconds by the restarter: None while the kernel lives.

        A kernel that went with its session is not to be restarted by itself: the restarter is
        told to leave it, and its clients that it is dead.
        """
        handle = self._handle
        if handle is None:
            return self._code()
        code = handle.poll()
        restarter = getattr(self.parent, "_restarter", None)
        watched = getattr(restarter, "_pcallback", None) is not None
        if code is None or restarter is None or not watched or not handle.session_ended():
            return code
        restarter.stop()
        gone = not handle.folder.exists
        self._tell_dead(forget=gone)
        if gone:
            await in_thread(self._end_session)
        return None  # this once, to the restarter, which would announce a restart

    async def wait(self) -> int | None:
        """Asked after a kill and before ``cleanup``: returns once the kernel has ended."""
        if self._handle is None:
            return 0
        handle = self._handle
        while handle.poll() is None:
            await asyncio.sleep(POLL_S)
        self._alive = False
        await in_thread(lambda: handle.tell_end(self._service().history))
        return self._code()

    async def send_signal(self, signum: int) -> None:
        """To the kernel's process group; a process that is gone is no error."""
        handle = self._handle
        if handle is not None and signum:
            await in_thread(lambda: handle.send_signal(signum))

    async def kill(self, restart: bool = False) -> None:
        """SIGKILL to the kernel; ``restart`` is not to be trusted here (jupyter_client#1061)."""
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """SIGTERM to the kernel; ``restart`` is not to be trusted here (jupyter_client#1061)."""
        await self.send_signal(signal.SIGTERM)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """A person asked for a shutdown or a restart; the message to the kernel is on its way.

        To a kernel that has ended it is taken back: it would wait in the manager's socket for a
        tenth of a second, and end the next kernel at the same address if that is there by then.
        """
        self._asked_for = restart
        manager, handle = self.parent, self._handle
        control = getattr(manager, "_control_socket", None)
        if manager is not None and control is not None and handle and handle.poll() is not None:
            control.close(linger=0)
            manager._control_socket = None

    async def cleanup(self, restart: bool = False) -> None:
        """Last step. Of a restart: nothing. Of a shutdown: a session of this kernel's own ends."""
        self._alive = False
        if not restart:
            await in_thread(self._end_session)

    async def detach(self) -> bool:
        """Leave a kernel to the next server, which finds its record; its session stays as it is.

        Called by the server extension when its server ends. False where there is nothing to
        leave: the kernel is then shut down as any other. One that has ended is left too, since a
        shutdown would remove a stopped session, files and all.
        """
        if self._hold is None:
            return False
        await in_thread(self._let_go)
        return True

    def resolve_path(self, path: str) -> str | None:
        """The host image and the working directory have the same paths inside."""
        expanded = Path(path).expanduser()
        return expanded.as_posix() if expanded.exists() else None

    # in a thread

    @staticmethod
    def _service() -> Mooring:
        return _mooring()

    def _short_id(self) -> str:
        return kernel_owners.short_id(str(self.kernel_id))

    def _launch(self, cwd: str) -> KernelConnectionInfo:
        given_up = self._given_up
        with self._working:
            mooring = self._service()
            connection: Connection | None
            if self._session is not None:
                self._session = self._again(mooring, self._session, given_up)
                connection = self._handle.connection() if self._handle else None
            elif (survivor := kernel_owners.find(str(self.kernel_id))) is not None:
                return cast("KernelConnectionInfo", self._take_up(mooring, survivor).info())
            else:
                connection = self._first_time(mooring, cwd, given_up)
            session, handle = self._session, self._handle
            if session is None or handle is None or connection is None:
                raise KernelError("the kernel's session is gone", "start a new kernel")
            self._remember(session, cwd)
            mooring.ensure_kernel_host(session)
            handle.start(
                cwd=cwd,
                env=dict(self.kernel_spec.env),
                arguments=self._arguments,
                timeout_s=self.start_timeout_s,
            )
            detail = f"{connection.kernel_name} {handle.id} started"
            mooring.history.add(session.id, "kernel", mooring.actor, detail)
        return cast("KernelConnectionInfo", connection.info())

    def _first_time(self, mooring: Mooring, cwd: str, given_up: threading.Event) -> Connection:
        """Find or make the session, and the kernel's folder in it."""
        wanted = Wanted(self.spec, self.flags, self.session, self.profile)
        resolved = wanted.resolve(cwd)
        if self._wanted_session:
            session = mooring.start(self._wanted_session, cancelled=given_up.is_set)
        else:
            session = open_session(
                mooring,
                wanted,
                resolved,
                cwd=cwd,
                short_id=self._short_id(),
                cancelled=given_up.is_set,
                opened_by=self._opened_by,
            ).session
        self._session = session
        if Folder.open(session.id).record().get("ends_with_kernels"):
            atexit.register(self._at_exit)
        self._handle = handle = mooring.kernel(session.id, self._short_id())
        manager: Any = self.parent
        encrypt = (
            "always" in (session.spec.get("encrypt"), resolved.spec.encrypt)
            or getattr(manager, "transport_encryption", "disabled") == "required"
        )
        kernel_name = resolved.spec.kernel or "python3"
        if self._wanted_session:
            kernel_name = session.spec.get("kernel") or kernel_name
        connection = handle.write_connection(
            key=manager.session.key, encrypt=encrypt, kernel_name=kernel_name
        )
        self._forget_file()
        return connection

    def _take_up(self, mooring: Mooring, record: kernel_owners.KernelRecord) -> Connection:
        """A kernel that outlived its server: nothing is started, and the engine is not asked.

        One that has died meanwhile is the restarter's, as if it had died now.
        """
        handle = mooring.kernel(record.session, self._short_id())
        connection = handle.connection()
        if connection is None:
            raise KernelError(f"kernel {handle.id} has ended", "start a new kernel")
        self._hold = kernel_owners.hold(record)
        if self._hold is None:
            raise KernelError(f"another server answers for kernel {handle.id}", "use that one")
        self._session = from_record(record.folder, State.RUNNING, "")
        self._handle, self._taken_up = handle, True
        if record.folder.record().get("ends_with_kernels"):
            atexit.register(self._at_exit)
        mooring.history.add(
            record.session,
            "kernel",
            mooring.actor,
            f"{connection.kernel_name} {handle.id} taken up by another server",
        )
        self._forget_file()
        return connection

    def _remember(self, session: Session, cwd: str) -> None:
        """Write down whose kernel it is, for a client that may come back: a server."""
        manager: Any = self.parent
        root = getattr(manager.parent, "root_dir", "")
        if self._hold is not None or not root:
            return
        self._hold = kernel_owners.hold(
            kernel_owners.KernelRecord(
                session=session.id,
                kernel_id=str(self.kernel_id),
                kernel_name=manager.kernel_name,
                root=str(root),
                cwd=cwd,
            )
        )

    def _forget_file(self) -> None:
        """A connection file with equal contents would not be loaded by the manager."""
        manager: Any = self.parent
        with contextlib.suppress(FileNotFoundError, TypeError):
            os.unlink(manager.connection_file)

    def _let_go(self) -> None:
        atexit.unregister(self._at_exit)
        with self._working:
            if self._handle is not None:
                self._handle.close()
            if self._hold is not None:
                self._hold.release()
            self._session = self._handle = self._hold = None
            self._alive = False

    def _again(self, mooring: Mooring, known: Session, given_up: threading.Event) -> Session:
        """The same session for a restart; one that ended is started again only for a person."""
        folder = Folder.open(known.id)
        if folder.exists and folder.end() is None and host_lives(folder):
            return known
        session = mooring.get(known.id)
        if session.state.value == "running":
            return session
        if not self._asked_for:
            raise SessionStateError(
                f"session {session.name} is {session.state} ({session.reason})",
                f"restart the kernel, or run: mooring start {session.name}",
            )
        return mooring.start(session.id, cancelled=given_up.is_set)

    def _end_session(self) -> None:
        """The kernel is over: forget it, and a session that was made for kernels with its last."""
        atexit.unregister(self._at_exit)
        with self._working:
            handle, session, hold = self._handle, self._session, self._hold
            self._session = self._handle = self._hold = None
            if handle is not None and session is not None:
                self._end(handle)
                try:
                    self._service().end_with_kernel(session, handle.id)
                except MooringError as error:
                    self.log.warning("session %s is not removed now: %s", session.name, error)
                handle.forget()
            elif session is not None:  # its kernel never came so far
                with contextlib.suppress(MooringError):
                    self._service().end_with_kernel(session, self._short_id())
            if hold is not None:
                hold.forget()

    @staticmethod
    def _end(handle: KernelHandle) -> None:
        handle.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while handle.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)

    def _take_back(self) -> None:
        """A first launch failed: nothing of it stays. A kernel that was taken up goes on."""
        if self._taken_up:
            self._let_go()
        else:
            self._end_session()

    def _end_kernel(self) -> None:
        """A restart failed: the session stays as it is, for another try or for a shell."""
        with self._working:
            if self._handle is not None:
                self._handle.send_signal(signal.SIGKILL)

    def _at_exit(self) -> None:
        """Some clients (jupyter console) tell the kernel itself to end, and leave.

        A kernel that goes on is left alone: its session outlives this process.
        """
        handle = self._handle
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while handle is not None and handle.poll() is None:
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_S)
        self._end_session()

    def _tell_dead(self, *, forget: bool) -> None:
        """Tell the restarter's clients what it does not tell them: that there is no kernel.

        A Jupyter server, one of them, forgets a kernel that is dead. One whose session has ended
        it must remember, so that a person's restart starts that session again, files and all:
        then only its websockets are told.
        """
        restarter = getattr(self.parent, "_restarter", None)
        if restarter is None:
            return
        if forget:
            restarter._fire_callbacks("dead")
            return
        for tell in list(restarter.callbacks["dead"]):
            if getattr(tell, "__name__", "") == "on_restart_failed":
                tell()

    def _code(self) -> int:
        code = self._handle.poll() if self._handle is not None else 0
        return 0 if code is None else code
