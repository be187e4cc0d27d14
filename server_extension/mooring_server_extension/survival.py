"""Keep kernels running across servers: one server detaches them, the next one adopts them.

The data for the next server is recorded when a kernel starts and whenever it is assigned to a
notebook (``mooring.kernels.owners``), because a killed server runs no shutdown hook.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tornado.web import HTTPError

from mooring import KernelRecord, Mooring
from mooring_server_extension import upstream
from mooring_server_extension.pools import Pools

COLUMNS = ("path", "name", "type")


class Survival:
    """Adopts and detaches the mooring kernels of one server.

    Args:
        serverapp: jupyter_server's ``ServerApp``, with its managers.
        mooring: the core.
        pools: thread pools for blocking calls.
    """

    def __init__(self, serverapp: Any, mooring: Mooring, pools: Pools) -> None:
        self._mooring, self._pools = mooring, pools
        self._owners = mooring.kernels.owners
        self._kernels = serverapp.kernel_manager
        self._sessions = serverapp.session_manager
        self._log = serverapp.log  # Jupyter Server shows messages of this logger only
        self._rows: dict[str, dict[str, str]] = {}  # Jupyter session id -> its row

    def watch(self) -> None:
        """Start recording which notebook uses which kernel, and keep sessions of culled kernels.

        jupyter_server emits no event for this, so the three methods of its session manager that
        change it are wrapped, and the one of its kernel manager that culls a kernel.
        """
        self._keep_culled()
        sessions: Any = self._sessions
        save, update, delete = (
            sessions.save_session,
            sessions.update_session,
            sessions.delete_session,
        )

        async def save_session(session_id: str, *args: Any, **kwargs: Any) -> Any:
            columns = dict(zip((*COLUMNS, "kernel_id"), args, strict=False)) | kwargs
            model = await save(session_id, *args, **kwargs)
            self._record(session_id, columns)
            return model

        async def update_session(session_id: str, **kwargs: Any) -> Any:
            result = await update(session_id, **kwargs)
            self._record(session_id, kwargs)
            return result

        async def delete_session(session_id: str) -> Any:
            result = await delete(session_id)
            self._rows.pop(session_id, None)
            return result

        sessions.save_session = save_session
        sessions.update_session = update_session
        sessions.delete_session = delete_session

    def _keep_culled(self) -> None:
        """Leave the session of a kernel that Jupyter culls to the session's own time limits."""
        kernels: Any = self._kernels
        cull = kernels.cull_kernel_if_idle

        async def cull_kernel_if_idle(kernel_id: str) -> None:
            provisioner = kernels.get_kernel(kernel_id).provisioner
            if not hasattr(provisioner, "keep_session"):
                await cull(kernel_id)
                return
            provisioner.keep_session = "Jupyter culled its kernel"
            try:
                await cull(kernel_id)
            finally:
                provisioner.keep_session = ""

        kernels.cull_kernel_if_idle = cull_kernel_if_idle

    async def adopt(self) -> list[str]:
        """Adopt the kernels of earlier servers whose notebooks are in this server's root folder.

        The engine is not called for live kernels. A kernel whose server was killed before the
        kernel's process started is removed, together with a session created for it. A kernel that
        cannot be adopted is skipped with a warning in the log.

        Returns:
            The ids of the adopted kernels.
        """
        adopted: list[str] = []
        elsewhere = set()
        for orphan in self._owners.orphaned():
            record = orphan.seen_from(str(self._kernels.root_dir))
            if record is None:
                elsewhere.add(orphan.root)
                continue
            if record.kernel_id in self._kernels:
                continue
            try:
                if not await self._discard_unstarted(record):
                    await self._adopt(record)
                    adopted.append(record.kernel_id)
            except Exception as error:  # must not prevent the server's start
                self._log.warning("kernel %s cannot be adopted: %s", record.kernel_id, error)
        if adopted:
            self._log.info("adopted %d kernels of an earlier server", len(adopted))
        for root in sorted(elsewhere):
            self._log.info("kernels still run; to adopt them, start a server in %s", root)
        return adopted

    def cancel_launches(self) -> None:
        """Cancel kernels that are being started, which may take minutes, for example for a pull."""
        upstream.cancel_pending_launches(self._kernels)

    async def detach(self) -> list[str]:
        """Detach all mooring kernels, so that the server's shutdown does not end them.

        Called before the server shuts down its kernels.

        Returns:
            The ids of the detached kernels.
        """
        detached = []
        for kernel_id in list(self._kernels.list_kernel_ids()):
            try:
                if await self._detach(kernel_id):
                    detached.append(kernel_id)
            except Exception as error:  # must not prevent the server's shutdown
                self._log.warning("kernel %s cannot be detached: %s", kernel_id, error)
        return detached

    async def _detach(self, kernel_id: str) -> bool:
        manager = self._kernels.get_kernel(kernel_id)
        detach: Callable[[], Awaitable[bool]] | None = getattr(manager.provisioner, "detach", None)
        if detach is None:
            return False
        manager.stop_restarter()  # first: it polls the kernel and would treat it as dead
        if not await detach() or kernel_id not in self._kernels:
            return False
        self._kernels.stop_watching_activity(kernel_id)
        self._kernels.stop_buffering(kernel_id)
        manager.cleanup_connection_file()
        self._kernels.remove_kernel(kernel_id)
        return True

    async def _adopt(self, record: KernelRecord) -> None:
        busy = self._owners.busy(record)
        await self._kernels.start_kernel(
            kernel_id=record.kernel_id, kernel_name=record.kernel_name, cwd=record.cwd
        )
        manager = self._kernels.get_kernel(record.kernel_id)
        manager.execution_state = "busy" if busy else "idle"
        if busy:
            upstream.skip_kernel_info(manager)
        for row in record.rows:
            columns = {key: row[key] for key in COLUMNS} | {"kernel_id": record.kernel_id}
            try:  # a server with a session database file already has the row
                await self._sessions.update_session(row["session_id"], **columns)
            except HTTPError:
                await self._sessions.save_session(row["session_id"], **columns)

    async def _discard_unstarted(self, record: KernelRecord) -> bool:
        discard = self._mooring.kernels.discard_unstarted
        return await self._pools.run("act", lambda: discard(record))

    def _record(self, session_id: str, columns: dict[str, Any]) -> None:
        """Record the kernel of a Jupyter session, and the path, name and type of its notebook."""
        row = self._rows.setdefault(session_id, {"session_id": session_id})
        before = row.get("kernel_id")
        names = (*COLUMNS, "kernel_id")
        row.update({name: str(columns[name] or "") for name in names if name in columns})
        for kernel_id in {before, row.get("kernel_id")} - {None, ""}:
            rows = [
                {name: other.get(name, "") for name in ("session_id", *COLUMNS)}
                for other in self._rows.values()
                if other.get("kernel_id") == kernel_id
            ]
            self._owners.show_in(str(kernel_id), rows)
