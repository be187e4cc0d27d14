"""Labels against reality: what is repaired, what is told, and what is never touched."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mooring import FakeEngine, LaunchOptions
from mooring.client import Mooring
from mooring.engines.base import ContainerConfig
from mooring.engines.labels import (
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_PROBE,
    container_name,
)
from mooring.errors import EngineError, EngineUnavailable
from mooring.host import atomic
from mooring.host.paths import Installation
from mooring.host.processes import process_mark
from mooring.sessions import recreate
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State
from tests.support.sessions import make_folder, session_folder

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def session(service: Mooring, declare) -> Session:
    """A running one."""
    return service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session


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


def full(descriptor: int, *_: object, **__: object) -> None:
    """What a full disk does to a file that was just made: it cannot be written to."""
    os.close(descriptor)
    raise OSError(28, "No space left on device")


# Half-created ones


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
    """Half-made and half-deleted folders go: the deleted at once, the made after a while."""
    sessions = Installation.here().sessions
    for name in (".aaaaaaaaaaaa.gone", ".bbbbbbbbbbbb.new", ".cccccccccccc.new"):
        (sessions / name / "run").mkdir(parents=True)
    old = time.time() - 61
    os.utime(sessions / ".bbbbbbbbbbbb.new", (old, old))
    service.sessions.list()
    assert [path.name for path in sessions.iterdir()] == [".cccccccccccc.new"]


# Ends


def test_an_end_is_recorded_once(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """However often one looks, an end that no door brought about is one event."""
    engine.finish(session.container, 3)
    for _ in range(3):
        (seen,) = service.sessions.list()
        assert (seen.state, seen.exit_code, seen.reason) == (State.STOPPED, 3, "exit code 3")
    assert kinds(service, session.id) == ["requested", "started", "ended"]
    past = service.sessions.past("train")
    assert past is not None
    assert (past.reason, past.exit_code) == ("exit code 3", 3)


def test_the_clocks_own_word_is_the_reason(
    service: Mooring, engine: FakeEngine, session: Session
) -> None:
    """What the clock wrote about the end is told as it is, with its time."""
    (session_folder(session.id).run / "end").write_text(
        "reason idle\ntime 1700000123\ndetail no activity for 30m\nsignals cpu 0.1%\n"
    )
    engine.finish(session.container, 143)
    (seen,) = service.sessions.list()
    assert seen.reason == "idle timeout"
    event = service.sessions.events(session.id)[-1]
    assert (event.kind, event.actor, event.time) == ("ended", "clock", 1700000123)
    assert event.detail == "idle timeout: no activity for 30m"


def test_out_of_memory_is_said(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """A main process that was killed for want of memory is said to be that."""
    engine.finish(session.container, 137, oom_killed=True)
    (seen,) = service.sessions.list()
    assert seen.reason == "out of memory"


def test_removal_at_the_end_as_asked(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """A session that was to be removed when it ends is, whoever looks first."""
    session = service.sessions.create(
        declare(command="x"), LaunchOptions(name="train", remove=True)
    ).session
    engine.finish(session.container, 0)
    service.sessions.list()
    assert service.sessions.list() == []
    assert engine.containers == {}
    assert kinds(service, session.id) == ["requested", "started", "ended", "removed"]
    assert not list((state / "sessions").iterdir())


def test_removal_that_is_refused_keeps_nobody_from_looking(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """One container that cannot be removed does not hide the other sessions."""
    session = service.sessions.create(
        declare(command="x"), LaunchOptions(name="train", remove=True)
    ).session
    service.sessions.create(declare(command="x"), LaunchOptions(name="other"))
    engine.finish(session.container, 0)
    engine.fail("remove", EngineError("device or resource busy"), times=2)
    assert "other" in {seen.name for seen in service.sessions.list()}
    assert len(engine.containers) == 2
    service.sessions.list()
    service.sessions.list()
    assert len(engine.containers) == 1


def test_lost(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """A session whose container was removed by others is lost, told once, its files kept."""
    engine.remove(session.container)
    for _ in range(2):
        (seen,) = service.sessions.list()
        assert seen.state is State.LOST
        assert seen.reason == "its container was removed outside mooring"
    assert kinds(service, session.id) == ["requested", "started", "ended"]
    assert session_folder(session.id).home.exists()


def test_rebooted(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """A session that runs no more since the machine was restarted is lost for that reason."""
    session_folder(session.id).update_state(boot_id="another")
    engine.finish(session.container, 255)
    (seen,) = service.sessions.list()
    assert (seen.state, seen.reason) == (State.LOST, "the machine was restarted")
    assert service.sessions.events(session.id)[-1].detail == "the machine was restarted"
    again = service.sessions.start(service.sessions.get("train"))
    assert again.state is State.RUNNING
    engine.finish(session.container, 1)
    assert service.sessions.get("train").state is State.STOPPED


def test_a_full_disk_does_not_keep_from_looking(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that cannot be written down is told all the same, and written down later."""
    engine.finish(session.container, 3)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "open", full, raising=False)
        (seen,) = service.sessions.list()
    assert seen.reason == "exit code 3"
    assert kinds(service, session.id) == ["requested", "started"]
    service.sessions.list()
    assert kinds(service, session.id) == ["requested", "started", "ended"]


