"""Sessions' folders of the test's own installation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mooring import FakeEngine
from mooring.host.paths import Installation
from mooring.images.host_image import host_binds
from mooring.sessions.folder import SessionFolder
from mooring.sessions.record import Identity, RecordState


def make_folder(session_id: str, name: str = "train", **record: Any) -> SessionFolder:
    """Reserve a session's folder; its lock is held until ``release``.

    Args:
        record: fields of its ``Identity`` and ``RecordState``.
    """
    state = {key: record.pop(key) for key in list(record) if key in RecordState.__annotations__}
    identity = Identity(id=session_id, name=name, **record)
    return SessionFolder.create(Installation.here(), identity, RecordState(**state))


def session_folder(session_id: str) -> SessionFolder:
    """The folder of a session."""
    return SessionFolder.open(Installation.here(), session_id)


def all_folders() -> list[SessionFolder]:
    """The folders of all sessions."""
    return SessionFolder.all(Installation.here())


def leftovers(engine: FakeEngine, state: Path) -> list[str]:
    """What a session may not leave once it is gone: containers, folders, locks that are held."""
    sessions = state / "sessions"
    folders = [str(path) for path in sessions.iterdir()] if sessions.exists() else []
    descriptors = [
        os.readlink(f"/proc/self/fd/{number}")
        for number in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{number}")
    ]
    held = [one for one in descriptors if one.startswith(str(state)) and "history" not in one]
    return [*engine.containers, *folders, *held]


def home_of_a_run(*sent: str) -> list[str]:
    """What `ls` shows in the new private home of a session from the host image.

    Beside what was sent there lies the way to the Python environment, where that is below a home.
    """
    home = Path.home()
    ways = [Path(bind.target) for bind in host_binds()]
    inside = {way.relative_to(home).parts[0] for way in ways if way.is_relative_to(home)}
    return sorted({*sent, *(name for name in inside if not name.startswith("."))})
