"""The kernel provisioner, which runs a Jupyter client's kernels in sessions.

jupyter_client defines the calls and their order (``jupyter_client.provisioning``). *Kill*,
*terminate* and *signal* affect only the kernel's process; only ``cleanup(restart=False)`` ends a
session, and only a session that was created for kernels.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
import time
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Dict, Float, Unicode

from mooring import (
    Connection,
    KernelError,
    KernelHandle,
    KernelRecord,
    Mooring,
    MooringError,
    Ownership,
    Session,
    SessionStateError,
    Wait,
    short_id,
)
from mooring_provisioner import upstream
from mooring_provisioner.death import report_death, wait_for_end
from mooring_provisioner.errors import LaunchFailed
from mooring_provisioner.pools import LAUNCHES, in_thread
from mooring_provisioner.session import KernelspecConfig, end_session, open_session

POLL_S = 0.05
# What a kernelspec's argv begins with: launcher, folder, connection file
OWN_ARGUMENTS = 3
# How long an exiting client waits for a kernel that it has asked to shut down
EXIT_PATIENCE_S = 2.0


@lru_cache(maxsize=1)
def shared_mooring() -> Mooring:
    """Return the process's ``Mooring``; all kernels share its connections to the engine."""
    return Mooring()


class MooringProvisioner(KernelProvisionerBase):
    """Runs a kernel in a session, as configured in a kernelspec by ``mooring kernel install``."""

    spec = Unicode("", help="Path of the session's spec file; empty for the defaults.").tag(
        config=True
    )
    flags = Dict(help="Spec keys and their values, which override the file.").tag(config=True)
    session = Unicode(
        "",
        help="Name of a session to share, created if it does not exist; empty for a new session "
        "per kernel.",
    ).tag(config=True)
    profile = Unicode(
        "", help="Name of the user's profile that the spec file overrides; empty for none."
    ).tag(config=True)
    session_id = Unicode(
        "", help="Id of an existing session to start the kernel in; overrides the others."
    ).tag(config=True)
    start_timeout_s = Float(
        60.0,
        help="Timeout for a kernel process to open its sockets, in seconds, without image pulls.",
    ).tag(config=True)

    #: Why a session that was created for kernels is kept when its kernel is shut down: set by the
    #: server extension while Jupyter culls the kernel.
    keep_session = ""

    _session: Session | None = None
    _handle: KernelHandle | None = None
    _adopted = False
    _alive = False
    _hold: Ownership | None = None
    _notebook = ""
    _independent = False  # whether the kernel is to survive a client that is not a server
    _requested = True  # whether the user, not the restarter, requested the launch
    _ending = False  # whether the client has asked the kernel to end, or knows that it died
    _died = ""  # how the kernel died, if nobody asked it to end
    _arguments: list[str]
    _given: dict[str, str]  # environment variables that the client gives this kernel alone
    _working: threading.Lock  # a cancelled launch holds it in its thread until it returns
    _cancelled: threading.Event  # polled by the launch

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._arguments, self._given = [], {}
        self._working = threading.Lock()
        self._cancelled = threading.Event()

    @property
    def kernel(self) -> KernelHandle | None:
        """The kernel in its session; None before the launch and after the cleanup."""
        return self._handle

    # called by the kernel manager

    @property
    def has_process(self) -> bool:
        """True from the launch to the end of ``wait``."""
        return self._alive

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Prepare a launch; the first step of ``start_kernel``.

        What a kernelspec's argv has after mooring's own three arguments is added to the kernel's.

        Args:
            kwargs: the kernel manager's arguments; ``mooring_session`` is the id of a session to
                start the kernel in and overrides the kernelspec.
        """
        extra = list(kwargs.pop("extra_arguments", None) or [])
        self._arguments = [*self.kernel_spec.argv[OWN_ARGUMENTS:], *extra]
        env = kwargs.get("env") or {}
        self._given = {name: env[name] for name in env if env[name] != os.environ.get(name)}
        self.session_id = str(kwargs.pop("mooring_session", self.session_id))
        self._independent = bool(kwargs.get("independent"))
        if "last_activity" in getattr(self.parent, "trait_names", list)():
            # Jupyter Server lists a kernel shortly before it sets this attribute, and its
            # /api/status fails until then; the server's own first value is the same
            self.parent.last_activity = datetime.now(timezone.utc)  # type: ignore[union-attr]
        # Jupyter Server sets this to the notebook's path
        self._notebook = env.get("JPY_SESSION_NAME", "")
        kwargs.pop("transport_encryption", None)
        prepared: dict[str, Any] = await super().pre_launch(cmd=["mooring"], **kwargs)
        return prepared

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Find or create the session, start the kernel in it, and return its connection info.

        A restart keeps the session, the kernel's folder, the key and the sockets' paths.

        Raises:
            LaunchFailed: the message includes the reason, a hint, and the kernel's last output.
        """
        # relative for a client that was given a relative notebook, such as nbconvert
        cwd = os.path.abspath(str(kwargs.get("cwd") or os.getcwd()))
        first = self._session is None
        self._cancelled = threading.Event()
        try:
            info = await in_thread(lambda: self._launch(cwd), LAUNCHES)
        except BaseException as error:
            self._cancelled.set()
            await in_thread(self._undo_launch if first else self._kill_kernel)
            if not self._requested:
                forget = not isinstance(error, SessionStateError)
                upstream.announce_death(self.parent, forget=forget)
            if isinstance(error, MooringError):
                raise LaunchFailed(error) from error
            if isinstance(error, OSError):
                reason = KernelError(f"cannot start the kernel: {error}")
                raise LaunchFailed(reason) from error
            raise
        self._alive = True
        self._requested = self._ending = False
        self._died = ""
        self.connection_info = info
        return info

    async def poll(self) -> int | None:
        """Return None while the kernel runs, else its exit code; the restarter calls it every 3 s.

        How a kernel died is printed on standard error, because many clients say only that it died.

        A kernel that ended with its session is not restarted automatically: its restarter is
        stopped, and its clients are notified that it is dead. A Jupyter server keeps the kernel for
        as long as the session exists, so that the user can restart it, which starts the session
        again with its files.
        """
        handle = self._handle
        if handle is None:
            return self._exit_code()
        code = handle.poll()
        restarter = upstream.polling_restarter(self.parent)
        if code is not None:
            if restarter is not None and handle.host_ended():
                await wait_for_end(shared_mooring(), handle)
            if not self._ending:
                await in_thread(lambda: self._report_death(handle))
            # the user may have shut it down or restarted it meanwhile, which stops the restarter
            if restarter is not None and upstream.polling_restarter(self.parent) is None:
                return None
            code = handle.poll() if self._handle is handle else self._exit_code()
        if code is None or restarter is None or not handle.session_ended():
            return code
        restarter.stop()
        removed = handle.session_removed()
        upstream.announce_death(self.parent, forget=removed)
        if removed:
            await in_thread(self._end_session)
        return None  # for this call only; with an exit code the restarter would announce a restart

    async def wait(self) -> int | None:
        """Wait for the kernel's exit and return its exit code; called before ``cleanup``."""
        if self._handle is None:
            return 0
        handle = self._handle
        while handle.poll() is None:
            await asyncio.sleep(POLL_S)
        self._alive = False
        await in_thread(lambda: handle.record_exit(shared_mooring().history))
        return self._exit_code()

    async def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel's process group; no error if the process has ended."""
        handle = self._handle
        if handle is not None and signum:
            self._ending = self._ending or signum in (signal.SIGKILL, signal.SIGTERM)
            await in_thread(lambda: handle.send_signal(signum))

    async def kill(self, restart: bool = False) -> None:
        """Send SIGKILL to the kernel; ``restart`` is not reliable here (jupyter_client#1061)."""
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        """Send SIGTERM to the kernel; ``restart`` is not reliable here (jupyter_client#1061)."""
        await self.send_signal(signal.SIGTERM)

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Withdraw the shutdown message from a kernel that has already ended.

        Called after the message was sent, when the user requests a shutdown or a restart.
        """
        self._requested = restart
        self._ending = True
        if self.parent is not None and self._handle and self._handle.poll() is not None:
            upstream.withdraw_shutdown_request(self.parent)

    async def cleanup(self, restart: bool = False) -> None:
        """End a session that was created for kernels with its last one; the last step.

        With ``restart=True`` the session and the kernel's folder are kept.
        """
        self._alive = False
        if not restart:
            await in_thread(self._end_session)

    async def detach(self) -> bool:
        """Release a kernel to the next server, which finds its record.

        Called by the server extension when its server shuts down. A kernel that has ended is
        detached too: shutting it down would remove a stopped session with its files.

        Returns:
            False if the kernel has no record; the server then shuts it down as usual.
        """
        if self._hold is None:
            return False
        await in_thread(self._release)
        return True

    def resolve_path(self, path: str) -> str | None:
        """Return the path in the kernel, which is the same in the host image and for mounts."""
        expanded = Path(path).expanduser()
        return expanded.as_posix() if expanded.exists() else None

    # called in a thread

    def _report_death(self, handle: KernelHandle) -> None:
        with self._working:  # a restart makes the sockets anew
            if self._session is not None and not self._ending and handle.poll() is not None:
                self._ending = True
                self._died = report_death(shared_mooring(), self._session, handle)

    @property
    def _root(self) -> str:
        """The root folder of the Jupyter server that the client is; empty if it is none."""
        return str(getattr(getattr(self.parent, "parent", None), "root_dir", ""))

    def _short_id(self) -> str:
        return short_id(str(self.kernel_id))

    def _launch(self, cwd: str) -> KernelConnectionInfo:
        cancelled = self._cancelled
        with self._working:
            mooring = shared_mooring()
            connection: Connection | None
            if self._session is not None:
                self._session = mooring.kernels.session_for_restart(
                    self._session, start=self._requested, wait=Wait(cancelled=cancelled.is_set)
                )
                connection = self._handle.connection() if self._handle else None
            elif (record := mooring.kernels.owners.find(str(self.kernel_id))) is not None:
                return cast("KernelConnectionInfo", self._adopt(mooring, record).info())
            else:
                connection = self._prepare(mooring, cwd, cancelled)
            session, handle = self._session, self._handle
            if session is None or handle is None or connection is None:
                raise KernelError("the kernel's session no longer exists", "start a new kernel")
            self._write_record(mooring, session, cwd)
            elsewhere = mooring.kernels.start(
                session,
                handle,
                connection,
                cwd=cwd,
                cwd_optional=self._config.is_elsewhere(cwd),
                env=self.kernel_spec.env,
                given=self._given,
                arguments=self._arguments,
                timeout_s=self.start_timeout_s,
            )
        if elsewhere:
            self.log.warning("%s", elsewhere)
        return cast("KernelConnectionInfo", connection.info())

    @property
    def _config(self) -> KernelspecConfig:
        return KernelspecConfig(self.spec, self.flags, self.session, self.profile)

    def _prepare(self, mooring: Mooring, cwd: str, cancelled: threading.Event) -> Connection:
        """Find or create the session, and write the connection file of a new kernel in it."""
        config = self._config
        resolved = config.resolve(cwd, self._root)
        if self.session_id:
            session = mooring.sessions.start(
                mooring.sessions.get(self.session_id), wait=Wait(cancelled=cancelled.is_set)
            )
        else:
            session = open_session(
                mooring,
                config,
                resolved,
                cwd=cwd,
                short_id=self._short_id(),
                cancelled=cancelled.is_set,
                notebook=self._notebook,
            ).session
        self._session = session
        self._end_at_exit(mooring, session)
        self._handle = handle = mooring.kernels.handle(session.id, self._short_id())
        manager: Any = self.parent
        encrypt = (
            "always" in (session.declared.get("encrypt"), resolved.spec.encrypt)
            or getattr(manager, "transport_encryption", "disabled") == "required"
        )
        kernel_name = resolved.spec.kernel or "python3"
        if self.session_id:
            kernel_name = session.declared.get("kernel") or kernel_name
        connection = handle.write_connection(
            key=manager.session.key, encrypt=encrypt, kernel_name=kernel_name
        )
        upstream.remove_connection_file(self.parent)
        return connection

    def _adopt(self, mooring: Mooring, record: KernelRecord) -> Connection:
        """Take ownership of a kernel that an earlier server, of any folder, has detached.

        If the kernel has died meanwhile, the restarter handles it as usual.
        """
        adopted = mooring.kernels.adopt(record.seen_from(self._root) or record)
        self._session, self._handle = adopted.session, adopted.handle
        self._hold, self._adopted = adopted.ownership, True
        self._end_at_exit(mooring, adopted.session)
        upstream.remove_connection_file(self.parent)
        return adopted.connection

    def _write_record(self, mooring: Mooring, session: Session, cwd: str) -> None:
        """Record the kernel's owner.

        The kernel of a server may be adopted by the next one. Any other client takes its kernels
        with it, unless it starts them as ``independent``, as jupyter_client calls it.
        """
        manager: Any = self.parent
        root = self._root
        if self._hold is not None or (self._independent and not root):
            return
        self._hold = mooring.kernels.own(
            KernelRecord(
                session=session.id,
                kernel_id=str(self.kernel_id),
                kernel_name=manager.kernel_name,
                root=root,
                cwd=cwd,
            )
        )

    def _release(self) -> None:
        atexit.unregister(self._at_exit)
        with self._working:
            if self._handle is not None:
                self._handle.close()
            if self._hold is not None:
                self._hold.release()
            self._session = self._handle = self._hold = None
            self._alive = False

    def _end_session(self) -> None:
        """End the kernel, and with the last kernel a session that was created for kernels."""
        atexit.unregister(self._at_exit)
        with self._working:
            handle, session, hold = self._handle, self._session, self._hold
            self._session = self._handle = self._hold = None
            if session is None:
                return
            ending = {"keep": self.keep_session, "died": self._died}
            problem = end_session(
                shared_mooring(), session, handle, hold, short_id=self._short_id(), **ending
            )
        if problem:
            self.log.warning("%s", problem)

    def _undo_launch(self) -> None:
        """Undo a first launch that failed; a kernel that was being adopted keeps running."""
        if self._adopted:
            self._release()
        else:
            self._end_session()

    def _kill_kernel(self) -> None:
        """Kill the kernel after a failed restart; the session is kept for a retry or a shell."""
        with self._working:
            if self._handle is not None:
                self._handle.send_signal(signal.SIGKILL)

    def _end_at_exit(self, mooring: Mooring, session: Session) -> None:
        if mooring.records.ends_with_kernels(session):
            atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        """End the session for clients that send a shutdown request and exit (jupyter console).

        A kernel that does not exit within ``EXIT_PATIENCE_S`` ends with its owner, this process.
        """
        if self._hold is not None and not self._hold.held:
            return  # in a forked process
        handle = self._handle
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while handle is not None and handle.poll() is None:
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_S)
        self._end_session()

    def _exit_code(self) -> int:
        code = self._handle.poll() if self._handle is not None else 0
        return 0 if code is None else code
