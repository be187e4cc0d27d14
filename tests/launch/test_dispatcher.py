"""What starts sessions that were left to wait, without a terminal and without an engine."""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from mooring import FakeEngine, LaunchOptions, Wait
from mooring.client import Mooring
from mooring.errors import Cancelled, EngineError, EngineUnavailable, PolicyError
from mooring.gpus.claims import Request
from mooring.gpus.tickets import Ticket, TicketQueue
from mooring.host.paths import Installation
from mooring.images.mounts import MountPlan
from mooring.images.sources import WORKING_DIRECTORY
from mooring.launch import dispatcher
from mooring.launch.create import Launch, Progress
from mooring.launch.plan import LaunchPlan
from mooring.policy import limits
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import State
from mooring.sessions.queue import tickets
from mooring.spec.model import SessionSpec
from mooring.spec.resolve import ResolvedSpec
from tests.support.sessions import make_folder
from tests.support.waiting import eventually


def left(number: int, how: str, ticket_queue: TicketQueue) -> SessionFolder:
    """A session's folder as ``create --enqueue-only`` leaves it, with the ticket or without."""
    session_id = f"{number:012x}"
    folder = make_folder(session_id, f"s{number}", created_at=float(number))
    folder.release()
    with ticket_queue.locked():
        folder.mark_enqueued(json.loads(how))
    return folder


def waiting(since: int, project: str = "/", **spec: object) -> str:
    resolved = {"origins": {}, "path": None, "project": project, "sha256": "", "reaches": []}
    manner = {"cwd": project, "tty": False, "size": [24, 80], "since": since}
    said = {"spec": spec or {"gpus": 1}, "resolved": resolved | {"extended": []}, "manner": manner}
    sources = [] if project == "/" else [[WORKING_DIRECTORY, project]]
    return json.dumps(said | {"actor": "bob", "sources": sources})


@pytest.fixture
def ctx(state: Path) -> Context:
    return Context(FakeEngine(["i"]))


@pytest.fixture
def mooring(ctx: Context) -> Mooring:
    return Mooring(ctx.engine)


def test_all_have_their_places_before_one_is_served(ctx: Context, mooring: Mooring) -> None:
    """After the machine's restart no ticket is left; the order is in the sessions' folders."""
    ticket_queue = tickets(ctx)
    folders = [
        left(number, waiting(since), ticket_queue) for number, since in ((1, 30), (2, 10), (3, 20))
    ]
    descriptor = ticket_queue.become_dispatcher(Installation.here().id)
    assert descriptor is not None
    refused: set[str] = set()
    dispatcher.restore_places(ctx, folders, refused)
    assert [one.session for one in ticket_queue.tickets()] == ["s2", "s3", "s1"]
    assert not refused
    ticket_queue.retire_dispatcher(Installation.here().id, descriptor)


