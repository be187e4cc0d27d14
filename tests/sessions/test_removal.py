"""A removal that is looked at meanwhile, and one that is cut off, whoever removes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from mooring import FakeEngine, LaunchOptions
from mooring.client import Mooring
from mooring.engines.labels import LABEL_ID
from mooring.sessions import recreate
from mooring.sessions.context import Context
from mooring.sessions.history import History
from mooring.sessions.kernel_owners import KernelRecord
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State
from tests.sessions.support import kinds
from tests.support.sessions import leftovers, session_folder

LEFT = "in its private home: 1 file (5 bytes): work.txt"
#: Who removes a session, and the reason they give.
REMOVERS = {
    "rm": "",
    "lease": "its kernel's launcher was killed",
    "orphan": "its client has exited",
    "at the end": "as its creation asked",
}
# Why it ended, where they do not give that
ENDS = {"rm": "removed by tester", "at the end": "ended by itself"}


class Killed(BaseException):
    """What ends a process at once."""


@pytest.fixture(params=list(REMOVERS))
def remover(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(
    service: Mooring,
    engine: FakeEngine,
    declare: Any,
    remover: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Session:
    """One that was moved to other GPUs once, has written to its home, and is due for removal."""
    monkeypatch.setattr("mooring.sessions.orphans.used_for", lambda *_: "")
    monkeypatch.setattr("mooring.sessions.usage.used_for", lambda *_: "")
    options = LaunchOptions(
        name="train", remove=remover == "at the end", ends_with_kernels=remover == "orphan"
    )
    made = service.sessions.create(declare(command="x"), options).session
    folder = session_folder(made.id)
    (folder.path / "etc" / "passwd").touch()
    (folder.home / "work.txt").write_text("hours")
    folder.update_state(recreated=True)
    engine.images[recreate.snapshot_image(made.id)] = "sha256:0"
    if remover == "lease":
        Lease.make(folder, key={}, holder="1:2").release()
    elif remover == "orphan":
        kernel = "0123abcd-4567-89ef-0123-456789abcdef"
        owned = service.kernels.owners.own(KernelRecord(made.id, kernel, "mk", root="", cwd="/"))
        assert owned is not None
        owned.release()
    elif remover == "at the end":
        engine.finish(made.container, 0)
    return made


def remove(service: Mooring, session: Session, remover: str) -> None:
    if remover == "rm":
        service.sessions.remove(session, force=True)
    else:
        service.sessions.list()


def removed_once(service: Mooring, engine: FakeEngine, session: Session, remover: str) -> None:
    """Nothing is left of the session, and its history says why, with what its home contained."""
    removals = [one for one in service.sessions.events(session.id) if one.kind == "removed"]
    actor = "tester" if remover == "rm" else "reconciler"
    detail = "; ".join(filter(None, (REMOVERS[remover], LEFT)))
    assert [(one.actor, one.detail) for one in removals] == [(actor, detail)]
    past = service.sessions.past("train")
    assert past is not None
    assert past.ended_at is not None
    assert past.reason == ENDS.get(remover, REMOVERS[remover])
    ends = [one.detail for one in service.sessions.events(session.id) if one.kind == "ended"]
    assert ends == (["ended by itself"] if remover == "at the end" else [])
    assert engine.containers == {}
    assert recreate.snapshot_image(session.id) not in engine.images
    assert not session_folder(session.id).path.exists()


@pytest.mark.parametrize("step", ["stopped", "removed", "recorded"])
def test_a_look_meanwhile(
    service: Mooring,
    engine: FakeEngine,
    session: Session,
    remover: str,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who lists sessions while another process removes one neither takes it for lost or ended nor
    deletes its files, so that their removal is recorded."""
    seen: list[list[Session]] = []

    def look() -> None:
        if not seen:
            seen.append([])
            seen[0] = service.sessions.list()
            assert (session_folder(session.id).home / "work.txt").exists()

    remove_container, add = engine.remove, History.add

    def removing(container: str) -> None:
        if step == "stopped":
            engine.finish(container, 137)
            look()
        remove_container(container)
        if step == "removed":
            look()

    def adding(history: History, session_id: str, kind: str, *rest: Any, **more: Any) -> None:
        add(history, session_id, kind, *rest, **more)
        if step == "recorded" and kind == "removed":
            look()

    with monkeypatch.context() as patch:
        patch.setattr(engine, "remove", removing)
        patch.setattr(History, "add", adding)
        remove(service, session, remover)
    assert [one.name for one in seen[0]] == (["train"] if step == "stopped" else [])
    removed_once(service, engine, session, remover)


