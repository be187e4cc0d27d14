"""Kernels outlive their server: they are let go of when it ends, and taken up when one starts.

What the next server must know lies beside each session (``mooring.sessions.kernel_owners``),
written when a kernel starts and whenever a notebook takes it or leaves it: a server that is killed
runs no hook.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from tornado.web import HTTPError

from mooring.service import Mooring
from mooring.sessions import kernel_owners
from mooring.sessions.kernel_owners import KernelRecord
from mooring.sessions.model import State, from_record
from mooring_server_extension.threads import Threads

COLUMNS = ("path", "name", "type")


class Survival:
    """What happens to one server's mooring kernels at its start and at its end.

    Args:
        serverapp: jupyter_server's ``ServerApp``, with its managers.
    """

    def __init__(self, serverapp: Any, mooring: Mooring, threads: Threads) -> None:
        self._mooring, self._threads = mooring, threads
        self._kernels = serverapp.kernel_manager
        self._sessions = serverapp.session_manager
        self._log = serverapp.log  # the only one that Jupyter Server shows
        self._rows: dict[str, dict[str, str]] = {}  # Jupyter session id -> its row

    def watch(self) -> None:
        """Write down from now on which notebook has which kernel.

        jupyter_server tells nobody, so its session manager's three writing methods are wrapped.
        """
        sessions: Any = self._sessions
        save, update, delete = (
            sessions.save_session,
            sessions.update_session,
            sessions.delete_session,
        )

        async def save_session(session_id: str, *args: Any, **kwargs: Any) -> Any:
            given = dict(zip((*COLUMNS, "kernel_id"), args, strict=False)) | kwargs
            found = await save(session_id, *args, **kwargs)
            self._changed(session_id, given)
            return found

        async def update_session(session_id: str, **kwargs: Any) -> Any:
            found = await update(session_id, **kwargs)
            self._changed(session_id, kwargs)
            return found

        async def delete_session(session_id: str) -> Any:
            found = await delete(session_id)
            self._rows.pop(session_id, None)
            return found

        sessions.save_session = save_session
        sessions.update_session = update_session
        sessions.delete_session = delete_session

    async def adopt(self) -> list[str]:
        """Take up the kernels that an earlier server of the same folder left. Returns their ids.

        The engine is not asked for the living. One whose server was killed before it began is
        taken back, with a session that was made for it. One that cannot be taken up is told in
        the log and left alone.
        """
        adopted = []
        for record in kernel_owners.survivors(str(self._kernels.root_dir)):
            if record.kernel_id in self._kernels:
                continue
            try:
                if not record.begun:
                    await self._forget(record)
                    continue
                await self._take_up(record)
            except Exception as error:  # one kernel must not cost the server its start
                self._log.warning("kernel %s cannot be taken up: %s", record.kernel_id, error)
                continue
            adopted.append(record.kernel_id)
        if adopted:
            self._log.info("took up %d kernels that outlived their server", len(adopted))
        return adopted

    def give_up_launches(self) -> None:
        """Cancel the kernels that are still being started: they may wait for a pull."""
        for kernel_id, task in list(getattr(self._kernels, "_pending_kernels", {}).items()):
            if kernel_id not in self._kernels:
                task.cancel()

    async def detach(self) -> list[str]:
        """Let go of every mooring kernel, so that the server's end does not end it.

        Called before the server shuts down the kernels that it knows. Returns the kernels' ids.
        """
        detached = []
        for kernel_id in list(self._kernels.list_kernel_ids()):
            try:
                if await self._let_go(kernel_id):
                    detached.append(kernel_id)
            except Exception as error:  # one kernel must not cost the server its end
                self._log.warning("kernel %s cannot be let go of: %s", kernel_id, error)
        return detached

    async def _let_go(self, kernel_id: str) -> bool:
        manager = self._kernels.get_kernel(kernel_id)
        detach: Callable[[], Awaitable[bool]] | None = getattr(manager.provisioner, "detach", None)
        if detach is None:
            return False
        manager.stop_restarter()  # first: it looks at the kernel, and forgets one that is gone
        if not await detach() or kernel_id not in self._kernels:
            return False
        self._kernels.stop_watching_activity(kernel_id)
        self._kernels.stop_buffering(kernel_id)
        manager.cleanup_connection_file()
        self._kernels.remove_kernel(kernel_id)
        return True

    async def _take_up(self, record: KernelRecord) -> None:
        busy = record.busy
        await self._kernels.start_kernel(
            kernel_id=record.kernel_id, kernel_name=record.kernel_name, cwd=record.cwd
        )
        manager = self._kernels.get_kernel(record.kernel_id)
        manager.execution_state = "busy" if busy else "idle"
        if busy:
            # Who opens a websocket waits for an answer on the shell channel, which a busy kernel
            # gives when it is done. An empty one stands for the current protocol.
            known: Future[dict[str, Any]] = Future()
            known.set_result({})
            manager._kernel_info_future = known
        for row in record.rows:
            shown = {key: row[key] for key in COLUMNS} | {"kernel_id": record.kernel_id}
            try:  # where the server keeps its sessions in a file
                await self._sessions.update_session(row["session_id"], **shown)
            except HTTPError:
                await self._sessions.save_session(row["session_id"], **shown)

    async def _forget(self, record: KernelRecord) -> None:
        status = record.folder.status()
        if status is not None and set(status.active) & {"exec", "terminal", "hold"}:
            return  # somebody has found a use for its session

        def take_back() -> None:
            session = from_record(record.folder, State.RUNNING, "")
            self._mooring.end_with_kernel(session, kernel_owners.short_id(record.kernel_id))
            held = kernel_owners.hold(record) if record.folder.exists else None
            if held is not None:
                held.forget()

        await self._threads.run("act", take_back)

    def _changed(self, session_id: str, given: dict[str, Any]) -> None:
        row = self._rows.setdefault(session_id, {"session_id": session_id})
        before = row.get("kernel_id")
        row.update({key: str(given[key] or "") for key in (*COLUMNS, "kernel_id") if key in given})
        for kernel_id in {before, row.get("kernel_id")} - {None, ""}:
            rows = [
                {key: each.get(key, "") for key in ("session_id", *COLUMNS)}
                for each in self._rows.values()
                if each.get("kernel_id") == kernel_id
            ]
            kernel_owners.show_in(str(kernel_id), rows)
