"""Sessions over HTTP: list, create, look, change, stop, start, remove; their history and logs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring.errors import ConsentRequired, SessionNotFound, SessionStateError, SessionTimeout
from mooring.service import Mooring
from mooring.sessions.model import Session, State
from mooring_server_extension import bodies
from mooring_server_extension.answers import BadRequest, NeedsConsent, session_body
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.inside import inside

if TYPE_CHECKING:
    from mooring.spec.resolve import ResolvedSpec

MAX_TAIL = 10_000
MAX_LOG_BYTES = 1 << 20
# Of one that is being started: does it wait for its GPUs?
PENDING_LOOK_S = 1.0


def named(mooring: Mooring, name: str) -> Session:
    """The session with exactly that name, or with an id that begins so; no shell patterns.

    Raises:
        SessionNotFound: there is none.
    """
    if not name.replace("-", "").isalnum():
        raise SessionNotFound(
            f"no session named {ascii(name)[1:-1][:60]}", "that is no session's name"
        )
    return mooring.get(name)


class SessionsHandler(MooringHandler):
    """All sessions; a new one."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        ended = bodies.truth("ended", self.get_query_argument("ended", "0"))
        body = (await self.extension.watcher.look()).body()
        if ended:
            jupyter = self.jupyter
            body["sessions"] = body["sessions"] + await self.core(
                lambda mooring: [
                    session_body(session, mooring, jupyter)
                    for session in mooring.ended([])
                    if session.id not in {one["id"] for one in body["sessions"]}
                ]
            )
        self.say(body)

    @web.authenticated
    @authorized
    async def post(self) -> None:
        with self.audited("create") as audit:
            body = bodies.read(bodies.Create, self.json_body())
            audit.session = body.name or ""
            session = await self.core(lambda mooring: self._create(mooring, body), "create")
            audit.session = session.name
        await self.answer(session, 202 if session.state is State.PENDING else 201)

    def _create(self, mooring: Mooring, body: bodies.Create) -> Session:
        from mooring.spec.resolve import resolve

        root = self.root
        file = inside(root, body.file) if body.file else None
        flags = body.values | ({"name": body.name} if body.name else {})
        resolved = resolve(flags=flags, file=file, flag=lambda key: f"value {key!r}")
        if file is None:
            resolved = dataclasses.replace(resolved, project=root)
        cwd = resolved.project
        if body.allow:
            mooring.allow(resolved, cwd)
        try:
            return self._make(mooring, resolved)
        except ConsentRequired as error:
            grants = [str(grant) for grant in mooring.grants(resolved, cwd)]
            raise NeedsConsent(error.message, error.hint, grants) from error

    def _make(self, mooring: Mooring, resolved: ResolvedSpec) -> Session:
        def make(**how: Any) -> Session:
            cancelled = self.extension.stopping.is_set
            return mooring.create(
                resolved, cwd=resolved.project, tty=True, cancelled=cancelled, **how
            ).session

        if not resolved.spec.gpus:
            return make()
        try:
            return make(max_wait_s=0.0)
        except SessionTimeout:
            return make(enqueue=True)  # no request, and no server, has to wait for its turn


class SessionHandler(MooringHandler):
    """One session."""

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        await self.answer(await self.core(lambda mooring: named(mooring, name)))

    @web.authenticated
    @authorized
    async def patch(self, name: str) -> None:
        with self.audited("update", name):
            body = bodies.read(bodies.Update, self.json_body())
            changes: dict[str, float] = {}
            for key in ("idle_timeout", "max_duration"):
                value = getattr(body, key)
                if value is not None:
                    changes[f"{key}_s"] = bodies.duration(key, value)
            if not changes:
                raise BadRequest("nothing to update", "say idle_timeout or max_duration")
            session = await self.core(
                lambda mooring: _after(
                    mooring, name, lambda found: mooring.update(found, **changes)
                )
            )
        await self.answer(session)

    @web.authenticated
    @authorized
    async def delete(self, name: str) -> None:
        force = bodies.truth("force", self.get_query_argument("force", "0"))
        with self.audited("remove", name):
            await self.core(
                lambda mooring: mooring.remove(named(mooring, name), force=force), "act"
            )
        self.set_status(204)
        self.finish()


class StartHandler(MooringHandler):
    """Start a stopped session again; one that has to wait for its GPUs is pending."""

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("start", name):
            bodies.read(bodies.Nothing, self.json_body())
            session = await self._start(name)
        await self.answer(session, 202 if session.state is State.PENDING else 200)

    async def _start(self, name: str) -> Session:
        found = await self.core(lambda mooring: named(mooring, name))
        cancelled = self.extension.stopping.is_set
        starting = asyncio.ensure_future(
            self.core(
                lambda mooring: mooring.start(found.id, cancelled=cancelled),
                "queue" if found.spec.get("gpus") else "act",
            )
        )
        while not (await asyncio.wait({starting}, timeout=PENDING_LOOK_S))[0]:
            now = await self.core(lambda mooring: named(mooring, found.id))
            if now.state is State.PENDING:
                # It goes on as long as the server does; its history tells what comes of it
                starting.add_done_callback(lambda late: late.cancelled() or late.exception())
                return now
        return await starting


class StopHandler(MooringHandler):
    """Stop a session and keep its files; one that waits or starts is cancelled and gone."""

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("stop", name):
            bodies.read(bodies.Nothing, self.json_body())
            session = await self.core(lambda mooring: _after(mooring, name, mooring.stop), "act")
        await self.answer(session)


class HoldHandler(MooringHandler):
    """Keep a session from idling out for a while."""

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("hold", name):
            body = bodies.read(bodies.Hold, self.json_body())
            seconds = bodies.duration("duration", body.duration)
            session = await self.core(
                lambda mooring: _after(mooring, name, lambda found: mooring.hold(found, seconds))
            )
        await self.answer(session)


class EventsHandler(MooringHandler):
    """A session's history, also of one that is gone."""

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        after = bodies.number(
            "after", self.get_query_argument("after", "0"), least=0, most=2**63 - 1
        )
        events = await self.core(lambda mooring: mooring.events(_ever(mooring, name), after))
        self.say({"events": [asdict(event) for event in events]})


class LogsHandler(MooringHandler):
    """What a session's main process printed last."""

    auth_resource = "mooring:logs"

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        tail = bodies.number("tail", self.get_query_argument("tail", "200"), least=1, most=MAX_TAIL)
        self.say({"text": await self.core(lambda mooring: _log(mooring, name, tail))})


def _after(mooring: Mooring, name: str, act: Callable[[Session], Any]) -> Session:
    """Do it to a session. Returns what it is then; before, for one that is gone by that."""
    session = named(mooring, name)
    act(session)
    try:
        return mooring.get(session.id)
    except SessionNotFound:
        return session


def _ever(mooring: Mooring, name: str) -> str:
    """The id of a session that is there, or that history remembers."""
    past = mooring.past(name)
    if past is not None:
        return past.id
    return named(mooring, name).id


def _log(mooring: Mooring, name: str, tail: int) -> str:
    session = named(mooring, name)
    if not session.container:
        raise SessionStateError(
            f"session {session.name} is {session.state} and has no log",
            f"its history tells more: mooring events {session.name}",
        )
    text = bytearray()
    for part in mooring.logs(session, tail=tail):
        text += part
        if len(text) > 2 * MAX_LOG_BYTES:
            del text[:-MAX_LOG_BYTES]
    return bytes(text[-MAX_LOG_BYTES:]).decode("utf-8", "replace")
