"""A container's start: its mounts are checked before anything of its image runs, then its command.

Its first program is the gate, which needs nothing of the image and waits (``guest/gate``), while
this machine compares every mount with its source.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from mooring.engines.base import Bind
from mooring.engines.capabilities import SupportsBinds, require
from mooring.engines.labels import LABEL_NAME
from mooring.errors import (
    CommandError,
    EngineError,
    EngineUnavailable,
    NotSupported,
    PortTaken,
    SessionTimeout,
)
from mooring.guest.bundle import close_gate, open_gate
from mooring.host.ports import listener, taken
from mooring.images.pinned import PinnedSources, pinned
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder

START_TIMEOUT_S = 60.0
# How long a container that was started may not be visible yet
VISIBLE_S = 10.0
TICK_S = 0.2
POLL_S = 0.001
_HINT = "what runs must be in the image, or in a folder that the session sees"
# By what the check says of the command
_HINTS = {
    "not executable": "make it executable: chmod +x",
    "Windows line endings": "convert it: sed -i 's/\\r$//', or dos2unix",
}
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


def start_verified(
    ctx: Context,
    folder: SessionFolder,
    container: str,
    binds: Sequence[Bind],
    tick: Callable[[], None],
    *,
    beside: AbstractContextManager[None] = _NOTHING,
) -> None:
    """Start a container, check its mounts, open its gate, and wait until its command is checked.

    Until its mounts are checked nothing runs in the container but the engine's init and the gate.
    Until its command is checked, the session counts as starting.

    Args:
        ctx: the client's context.
        folder: the session's folder, locked by this process.
        container: the id of its container, which does not run.
        binds: the container's binds.
        tick: called several times a second; what it raises ends the wait.
        beside: entered while the container waits for its check.

    Raises:
        PolicyError: a mount is not what was checked; nothing was run.
        CommandError: the session's command cannot be run.
        PortTaken: a port is in use; the message names the holder.
        EngineError: the container could not be started, or exited before its check.
        NotSupported: this machine does not see the container's files.
        SessionTimeout: the container did not begin within ``START_TIMEOUT_S``.
    """
    wait = _Wait(ctx, folder, container, tick)
    programs = folder.path / "programs"
    with pinned(binds) as sources, _unverified(ctx, folder, container):
        folder.guest.remove("checked")  # of an earlier run, or of a launch that is repeated
        close_gate(programs)
        _start(ctx, container)
        with beside:
            _compare(ctx, container, sources, wait)
            _record_sources(folder, sources)
            opened = open_gate(programs)
            try:
                while not folder.guest.exists("checked"):
                    wait()
            finally:
                os.close(opened)


def _start(ctx: Context, container: str) -> None:
    try:
        ctx.engine.start(container)
    except PortTaken as error:
        raise taken(error.port, _port_holder(ctx, error.port)) from error


@contextlib.contextmanager
def _unverified(ctx: Context, folder: SessionFolder, container: str) -> Iterator[None]:
    """Let a session count as starting during the block; if that fails, stop its container."""
    folder.mark_unverified()
    try:
        yield
    except CommandError:  # it has ended, with its own exit code
        folder.unmark_unverified()
        raise
    except BaseException:
        ctx.engine.stop(container, grace_s=0.0)  # if this fails, the reconciler does it
        folder.unmark_unverified()
        raise
    folder.unmark_unverified()


def _compare(ctx: Context, container: str, sources: PinnedSources, wait: _Wait) -> None:
    """Compare a container's mounts with their sources, as soon as they are visible."""
    engine, targets = require(ctx.engine, SupportsBinds), sources.targets
    deadline = time.monotonic() + VISIBLE_S
    try:
        while (found := engine.mounted(container, targets)) is None:
            if time.monotonic() > deadline:
                break
            wait()
    except EngineUnavailable:
        raise
    except EngineError:
        wait.refuse_ended()
        raise
    if found is None or not any(found):
        raise NotSupported(
            "the mounts of the session cannot be checked: this process does not see its files",
            "the engine must run on this machine, not in a virtual machine or another container; "
            "and a session is started with the primary group that created it (see: id -g)",
        )
    sources.compare(found)


def _record_sources(folder: SessionFolder, sources: PinnedSources) -> None:
    """Record which files a session has mounted, to notice later that one was replaced."""
    granted = {source for source, _ in folder.record().plan.mounts}
    found = sources.identities()
    folder.update_state(sources={path: found[path] for path in found if path in granted})


class _Wait:
    """Called again and again while a container starts: sleeps, or raises if it will not begin."""

    def __init__(
        self, ctx: Context, folder: SessionFolder, container: str, tick: Callable[[], None]
    ) -> None:
        self._engine, self._folder, self._container, self._tick = (
            ctx.engine,
            folder,
            container,
            tick,
        )
        self._began = self._ticked = self._asked = time.monotonic()

    def __call__(self) -> None:
        end = self._folder.clock.end()
        if end is not None and end.reason in ("missing", "unrunnable"):
            raise CommandError(
                f"command {end.detail}",
                next((_HINTS[words] for words in _HINTS if words in end.detail), _HINT),
                found=end.reason == "unrunnable",
            )
        now = time.monotonic()
        if now - self._ticked > TICK_S:
            self._ticked = now
            self._tick()
        if now - self._asked > 1.0:
            self._asked = now
            self.refuse_ended()
        if now - self._began > START_TIMEOUT_S:
            raise SessionTimeout(
                f"the container did not begin within {START_TIMEOUT_S:g} s",
                "the machine may be overloaded; try again",
            )
        time.sleep(POLL_S)

    def refuse_ended(self) -> None:
        """Raise EngineError with the exit code if the container has ended before its check."""
        detail = self._engine.inspect(self._container)
        if detail is not None and detail.state not in ("exited", "dead"):
            return
        if not self._folder.guest.exists("checked") and self._folder.clock.end() is None:
            code = detail.exit_code if detail else "unknown"
            raise EngineError(
                f"the container ended while it started (exit code {code})",
                "does the image have a POSIX /bin/sh?",
            )


def _port_holder(ctx: Context, port: int) -> str:
    """Return the session, container or process that listens on a port of this machine."""
    with contextlib.suppress(EngineError):
        for row in ctx.engine.list({}):
            if row.state == "running" and any(here == port for here, _ in row.ports):
                name = row.labels.get(LABEL_NAME, "") if ctx.is_own(row) else ""
                return f"session {name}" if name else f"container {row.name}"
    return listener(port)
