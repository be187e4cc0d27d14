"""Sessions' folders of the test's own installation, and containers as the engine lists them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.engines.base import Container
from mooring.engines.labels import LABEL_ID, container_name
from mooring.host.boot import boot_id
from mooring.host.paths import Installation
from mooring.images.host_image import host_binds
from mooring.sessions.folder import SessionFolder
from mooring.sessions.record import Identity, RecordState

ID = "0123456789ab"


def make_folder(session_id: str, name: str = "train", **record: Any) -> SessionFolder:
    """Reserve a session's folder; its lock is held until ``release``.

    Args:
        record: fields of its ``Identity`` and ``RecordState``.
    """
    state = {key: record.pop(key) for key in list(record) if key in RecordState.__annotations__}
    identity = Identity(id=session_id, name=name, **record)
    return SessionFolder.create(Installation.here(), identity, RecordState(**state))


@pytest.fixture
def folder(state: Path) -> SessionFolder:
    """The folder of a session ``train``, whose lock is free."""
    made = make_folder(ID, "train")
    made.release()
    return made


@pytest.fixture
def ready_folder(state: Path) -> SessionFolder:
    """The folder of a session ``train`` that has been created, in this boot."""
    made = make_folder(ID, "train", boot_id=boot_id())
    made.release()
    made.mark_ready()
    return made


def container_row(state: str = "running", **changes: Any) -> Container:
    """The container of ``train`` as the engine lists it, but for ``changes``."""
    values: dict[str, Any] = {
        "id": "c" * 64,
        "name": container_name("train", ID),
        "image": "i",
        "state": state,
        "labels": {LABEL_ID: ID},
        "created_at": 1.0,
    }
    return Container(**(values | changes))


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
    return sorted({*sent, *(way for way in ways_below(Path.home()) if not way.startswith("."))})


def ways_below(folder: Path) -> set[str]:
    """The names in a folder of a session from the host image that only lead to what is mounted."""
    targets = [Path(bind.target) for bind in host_binds()]
    return {one.relative_to(folder).parts[0] for one in targets if one.is_relative_to(folder)}
