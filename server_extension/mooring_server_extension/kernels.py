"""Kernels in a session, started by the Jupyter server; and what they published unheard."""

from __future__ import annotations

import json
import re
from typing import Any

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring.errors import NotSupported
from mooring.guest import shared
from mooring.kernels import kernelspecs
from mooring.sessions import kernel_owners
from mooring.sessions.kernel_owners import short_id
from mooring.sessions.record import Folder
from mooring_server_extension import bodies
from mooring_server_extension.answers import NotFound
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.inside import inside
from mooring_server_extension.terminals import running

GENERIC = kernelspecs.PACKAGED
_KERNEL_ID = re.compile(r"[0-9a-f]{12}|[0-9a-f-]{32,36}")


class KernelsHandler(MooringHandler):
    """Start a kernel in a running session."""

    auth_resource = "mooring:kernels"

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("kernel", name):
            body = bodies.read(bodies.NewKernel, self.json_body())
            path = None
            if body.path is not None:
                inside(self.root, body.path)
                path = body.path
            session = await self.core(lambda mooring: running(mooring, name))
            kernelspec = await self.core(lambda _: kernelspec_of(session.name))
            try:
                await ensure_async(self.kernel_spec_manager.get_kernel_spec(kernelspec))
            except NoSuchKernel as error:
                raise NotSupported(
                    f"this Jupyter server has no kernelspec {kernelspec}",
                    "it comes with mooring: is mooring installed in the server's environment?",
                ) from error
            manager: Any = self.kernel_manager
            kernel_id = await manager.start_kernel(
                kernel_name=kernelspec, path=path, mooring_session=session.id
            )
        self.say({"id": kernel_id, "name": kernelspec}, 201)


class RecordingHandler(MooringHandler):
    """What a kernel published, heard or not."""

    auth_resource = "mooring:kernels"

    @web.authenticated
    @authorized
    async def get(self, kernel_id: str) -> None:
        # it may be long: it becomes text in the thread too
        self.finish(await self.core(lambda _: _text(kernel_id), "recording"))


def kernelspec_of(session: str) -> str:
    """The kernelspec that was installed for that session, if it is the only one."""
    names = [spec.name for spec in kernelspecs.installed() if spec.config.get("session") == session]
    return names[0] if len(names) == 1 else GENERIC


def recording(kernel_id: str) -> dict[str, Any]:
    """A kernel's recording, oldest execution first.

    Args:
        kernel_id: Jupyter's, or mooring's own.

    Raises:
        NotFound: no session has such a kernel.
    """
    from mooring.kernels.recording import read

    folder = folder_of(kernel_id) if _KERNEL_ID.fullmatch(kernel_id) else None
    if folder is None:
        raise NotFound("no session has that kernel", "GET /mooring/api/sessions lists the kernels")
    said = read(folder, short_id(kernel_id))
    executions = [execution.to_dict() for execution in said.executions]
    return {"executions": executions, "lost_bytes": said.lost_bytes}


def _text(kernel_id: str) -> str:
    return json.dumps(recording(kernel_id), allow_nan=False)


def folder_of(kernel_id: str) -> Folder | None:
    """The folder of the session that has a kernel.

    A session can make a folder for any kernel whose id it has learned, but no record: so a record
    decides. A kernel without one (another client's) is where the only folder for it is.
    """
    short = short_id(kernel_id)
    record = kernel_owners.find(kernel_id)
    if record is not None:
        return record.folder if _has(record.folder, short) else None
    folders = Folder.all()
    recorded = [f for f in folders if (f.path / "kernels" / f"{short}.json").exists()]
    if kernel_id != short:
        folders = [folder for folder in folders if folder not in recorded]
    elif recorded:
        folders = recorded
    found = [folder for folder in folders if _has(folder, short)]
    return found[0] if len(found) == 1 else None


def _has(folder: Folder, short: str) -> bool:
    return shared.exists(folder.run, f"k/{short}")
