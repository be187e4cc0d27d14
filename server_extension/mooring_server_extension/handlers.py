"""The routes of mooring's REST API; each kind of thing has a module of its own."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web

import mooring
from mooring_server_extension import gpus, kernels, sessions, specs, stream, terminals
from mooring_server_extension.answers import Forbidden, NotFound
from mooring_server_extension.base import MooringHandler

OPENAPI_FILE = Path(__file__).with_name("openapi.yml")


class StatusHandler(MooringHandler):
    """Which mooring, on which engine."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.say({"version": mooring.__version__, "engine": await self.extension.engine_status()})


class OpenApiHandler(MooringHandler):
    """The OpenAPI document of all this."""

    auth_resource = "mooring:specs"

    @web.authenticated
    @authorized
    def get(self) -> None:
        self.say(openapi())


class NowhereHandler(MooringHandler):
    """Every other path below /mooring/api."""

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler's own
        await super().prepare()
        if not self.current_user:
            raise Forbidden("not signed in", "send the server's token")
        raise NotFound("no such path", "GET /mooring/api/openapi.json lists them")


@lru_cache(maxsize=1)
def openapi() -> dict[str, Any]:
    """The OpenAPI document."""
    import yaml

    document: dict[str, Any] = yaml.safe_load(OPENAPI_FILE.read_text(encoding="utf-8"))
    document["info"]["version"] = mooring.__version__
    return document


_SESSION = r"/mooring/api/sessions/([^/]+)"

ROUTES: list[tuple[str, type[MooringHandler]]] = [
    (r"/mooring/api/openapi\.json", OpenApiHandler),
    (r"/mooring/api/status", StatusHandler),
    (r"/mooring/api/schema", specs.SchemaHandler),
    (r"/mooring/api/specs", specs.SpecsHandler),
    (r"/mooring/api/gpus", gpus.GpusHandler),
    (r"/mooring/api/stream", stream.StreamHandler),
    (r"/mooring/api/sessions", sessions.SessionsHandler),
    (_SESSION, sessions.SessionHandler),
    (_SESSION + r"/start", sessions.StartHandler),
    (_SESSION + r"/stop", sessions.StopHandler),
    (_SESSION + r"/hold", sessions.HoldHandler),
    (_SESSION + r"/events", sessions.EventsHandler),
    (_SESSION + r"/logs", sessions.LogsHandler),
    (_SESSION + r"/terminals", terminals.TerminalsHandler),
    (_SESSION + r"/kernels", kernels.KernelsHandler),
    (r"/mooring/api/kernels/([^/]+)/recording", kernels.RecordingHandler),
]
# What is none of the above is said in the API's own words
NOWHERE = (r"/mooring/api(?:/.*)?", NowhereHandler)
