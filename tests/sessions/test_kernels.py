"""A kernel's start and its end, as all clients make them."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.errors import EngineError, KernelError
from mooring.kernels import killing
from mooring.kernels.connection import Connection
from mooring.kernels.kernel import KernelHandle
from mooring.sessions import kernels
from mooring.sessions.context import Context
from mooring.sessions.kernel_owners import KernelRecord
from mooring.sessions.model import Session, State
from tests.support.sessions import session_folder


class Handle:
    """A kernel that takes a few looks to end."""

    id = "0" * 12

    def __init__(self, looks: int = 3) -> None:
        self.calls: list[str] = []
        self.options: dict[str, Any] = {}
        self._looks = looks

    def start(self, **options: Any) -> None:
        self.calls.append("start")
        self.options = options

    def send_signal(self, signum: int) -> bool:
        self.calls.append(signal.Signals(signum).name)
        return True

    def poll(self) -> int | None:
        self._looks -= 1
        return -9 if self._looks < 0 else None

    def record_exit(self, history: object) -> bool:
        self.calls.append("record_exit")
        return True

    def forget(self) -> None:
        self.calls.append("forget")

    def close(self) -> None:
        pass


@pytest.fixture
def session(service: Mooring, declare: Any, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(kernels, "ensure_host", lambda ctx, session: None)
    return service.sessions.create(declare(command="x"), LaunchOptions(name="lab")).session


CONNECTION = Connection(ip="/s", key=b"k", kernel_name="ir")


def test_a_start_is_in_the_sessions_history(service: Mooring, session: Session) -> None:
    """Once the sockets are there, and in the client's name."""
    handle: Any = Handle()
    service.kernels.start(session, handle, CONNECTION, cwd="/p", env={"A": "b"}, timeout_s=5)
    assert handle.options == {
        "cwd": "/p",
        "cwd_optional": False,
        "given": None,
        "env": {"A": "b"},
        "arguments": (),
        "timeout_s": 5,
    }
    event = service.sessions.events(session.id)[-1]
    assert (event.kind, event.actor) == ("kernel", "tester")
    assert event.detail == "ir 000000000000 started"


