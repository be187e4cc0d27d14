"""Handlers for the spec files below the server's root and their JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring import EXTENDS, SCHEMA_FILE, MooringError, SessionSpec
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.paths import below_root
from mooring_server_extension.responses import NotFound

MAX_FILES = 200


class SpecsHandler(MooringHandler):
    """List the spec files in a folder."""

    auth_resource = "mooring:specs"

    @web.authenticated
    @authorized
    async def get(self) -> None:
        path = self.get_query_argument("path", "", strip=False)
        self.write_json({"specs": await self.core(lambda _: specs(self.root, path))})


class SchemaHandler(MooringHandler):
    """Return the JSON Schema of spec files."""

    auth_resource = "mooring:specs"

    @web.authenticated
    @authorized
    def get(self) -> None:
        self.write_json(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def specs(root: Path, path: str) -> list[dict[str, Any]]:
    """Return the ``*.yml`` and ``*.yaml`` files in a folder that are specs, valid or not.

    Args:
        root: the server's root, with symbolic links resolved.
        path: the folder, relative to the root.

    Returns:
        ``{path, name, spec, problem}`` for each spec among the first ``MAX_FILES`` files: the path
        relative to the root, the name, the values that differ from the defaults (secrets as names),
        and the error if the spec is invalid.

    Raises:
        BadRequest, Forbidden, NotFound: there is no such folder below the root.
    """
    folder = below_root(root, path)
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix in (".yml", ".yaml"))
    except OSError as error:
        raise NotFound(f"no folder {path[:200]}") from error
    entries = []
    for file in files[:MAX_FILES]:
        try:
            real = below_root(root, str(file))
        except MooringError:
            continue  # a symbolic link to a file outside the root
        entry = _spec(real)
        if entry is not None:
            entries.append({"path": file.relative_to(root).as_posix()} | entry)
    return entries


def _spec(file: Path) -> dict[str, Any] | None:
    from mooring import load_spec_file, profiles_dir, resolve

    name, intended = file.stem, file.stem == "session"
    try:
        keys = load_spec_file(file).data.keys()
        known = SessionSpec.model_fields.keys() | {EXTENDS}
        intended = intended or 2 * len(keys & known) > len(keys)
        resolved = resolve(
            flags={},
            file=file,
            environ={},
            user_config=Path("/nonexistent"),
            profiles=profiles_dir(),
            defaults=False,
        )
    except MooringError as error:
        # docker-compose.yml, mkdocs.yml and similar files are not specs
        return {"name": name, "spec": {}, "problem": error.message} if intended else None
    public = resolved.spec.public_dict()
    return {"name": resolved.spec.name or name, "spec": public, "problem": ""}
