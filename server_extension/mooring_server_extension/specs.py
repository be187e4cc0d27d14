"""The spec files of the server's root, and the schema of one: what a form is made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring.errors import MooringError
from mooring.spec.model import EXTENDS, SessionSpec
from mooring.spec.schema import SCHEMA_FILE
from mooring_server_extension.answers import NotFound
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.inside import inside

MAX_FILES = 200


class SpecsHandler(MooringHandler):
    """The files of a folder that are specs."""

    auth_resource = "mooring:specs"

    @web.authenticated
    @authorized
    async def get(self) -> None:
        path = self.get_query_argument("path", "", strip=False)
        self.say({"specs": await self.core(lambda _: specs(self.root, path))})


class SchemaHandler(MooringHandler):
    """The JSON Schema of a spec."""

    auth_resource = "mooring:specs"

    @web.authenticated
    @authorized
    def get(self) -> None:
        self.say(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def specs(root: Path, path: str) -> list[dict[str, Any]]:
    """The ``*.yml`` and ``*.yaml`` of a folder that are specs, or that are meant to be.

    Returns:
        for each its path relative to the root, its name, the values that it sets, and what is
        wrong with it (empty when nothing is).

    Raises:
        Forbidden, BadRequest, NotFound: there is no such folder below the root.
    """
    folder = inside(root, path)
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix in (".yml", ".yaml"))
    except OSError as error:
        raise NotFound(f"no folder {path[:200]}") from error
    found = []
    for file in files[:MAX_FILES]:
        try:
            real = inside(root, str(file))
        except MooringError:
            continue  # a link that leads out of the root
        told = _spec(real)
        if told is not None:
            found.append({"path": file.relative_to(root).as_posix()} | told)
    return found


def _spec(file: Path) -> dict[str, Any] | None:
    from mooring.spec.resolve import profiles_dir, resolve
    from mooring.spec.yamlfile import load

    name, meant = file.stem, file.stem == "session"
    try:
        keys = load(file).data.keys()
        meant = meant or 2 * len(keys & (SessionSpec.model_fields.keys() | {EXTENDS})) > len(keys)
        resolved = resolve(
            flags={},
            file=file,
            environ={},
            user_config=Path("/nonexistent"),
            profiles=profiles_dir(),
        )
    except MooringError as error:
        # docker-compose.yml, mkdocs.yml and their like are no specs with mistakes
        return {"name": name, "spec": {}, "problem": error.message} if meant else None
    public = resolved.spec.public_dict()
    return {"name": resolved.spec.name or name, "spec": public, "problem": ""}
