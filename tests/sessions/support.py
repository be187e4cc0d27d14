"""What the reconciler may find: containers, half-created sessions, a full disk."""

from __future__ import annotations

import os
from pathlib import Path

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.engines.base import ContainerConfig
from mooring.engines.labels import LABEL_ID, LABEL_INSTALLATION, container_name
from mooring.host.paths import Installation
from mooring.sessions.folder import SessionFolder
from tests.support.sessions import make_folder


def container(engine: FakeEngine, name: str, **labels: str) -> str:
    engine.images["any:1"] = "sha256:0"
    return engine.create(
        ContainerConfig(name=name, image="any:1", argv=("x",), user="0:0", labels=labels)
    )


def half_created(engine: FakeEngine, *, with_container: bool = True) -> SessionFolder:
    """What is left of a creation whose process was killed."""
    folder = make_folder("0123456789ab", "half")
    folder.release()
    if with_container:
        container(
            engine,
            container_name("half", folder.id),
            **{LABEL_INSTALLATION: Installation.here().id, LABEL_ID: folder.id},
        )
    return folder


def kinds(service: Mooring, session_id: str) -> list[str]:
    return [event.kind for event in service.sessions.events(session_id)]


def full_disk(descriptor: int, *_: object, **__: object) -> None:
    """What a full disk does to a file that was just made: it cannot be written to."""
    os.close(descriptor)
    raise OSError(28, "No space left on device")


def snapshot(folder: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}