def killed(
    owner: object, name: str, monkeypatch: pytest.MonkeyPatch, *, after: bool, kind: str = ""
) -> Callable[[], list[str]]:
    """Kill who calls a method, before or after it has done its work.

    Args:
        kind: of ``History.add``, only if it adds such an event.

    Returns:
        Tells which calls were cut off.
    """
    real, cut = getattr(owner, name), list[str]()

    def die(*arguments: Any, **options: Any) -> None:
        if kind and kind not in arguments:
            real(*arguments, **options)
            return
        cut.append(name)
        if after:
            real(*arguments, **options)
        raise Killed

    monkeypatch.setattr(owner, name, die)
    return lambda: cut


@pytest.mark.parametrize(
    ("after", "step"),
    [
        (False, "container"),
        (True, "container"),
        (True, "image"),
        (True, "end"),
        (True, "event"),
    ],
)
def test_a_removal_that_was_cut_off(
    service: Mooring,
    engine: FakeEngine,
    session: Session,
    remover: str,
    step: str,
    after: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever looks next completes it once its container is gone: its history has one removal, its
    end has a reason, and nothing is left. With its container, it is the session that it was."""
    owner, name = {
        "container": (engine, "remove"),
        "image": (engine, "remove_image"),
        "end": (History, "session_ended"),
        "event": (History, "add"),
    }[step]
    with monkeypatch.context() as patch:
        kind = "removed" if step == "event" else ""
        cut = killed(owner, name, patch, after=after, kind=kind)
        with contextlib.suppress(Killed):
            remove(service, session, remover)
        assert cut() == [name]
    service.sessions.list()
    if remover == "rm" and step == "container" and not after:
        assert service.sessions.get("train").state is State.RUNNING
        assert kinds(service, session.id) == ["requested", "started"]
        service.sessions.remove(session, force=True)
    service.sessions.list()
    assert service.sessions.list() == []
    removed_once(service, engine, session, remover)


@pytest.mark.parametrize("remover", ["rm"], indirect=True)
def test_a_session_whose_removal_failed_is_lost_later(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives on: if others remove its container later, its files are kept."""
    with monkeypatch.context() as patch:
        killed(engine, "remove", patch, after=False)
        with contextlib.suppress(Killed):
            service.sessions.remove(session, force=True)
    assert service.sessions.get("train").state is State.RUNNING
    engine.remove(session.container)
    assert service.sessions.get("train").state is State.LOST
    assert (session_folder(session.id).home / "work.txt").read_text() == "hours"


@pytest.mark.parametrize("remover", ["rm"], indirect=True)
def test_a_stale_listing_is_no_container(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has listed a container that has gone since does not take its removal for a failed one."""
    rows = Context(engine, "tester").labelled()
    assert [row.labels[LABEL_ID] for row in rows] == [session.id]
    with monkeypatch.context() as patch:
        killed(engine, "remove", patch, after=True)
        with contextlib.suppress(Killed):
            service.sessions.remove(session, force=True)
        patch.setattr(Context, "labelled", lambda *_, **__: rows)
        service.sessions.list()
    service.sessions.list()
    removed_once(service, engine, session, "rm")


@pytest.mark.parametrize("remover", ["rm"], indirect=True)
def test_a_session_is_removed_once(service: Mooring, engine: FakeEngine, session: Session) -> None:
    """Who removes a session that has been removed meanwhile adds nothing to its history."""
    for _ in range(2):
        service.sessions.remove(session, force=True)
    removed_once(service, engine, session, "rm")


@pytest.mark.parametrize("remover", ["rm"], indirect=True)
def test_nothing_is_left(
    service: Mooring, engine: FakeEngine, session: Session, state: Any
) -> None:
    """The mark of a removal goes with the session's folder."""
    service.sessions.remove(session, force=True)
    assert leftovers(engine, state) == []


@pytest.mark.parametrize("remover", ["rm"], indirect=True)
def test_an_interrupted_client_leaves_the_removal_to_the_engine(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine goes on with it, and for a while lists the container as it was before: meanwhile
    the session is not taken for lost, and a second removal ends it."""
    inspect = engine.inspect

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    def at_work(container: str) -> Any:
        detail = inspect(container)
        return detail and detail._replace(state="removing")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "remove", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove(service, session, "rm")
        patch.setattr(engine, "inspect", at_work)
        assert [one.name for one in service.sessions.list()] == ["train"]
    assert session_folder(session.id).record().state.removing is not None
    remove(service, session, "rm")
    removed_once(service, engine, session, "rm")


@pytest.mark.parametrize("remover", ["rm"], indirect=True)
def test_what_the_engine_removed_after_an_interruption_is_removed(
    service: Mooring, engine: FakeEngine, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one who looks completes it."""

    def interrupted(container: str) -> None:
        gone(container)
        raise KeyboardInterrupt

    gone = engine.remove
    with monkeypatch.context() as patch:
        patch.setattr(engine, "remove", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove(service, session, "rm")
    assert service.sessions.list() == []
    removed_once(service, engine, session, "rm")
