"""``Mooring.kernels``."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mooring.kernels.connection import Connection
from mooring.kernels.kernel import KernelHandle
from mooring.kernels.listing import KernelEntry, kernels_of
from mooring.launch.wait import Wait
from mooring.sessions import kernels, lifecycle
from mooring.sessions.context import Context
from mooring.sessions.kernel_owners import KernelOwners, KernelRecord, Ownership
from mooring.sessions.kernels import AdoptedKernel
from mooring.sessions.model import Session

if TYPE_CHECKING:
    from mooring.kernels.recording import Reader, Recording


class Kernels:
    """Jupyter kernels in sessions."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    @property
    def owners(self) -> KernelOwners:
        """The records of which client owns each kernel."""
        return KernelOwners(self._ctx.installation)

    def handle(self, session_id: str, kernel_id: str) -> KernelHandle:
        """Return a handle for a kernel of a session, running or not.

        Args:
            session_id: the session's id.
            kernel_id: mooring's short id, see ``short_id``.

        Raises:
            KernelError: the path of its sockets would be too long.
        """
        return self._ctx.kernel_handle(session_id, kernel_id)

    def list(self, session_id: str) -> builtins.list[KernelEntry]:
        """Return the kernels that were started in a session, including dead ones."""
        return kernels_of(self._ctx.folder(session_id).guest)

    def recording(self, session_id: str, kernel_id: str) -> Reader:
        """Return a reader of the messages that a kernel has published, from the first one."""
        from mooring.kernels.recording import Reader

        return Reader(self._ctx.folder(session_id).guest, kernel_id)

    def recorded(self, session_id: str, kernel_id: str) -> Recording:
        """Return everything that a kernel has published, whether or not a client was connected."""
        from mooring.kernels.recording import read

        folder = self._ctx.folder(session_id)
        return read(folder.guest, kernel_id, folder.record().identity.spec.get("record"))

    def can_run(self, session: Session) -> bool:
        """Return whether Python kernels can run in a session, by its record."""
        return bool(self._ctx.folder(session.id).record().plan.python)

    def preload_problems(self, session_id: str) -> builtins.list[str]:
        """Return which modules of the spec's ``preload`` kernels do not have, and why: a line each.

        The session can write to the file that this is read from.
        """
        return kernels.preload_problems(self._ctx, session_id)

    def ensure_host(self, session: Session) -> None:
        """Start the kernel host, the parent of kernels, in a session unless one runs.

        Raises:
            ImageError: the image has no Python with ipykernel.
            EngineError
        """
        kernels.ensure_host(self._ctx, session)

    def start(
        self,
        session: Session,
        handle: KernelHandle,
        connection: Connection,
        *,
        cwd: str,
        cwd_optional: bool = False,
        env: Mapping[str, str],
        given: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        timeout_s: float = kernels.START_TIMEOUT_S,
    ) -> str:
        """Start a kernel's process, wait for its sockets, and record it in the history.

        Called for a first start and for a restart; after a restart the sockets have the same paths.

        Args:
            session: the running session.
            handle: the kernel, with its connection file written.
            connection: the content of that file.
            cwd: the working directory, as the container sees it. If it cannot be used, a Python
                kernel's first cell says so, and the history.
            cwd_optional: nothing is said then, and it runs in the session's working directory.
            env: environment variables of the kernelspec, in which ``${NAME}`` is the value of a
                variable of the kernel's.
            given: environment variables that the client gives this kernel alone.
            arguments: arguments, added to the kernel's own.
            timeout_s: timeout in seconds for the sockets to exist.

        Returns:
            Why it does not run in ``cwd``, and where it does; empty if it does.

        Raises:
            ImageError: the image has no Python with ipykernel.
            SessionStateError: the working directory was replaced on this machine since the session
                was started, which still sees the old one.
            KernelError: it cannot start, or exited at once; the message has its last output.
            SessionTimeout: the sockets do not exist after ``timeout_s`` seconds.
            EngineError
        """
        return kernels.start_kernel(
            self._ctx,
            session,
            handle,
            connection,
            cwd=cwd,
            cwd_optional=cwd_optional,
            env=env,
            given=given,
            arguments=arguments,
            timeout_s=timeout_s,
        )

    def own(self, record: KernelRecord) -> Ownership | None:
        """Record that this process owns a kernel.

        If it exits without ending a kernel that has no ``root``, that is a client other than a
        server, the kernel is killed within seconds. A session that was created for it is removed,
        unless it is also used otherwise.

        Args:
            record: the kernel; it need not have been started.

        Returns:
            The ownership, held until it is released; None if another process owns the kernel.

        Raises:
            OSError: the session's folder is gone, the disk is full, or no process can be started.
        """
        return kernels.own(self._ctx, record)

    def adopt(self, record: KernelRecord) -> AdoptedKernel:
        """Take ownership of a kernel that an earlier client has left.

        No process is started, and the engine is not called. The kernel itself may have died.

        Raises:
            KernelError: its session is gone, or another process owns it.
            OSError: the session's folder is gone, or the disk is full.
        """
        return kernels.adopt(self._ctx, record)

    def discard_unstarted(self, record: KernelRecord) -> bool:
        """Remove a kernel whose client was killed before the kernel's process was started.

        Its session is treated as in ``end_session_with``; if it is otherwise in use, nothing is
        removed.

        Args:
            record: a kernel that no process owns.

        Returns:
            False if the kernel's process was started: the kernel can be adopted. True otherwise,
            also if nothing was removed.

        Raises:
            EngineError: the session was not removed, see ``end_session_with``.
        """
        return kernels.discard_unstarted(self._ctx, record)

    def session_for_restart(self, session: Session, *, start: bool, wait: Wait) -> Session:
        """Return the running session that a kernel is restarted in.

        The engine is not called while the kernel host runs.

        Args:
            session: the kernel's session.
            start: start the session if it is stopped.
            wait: how to wait for the GPUs of a stopped session.

        Raises:
            SessionStateError: it does not run, and ``start`` is not set.
            MooringError: as ``Sessions.get`` and ``Sessions.start``.
        """
        from mooring.launch.start import start_for_kernel

        with lifecycle.disk_errors():
            return start_for_kernel(self._ctx, session, wait if start else None)

    def end(self, session_id: str, kernel_id: str) -> None:
        """Kill a kernel, record its exit in the history and remove its folder. Idempotent.

        Args:
            session_id: the session's id.
            kernel_id: mooring's short id, see ``short_id``.
        """
        kernels.end_kernel(self._ctx, session_id, kernel_id)

    def describe_exit(self, session: Session, handle: KernelHandle) -> str:
        """Describe how a kernel of a session ended, as ``KernelHandle.describe_exit``.

        For a kernel that ended with its container, the engine is asked why.
        """
        return kernels.describe_exit(self._ctx, session, handle)

    def show_death(self, session: Session, handle: KernelHandle, text: str) -> None:
        """Show why a kernel died as error output of the cell that it was running, if it was.

        Clients that are connected to the kernel receive it, which takes up to a second.

        Args:
            session: the kernel's session.
            handle: a kernel that has died.
            text: plain text.

        Raises:
            OSError: its socket cannot be replaced.
        """
        kernels.show_death(self._ctx, session, handle, text)

    def shut_down(
        self,
        session: Session,
        handle: KernelHandle,
        ownership: Ownership | None = None,
        *,
        keep: str = "",
        died: str = "",
    ) -> None:
        """Kill a kernel, and remove its folder and record.

        The session is treated as in ``end_session_with``.

        Args:
            session: the kernel's session.
            handle: the kernel, running or not.
            ownership: its ownership; None without a record.
            keep: why a session that was created for the kernel is kept and left to its clock; empty
                to remove it.
            died: how the kernel died, for the session's history; empty if it was asked to end.

        Raises:
            EngineError: the session was not removed, see ``end_session_with``; the kernel was.
        """
        kernels.shut_down(self._ctx, session, handle, ownership, keep=keep, died=died)

    def end_session_with(self, session: Session, kernel_id: str) -> None:
        """Remove a session that was created for kernels, unless another kernel lives in it.

        Args:
            session: the session.
            kernel_id: mooring's short id of a kernel whose process has exited.

        Raises:
            EngineError: it was not removed; its clock ends it, and the next listing removes it.
        """
        kernels.end_with_kernel(self._ctx, session, kernel_id)
