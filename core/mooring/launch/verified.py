"""Waiting until a started container has verified its mounts and its command."""

from __future__ import annotations

import time
from collections.abc import Callable

from mooring.engines.base import Engine
from mooring.errors import CommandError, EngineError, PolicyError, SessionTimeout
from mooring.images.mounts import EXCHANGED_HINT
from mooring.sessions.folder import SessionFolder

START_TIMEOUT_S = 60.0
TICK_S = 0.2


def wait_until_verified(
    engine: Engine, folder: SessionFolder, container: str, tick: Callable[[], None]
) -> None:
    """Wait until a container has verified that its mounts are the granted ones, and its command.

    Args:
        engine: the engine that runs the container.
        folder: the session's folder.
        container: the container's id.
        tick: called several times a second; what it raises ends the wait.

    Raises:
        PolicyError: a mount is not the granted one; the user's command was not run.
        CommandError: the session's command cannot be run.
        EngineError: the container exited before that.
        SessionTimeout: the container did not do so within ``START_TIMEOUT_S``.
    """
    began = time.monotonic()
    asked = ticked = began
    while not folder.guest.exists("checked"):
        end = folder.clock.end()
        if end is not None and end.reason == "refused":
            raise PolicyError(end.detail, EXCHANGED_HINT)
        if end is not None and end.reason in ("missing", "unrunnable"):
            raise CommandError(
                f"command {end.detail}",
                "what runs must be in the image, or in a folder that the session sees",
                found=end.reason == "unrunnable",
            )
        now = time.monotonic()
        if now - ticked > TICK_S:
            ticked = now
            tick()
        if now - asked > 1.0:
            asked = now
            detail = engine.inspect(container)
            gone = detail is None or detail.state in ("exited", "dead")
            if gone and not folder.guest.exists("checked") and folder.clock.end() is None:
                code = detail.exit_code if detail else "unknown"
                raise EngineError(
                    f"the container ended while it started (exit code {code})",
                    "does the image have a POSIX /bin/sh and stat or ls?",
                )
        if now - began > START_TIMEOUT_S:
            raise SessionTimeout(
                f"the container did not begin within {START_TIMEOUT_S:g} s",
                "the machine may be overloaded; try again",
            )
        time.sleep(0.001)
