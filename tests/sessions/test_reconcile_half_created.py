"""What a creation leaves whose process was killed: any look removes it, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.engines.labels import LABEL_ID, LABEL_INSTALLATION, LABEL_NAME, container_name
from mooring.errors import EngineError
from mooring.host import atomic
from mooring.host.paths import Installation
from mooring.host.processes import process_mark
from mooring.sessions.model import Session, State
from tests.sessions.support import container, full_disk, half_created, kinds

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("with_container", [True, False])
def test_half_created_is_removed(
    service: Mooring, engine: FakeEngine, with_container: bool
) -> None:
    """What a killed creation left is removed by the next look, and the name is free."""
    folder = half_created(engine, with_container=with_container)
    sessions, repairs = service.sessions.reconcile()
    assert sessions == []
    assert repairs.half_created == (folder.id,)
    assert engine.containers == {}
    assert not folder.path.exists()
    assert kinds(service, folder.id) == ["removed"]


def test_half_created_whose_container_came_after_the_listing(
    service: Mooring, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that was made between the listing and its creator's death is removed too."""
    folder = half_created(engine)
    real, first = engine.list, [True]

    def listing(labels):
        rows = [] if first else real(labels)
        first.clear()
        return rows

    monkeypatch.setattr(engine, "list", listing)
    service.sessions.list()
    assert engine.containers == {}
    assert not folder.path.exists()


def test_a_late_container_goes_however_many_repair_at_once(
    service: Mooring, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who repairs what another has just repaired does not forget which container may still come."""
    folder = half_created(engine, with_container=False)
    other = Mooring(engine, actor="other")
    real = engine.list

    def listing(labels, **options):
        if LABEL_ID in labels:  # the second one comes when the first is about to be done
            monkeypatch.setattr(engine, "list", real)
            other.sessions.list()
        return real(labels, **options)

    monkeypatch.setattr(engine, "list", listing)
    name = container_name(folder.record().identity.name, folder.id)
    service.sessions.list()
    other.sessions.list()
    late = container(
        engine,
        name,
        **{LABEL_INSTALLATION: Installation.here().id, LABEL_ID: folder.id, LABEL_NAME: "late"},
    )
    assert late in engine.containers
    service.sessions.list()
    assert late not in engine.containers


def test_half_created_that_is_listed_before_it_can_be_removed(
    service: Mooring, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker lists a container a moment before it knows it: one that outlives its removal so goes
    with the next look."""
    folder = half_created(engine)
    real = engine.remove
    monkeypatch.setattr(engine, "remove", lambda container: None)
    service.sessions.list()
    assert not folder.path.exists()
    assert len(engine.containers) == 1
    monkeypatch.setattr(engine, "remove", real)
    service.sessions.list()
    assert engine.containers == {}


def test_being_created_is_left_alone(service: Mooring, engine: FakeEngine) -> None:
    """While another process holds its lock, an unfinished session is starting and not touched."""
    folder = half_created(engine, with_container=False)
    holding = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLD,
            str(folder.path / "lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == b"held\n"
        (seen,) = service.sessions.list()
        assert (seen.id, seen.state) == (folder.id, State.STARTING)
        holding.kill()  # the kernel lets go of its lock
        holding.wait()
        assert service.sessions.list() == []
    assert not folder.path.exists()


def test_half_created_that_cannot_be_removed_is_tried_again(
    service: Mooring, engine: FakeEngine
) -> None:
    """A repair that the engine refuses hides no session and is made the next time."""
    folder = half_created(engine)
    engine.fail("remove", EngineError("device or resource busy"))
    assert service.sessions.list() == []
    assert folder.exists
    assert len(engine.containers) == 1
    service.sessions.list()
    assert not folder.exists
    assert engine.containers == {}


def test_drafts_are_swept(service: Mooring, state: Path) -> None:
    """Half-made and half-deleted folders go: the deleted at once, the made with their maker."""
    sessions = Installation.here().sessions
    living = f".eeeeeeeeeeee.{process_mark(os.getpid())}.new"
    dead = f".dddddddddddd.{os.getpid()}:1.new"
    for name in (".aaaaaaaaaaaa.gone", ".bbbbbbbbbbbb.new", ".cccccccccccc.new", living, dead):
        (sessions / name / "run").mkdir(parents=True)
    old = time.time() - 61
    os.utime(sessions / ".bbbbbbbbbbbb.new", (old, old))
    service.sessions.list()
    assert {path.name for path in sessions.iterdir()} == {".cccccccccccc.new", living}


def test_a_full_disk_does_not_keep_what_is_half_created(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its removal makes room: it needs none."""
    folder = half_created(engine)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "open", full_disk, raising=False)
        assert [seen.id for seen in service.sessions.list()] == [session.id]
    assert not folder.path.exists()
    assert list(engine.containers) == [session.container]
    assert not list(Installation.here().swept.iterdir())


def test_a_repair_that_the_disk_refuses_hides_nothing(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a full disk does to one repair, the others are made, and all sessions are told."""
    folder = half_created(engine)

    def refuse(container: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "remove", refuse)
        assert [seen.id for seen in service.sessions.list()] == [session.id]
    service.sessions.list()
    assert not folder.path.exists()
