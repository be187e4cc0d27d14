"""The base of mooring's handlers: access control, response format, and errors.

Methods of subclasses are decorated with ``@web.authenticated`` and ``@authorized``; they parse the
request, call the core and write the response.
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

from mooring import Mooring, MooringError, caller
from mooring_server_extension import audit, upstream
from mooring_server_extension.context import SETTING, ServerContext
from mooring_server_extension.pools import PoolName
from mooring_server_extension.responses import (
    BadRequest,
    Forbidden,
    JupyterView,
    error_body,
    session_body,
    status_of,
)

if TYPE_CHECKING:
    from mooring import Session

T = TypeVar("T")

MAX_BODY_BYTES = 1 << 20


@dataclass
class AuditRecord:
    """The part of a request's audit record that handlers set: the session's name, once known."""

    session: str


def _refuse_constant(name: str) -> None:
    """NaN, Infinity and -Infinity are no JSON (RFC 8259, section 6)."""
    raise ValueError(name)


class MooringHandler(APIHandler):
    """Base of mooring's handlers.

    A request from a page of another origin is rejected with 403 even with a token, which Jupyter
    Server would accept. ``c.ServerApp.allow_origin`` applies to both.
    """

    auth_resource = "mooring:sessions"

    def skip_check_origin(self) -> bool:
        return self.request.method == "OPTIONS"

    async def prepare(self) -> None:  # type: ignore[override]  # as APIHandler's own
        """Perform Jupyter Server's checks, but reject another origin with 403 instead of 404."""
        try:
            await super().prepare()
        except web.HTTPError as error:
            if error.status_code != 404:
                raise
            raise Forbidden(
                "the request comes from a page of another origin",
                "to permit it, set c.ServerApp.allow_origin",
            ) from error

    @classmethod
    def allowed_methods(cls) -> list[str]:
        """Return the methods that the handler has, for the header ``Allow`` (RFC 9110, 15.5.6)."""
        own = cls.__mro__[: cls.__mro__.index(MooringHandler)]
        methods = [name for name in cls.SUPPORTED_METHODS if name != "OPTIONS"]
        return [
            *(name for name in methods if any(name.lower() in vars(one) for one in own)),
            "OPTIONS",
        ]

    @property
    def context(self) -> ServerContext:
        """The parts of this server's extension."""
        context: ServerContext = self.settings[SETTING]
        return context

    @property
    def actor(self) -> str:
        """The user for the history: the request's user, or the server's if it has no users."""
        if type(self.identity_provider) in (IdentityProvider, PasswordIdentityProvider):
            return caller().name  # a token or password identifies only the server's owner
        return str(self.current_user.name or self.current_user.username)

    @property
    def root(self) -> Path:
        """The folder that clients' paths are relative to, with symbolic links resolved."""
        return self.context.root

    @property
    def jupyter(self) -> JupyterView:
        return self.context.jupyter()

    async def core(self, call: Callable[[Mooring], T], pool: PoolName = "quick") -> T:
        """Run a call of the core in a thread, with the request's user as the actor.

        Args:
            call: the blocking call; its argument is a ``Mooring`` with that actor.
            pool: the thread pool; ``quick`` for calls that only read or make small changes.

        Returns:
            The result of ``call``.
        """
        context, actor = self.context, self.actor
        return await context.pools.run(pool, lambda: call(Mooring(context.mooring.engine, actor)))

    @contextlib.contextmanager
    def audited(self, action: str, session: str = "") -> Iterator[AuditRecord]:
        """Record the outcome of the block in the audit log.

        Args:
            action: as in ``audit.emit``.
            session: the session's name; the block can set it later in the record it receives.
        """
        record = AuditRecord(session)
        outcome = "internal_error"
        try:
            yield record
            outcome = "done"
        except MooringError as error:
            outcome = error.code
            raise
        except web.HTTPError as error:
            outcome = str(error_body(error, error.status_code, signed_in=True)["code"])
            raise
        finally:
            audit.emit(
                self.event_logger,
                user=self.actor,
                action=action,
                session=record.session,
                outcome=outcome,
            )

    async def write_session(self, session: Session, status: int = 200) -> None:
        """Send a session as the response."""
        jupyter = self.jupyter
        body = await self.core(lambda mooring: session_body(session, mooring, jupyter))
        self.write_json(body, status)

    def write_json(self, body: Any, status: int = 200) -> None:
        """Send a JSON response."""
        self.set_status(status)
        self.finish(json.dumps(body, allow_nan=False))

    def json_body(self) -> Any:
        """Parse the request's body; an empty body counts as ``{}``.

        Raises:
            BadRequest: it is not JSON in UTF-8, or larger than ``MAX_BODY_BYTES``.
        """
        raw = self.request.body
        if len(raw) > MAX_BODY_BYTES:
            raise BadRequest(
                f"the body has {len(raw)} bytes", f"send at most {MAX_BODY_BYTES} bytes"
            )
        try:
            body = json.loads(raw, parse_constant=_refuse_constant) if raw.strip() else {}
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode()  # half of a surrogate
            return body
        except (ValueError, RecursionError) as error:
            raise BadRequest("the body is not JSON", "send a JSON object in UTF-8") from error

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send ``{code, message, hint}``; tornado calls this for every error."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        status = status_of(error) if isinstance(error, MooringError) else status_code
        self.set_status(status)
        if status == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        body = error_body(error, status, signed_in=upstream.is_signed_in(self))
        self.finish(json.dumps(body))

    def log_exception(self, *exc_info: Any) -> None:
        """Log an exception, without a traceback for errors that are explained to the client."""
        if isinstance(exc_info[1], MooringError):
            self.log.debug("%s %s: %s", self.request.method, self.request.path, exc_info[1])
        else:
            super().log_exception(*exc_info)
