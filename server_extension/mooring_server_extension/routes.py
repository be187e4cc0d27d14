"""The routes of mooring's REST API."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web

import mooring
from mooring_server_extension import (
    gpus,
    kernels,
    requests,
    sessions,
    specs,
    stream,
    terminals,
)
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.responses import Forbidden, NotFound

_DEFS = "#/components/schemas/Values/$defs"
OPENAPI_FILE = Path(__file__).with_name("openapi.yml")


class StatusHandler(MooringHandler):
    """Return the version of mooring and the state of the engine."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        engine = await self.context.engine.status()
        self.write_json({"version": mooring.__version__, "engine": engine})


class OpenApiHandler(MooringHandler):
    """Return the OpenAPI document of the API."""

    auth_resource = "mooring:specs"

    @web.authenticated
    @authorized
    def get(self) -> None:
        self.write_json(openapi())


class FallbackHandler(MooringHandler):
    """Respond with 404 in the API's format to all other paths below /mooring/api."""

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler's own
        await super().prepare()
        if not self.current_user:
            raise Forbidden("not signed in", "send the server's token")
        raise NotFound("no such path", "to list the paths: GET /mooring/api/openapi.json")


@lru_cache(maxsize=1)
def openapi() -> dict[str, Any]:
    """Return the OpenAPI document with the installed version."""
    import yaml

    document: dict[str, Any] = yaml.safe_load(OPENAPI_FILE.read_text(encoding="utf-8"))
    document["info"]["version"] = mooring.__version__
    schemas = document["components"]["schemas"]
    schemas["Duration"] |= {"pattern": requests.DURATION, "maxLength": requests.MAX_TEXT}
    schemas["Values"] = _values()
    return document


def _values() -> dict[str, Any]:
    """Return the schema of a spec's keys in a request: of a spec file without ``extends``."""
    schema: dict[str, Any] = json.loads(mooring.SCHEMA_FILE.read_text(encoding="utf-8"))
    del schema["properties"][mooring.EXTENDS]
    # its own $id would make its references start from itself, which not all tools follow
    text = json.dumps({key: schema[key] for key in schema if not key.startswith("$")})
    text = text.replace('"#/properties/', '"#/components/schemas/Values/properties/')
    values: dict[str, Any] = json.loads(text.replace('"#/$defs/', f'"{_DEFS}/'))
    values["$defs"] = json.loads(json.dumps(schema["$defs"]).replace('"#/$defs/', f'"{_DEFS}/'))
    return values


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
# Must come after ROUTES
FALLBACK = (r"/mooring/api(?:/.*)?", FallbackHandler)
