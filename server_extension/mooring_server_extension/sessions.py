"""Handlers for sessions: list, create, show, update, stop, start, remove; history and logs."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.auth.decorator import authorized
from tornado import web

from mooring import (
    LaunchOptions,
    Mooring,
    ResourceLimits,
    Session,
    SessionNotFound,
    SessionStateError,
    SessionTimeout,
    State,
    TrustRequired,
    Wait,
)
from mooring_server_extension import requests
from mooring_server_extension.base import MooringHandler
from mooring_server_extension.paths import below_root
from mooring_server_extension.responses import BadRequest, NeedsConsent, NotFound, session_body

if TYPE_CHECKING:
    from mooring import LaunchPlan

_STYLES = re.compile(r"\033\[[0-9;]{0,40}m")  # as in tracebacks
MAX_TAIL = 10_000
MAX_LOG_BYTES = 1 << 20
# Interval for checking whether a session that is being started waits for GPUs
PENDING_POLL_S = 1.0


def named(mooring: Mooring, name: str) -> Session:
    """Return the session with a name, or with an id that starts with it; without shell patterns.

    Args:
        mooring: the core.
        name: the name, or the start of the id.

    Raises:
        SessionNotFound: there is no such session.
    """
    if not name.replace("-", "").isalnum():
        raise SessionNotFound(
            f"no session named {ascii(name)[1:-1][:60]}",
            "use a valid session name: letters, digits and dashes",
        )
    return mooring.sessions.get(name)


class SessionsHandler(MooringHandler):
    """List the sessions, or create a session."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        ended = requests.flag("ended", self.get_query_argument("ended", "0"))
        body = (await self.context.watcher.query()).body()
        if ended:
            jupyter = self.jupyter
            body["sessions"] = body["sessions"] + await self.core(
                lambda mooring: [
                    session_body(session, mooring, jupyter)
                    for session in mooring.sessions.ended([])
                    if session.id not in {known["id"] for known in body["sessions"]}
                ]
            )
        self.write_json(body)

    @web.authenticated
    @authorized
    async def post(self) -> None:
        with self.audited("create") as record:
            body = requests.read(requests.Create, self.json_body())
            record.session = body.name or ""
            session = await self.core(lambda mooring: self._create(mooring, body), "create")
            record.session = session.name
        await self.write_session(session, 202 if session.state is State.PENDING else 201)

    def _create(self, mooring: Mooring, body: requests.Create) -> Session:
        from mooring import resolve

        root = self.root
        file = None if body.file is None else _spec_file(root, body.file)
        flags = body.values | ({} if body.name is None else {"name": body.name})
        resolved = resolve(flags=flags, file=file, flag=lambda key: f"value {key!r}")
        if file is None:
            resolved = dataclasses.replace(resolved, project=root, root=root)
        else:
            below_root(root, str(resolved.files[0]))  # a link may have taken the file's place
        within = root if self.context.restrict_paths else None
        plan = mooring.sessions.plan(resolved, within=within)
        if body.allow is True or body.allow == plan.trust_digest:
            plan = plan.with_trust()
        try:
            return self._launch(mooring, plan)
        except TrustRequired as error:
            # planned again: a symbolic link may have changed while the launch waited
            planned = mooring.sessions.plan(resolved, within=within)
            grants = [str(grant) for grant in planned.needs_trust]
            raise NeedsConsent(error.message, error.hint, grants, planned.trust_digest) from error

    def _launch(self, mooring: Mooring, plan: LaunchPlan) -> Session:
        """Create a session, or queue it if its GPUs are not free."""

        def create(max_wait_s: float | None = None, enqueue: bool = False) -> Session:
            wait = Wait(cancelled=self.context.stopping.is_set, max_wait_s=max_wait_s)
            return mooring.sessions.create(
                plan, LaunchOptions(tty=True, enqueue=enqueue), wait=wait
            ).session

        if plan.gpus is None:
            return create()
        try:
            return create(max_wait_s=0.0)
        except SessionTimeout:
            return create(enqueue=True)  # returns without waiting


class SessionHandler(MooringHandler):
    """Show, update or remove a session."""

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        await self.write_session(await self.core(lambda mooring: named(mooring, name)))

    @web.authenticated
    @authorized
    async def patch(self, name: str) -> None:
        with self.audited("update", name):
            body = requests.read(requests.Update, self.json_body())
            changes: dict[str, Any] = {}
            for key in ("idle_timeout", "max_duration"):
                if key in body.model_fields_set:
                    changes[f"{key}_s"] = requests.duration(key, getattr(body, key))
            limits = {
                key: getattr(body, key)
                for key in ResourceLimits._fields
                if key in body.model_fields_set
            }
            if limits:
                changes["limits"] = ResourceLimits(**limits)
            if not changes:
                raise BadRequest("nothing to update", "send a deadline or a limit")
            session = await self.core(
                lambda mooring: _apply(
                    mooring, name, lambda session: mooring.sessions.update(session, **changes)
                )
            )
        await self.write_session(session)

    @web.authenticated
    @authorized
    async def delete(self, name: str) -> None:
        force = requests.flag("force", self.get_query_argument("force", "0"))
        with self.audited("remove", name):
            await self.core(
                lambda mooring: mooring.sessions.remove(named(mooring, name), force=force), "act"
            )
        self.set_status(204)
        self.finish()


