"""The routes of mooring's REST API, and the handlers of sessions."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web

import mooring as core
from mooring.errors import EngineUnavailable, MooringError
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.stream import StreamHandler


class StatusHandler(MooringHandler):
    """Which mooring, on which engine."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.say({"version": core.__version__, "engine": await self.extension.engine_status()})


class SessionsHandler(MooringHandler):
    """All sessions; a new one."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.say((await self.extension.watcher.look()).body())


def routes() -> list[tuple[str, type[MooringHandler]]]:
    """Every path of the API and what handles it."""
    return [
        (r"/mooring/api/status", StatusHandler),
        (r"/mooring/api/sessions", SessionsHandler),
        (r"/mooring/api/stream", StreamHandler),
    ]


__all__ = ["EngineUnavailable", "MooringError", "routes"]
