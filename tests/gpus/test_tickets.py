"""The queue's lock and its tickets."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mooring.errors import EngineError, EngineUnavailable
from mooring.gpus import place, tickets
from mooring.gpus.claims import Claim, Request
from mooring.gpus.tickets import Ticket, TicketQueue, open_ticket_queue
from mooring.host import locks
from tests.support.gpus import ticket


def test_tickets_are_served_by_rank_then_by_time(ticket_queue: TicketQueue) -> None:
    """Higher priorities first; among equals, first come first."""
    with ticket_queue.locked():
        held_tickets = []
        for number, rank in ((1, 0), (2, 5), (3, -1), (4, 5), (5, 0)):
            one = Ticket(f"{number:012x}", "i", "u", f"s{number}", Request(1), rank, 0)
            held_tickets.append(ticket_queue.enqueue(one))
    assert [one.session for one in ticket_queue.tickets()] == ["s2", "s4", "s1", "s5", "s3"]
    held_tickets[1].remove()
    assert [one.session for one in ticket_queue.tickets()] == ["s4", "s1", "s5", "s3"]
    for one in held_tickets:
        one.remove()
    assert ticket_queue.tickets() == []


def test_a_ticket_ends_with_its_process(ticket_queue: TicketQueue) -> None:
    """A killed process's ticket is not valid any more: it blocks nobody, and is swept."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with ticket_queue.locked():
            ticket_queue.enqueue(ticket(1))
        os.write(writer, b".")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    assert [one.session for one in ticket_queue.tickets()] == ["s1"]
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert ticket_queue.tickets() == []
    with ticket_queue.locked():
        ticket_queue.sweep("here")
    assert list(ticket_queue.folder.glob("t-*")) == []


def test_an_enqueued_ticket_lives_with_its_dispatcher(
    ticket_queue: TicketQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An enqueued ticket is valid for a moment, and then while a dispatcher lives."""
    with ticket_queue.locked():
        ticket_queue.enqueue(replace(ticket(1), enqueued=True)).release()
    assert len(ticket_queue.tickets()) == 1
    monkeypatch.setattr(tickets, "ENQUEUED_GRACE_S", 0.0)
    assert ticket_queue.tickets() == []
    descriptor = ticket_queue.become_dispatcher("here")
    assert descriptor is not None
    assert ticket_queue.become_dispatcher("here") is None
    assert len(ticket_queue.tickets()) == 1
    ticket_queue.retire_dispatcher("here", descriptor)
    assert ticket_queue.tickets() == []


FORGED = (
    '{{"id": "a", "installation": "i", "user": "u", "session": "s", "priority": {priority}, '
    '"since": {since}, "granted": "GPU-1", "enqueued": false, "seen": 0, "request": '
    '{{"count": {count}, "share": {share}, "memory_bytes": 0, "model": "", "before": []}}}}'
)
SAID = {"priority": "0", "since": "1", "count": "1", "share": "1.0"}


def forged(**said: str) -> str:
    return FORGED.format(**SAID | said)


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", '{"id": 1}', "x" * 20000, '{"id": "a"}', "[" * 9999,
        forged(priority="Infinity"), forged(since="1e999"), forged(share="NaN"),
        forged(share="Infinity"), forged(share="-1"), forged(count="-3"),
    ],
)  # fmt: skip
def test_rubbish_is_no_ticket(ticket_queue: TicketQueue, content: str) -> None:
    """A file that is not a ticket is not waited for, blocks nobody and leaks no descriptor."""
    (ticket_queue.folder / "t-rubbish").write_text(content)
    (ticket_queue.folder / "t-link").symlink_to("/etc/passwd")
    (ticket_queue.folder / "t-folder").mkdir()
    os.mkfifo(ticket_queue.folder / "t-fifo")
    os.mkfifo(ticket_queue.folder / "d-here")
    before = len(os.listdir("/proc/self/fd"))
    assert ticket_queue.tickets() == []
    assert not ticket_queue.has_orphaned_grant("i")
    assert not ticket_queue.has_dispatcher("here")
    assert len(os.listdir("/proc/self/fd")) <= before  # others may be collected meanwhile
    (ticket_queue.folder / "t-rubbish").write_text(forged())
    assert ticket_queue.has_orphaned_grant("i")


def test_who_is_suspended_holds_nobody_up(
    ticket_queue: TicketQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ticket whose holder is suspended (Ctrl-Z) is passed over, and keeps its place."""
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time, time_ns=time.time_ns)
    monkeypatch.setattr(tickets, "time", clock)
    with ticket_queue.locked():
        first, second = ticket_queue.enqueue(ticket(1)), ticket_queue.enqueue(ticket(2))
    now[0] += tickets.STALE_S + 1
    second.refresh()
    assert [one.session for one in ticket_queue.tickets()] == ["s2"]
    with ticket_queue.locked():
        ticket_queue.sweep("here")
    first.refresh()
    assert [one.session for one in ticket_queue.tickets()] == ["s1", "s2"]
    first.grant((Claim("GPU-0"),))
    now[0] += tickets.STALE_S + 1
    assert [one.session for one in ticket_queue.tickets()] == ["s1"], "what was granted is held"
    first.remove()
    second.remove()


