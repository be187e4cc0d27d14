"""Forged labels: whoever may use the engine may write any label; that gains them nothing here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import ContainerConfig, Engine
from mooring.engines.labels import (
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_PROBE,
    LABEL_SPEC,
)
from mooring.errors import SessionNotFound
from mooring.host.paths import Installation
from mooring.images.host_image import host_image
from mooring.sessions.model import Session, State
from mooring.spec.resolve import resolve
from tests.support.sessions import session_folder

pytestmark = pytest.mark.engine

Forge = Callable[..., str]


@pytest.fixture
def forge(mooring: Mooring, real_engine: Engine) -> Iterator[Forge]:
    """Makes a container of somebody else's with these labels, and removes it at the end."""
    made: list[str] = []

    def run(name: str, labels: dict[str, str], start: bool = True, argv: str = "sleep 300") -> str:
        facts = host_image(real_engine)
        config = ContainerConfig(
            name=name,
            image=facts.reference,
            argv=("/bin/sh", "-c", argv),
            user="65534:65534",
            labels={LABEL_INSTALLATION: Installation.here().id, **labels},
            binds=facts.binds,
            network=False,
        )
        made.append(real_engine.create(config))
        if start:
            real_engine.start(made[-1])
        return made[-1]

    yield run
    for container in made:
        real_engine.remove(container)


@pytest.fixture
def real(mooring: Mooring, project: Path) -> Session:
    flags = {"name": "real", "command": ["sleep", "300"]}
    return mooring.sessions.create(resolve(flags=flags)).session


def exists(container: str) -> bool:
    return subprocess.run(["docker", "inspect", container], capture_output=True).returncode == 0


def test_a_copy_of_a_sessions_labels_is_not_the_session(
    forge: Forge, mooring: Mooring, real: Session
) -> None:
    """Every command goes to the container that the record names, whatever another one claims."""
    labels = {LABEL_ID: real.id, LABEL_NAME: "real", LABEL_OWNER: real.owner}
    forged = forge("mooring-real-forged", labels)
    assert [(s.name, s.container) for s in mooring.sessions.list()] == [("real", real.container)]
    assert mooring.sessions.get_running("real").container == real.container
    mooring.sessions.stop(mooring.sessions.get("real"))
    assert mooring.sessions.get("real").state is State.STOPPED
    assert mooring.sessions.start(mooring.sessions.get("real")).container == real.container
    mooring.sessions.remove(mooring.sessions.get("real"), force=True)
    assert not exists(real.container)
    assert exists(forged)
    assert mooring.sessions.list() == []


def test_a_copy_does_not_live_on_as_a_lost_session(
    forge: Forge, mooring: Mooring, real: Session
) -> None:
    """Where the real container is gone, its copy does not become it."""
    forged = forge("mooring-real-forged", {LABEL_ID: real.id, LABEL_NAME: "real"})
    subprocess.run(["docker", "rm", "-f", real.container], check=True, capture_output=True)
    found = mooring.sessions.get("real")
    assert found.state is State.LOST
    assert found.container != forged
    mooring.sessions.remove(found, force=True)
    assert exists(forged)


@pytest.mark.parametrize(
    "session_id", ["", ".", "..", "../victim", "0123456789ab", "x" * 300, "/etc", "0123456789AB"]
)
def test_a_container_without_a_record_is_no_session(
    forge: Forge, mooring: Mooring, state: Path, session_id: str
) -> None:
    """An id that has no record here, or that is a path, is not listed, found, stopped or removed,
    nor does it lead to any file."""
    victim = state / "victim"
    victim.mkdir()
    (victim / "record.json").write_text(json.dumps({"id": "../victim", "remove": True}))
    (victim / "ready").touch()
    labels = {LABEL_ID: session_id, LABEL_NAME: "forged", LABEL_SPEC: "{"}
    forged = forge("mooring-forged-test", labels, argv="true")
    subprocess.run(["docker", "wait", forged], check=True, capture_output=True)
    for _ in range(2):
        assert mooring.sessions.list() == []
    with pytest.raises(SessionNotFound):
        mooring.sessions.get("forged")
    with pytest.raises(SessionNotFound):
        mooring.sessions.get_running("forged")
    assert exists(forged)
    assert (victim / "record.json").exists()


def test_a_forged_probe_is_left_alone(forge: Forge, mooring: Mooring) -> None:
    """A container that says it looked into an image for a process that is gone is removed only if
    this installation made it: one that it recorded."""
    forged = forge("mooring-probe-forged", {LABEL_PROBE: f"{2**22 + 1}:1"})
    assert mooring.sessions.reconcile()[1].probes == ()
    assert exists(forged)
    (Installation.here().images / "mooring-probe-forged").touch()
    assert mooring.sessions.reconcile()[1].probes == (forged,)
    assert not exists(forged)
    assert not (Installation.here().images / "mooring-probe-forged").exists()


def test_a_half_created_session_takes_no_copy_with_it(
    forge: Forge, mooring: Mooring, real: Session, real_engine: Engine
) -> None:
    """Cleaning up a creation that was cut off removes the container of its name and no other."""

    folder = session_folder(real.id)
    (folder.path / "ready").unlink()
    folder.update_state(container="")  # as it was when the creation was cut off
    forged = forge("mooring-real-forged", {LABEL_ID: real.id, LABEL_NAME: "real"})
    assert mooring.sessions.reconcile()[1].half_created == (real.id,)
    assert not exists(real.container)
    assert exists(forged)
