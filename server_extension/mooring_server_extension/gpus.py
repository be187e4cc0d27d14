"""Handler for the host's GPUs."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring_server_extension.base import MooringHandler


class GpusHandler(MooringHandler):
    """List the host's GPUs and their holders."""

    auth_resource = "mooring:gpus"

    @web.authenticated
    @authorized
    async def get(self) -> None:
        gpus = await self.context.gpus.query()
        self.write_json({"gpus": [gpu.to_dict() for gpu in gpus]})
