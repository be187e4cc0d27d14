"""The bodies of responses: a session as JSON, and an error as ``{code, message, hint}``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError

from mooring import (
    LAUNCHING,
    Cancelled,
    CommandError,
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
    TrustRequired,
    short_id,
)
from mooring_server_extension import upstream

if TYPE_CHECKING:
    from mooring import Mooring, Session


class BadRequest(MooringError):
    """The request is malformed: its body or a query argument."""


class NotFound(MooringError):
    """A resource other than a session does not exist."""


class Forbidden(MooringError):
    """The request is not authenticated, not authorized, or from a page of another origin."""


class NeedsConsent(TrustRequired):
    """``TrustRequired`` with the list of what the spec file requests, and the plan's digest."""

    code = "consent_required"

    def __init__(self, message: str, hint: str, grants: list[str], digest: str) -> None:
        super().__init__(message, hint)
        self.grants, self.digest = grants, digest


STATUS: tuple[tuple[type[MooringError], int], ...] = (
    (BadRequest, 400),
    (CommandError, 409),
    (SpecError, 400),
    (Forbidden, 403),
    (PolicyError, 403),
    (SessionNotFound, 404),
    (NotFound, 404),
    (TrustRequired, 409),
    (SessionExists, 409),
    (SessionStateError, 409),
    (Cancelled, 409),
    (NoCapacity, 409),
    (NotSupported, 501),
    (EngineUnavailable, 503),
    (SessionTimeout, 504),
)


def status_of(error: MooringError) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def error_body(error: BaseException | None, status: int, *, signed_in: bool) -> dict[str, Any]:
    """Return the body of an error response; unexpected errors are reported without details.

    Args:
        error: the exception, or None.
        status: the response's HTTP status.
        signed_in: whether the request is authenticated.

    Returns:
        ``{code, message, hint}``, with ``grants`` and ``digest`` if trust is required.
    """
    if isinstance(error, MooringError):
        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        if isinstance(error, NeedsConsent):
            body |= {"grants": error.grants, "digest": error.digest}
        return body
    if status in (401, 403):
        hint = "send the server's token"
        if signed_in:
            hint = "with a cookie, send the X-XSRFToken header"
        message = _log_message(error) or "not signed in"
        return {"code": "forbidden", "message": message, "hint": hint}
    if isinstance(error, HTTPError):
        message, _, hint = _log_message(error).partition("\nhint: ")  # the provisioner's format
        phrase = _phrase(status)
        code = phrase.lower().replace(" ", "_")
        return {"code": code, "message": message or phrase, "hint": hint}
    return {
        "code": "internal_error",
        "message": "mooring's server extension failed",
        "hint": "see the Jupyter server's log",
    }


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "error"


def _log_message(error: BaseException | None) -> str:
    if not isinstance(error, HTTPError) or not error.log_message:
        return ""
    try:
        return error.log_message % error.args  # tornado escapes % if there are no arguments
    except (TypeError, ValueError):
        return error.log_message


@dataclass(frozen=True)
class JupyterView:
    """A snapshot of the server's kernels and notebooks.

    Attributes:
        root: the folder that the server's paths are relative to.
        kernels: maps mooring's kernel id to Jupyter's kernel id and the kernelspec's name.
        paths: maps Jupyter's kernel id to the notebook's path, relative to the root.
    """

    root: Path
    kernels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)


def jupyter_view(root: Path, kernel_manager: Any, session_manager: Any) -> JupyterView:
    """Return a snapshot of the server's managers; call this on their event loop. Never blocks."""
    kernels = {}
    for kernel_id in kernel_manager.list_kernel_ids():
        name = getattr(kernel_manager.get_kernel(kernel_id), "kernel_name", "")
        kernels[short_id(kernel_id)] = (kernel_id, name)
    return JupyterView(root, kernels, upstream.notebook_paths(session_manager))


def session_body(session: Session, mooring: Mooring, jupyter: JupyterView) -> dict[str, Any]:
    """Return a session in the API's format; blocks on reading its folder.

    Args:
        session: the session.
        mooring: the core.
        jupyter: the server's kernels and notebooks.

    Returns:
        ``Session.to_dict()`` with its deadlines in seconds (0 for never), its kernels, and the
        notebooks of its kernels and of the kernel that it is being started for.
    """
    deadlines = mooring.sessions.deadlines(session)

    def served(short: str) -> tuple[str, str]:
        """Return a kernel's id and kernelspec in Jupyter.

        Both are empty unless its record confirms that the kernel belongs to this session.
        """
        kernel_id, name = jupyter.kernels.get(short, ("", ""))
        own = bool(kernel_id) and mooring.kernels.owners.belongs_to(kernel_id, session.id)
        return (kernel_id, name) if own else ("", "")

    kernels = []
    for kernel in session.live_kernels:
        kernel_id, name = served(kernel.id)
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
    notebook = relative(session.notebook, jupyter.root)
    # Includes dead kernels: their notebooks show that the session ended and offer to start it
    kernel_ids = (served(kernel.id)[0] for kernel in session.kernels)
    notebooks = [path for path in map(jupyter.paths.get, kernel_ids) if path]
    if notebook and session.state in LAUNCHING:
        notebooks.append(notebook)
    body = session.to_dict() | {
        "notebook": notebook,
        "idle_timeout_s": deadlines.get(
            "idle_timeout", session.declared.get("idle_timeout", 3600.0)
        ),
        "max_duration_s": deadlines.get("max_duration", session.declared.get("max_duration", 0.0)),
        "can_run_kernels": mooring.kernels.can_run(session),
        "note": mooring.records.note(session),
        "kernel_list": kernels,
        "notebooks": sorted(set(notebooks)),
    }
    return {key: _finite(value) for key, value in body.items()}


def _finite(value: Any) -> Any:
    """Replace each number that JSON cannot represent with None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def relative(path: str, root: Path) -> str:
    """Convert a host path to a client's path, relative to the root; empty outside the root."""
    if not path:
        return ""
    folder, name = os.path.split(path)
    below = os.path.relpath(os.path.join(os.path.realpath(folder), name), root)
    return "" if below.split(os.sep)[0] == ".." else below.replace(os.sep, "/")
