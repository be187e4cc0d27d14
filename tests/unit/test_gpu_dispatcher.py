"""What starts sessions that were left to wait, without a terminal and without an engine."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from mooring import paths
from mooring.creation import Creation, Manner, Steps
from mooring.engines.fake import FakeEngine
from mooring.errors import Cancelled
from mooring.folder import Folder
from mooring.gpus import dispatcher
from mooring.gpus.gate import Gate
from mooring.service import Mooring


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
    gate = mooring.queue.gate
    folders = [left(number, waiting(since), gate) for number, since in ((1, 30), (2, 10), (3, 20))]
    descriptor = gate.become_dispatcher(paths.installation_id())
    assert descriptor is not None
    refused: set[str] = set()
    dispatcher._keep_places(mooring, folders, refused)
    assert [one.session for one in gate.tickets()] == ["s2", "s3", "s1"]
    assert not refused
    gate.retire(paths.installation_id(), descriptor)


def test_what_cannot_be_read_is_told_and_not_tried_for_ever(mooring: Mooring) -> None:
    """A session that another version left to wait keeps no dispatcher at work."""
    folder = left(1, '{"spec": {}}', mooring.queue.gate)
    refused: set[str] = set()
    dispatcher._keep_places(mooring, dispatcher._waiting(refused), refused)
    assert dispatcher._waiting(refused) == []
    assert "cannot be read" in folder.waiting()


def test_whoever_leaves_one_to_wait_is_not_missed_by_a_dispatcher_that_goes(
    mooring: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to wait while the queue is locked becomes visible when the lock is free."""
    from mooring.config import ResolvedSpec
    from mooring.spec import SessionSpec

    gate = mooring.queue.gate
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
    folder = left(1, waiting(1), mooring.queue.gate)
    steps = Steps(folder, lambda text: None, lambda: False)
    steps("waiting")
    shutil.rmtree(folder.path)
    with pytest.raises(Cancelled):
        steps("waiting")