def test_a_full_disk_does_not_keep_what_is_half_created(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its removal makes room: it needs none."""
    folder = half_created(engine)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "open", full, raising=False)
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


# Of a launcher that nobody answers for


@pytest.fixture
def abandoned(service: Mooring, engine: FakeEngine, session: Session) -> SessionFolder:
    """A launcher's, moved to other GPUs once, whose launcher and keeper were killed."""
    service.sessions.stop(session)
    recreate.recreate(Context(engine, "tester"), service.sessions.get("train"), ())
    folder = session_folder(session.id)
    Lease.make(folder, key={}, holder="1:2").release()
    assert recreate.snapshot_image(session.id) in engine.images
    return folder


def test_abandoned_goes_with_the_picture_of_its_files(
    service: Mooring, engine: FakeEngine, abandoned: SessionFolder
) -> None:
    """What a move has made for a session goes when that does, whoever removes it."""
    assert service.sessions.list() == []
    assert not abandoned.exists
    assert recreate.snapshot_image(abandoned.id) not in engine.images


def test_abandoned_whose_removal_was_cut_off(
    service: Mooring, engine: FakeEngine, abandoned: SessionFolder
) -> None:
    """Where the picture was still in use it goes with the next look, and the folder after it."""
    engine.fail("remove_image", EngineError("image is being used"))
    service.sessions.list()
    assert abandoned.exists
    assert service.sessions.list() == []
    assert not abandoned.exists
    assert recreate.snapshot_image(abandoned.id) not in engine.images


# An engine that does not tell


def snapshot(folder: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_an_engine_that_is_down_changes_nothing(
    service: Mooring, engine: FakeEngine, session: Session, state: Path
) -> None:
    """While the engine is away every session is unknown, and not a file is touched."""
    half = half_created(engine)
    engine.finish(session.container, 3)
    before, containers = snapshot(state), dict(engine.containers)
    mend = engine.fail("*", EngineUnavailable("no engine", "start it"), times=-1)
    with pytest.raises(EngineUnavailable):
        service.sessions.list()
    (unknown,) = service.sessions.unknown()
    assert (unknown.id, unknown.name, unknown.state) == (session.id, "train", State.UNKNOWN)
    assert unknown.reason == ""
    assert not unknown.live_kernels
    assert snapshot(state) == before
    assert engine.containers == containers
    assert half.exists
    mend()
    (seen,) = service.sessions.list()
    assert seen.reason == "exit code 3"


def test_an_engine_that_goes_away_in_between(
    service: Mooring, engine: FakeEngine, session: Session
) -> None:
    """An engine that leaves between the listing and a repair is unavailable, and repairs wait."""
    folder = half_created(engine)
    engine.fail("remove", EngineUnavailable("down"))
    with pytest.raises(EngineUnavailable):
        service.sessions.list()
    assert folder.exists
    assert len(engine.containers) == 2


def test_a_state_that_nobody_knows(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """A word of the engine's that mooring does not know is unknown: not stopped, not lost."""
    engine.containers[session.container].state = "hibernating"
    (seen,) = service.sessions.list()
    assert seen.state is State.UNKNOWN
    assert kinds(service, session.id) == ["requested", "started"]


# Other people's


def test_foreign_installations_are_never_touched(service: Mooring, engine: FakeEngine) -> None:
    """Containers of other installations, in whatever state, are not shown and not removed."""
    for number, labels in enumerate(
        (
            {LABEL_INSTALLATION: "f" * 16, LABEL_ID: "0123456789ab"},
            {LABEL_INSTALLATION: "f" * 16, LABEL_PROBE: "1:gone"},
            {LABEL_ID: "0123456789ab"},
            {},
        )
    ):
        container(engine, f"foreign-{number}", **labels)
    assert service.sessions.reconcile()[0] == []
    assert len(engine.containers) == 4


@pytest.mark.parametrize(
    "session_id",
    ["0123456789ab", "", ".", "../../etc", "0123456789AB", "0123456789ab/..", "\n"],
)
def test_forged_labels(
    service: Mooring, engine: FakeEngine, session: Session, state: Path, session_id: str
) -> None:
    """A container with our installation's id and no record of ours is not ours: never removed."""
    forged = container(
        engine,
        "forged",
        **{
            LABEL_INSTALLATION: Installation.here().id,
            LABEL_ID: session_id,
            LABEL_NAME: "train",
        },
    )
    engine.start(forged)
    before = snapshot(state / "sessions")
    assert [seen.id for seen in service.sessions.list()] == [session.id]
    assert service.sessions.get_running("train").container == session.container
    service.sessions.remove(service.sessions.get("train"), force=True)
    assert set(engine.containers) == {forged}
    assert before.keys() - snapshot(state / "sessions").keys() == before.keys()


def test_a_copy_of_a_sessions_labels(
    service: Mooring, engine: FakeEngine, session: Session
) -> None:
    """A container with all of a session's labels is not the session, however new it is."""
    labels = dict(engine.containers[session.container].config.labels)
    copy = container(engine, "copy", **labels)
    engine.start(copy)
    (seen,) = service.sessions.list()
    assert seen.container == session.container
    assert service.sessions.get_running("train").container == session.container
    engine.finish(session.container, 0)
    assert service.sessions.get("train").state is State.STOPPED
    assert copy in engine.containers


# Probes


def probe(engine: FakeEngine, mark: str, *, recorded: bool = True) -> str:
    name = f"mooring-probe-{mark.replace(':', '-')}"
    if recorded:
        (Installation.here().images / name).touch()
    return container(
        engine, name, **{LABEL_INSTALLATION: Installation.here().id, LABEL_PROBE: mark}
    )


def test_probes_of_dead_processes_are_removed(service: Mooring, engine: FakeEngine) -> None:
    """A look into an image is cleared away once its process is gone, also if its number is back."""
    alive = probe(engine, process_mark(os.getpid()))
    dead = probe(engine, f"{2**22}:1")
    another = probe(engine, f"{os.getpid()}:1")  # our number, another process's start
    stranger = probe(engine, f"{2**22}:2", recorded=False)
    repairs = service.sessions.reconcile()[1]
    assert set(repairs.probes) == {dead, another}
    assert set(engine.containers) == {alive, stranger}
    assert [path.name for path in Installation.here().images.glob("mooring-probe-*")] == [
        f"mooring-probe-{process_mark(os.getpid()).replace(':', '-')}"
    ]


def test_records_of_looks_that_were_cut_off_are_swept(service: Mooring) -> None:
    """A record of a look whose container never was goes after a while."""
    for name, age in (("mooring-probe-old", 61), ("mooring-probe-new", 0)):
        path = Installation.here().images / name
        path.touch()
        os.utime(path, (time.time() - age, time.time() - age))
    service.sessions.list()
    assert [path.name for path in Installation.here().images.iterdir()] == ["mooring-probe-new"]


# Anybody, at any time


def test_looking_twice_changes_nothing(
    service: Mooring, engine: FakeEngine, session: Session, state: Path
) -> None:
    """A second look finds nothing left to repair."""
    half_created(engine)
    engine.finish(session.container, 0)
    assert any(dataclasses.astuple(service.sessions.reconcile()[1]))
    before = snapshot(state / "sessions")
    assert not any(dataclasses.astuple(service.sessions.reconcile()[1]))
    assert snapshot(state / "sessions") == before


def test_a_torn_record_is_no_session(service: Mooring, engine: FakeEngine, declare) -> None:
    """A folder whose record cannot be read hides no other session, and its container stays."""
    folder = make_folder("0123456789ab", "torn")
    folder.mark_ready()
    folder.release()
    (folder.path / "record.json").write_text('{"id": "01')
    kept = container(
        engine,
        container_name("torn", folder.id),
        **{LABEL_INSTALLATION: Installation.here().id, LABEL_ID: folder.id},
    )
    other = service.sessions.create(declare(command="x"), LaunchOptions(name="other")).session
    seen = {one.name: one.state for one in service.sessions.list()}
    assert seen.pop("other") is State.RUNNING
    assert set(seen.values()) <= {State.LOST}
    assert kept in engine.containers
    assert other.container in engine.containers


def test_the_lock_follows_the_folder() -> None:
    """A folder that is in the making is held from its first moment until it is let go."""
    folder = make_folder("0123456789ab")
    assert folder.in_creation()
    with open(folder.path / "lock") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder.release()
    assert not folder.in_creation()
