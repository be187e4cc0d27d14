"""Handlers for kernels: start a kernel in a session, and read its recorded output."""

from __future__ import annotations

import json
import re
from typing import Any

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring import Mooring, NotSupported, short_id
from mooring_server_extension import requests
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.kernelspecs import kernelspec_of
from mooring_server_extension.paths import below_root
from mooring_server_extension.responses import NotFound
from mooring_server_extension.terminals import running

_KERNEL_ID = re.compile(r"[0-9a-f]{12}|[0-9a-f-]{32,36}")


class KernelsHandler(MooringHandler):
    """Start a kernel in a running session."""

    auth_resource = "mooring:kernels"

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("kernel", name):
            body = requests.read(requests.NewKernel, self.json_body())
            path = None
            if body.path is not None:
                below_root(self.root, body.path)
                path = body.path
            session = await self.core(lambda mooring: running(mooring, name))
            kernelspec = await self.core(lambda mooring: kernelspec_of(mooring, session))
            try:
                await ensure_async(self.kernel_spec_manager.get_kernel_spec(kernelspec))
            except NoSuchKernel as error:
                raise NotSupported(
                    f"this Jupyter server has no kernelspec {kernelspec}",
                    "install mooring in the server's environment, which includes the kernelspec",
                ) from error
            manager: Any = self.kernel_manager
            kernel_id = await manager.start_kernel(
                kernel_name=kernelspec, path=path, mooring_session=session.id
            )
        self.write_json({"id": kernel_id, "name": kernelspec}, 201)


class RecordingHandler(MooringHandler):
    """Return a kernel's recorded output, including output published without a connected client."""

    auth_resource = "mooring:kernels"

    @web.authenticated
    @authorized
    async def get(self, kernel_id: str) -> None:
        # a recording may be large, so the thread also encodes it
        self.finish(await self.core(lambda mooring: _text(mooring, kernel_id), "recording"))


def recording(mooring: Mooring, kernel_id: str) -> dict[str, Any]:
    """Return a kernel's recording.

    Args:
        mooring: the core.
        kernel_id: Jupyter's or mooring's id of the kernel.

    Returns:
        ``{executions, lost_bytes}``: the executions as ``Execution.to_dict()``, oldest first, and
        the number of recorded bytes that are lost.

    Raises:
        NotFound: no session has such a kernel.
    """
    session_id = ""
    if _KERNEL_ID.fullmatch(kernel_id):
        session_id = mooring.kernels.owners.session_of(kernel_id)
    if not session_id:
        raise NotFound(
            "no session has that kernel", "to list the kernels: GET /mooring/api/sessions"
        )
    content = mooring.kernels.recorded(session_id, short_id(kernel_id))
    executions = [execution.to_dict() for execution in content.executions]
    return {"executions": executions, "lost_bytes": content.lost_bytes}


def _text(mooring: Mooring, kernel_id: str) -> str:
    return json.dumps(recording(mooring, kernel_id), allow_nan=False)
