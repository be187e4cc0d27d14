"""What all of mooring's handlers have in common: who may, in what form, and what is said of errors.

A subclass's method is ``@web.authenticated`` and ``@authorized``, translates, and calls the core.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider
from jupyter_server.base.handlers import APIHandler
from tornado import web

from mooring.errors import MooringError
from mooring.host.users import caller
from mooring.service import Mooring
from mooring_server_extension import audit
from mooring_server_extension.answers import (
    BadRequest,
    Forbidden,
    JupyterSide,
    error_body,
    jupyter_side,
    session_body,
    status_of,
)
from mooring_server_extension.threads import Pool

if TYPE_CHECKING:
    from mooring.sessions.model import Session
    from mooring_server_extension.app import MooringExtension

T = TypeVar("T")

MAX_BODY_BYTES = 1 << 20


@dataclass
class Audited:
    """What is audited: a session, by its name once that is known."""

    session: str


class MooringHandler(APIHandler):
    """Base of mooring's handlers.

    A request from a page of another origin is refused (403) even with a token: Jupyter Server
    would let it pass. ``c.ServerApp.allow_origin`` opens both.
    """

    auth_resource = "mooring:sessions"

    def skip_check_origin(self) -> bool:
        return self.request.method == "OPTIONS"

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler's own
        """Refuses what Jupyter Server refuses, and a foreign origin with 403 in place of 404."""
        try:
            await super().prepare()
        except web.HTTPError as error:
            if error.status_code != 404:
                raise
            raise Forbidden(
                "the request comes from a page of another origin",
                "c.ServerApp.allow_origin names the origins that may",
            ) from error

    @property
    def extension(self) -> MooringExtension:
        found: MooringExtension = self.settings["mooring_server_extension"]
        return found

    @property
    def actor(self) -> str:
        """Who asks, for the history: the user's name, where the server knows its users."""
        if type(self.identity_provider) in (IdentityProvider, PasswordIdentityProvider):
            return caller().name  # a token says only that it is the server's owner
        return str(self.current_user.name or self.current_user.username)

    @property
    def root(self) -> Path:
        """The folder that paths start from, without links."""
        return self.extension.root

    @property
    def jupyter(self) -> JupyterSide:
        return jupyter_side(self.root, self.kernel_manager, self.session_manager)

    async def core(self, call: Callable[[Mooring], T], pool: Pool = "quick") -> T:
        """Run a call of the core, in the user's name, beside the event loop.

        Args:
            pool: ``quick`` for what only looks or writes a line.
        """
        extension, actor = self.extension, self.actor
        return await extension.threads.run(
            pool, lambda: call(Mooring(extension.mooring.engine, actor))
        )

    @contextlib.contextmanager
    def audited(self, action: str, session: str = "") -> Iterator[Audited]:
        """Tell the audit trail what comes of what is done within."""
        told = Audited(session)
        outcome = "internal_error"
        try:
            yield told
            outcome = "done"
        except MooringError as error:
            outcome = error.code
            raise
        except web.HTTPError as error:
            outcome = str(error_body(error, error.status_code, known=True)["code"])
            raise
        finally:
            audit.emit(
                self.event_logger,
                user=self.actor,
                action=action,
                session=told.session,
                outcome=outcome,
            )

    async def answer(self, session: Session, status: int = 200) -> None:
        """Answer with a session."""
        jupyter = self.jupyter
        body = await self.core(lambda mooring: session_body(session, mooring, jupyter))
        self.say(body, status)

    def say(self, body: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.finish(json.dumps(body, allow_nan=False))

    def json_body(self) -> Any:
        """The request's body; an empty one counts as ``{}``.

        Raises:
            BadRequest: it is no JSON, or too large.
        """
        raw = self.request.body
        if len(raw) > MAX_BODY_BYTES:
            raise BadRequest(f"the body has {len(raw)} bytes", f"at most {MAX_BODY_BYTES} are read")
        try:
            return json.loads(raw) if raw.strip() else {}
        except (ValueError, RecursionError) as error:
            raise BadRequest("the body is no JSON", "send a JSON object, in UTF-8") from error

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Every failure is ``{code, message, hint}``."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        status = status_of(error) if isinstance(error, MooringError) else status_code
        self.set_status(status)
        known = bool(getattr(self, "_jupyter_current_user", None))
        self.finish(json.dumps(error_body(error, status, known=known)))

    def log_exception(self, *exc_info: Any) -> None:
        """What mooring explains to the client is no traceback in the log."""
        if isinstance(exc_info[1], MooringError):
            self.log.debug("%s %s: %s", self.request.method, self.request.path, exc_info[1])
        else:
            super().log_exception(*exc_info)
