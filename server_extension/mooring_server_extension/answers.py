"""What the API says: a session as JSON, and a failure as ``{code, message, hint}``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import responses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError

from mooring.errors import (
    Cancelled,
    CommandError,
    ConsentRequired,
    EngineUnavailable,
    MooringError,
    NoCapacity,
    NotSupported,
    PolicyError,
    SessionExists,
    SessionNotFound,
    SessionStateError,
    SessionTimeout,
    SpecError,
)
from mooring.sessions import kernel_owners
from mooring.sessions.kernel_owners import short_id
from mooring.sessions.record import Folder

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.sessions.model import Session


class BadRequest(MooringError):
    """The request itself is wrong: its body, a query argument."""


class NotFound(MooringError):
    """There is no such thing, and it is no session."""


class Forbidden(MooringError):
    """Not signed in, not allowed, or from a page of another origin."""


class NeedsConsent(ConsentRequired):
    """``ConsentRequired``, with each of the things that are asked for."""

    code = "consent_required"

    def __init__(self, message: str, hint: str, grants: list[str]) -> None:
        super().__init__(message, hint)
        self.grants = grants


STATUS: tuple[tuple[type[MooringError], int], ...] = (
    (BadRequest, 400),
    (CommandError, 409),
    (SpecError, 400),
    (Forbidden, 403),
    (PolicyError, 403),
    (SessionNotFound, 404),
    (NotFound, 404),
    (ConsentRequired, 409),
    (SessionExists, 409),
    (SessionStateError, 409),
    (Cancelled, 409),
    (NoCapacity, 409),
    (NotSupported, 501),
    (EngineUnavailable, 503),
    (SessionTimeout, 504),
)


def status_of(error: MooringError) -> int:
    """The HTTP status that a failure answers with."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def error_body(error: BaseException | None, status: int, *, known: bool) -> dict[str, Any]:
    """What is said of a failure; of one that nobody foresaw, nothing but that there is one.

    Args:
        known: whether the request's user is.
    """
    if isinstance(error, MooringError):
        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        return body | {"grants": error.grants} if isinstance(error, NeedsConsent) else body
    if status in (401, 403):
        hint = "with a cookie, send the X-XSRFToken header" if known else "send the server's token"
        return {"code": "forbidden", "message": _said(error) or "not signed in", "hint": hint}
    if isinstance(error, HTTPError):
        message, _, hint = _said(error).partition("\nhint: ")  # as the provisioner puts it
        code = responses.get(status, "error").lower().replace(" ", "_")
        return {"code": code, "message": message or responses.get(status, "error"), "hint": hint}
    return {
        "code": "internal_error",
        "message": "mooring's extension failed",
        "hint": "the log of the Jupyter server tells more",
    }


def _said(error: BaseException | None) -> str:
    if not isinstance(error, HTTPError) or not error.log_message:
        return ""
    try:
        return error.log_message % error.args  # tornado doubles a % where there are no arguments
    except (TypeError, ValueError):
        return error.log_message


@dataclass(frozen=True)
class JupyterSide:
    """What this server knows of kernels, by their short ids.

    Attributes:
        root: the folder that the server's paths start from.
        kernels: a short id's kernel id and kernelspec.
        paths: the notebook, relative to the root, by kernel id.
    """

    root: Path
    kernels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)


def jupyter_side(root: Path, kernel_manager: Any, session_manager: Any) -> JupyterSide:
    """Look at the server's managers, from its event loop and without waiting."""
    kernels = {}
    for kernel_id in kernel_manager.list_kernel_ids():
        name = getattr(kernel_manager.get_kernel(kernel_id), "kernel_name", "")
        kernels[short_id(kernel_id)] = (kernel_id, name)
    # Not ``list_sessions``: that forgets the notebooks of kernels that are yet to be adopted
    rows = session_manager.cursor.execute("SELECT kernel_id, path FROM session").fetchall()
    return JupyterSide(root, kernels, {row[0]: row[1] for row in rows})


def session_body(session: Session, mooring: Mooring, jupyter: JupyterSide) -> dict[str, Any]:
    """A session as the API tells it; blocks on its folder.

    Returns:
        ``Session.to_dict()`` with its deadlines in seconds (0 for never), its kernels, and the
        notebooks of those and of the one it is being started for.
    """
    folder = Folder.open(session.id)
    deadlines = mooring.deadlines(session)

    def own(short: str) -> tuple[str, str]:
        """A kernel as Jupyter knows it; not what a session says of one that is no kernel of its."""
        kernel_id, name = jupyter.kernels.get(short, ("", ""))
        record = kernel_owners.find(kernel_id) if kernel_id else None
        return (kernel_id, name) if record and record.session == session.id else ("", "")

    kernels = []
    for kernel in session.live_kernels:
        kernel_id, name = own(kernel.id)
        kernels.append(
            {
                "id": kernel.id,
                "kernel_id": kernel_id,
                "busy": kernel.busy,
                "requests": kernel.requests,
                "path": jupyter.paths.get(kernel_id, ""),
                "name": name,
            }
        )
    opened_by = relative(session.opened_by, jupyter.root)
    # Of one that has ended too: they say so, and offer to start it again
    held = (own(kernel.id)[0] for kernel in session.kernels)
    notebooks = [path for path in map(jupyter.paths.get, held) if path]
    if opened_by and session.state.value in ("pending", "starting"):
        notebooks.append(opened_by)
    said = session.to_dict() | {
        "opened_by": opened_by,
        "idle_timeout_s": deadlines.get("idle_timeout", session.spec.get("idle_timeout", 3600.0)),
        "max_duration_s": deadlines.get("max_duration", session.spec.get("max_duration", 0.0)),
        "can_run_kernels": bool(folder.record().get("python")),
        "kernel_list": kernels,
        "notebooks": sorted(set(notebooks)),
    }
    return {key: _sayable(value) for key, value in said.items()}


def _sayable(value: Any) -> Any:
    """The same, with null for each number that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _sayable(each) for key, each in value.items()}
    return [_sayable(each) for each in value] if isinstance(value, list) else value


def relative(path: str, root: Path) -> str:
    """A path of this machine as the server's clients write it; empty for one outside its root."""
    if not path:
        return ""
    folder, name = os.path.split(path)
    found = os.path.relpath(os.path.join(os.path.realpath(folder), name), root)
    return "" if found.split(os.sep)[0] == ".." else found.replace(os.sep, "/")
