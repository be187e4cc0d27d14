"""What starts sessions that were left to wait, without a terminal and without an engine."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mooring import paths, policy
from mooring.creation import Creation, Manner, Steps
from mooring.engines.fake import FakeEngine
from mooring.errors import Cancelled, PolicyError
from mooring.folder import Folder
from mooring.gpus import dispatcher
from mooring.gpus.claims import Request
from mooring.gpus.gate import Gate, Ticket
from mooring.service import Mooring
from mooring.session import State


def left(number: int, how: str, gate: Gate) -> Folder:
    """A session's folder as ``create --enqueue-only`` leaves it, with the ticket or without."""
    session_id = f"{number:012x}"
    record = {"id": session_id, "name": f"s{number}", "created_at": float(number)}
    folder = Folder.create(session_id, record)
    folder.release()
    with gate.locked():
        folder.mark_enqueued(json.loads(how))
    return folder


def waiting(since: int) -> str:
    resolved = {"origins": {}, "path": None, "project": "/", "sha256": "", "reaches": []}
    manner = {"cwd": "/", "tty": False, "size": [24, 80], "since": since}
    said = {"spec": {"gpus": 1}, "resolved": resolved | {"extended": []}, "manner": manner}
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
    monkeypatch.setattr(policy, "POLICY_FILE", tmp_path / "policy.yml")
    left(1, waiting(1), mooring.gate)
    left(2, waiting(2), mooring.gate)
    policy.POLICY_FILE.write_text("max_gpus_per_user: [")
    with pytest.raises(PolicyError):
        policy.load()
    first, second = mooring.sessions()
    mooring.stop(first)
    mooring.remove(second, force=True)
    assert mooring.sessions() == []


def test_whoever_leaves_one_to_wait_is_not_missed_by_a_dispatcher_that_goes(
    mooring: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to wait while the queue is locked becomes visible when the lock is free."""
    from mooring.config import ResolvedSpec
    from mooring.spec import SessionSpec

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
