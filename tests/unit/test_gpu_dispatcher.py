"""What starts sessions that were left to wait, without a terminal and without an engine."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mooring.engines.fake import FakeEngine
from mooring.errors import Cancelled, EngineError, PolicyError
from mooring.gpus.claims import Request
from mooring.gpus.tickets import Gate, Ticket
from mooring.host import paths
from mooring.launch import dispatcher
from mooring.launch.create import Creation, Manner, Steps
from mooring.policy import limits
from mooring.service import Mooring
from mooring.sessions.model import State
from mooring.sessions.record import Folder


def left(number: int, how: str, gate: Gate) -> Folder:
    """A session's folder as ``create --enqueue-only`` leaves it, with the ticket or without."""
    session_id = f"{number:012x}"
    record = {"id": session_id, "name": f"s{number}", "created_at": float(number)}
    folder = Folder.create(session_id, record)
    folder.release()
    with gate.locked():
        folder.mark_enqueued(json.loads(how))
    return folder


def waiting(since: int, project: str = "/", **spec: object) -> str:
    resolved = {"origins": {}, "path": None, "project": project, "sha256": "", "reaches": []}
    manner = {"cwd": project, "tty": False, "size": [24, 80], "since": since}
    said = {"spec": spec or {"gpus": 1}, "resolved": resolved | {"extended": []}, "manner": manner}
    return json.dumps(said | {"actor": "bob"})


@pytest.fixture
def mooring(state: Path) -> Mooring:
    return Mooring(FakeEngine(["i"]))


def test_all_have_their_places_before_one_is_served(mooring: Mooring) -> None:
    """After the machine's restart no ticket is left; the order is in the sessions' folders."""
    gate = mooring.gate
    folders = [left(number, waiting(since), gate) for number, since in ((1, 30), (2, 10), (3, 20))]
    descriptor = gate.become_dispatcher(paths.installation_id())
    assert descriptor is not None
    refused: set[str] = set()
    dispatcher._keep_places(mooring, folders, refused)
    assert [one.session for one in gate.tickets()] == ["s2", "s3", "s1"]
    assert not refused
    gate.retire(paths.installation_id(), descriptor)