def test_a_start_that_fails_is_not(
    service: Mooring, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that never ran has no line of its own."""

    def fail(**options: Any) -> None:
        raise KernelError("kernel ir cannot start")

    handle: Any = Handle()
    monkeypatch.setattr(handle, "start", fail)
    with pytest.raises(KernelError):
        service.kernels.start(session, handle, CONNECTION, cwd="/p", env={})
    assert "kernel" not in [event.kind for event in service.sessions.events(session.id)]


def test_a_kill_waits_until_the_kernel_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns as soon as that is seen, and after its patience at the latest."""
    monkeypatch.setattr(killing, "KILL_POLL_S", 0.0)
    handle: Any = Handle()
    killing.kill_kernel(handle)
    assert handle.poll() == -9
    monkeypatch.setattr(killing, "KILL_PATIENCE_S", 0.0)
    immortal: Any = Handle(looks=1 << 30)
    killing.kill_kernel(immortal)
    assert immortal.calls == ["SIGKILL"]


def test_an_ended_kernel_is_recorded_and_then_forgotten(
    service: Mooring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder tells how it ended: that is read before it goes."""
    handle = Handle(looks=0)
    monkeypatch.setattr(Context, "kernel_handle", lambda ctx, session_id, kernel_id: handle)
    service.kernels.end("a" * 12, handle.id)
    assert handle.calls == ["SIGKILL", "record_exit", "forget"]


KERNEL = "0123abcd-4567-89ef-0123-456789abcdef"


@pytest.fixture
def orphan(service: Mooring, session: Session) -> KernelRecord:
    """A kernel whose server is gone."""
    record = KernelRecord(session.id, KERNEL, "mk", root="/p", cwd="/p")
    handle = service.kernels.handle(session.id, "0123abcd4567")
    handle.write_connection(key=b"k", encrypt=False, kernel_name="ir")
    owned = service.kernels.owners.own(record)
    assert owned is not None
    owned.release()
    return record


def test_an_adopted_kernel_is_its_new_clients(
    service: Mooring, session: Session, orphan: KernelRecord
) -> None:
    """It has its session, its connection and its lock, and the history says so."""
    adopted = service.kernels.adopt(orphan)
    assert adopted.session.id == session.id
    assert adopted.handle.id == "0123abcd4567"
    assert adopted.connection == adopted.handle.connection()
    assert service.kernels.owners.own(orphan) is None
    event = service.sessions.events(session.id)[-1]
    assert (event.kind, event.detail) == ("kernel", "ir 0123abcd4567 adopted by another server")
    adopted.ownership.release()


def test_a_kernel_is_adopted_by_one_client(service: Mooring, orphan: KernelRecord) -> None:
    """The second one is told where the kernel is."""
    adopted = service.kernels.adopt(orphan)
    with pytest.raises(KernelError, match="0123abcd4567 belongs to another server"):
        service.kernels.adopt(orphan)
    adopted.ownership.release()


def test_a_kernel_without_a_folder_is_not_adopted(service: Mooring, orphan: KernelRecord) -> None:
    """It has ended; its record stays unlocked."""
    service.kernels.handle(orphan.session, "0123abcd4567").forget()
    with pytest.raises(KernelError, match="0123abcd4567 has ended"):
        service.kernels.adopt(orphan)
    owned = service.kernels.owners.own(orphan)
    assert owned is not None
    owned.release()


def test_an_adoption_that_fails_leaves_the_kernel_to_others(
    service: Mooring, orphan: KernelRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is free again, and no connection to its host is open."""

    def fail(*_: object) -> Session:
        raise OSError("no space left on device")

    closed: list[str] = []
    monkeypatch.setattr(kernels, "from_record", fail)
    monkeypatch.setattr(KernelHandle, "close", lambda handle: closed.append(handle.id))
    with pytest.raises(OSError, match="no space left"):
        service.kernels.adopt(orphan)
    assert closed == ["0123abcd4567"]
    owned = service.kernels.owners.own(orphan)
    assert owned is not None
    owned.release()


@pytest.mark.parametrize("refuses", [False, True])
def test_nothing_is_left_of_a_kernel_that_was_shut_down(
    service: Mooring,
    session: Session,
    orphan: KernelRecord,
    monkeypatch: pytest.MonkeyPatch,
    refuses: bool,
) -> None:
    """Neither its folder nor its record, also where its session cannot be removed now."""

    def end(ctx: Context, session: Session, kernel_id: str, died: str) -> None:
        ended.append((session.id, kernel_id))
        if refuses:
            raise EngineError("no engine")

    ended: list[tuple[str, str]] = []
    monkeypatch.setattr(kernels, "end_with_kernel", end)
    adopted = service.kernels.adopt(orphan)
    try:
        service.kernels.shut_down(session, adopted.handle, adopted.ownership)
    except EngineError:
        assert refuses
    assert ended == [(session.id, "0123abcd4567")]
    assert service.kernels.owners.find(KERNEL) is None
    assert not session_folder(session.id).guest.exists("k/0123abcd4567")


@pytest.mark.parametrize(
    ("own", "others", "kept"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_only_a_session_that_would_have_gone_is_kept(
    service: Mooring,
    declare: Any,
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
    others: bool,
    kept: bool,
) -> None:
    """The end of a kernel in a shared session, or beside another kernel, is no reason to say so."""
    monkeypatch.setattr(kernels, "others_live", lambda *_: others)
    options = LaunchOptions(name="own", ends_with_kernels=own)
    session = service.sessions.create(declare(command="x"), options).session
    handle: Any = Handle(looks=0)
    service.kernels.shut_down(session, handle, keep="Jupyter culled its kernel")
    events = [(one.kind, one.detail) for one in service.sessions.events(session.id)]
    assert (("kept", "Jupyter culled its kernel") in events) is kept
    assert service.sessions.get("own").state is State.RUNNING


@pytest.fixture
def own_orphan(service: Mooring, declare: Any, session: Session) -> KernelRecord:
    """A kernel that was never started, in a session that was created for it."""
    options = LaunchOptions(name="own", ends_with_kernels=True)
    own = service.sessions.create(declare(command="x"), options).session
    record = KernelRecord(own.id, KERNEL, "mk", root="/p", cwd="/p")
    owned = service.kernels.owners.own(record)
    assert owned is not None
    owned.release()
    return record


def test_a_kernel_that_was_never_started_goes_with_its_session(
    service: Mooring, own_orphan: KernelRecord
) -> None:
    """Its client was killed in between: nobody asks for it again."""
    assert service.kernels.discard_unstarted(own_orphan)
    assert not service.records.exists(own_orphan.session)
    assert service.kernels.owners.find(KERNEL) is None


def test_a_shared_session_only_loses_the_record_of_a_kernel_that_was_never_started(
    service: Mooring, orphan: KernelRecord
) -> None:
    """The session was not created for the kernel, and stays."""
    assert service.kernels.discard_unstarted(orphan)
    assert service.sessions.get("lab").state is State.RUNNING
    assert service.kernels.owners.find(KERNEL) is None


def test_a_kernel_that_was_started_is_not_discarded(
    service: Mooring, own_orphan: KernelRecord
) -> None:
    """Also not one that has died since: the next client's restarter starts it again."""
    session_folder(own_orphan.session).guest.make_folder("k/0123abcd4567")
    session_folder(own_orphan.session).guest.write("k/0123abcd4567/pid", "12")
    assert not service.kernels.discard_unstarted(own_orphan)
    assert service.kernels.owners.find(KERNEL) == own_orphan
    assert service.sessions.get("own").state is State.RUNNING


@pytest.mark.parametrize("use", ["exec", "terminal", "hold"])
def test_a_session_in_use_is_not_discarded_with_its_kernel(
    service: Mooring, own_orphan: KernelRecord, use: str
) -> None:
    """Somebody has opened a shell in it, or holds it: it is removed by its clock later."""
    folder = session_folder(own_orphan.session)
    folder.guest.write("status", f"sampled {folder.guest.uptime():.0f}\nactive {use}\n")
    if use == "hold":
        folder.clock.hold(60)
    assert service.kernels.discard_unstarted(own_orphan)
    assert service.sessions.get("own").state is State.RUNNING