def test_what_cannot_be_read_is_told_and_not_tried_for_ever(
    ctx: Context, mooring: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that another version left to wait keeps no dispatcher at work, and has no place in
    the queue; the version that can read it goes on with it."""
    started: list[str] = []
    monkeypatch.setattr("subprocess.run", lambda *_, **__: started.append("one"))
    ticket_queue = tickets(ctx)
    folder = left(1, '{"spec": {}}', ticket_queue)
    ticket = Ticket(folder.id, Installation.here().id, "bob", "s1", Request(1), 0, 1)
    with ticket_queue.locked():
        ticket_queue.enqueue(replace(ticket, enqueued=True)).release()
    refused: set[str] = set()
    dispatcher.restore_places(ctx, dispatcher.waiting(ctx, refused), refused)
    assert dispatcher.waiting(ctx, set()) == []
    assert "cannot be read" in folder.waiting()
    assert not ticket_queue.has_ticket(folder.id)
    assert [one.state for one in mooring.sessions.list()] == [State.PENDING]
    assert started == []
    monkeypatch.setattr("mooring.sessions.folder.__version__", "9.9")
    assert [one.id for one in dispatcher.waiting(ctx, set())] == [folder.id]
    mooring.sessions.list()
    assert started == ["one"]


def test_without_a_policy_that_can_be_read_what_waits_can_be_seen_and_ended(
    ctx: Context, mooring: Mooring, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An administrator's slip keeps nobody from looking, stopping and removing."""
    monkeypatch.setattr(limits, "POLICY_FILE", tmp_path / "policy.yml")
    left(1, waiting(1), tickets(ctx))
    left(2, waiting(2), tickets(ctx))
    limits.POLICY_FILE.write_text("max_gpus_per_user: [")
    with pytest.raises(PolicyError):
        limits.load()
    first, second = mooring.sessions.list()
    mooring.sessions.stop(first)
    mooring.sessions.remove(second, force=True)
    assert mooring.sessions.list() == []


def launch_of(ctx: Context, folder: SessionFolder, gpus: Request | None = None) -> Launch:
    plan = LaunchPlan(
        resolved=ResolvedSpec(SessionSpec(), {}, None, Path("/"), ""),
        cwd=Path("/"),
        mounts=MountPlan((), "/", (), ()),
        needs_trust=(),
        gpus=gpus,
    )
    return Launch(ctx, folder, plan, LaunchOptions(enqueue=True), Progress(folder, Wait()))


def test_one_that_is_interrupted_on_its_way_into_the_queue_leaves_no_ticket(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the very moment at which its ticket is there: it would keep GPUs for nobody."""
    folder = make_folder("1" * 12, "s", created_at=1.0)
    enqueue = TicketQueue.enqueue

    def interrupted(queue: TicketQueue, ticket: Ticket) -> None:
        enqueue(queue, ticket)
        assert queue.has_ticket(folder.id)
        raise KeyboardInterrupt

    monkeypatch.setattr(TicketQueue, "enqueue", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch_of(ctx, folder, Request(1)).enqueue()
    assert not tickets(ctx).has_ticket(folder.id)
    assert not folder.exists


def test_whoever_leaves_one_to_wait_is_not_missed_by_a_dispatcher_that_goes(
    ctx: Context, mooring: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to wait while the queue is locked becomes visible when the lock is free."""
    ticket_queue, folder = tickets(ctx), make_folder("1" * 12, "s", created_at=1.0)
    launch = launch_of(ctx, folder)
    locked, at_the_lock = TicketQueue.locked, threading.Event()

    def lock(queue: TicketQueue) -> AbstractContextManager[None]:
        at_the_lock.set()
        return locked(queue)

    with ticket_queue.locked():
        monkeypatch.setattr(TicketQueue, "locked", lock)
        thread = threading.Thread(target=launch.enqueue)
        thread.start()
        assert at_the_lock.wait(10)
        assert dispatcher.waiting(ctx, set()) == []
    thread.join(10)
    assert [one.id for one in dispatcher.waiting(ctx, set())] == [folder.id]


def test_who_waits_gives_up_when_its_folder_is_gone(ctx: Context, mooring: Mooring) -> None:
    """Nobody waits for an installation that was deleted: it would keep others from their turn."""
    folder = left(1, waiting(1), tickets(ctx))
    progress = Progress(folder, Wait())
    progress("waiting")
    shutil.rmtree(folder.path)
    with pytest.raises(Cancelled):
        progress("waiting")


def test_one_that_outlives_the_machines_restart_runs_in_this_boot(
    ctx: Context, mooring: Mooring, project: Path
) -> None:
    """It was reserved in another boot; what ends it later is no restart of the machine."""
    folder = left(1, waiting(1, str(project), command="x"), tickets(ctx))
    folder.update_state(boot_id="another")
    dispatcher.start(ctx, folder)
    session = mooring.sessions.get("s1")
    assert session.state is State.RUNNING
    mooring.engine.stop(session.container, grace_s=1.0)
    assert mooring.sessions.get("s1").state is State.STOPPED


def test_a_launch_that_is_repeated_is_checked_again(
    ctx: Context, mooring: Mooring, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first container wrote of its check does not count for the second."""
    monkeypatch.setattr(dispatcher, "RETRY_S", 0.01)
    mooring.engine.fail("attach_network", EngineUnavailable("down"))  # type: ignore[attr-defined]
    folder = left(1, waiting(1, str(project), kernel="python3"), tickets(ctx))
    seen: list[bool] = []
    start = mooring.engine.start

    def look(container: str) -> None:
        seen.append(folder.guest.exists("checked"))
        start(container)

    monkeypatch.setattr(mooring.engine, "start", look)
    dispatcher.start(ctx, folder)
    assert mooring.sessions.get("s1").state is State.RUNNING
    assert seen == [False, False]


@pytest.mark.parametrize("recorded", [True, False])
def test_the_history_of_a_launch_that_is_taken_up_has_one_start(
    ctx: Context, mooring: Mooring, project: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    """A dispatcher that is killed at the very end of a launch may have recorded the start."""
    folder = left(1, waiting(1, str(project), command="x"), tickets(ctx))
    with monkeypatch.context() as killed:
        killed.setattr(SessionFolder, "mark_ready", lambda _: None)
        if not recorded:
            killed.setattr(Context, "add_event", lambda *_, **__: None)
        dispatcher.start(ctx, folder)
    assert not folder.ready
    folder.guest.write("checked", b"")
    dispatcher.start(ctx, folder)
    assert folder.ready
    kinds = [event.kind for event in mooring.sessions.events(folder.id)]
    assert kinds.count("started") == 1


@pytest.mark.parametrize("method", ["create", "start"])
def test_one_whose_engine_has_a_full_disk_waits(
    ctx: Context, mooring: Mooring, project: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The engine's disk is as good a reason to try again as mooring's own."""
    monkeypatch.setattr(dispatcher, "RETRY_S", 0.01)
    monkeypatch.setattr(dispatcher, "FULL_S", 0.05)
    why = "creating a container: mkdir /var/lib/docker/overlay2/a: no space left on device"
    mooring.engine.fail(method, EngineError(why))  # type: ignore[attr-defined]
    folder = left(1, waiting(1, str(project), command="x"), tickets(ctx))
    dispatcher.start(ctx, folder)
    assert folder.launchable
    assert folder.waiting() == why
    dispatcher.start(ctx, folder)
    assert mooring.sessions.get("s1").state is State.RUNNING
    mooring.engine.fail(method, EngineError("no"))  # type: ignore[attr-defined]
    folder = left(2, waiting(1, str(project), command="x"), tickets(ctx))
    dispatcher.start(ctx, folder)
    assert not folder.exists


def test_one_waits_while_the_policy_cannot_be_read(
    ctx: Context, mooring: Mooring, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator's slip costs nobody a place in the queue; its reason is told meanwhile."""
    monkeypatch.setattr(dispatcher, "RETRY_S", 0.01)
    monkeypatch.setattr(limits, "POLICY_FILE", project / "policy.yml")
    monkeypatch.setattr(limits, "OWNER", os.getuid())
    limits.POLICY_FILE.write_text("max_gpus_per_user: [")
    folder = left(1, waiting(1, str(project), command="x"), tickets(ctx))
    thread = threading.Thread(target=dispatcher.start, args=(ctx, folder))
    thread.start()
    eventually(lambda: "policy.yml" in folder.waiting(), timeout=10)
    assert folder.launchable
    limits.POLICY_FILE.unlink()
    thread.join(10)
    assert mooring.sessions.get("s1").state is State.RUNNING