def test_others_see_a_dispatcher_whatever_its_umask(ticket_queue: TicketQueue) -> None:
    """A user who cannot read its file would take the tickets that it holds for orphans."""
    before = os.umask(0o077)
    try:
        descriptor = ticket_queue.become_dispatcher("here")
    finally:
        os.umask(before)
    assert descriptor is not None
    assert (ticket_queue.folder / "d-here").stat().st_mode & 0o777 == 0o640
    ticket_queue.retire_dispatcher("here", descriptor)


def test_a_look_does_not_keep_a_dispatcher_from_being_one(ticket_queue: TicketQueue) -> None:
    """The question whether there is a dispatcher locks its file for a moment."""
    path = ticket_queue.folder / "d-here"
    path.touch()
    with path.open() as looking:
        locks.lock(looking.fileno(), shared=True)
        threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        descriptor = ticket_queue.become_dispatcher("here")
    assert descriptor is not None
    ticket_queue.retire_dispatcher("here", descriptor)


def test_one_at_a_time(ticket_queue: TicketQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one process decides, others wait, and say so when it takes too long."""
    monkeypatch.setattr(tickets, "LOCK_TIMEOUT_S", 0.05)
    with (
        ticket_queue.locked(),
        pytest.raises(EngineUnavailable),
        TicketQueue(ticket_queue.folder).locked(),
    ):
        pass


def test_a_gate_that_is_gone(ticket_queue: TicketQueue) -> None:
    """A folder that was removed is one clear error, and nothing is put in its place."""
    ticket_queue.folder.rmdir()
    with pytest.raises(EngineUnavailable), ticket_queue.locked():
        pass
    assert not ticket_queue.folder.exists()


def test_an_engine_without_a_socket_has_a_gate_of_its_own(state: Path) -> None:
    """If nobody shares the engine, the queue is this installation's."""
    assert open_ticket_queue("").folder == state / "queue"


@pytest.fixture
def shared(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a socket that a group may use."""
    monkeypatch.setattr(place, "SHARED_FOLDERS", (str(tmp_path),))
    tmp_path.chmod(0o1777)
    made = tmp_path / "docker.sock"
    made.touch()
    made.chmod(0o660)
    # another user's, as it is for everybody but root
    monkeypatch.setattr("os.getuid", lambda: 0)
    return f"unix://{made}"


def test_a_shared_gate_is_the_groups_alone(shared: str, tmp_path: Path) -> None:
    """Created by several threads at once it is one folder, whatever the umask; no draft is left."""
    before = os.umask(0o077)
    found: list[Path] = []
    try:
        threads = [
            threading.Thread(target=lambda: found.append(open_ticket_queue(shared).folder))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    finally:
        os.umask(before)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert found[0].stat().st_mode & 0o7777 == 0o3770
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker.sock", found[0].name]


def test_a_gate_that_somebody_has_made_is_never_replaced(
    shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower process at the first use after a boot uses the folder that the faster created."""
    first = open_ticket_queue(shared)
    with first.locked():
        before = first.folder.stat().st_ino
        exists = Path.exists
        monkeypatch.setattr(
            Path, "exists", lambda path: path != first.folder and exists(path)
        )  # as it was when both looked
        assert open_ticket_queue(shared).folder.stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker.sock", first.folder.name]


def test_who_may_not_make_the_gate_is_told(
    shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user outside the socket's group gets one clear error, and no folder is left."""

    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.chown", refuse)
    with pytest.raises(EngineError, match="cannot create"):
        open_ticket_queue(shared)
    assert [path.name for path in tmp_path.iterdir()] == ["docker.sock"]