def test_what_cannot_be_read_is_told_and_not_tried_for_ever(
    mooring: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that another version left to wait keeps no dispatcher at work, and has no place in
    the queue; the version that can read it goes on with it."""
    started: list[str] = []
    monkeypatch.setattr(dispatcher, "ensure", lambda gate, installation: started.append("one"))
    gate = mooring.gate
    folder = left(1, '{"spec": {}}', gate)
    ticket = Ticket(folder.id, paths.installation_id(), "bob", "s1", Request(1), 0, 1)
    with gate.locked():
        gate.draw(replace(ticket, enqueued=True)).let_go()
    refused: set[str] = set()
    dispatcher._keep_places(mooring, dispatcher._waiting(refused), refused)
    assert dispatcher._waiting(set()) == []
    assert "cannot be read" in folder.waiting()
    assert not gate.knows(folder.id)
    assert [one.state for one in mooring.sessions()] == [State.PENDING]
    assert started == []
    monkeypatch.setattr("mooring.__version__", "9.9")
    assert [one.id for one in dispatcher._waiting(set())] == [folder.id]
    mooring.sessions()
    assert started == ["one"]


def test_without_a_policy_that_can_be_read_what_waits_can_be_seen_and_ended(
    mooring: Mooring, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An administrator's slip keeps nobody from looking, stopping and removing."""
    monkeypatch.setattr(limits, "POLICY_FILE", tmp_path / "policy.yml")
    left(1, waiting(1), mooring.gate)
    left(2, waiting(2), mooring.gate)
    limits.POLICY_FILE.write_text("max_gpus_per_user: [")
    with pytest.raises(PolicyError):
        limits.load()
    first, second = mooring.sessions()
    mooring.stop(first)
    mooring.remove(second, force=True)
    assert mooring.sessions() == []


def test_whoever_leaves_one_to_wait_is_not_missed_by_a_dispatcher_that_goes(
    mooring: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to wait while the queue is locked becomes visible when the lock is free."""
    from mooring.spec.model import SessionSpec
    from mooring.spec.resolve import ResolvedSpec

    gate = mooring.gate
    folder = Folder.create("1" * 12, {"id": "1" * 12, "name": "s", "created_at": 1.0})
    resolved = ResolvedSpec(SessionSpec(), {}, None, Path("/"), "")
    steps = Steps(folder, lambda text: None, lambda: False)
    creation = Creation(
        mooring.engine,
        mooring.history,
        "bob",
        lambda: mooring.queue,
        folder,
        resolved,
        Manner("/"),
        steps,
    )
    with gate.locked():
        thread = threading.Thread(target=creation.enqueue)
        thread.start()
        time.sleep(0.1)
        assert dispatcher._waiting(set()) == []
    thread.join(10)
    assert [one.id for one in dispatcher._waiting(set())] == [folder.id]


def test_who_waits_gives_up_when_its_folder_is_gone(mooring: Mooring) -> None:
    """Nobody waits for an installation that was deleted: it would keep others from their turn."""
    folder = left(1, waiting(1), mooring.gate)
    steps = Steps(folder, lambda text: None, lambda: False)
    steps("waiting")
    shutil.rmtree(folder.path)
    with pytest.raises(Cancelled):
        steps("waiting")


def test_one_that_outlives_the_machines_restart_runs_in_this_boot(
    mooring: Mooring, project: Path
) -> None:
    """It was reserved in another boot; what ends it later is no restart of the machine."""
    folder = left(1, waiting(1, str(project), command="x"), mooring.gate)
    folder.update_record(boot_id="another")
    dispatcher._start(mooring, folder)
    session = mooring.get("s1")
    assert session.state is State.RUNNING
    mooring.engine.stop(session.container, grace_s=1.0)
    assert mooring.get("s1").state is State.STOPPED


@pytest.mark.parametrize("method", ["create", "start"])
def test_one_whose_engine_has_a_full_disk_waits(
    mooring: Mooring, project: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The engine's disk is as good a reason to try again as mooring's own."""
    monkeypatch.setattr(dispatcher, "RETRY_S", 0.01)
    monkeypatch.setattr(dispatcher, "FULL_S", 0.05)
    why = "creating a container: mkdir /var/lib/docker/overlay2/a: no space left on device"
    mooring.engine.fail(method, EngineError(why))  # type: ignore[attr-defined]
    folder = left(1, waiting(1, str(project), command="x"), mooring.gate)
    dispatcher._start(mooring, folder)
    assert folder.to_be_made
    assert folder.waiting() == why
    dispatcher._start(mooring, folder)
    assert mooring.get("s1").state is State.RUNNING
    mooring.engine.fail(method, EngineError("no"))  # type: ignore[attr-defined]
    folder = left(2, waiting(1, str(project), command="x"), mooring.gate)
    dispatcher._start(mooring, folder)
    assert not folder.exists


def test_one_waits_while_the_policy_cannot_be_read(
    mooring: Mooring, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator's slip costs nobody a place in the queue; its reason is told meanwhile."""
    monkeypatch.setattr(dispatcher, "RETRY_S", 0.01)
    monkeypatch.setattr(limits, "POLICY_FILE", project / "policy.yml")
    limits.POLICY_FILE.write_text("max_gpus_per_user: [")
    folder = left(1, waiting(1, str(project), command="x"), mooring.gate)
    thread = threading.Thread(target=dispatcher._start, args=(mooring, folder))
    thread.start()
    deadline = time.monotonic() + 10
    while "policy.yml" not in folder.waiting() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "policy.yml" in folder.waiting()
    assert folder.to_be_made
    limits.POLICY_FILE.unlink()
    thread.join(10)
    assert mooring.get("s1").state is State.RUNNING