class StartHandler(MooringHandler):
    """Start a stopped session; respond with 202 and ``pending`` if it has to wait for GPUs."""

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("start", name):
            requests.read(requests.Nothing, self.json_body())
            session = await self._start(name)
        await self.write_session(session, 202 if session.state is State.PENDING else 200)

    async def _start(self, name: str) -> Session:
        stopped = await self.core(lambda mooring: named(mooring, name))
        cancelled = self.context.stopping.is_set
        starting = asyncio.ensure_future(
            self.core(
                lambda mooring: mooring.sessions.start(stopped, wait=Wait(cancelled=cancelled)),
                "queue" if stopped.declared.get("gpus") else "act",
            )
        )
        while not (await asyncio.wait({starting}, timeout=PENDING_POLL_S))[0]:
            current = await self.core(lambda mooring: named(mooring, stopped.id))
            if current.state is State.PENDING:
                # The start continues in its thread; the session's history records the result
                starting.add_done_callback(lambda late: late.cancelled() or late.exception())
                return current
        return await starting


class StopHandler(MooringHandler):
    """Stop a session and keep its files, or cancel a session that is pending or starting."""

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("stop", name):
            requests.read(requests.Nothing, self.json_body())
            session = await self.core(
                lambda mooring: _apply(mooring, name, mooring.sessions.stop), "act"
            )
        await self.write_session(session)


class HoldHandler(MooringHandler):
    """Prevent the idle stop of a session for a limited time."""

    @web.authenticated
    @authorized
    async def post(self, name: str) -> None:
        with self.audited("hold", name):
            body = requests.read(requests.Hold, self.json_body())
            seconds = requests.duration("duration", body.duration)
            session = await self.core(
                lambda mooring: _apply(
                    mooring, name, lambda session: mooring.sessions.hold(session, seconds)
                )
            )
        await self.write_session(session)


class EventsHandler(MooringHandler):
    """Return a session's history, even after its removal."""

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        after = requests.number(
            "after", self.get_query_argument("after", "0"), least=0, most=2**63 - 1
        )
        events = await self.core(
            lambda mooring: mooring.sessions.events(_known_id(mooring, name), after)
        )
        self.write_json({"events": [asdict(event) for event in events]})


class LogsHandler(MooringHandler):
    """Return the last output of a session's main process; without one, of its kernels."""

    auth_resource = "mooring:logs"

    @web.authenticated
    @authorized
    async def get(self, name: str) -> None:
        tail = requests.number(
            "tail", self.get_query_argument("tail", "200"), least=1, most=MAX_TAIL
        )
        self.write_json({"text": await self.core(lambda mooring: _log(mooring, name, tail))})


def _spec_file(root: Path, path: str) -> Path:
    file = below_root(root, path)
    if not file.is_file():
        raise NotFound(f"no file {path[:200]}", "give a path relative to the server's root folder")
    return file


def _apply(mooring: Mooring, name: str, action: Callable[[Session], Any]) -> Session:
    """Run an action on a session.

    Returns:
        The session after the action, or before it if the action removed the session.
    """
    session = named(mooring, name)
    action(session)
    try:
        return mooring.sessions.get(session.id)
    except SessionNotFound:
        return session


def _known_id(mooring: Mooring, name: str) -> str:
    """Return the id of an existing session, or of a removed one that is in the history."""
    past = mooring.sessions.past(name)
    if past is not None:
        return past.id
    return named(mooring, name).id


def _kernels_text(mooring: Mooring, session: Session) -> Iterator[str]:
    """Yield what a session's kernels have printed, as plain text, one kernel after another."""
    for kernel in session.kernels:
        for execution in mooring.kernels.recorded(session.id, kernel.id).executions:
            for output in execution.outputs:
                text = output.get("text") or output.get("data", {}).get("text/plain", "")
                text = text or "\n".join(output.get("traceback", []))
                if isinstance(text, str) and text:
                    yield _STYLES.sub("", text.rstrip("\n")) + "\n"


def _log(mooring: Mooring, name: str, tail: int) -> str:
    session = named(mooring, name)
    if not session.container:
        raise SessionStateError(
            f"session {session.name} is {session.state} and has no log",
            f"see its history: mooring events {session.name}",
        )
    if session.only_kernels:
        lines = "".join(_kernels_text(mooring, session)).splitlines(keepends=True)
        return "".join(lines[-tail:])[-MAX_LOG_BYTES:]
    text = bytearray()
    for part in mooring.sessions.logs(session, tail=tail):
        text += part
        if len(text) > 2 * MAX_LOG_BYTES:
            del text[:-MAX_LOG_BYTES]
    return bytes(text[-MAX_LOG_BYTES:]).decode("utf-8", "replace")
