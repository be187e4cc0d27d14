"""``Mooring.kernels``."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mooring.kernels.kernel import Connection, KernelHandle
from mooring.kernels.kernelhost import host_lives
from mooring.kernels.listing import KernelEntry, kernels_of
from mooring.sessions import kernels
from mooring.sessions.context import Context
from mooring.sessions.kernel_owners import KernelOwners
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

    def host_lives(self, session_id: str) -> bool:
        """Return whether a session and its kernel host, the parent of its kernels, are running."""
        folder = self._ctx.folder(session_id)
        return not folder.has_ended and host_lives(folder.guest)

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
        env: Mapping[str, str],
        arguments: Sequence[str] = (),
        timeout_s: float = kernels.START_TIMEOUT_S,
    ) -> None:
        """Start a kernel's process, wait for its sockets, and record it in the history.

        Called for a first start and for a restart; after a restart the sockets have the same paths.

        Args:
            session: the running session.
            handle: the kernel, with its connection file written.
            connection: the content of that file.
            cwd: the working directory, as the container sees it.
            env: environment variables, added to the container's.
            arguments: arguments, added to the kernel's own.
            timeout_s: timeout in seconds for the sockets to exist.

        Raises:
            ImageError: the image has no Python with ipykernel.
            KernelError: it cannot start, or exited at once; the message has its last output.
            SessionTimeout: the sockets do not exist after ``timeout_s`` seconds.
            EngineError
        """
        kernels.start_kernel(
            self._ctx,
            session,
            handle,
            connection,
            cwd=cwd,
            env=env,
            arguments=arguments,
            timeout_s=timeout_s,
        )

    def kill(self, handle: KernelHandle) -> None:
        """Send SIGKILL to a kernel and its children and wait until it exits. Idempotent."""
        kernels.kill_kernel(handle)

    def end(self, session_id: str, kernel_id: str) -> None:
        """Kill a kernel, record its exit in the history and remove its folder. Idempotent.

        Args:
            session_id: the session's id.
            kernel_id: mooring's short id, see ``short_id``.
        """
        kernels.end_kernel(self._ctx, session_id, kernel_id)

    def end_session_with(self, session: Session, kernel_id: str) -> None:
        """Remove a session that was created for kernels, unless another kernel lives in it.

        Args:
            session: the session.
            kernel_id: mooring's short id of a kernel whose process has exited.

        Raises:
            EngineError: it was not removed; its clock ends it, and the next listing removes it.
        """
        kernels.end_with_kernel(self._ctx, session, kernel_id)
