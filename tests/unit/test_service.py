"""Sessions on the fake engine: what is made, what is left when it fails, and what is said."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import filelock
import pytest

from mooring.engines.base import PullProgress
from mooring.engines.fake import FakeEngine, FakeProcess
from mooring.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    ImageError,
    MooringError,
    SessionExists,
    SessionNotFound,
    SessionStateError,
    SessionTimeout,
    SpecError,
)
from mooring.gpus.claims import Claim
from mooring.gpus.inventory import Gpu
from mooring.guest import shared
from mooring.host import paths
from mooring.labels import LABEL_INSTALLATION, LABEL_SPEC
from mooring.service import Mooring, creating
from mooring.sessions import recreate
from mooring.sessions.history import History
from mooring.sessions.model import State
from mooring.sessions.record import Folder, uptime

IMAGE = "python:3.12"


def left(engine: FakeEngine, state: Path) -> list[str]:
    """What no session may leave that does not exist: containers, folders, locks that are held."""
    sessions = state / "sessions"
    folders = [str(path) for path in sessions.iterdir()] if sessions.exists() else []
    held = [
        os.readlink(f"/proc/self/fd/{number}")
        for number in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{number}")
    ]
    held = [path for path in held if path.startswith(str(state)) and "history" not in path]
    return [*engine.containers, *folders, *held]


# Creating


def test_create_runs_what_was_declared(service: Mooring, engine: FakeEngine, declare) -> None:
    """A created session runs, and its container is what the spec asked for."""
    spec = declare(
        "name: train\ncommand: sleep 9\nmemory: 1GiB\nshm: 64MiB\ncpus: 1.5\nenv: {A: '1'}\n"
    )
    session = service.create(spec).session
    assert (session.name, session.state) == ("train", State.RUNNING)
    (container,) = engine.containers.values()
    config = container.config
    assert config.argv[-3:] == ("/bin/sh", "-c", "sleep 9")
    assert (config.memory_bytes, config.shm_bytes, config.cpus) == (1 << 30, 64 << 20, 1.5)
    assert config.env["A"] == "1"
    assert config.env["MOORING_SESSION"] == "train"
    assert config.user == f"{os.getuid()}:{os.getgid()}"
    assert json.loads(config.labels[LABEL_SPEC])["memory"] == 1 << 30
    assert [session.id for session in service.sessions()] == [session.id]


def test_a_session_without_a_name_is_given_one(service: Mooring, declare) -> None:
    """Sessions that nobody names have names of their own."""
    names = {service.create(declare(command="x")).session.name for _ in range(3)}
    assert len(names) == 3


def test_a_name_is_taken(service: Mooring, engine: FakeEngine, state: Path, declare) -> None:
    """A second session of one name is refused, and leaves the first alone."""
    first = service.create(declare(command="x"), name="train").session
    before = left(engine, state)
    with pytest.raises(SessionExists, match="train exists already") as caught:
        service.create(declare(command="x"), name="train")
    assert "mooring rm train" in caught.value.hint
    assert left(engine, state) == before
    assert service.get("train").id == first.id


def test_a_name_is_free_again(service: Mooring, declare) -> None:
    """The name of a removed session can be used again."""
    service.remove(service.create(declare(command="x"), name="train").session, force=True)
    assert service.create(declare(command="x"), name="train").session.name == "train"


def test_secrets_stand_in_files_alone(service: Mooring, engine: FakeEngine, declare) -> None:
    """A secret's value is in its 0400 file, and in no label, argument, environment or record."""
    sentinel = "s3ntinel-value"
    session = service.create(
        declare(command="x", secrets={"TOKEN": {"env": "MINE"}}), environ={"MINE": sentinel}
    ).session
    folder = Folder.open(session.id)
    path = folder.secrets / "TOKEN"
    assert path.read_text() == sentinel
    assert path.stat().st_mode & 0o777 == 0o400
    assert sentinel not in repr(engine.containers)
    assert sentinel not in json.dumps(folder.record())
    assert sentinel not in repr(service.events(session.id)) + repr(service.past(session.id))


METHODS = "info image_id import_image create attach start attach_network list".split()


@pytest.mark.parametrize("done", [False, True], ids=["refused", "answer-lost"])
@pytest.mark.parametrize(
    "error", [EngineUnavailable("down"), EngineError("refused")], ids=["unavailable", "refused"]
)
@pytest.mark.parametrize("method", METHODS)
def test_a_creation_that_fails_leaves_nothing(
    service: Mooring,
    engine: FakeEngine,
    state: Path,
    declare,
    method: str,
    error: EngineError,
    done: bool,
) -> None:
    """Whichever call of the engine fails, before or after its work, nothing is left."""
    engine.fail(method, error, done=done)
    spec = declare(kernel="python3")  # started without a network, so that every call is made
    if method == "list":  # asked for after the creation only: the session is complete
        with pytest.raises(EngineError):
            service.create(spec, attach=True)
        (session,) = service.sessions()
        assert session.state is State.RUNNING
        return
    with pytest.raises(EngineError) as caught:
        service.create(spec, attach=True)
    assert caught.value is error
    assert method in engine.calls
    assert left(engine, state) == []
    assert service.sessions() == []


def test_every_method_that_creates_is_failed(service: Mooring, engine: FakeEngine, declare) -> None:
    """The list of calls that are made to fail is the list of calls that a creation makes."""
    service.create(declare(kernel="python3"), attach=True)
    assert set(engine.calls) == set(METHODS)


@pytest.mark.parametrize("method", ["image_id", "create", "start", "wait", "logs", "remove"])
def test_a_look_into_an_image_that_fails_leaves_nothing(
    service: Mooring, engine: FakeEngine, state: Path, declare, method: str
) -> None:
    """A probe of an image whose engine goes away leaves no session and is removed afterwards."""
    engine.images[IMAGE] = "sha256:1"
    engine.fail(method, EngineUnavailable("down"))
    with pytest.raises(EngineUnavailable):
        service.create(declare(command="x", image=IMAGE))
    assert list((state / "sessions").glob("*")) == []
    probes = list(engine.containers.values())
    assert len(probes) == (1 if method == "remove" else 0)


def test_an_engine_that_is_gone_for_the_clean_up_too(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """What a failed creation cannot take back at once, the next look does."""
    engine.fail("create", EngineUnavailable("down"), done=True)
    mend = engine.fail("list", EngineUnavailable("down"), times=-1)
    with pytest.raises(EngineUnavailable):
        service.create(declare(command="x"))
    assert len(engine.containers) == 1
    mend()
    assert service.sessions() == []
    assert left(engine, state) == []


def test_a_full_disk_leaves_nothing(
    service: Mooring, engine: FakeEngine, state: Path, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file cannot be written, the error says so and nothing of the session is left."""
    spec = declare(command="x", secrets={"TOKEN": {"env": "MINE"}})
    _ = service.sessions()  # what an installation writes once is there
    room = 0  # files that can still be written

    def full(real: Callable[..., int]) -> Callable[..., int]:
        def write(path: Path, *arguments: object, **options: object) -> int:
            nonlocal room
            if str(path).startswith(str(state)):
                room -= 1
                if room < 0:
                    raise OSError(28, "No space left on device", str(path))
            return real(path, *arguments, **options)

        return write

    monkeypatch.setattr(Path, "write_text", full(Path.write_text))
    monkeypatch.setattr(Path, "touch", full(Path.touch))
    failures = 0
    while True:
        room = failures
        with contextlib.suppress(MooringError):
            service.create(spec, environ={"MINE": "x"})
            break
        assert room < 0
        assert left(engine, state) == []
        failures += 1
    assert room == 0, "the disk was full and nobody noticed"
    assert failures >= 10


def test_control_c_takes_everything_back(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """An interrupted creation leaves nothing."""

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        service.create(declare(command="x"), progress=interrupt)
    assert left(engine, state) == []


def test_an_image_without_ipykernel_cannot_have_kernels(
    engine: FakeEngine, state: Path, service: Mooring, declare
) -> None:
    """A kernel in an image that cannot run one is an ImageError that says how to add it."""
    engine.images[IMAGE] = "sha256:1"
    with pytest.raises(ImageError, match="cannot run a Jupyter kernel") as caught:
        service.create(declare(kernel="python3", image=IMAGE))
    assert "pip install ipykernel" in caught.value.hint
    assert left(engine, state) == []


def test_an_image_with_ipykernel_has_kernels(state: Path, declare) -> None:
    """In an image that has one, kernels are started by the interpreter that was found there."""
    engine = FakeEngine(images=[IMAGE], python="/opt/bin/python3")
    session = Mooring(engine).create(declare(kernel="python3", image=IMAGE)).session
    assert (Folder.open(session.id).run / "kernelhost").read_text() == "/opt/bin/python3\n"


def test_a_pull_is_told(engine: FakeEngine, service: Mooring, declare) -> None:
    """While an image is pulled, the caller hears how far it is."""
    engine.registry.add(IMAGE)
    heard: list[str] = []
    service.create(declare(command="x", image=IMAGE), progress=heard.append)
    assert f"pulling {IMAGE}: 50% of 100 bytes" in heard
    assert heard[-1] == "starting the container"


class StalledEngine(FakeEngine):
    """Its registry says one thing and then nothing, until the test ends."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def pull(self, reference: str) -> Iterator[PullProgress]:
        yield PullProgress("downloading", 41, 100)
        self.over.wait(30)
        raise ImageError("the registry hung up")


@pytest.mark.parametrize("end", ["stop", "remove"])
def test_a_session_that_waits_is_seen_and_can_be_cancelled(state: Path, declare, end: str) -> None:
    """While an image is pulled others see for how much; ending it then leaves nothing."""
    engine = StalledEngine()
    creator, other = Mooring(engine), Mooring(engine, actor="other")
    failed: list[BaseException] = []

    def create() -> None:
        try:
            creator.create(declare(command="x", image=IMAGE), name="big", opened_by="/p/a.ipynb")
        except Cancelled as error:
            failed.append(error)

    creating = threading.Thread(target=create)
    creating.start()
    deadline = time.monotonic() + 10
    while not (found := other.sessions()) or "41%" not in found[0].waiting:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (found[0].state, found[0].opened_by) == (State.STARTING, "/p/a.ipynb")
    assert found[0].to_dict()["waiting"] == f"pulling {IMAGE}: 41% of 100 bytes"
    with pytest.raises(SessionStateError, match="big is starting"):
        other.remove(found[0])
    other.stop(found[0]) if end == "stop" else other.remove(found[0], force=True)
    creating.join(10)
    engine.over.set()
    assert "creation of session big was cancelled" in str(failed[0])
    assert left(engine, state) == []
    assert other.sessions() == []


def test_a_creator_can_give_up_by_itself(engine: FakeEngine, state: Path, declare) -> None:
    """What asks ``cancelled`` ends the creation at its next step, and nothing is left."""
    with pytest.raises(Cancelled):
        Mooring(engine).create(declare(command="x"), cancelled=lambda: True)
    assert left(engine, state) == []


# The life of one


def test_stop_and_start_keep_the_session(service: Mooring, engine: FakeEngine, declare) -> None:
    """A stopped session keeps its container, and starting it is the same one again."""
    session = service.create(declare(command="x"), name="train").session
    service.stop(session)
    stopped = service.get("train")
    assert (stopped.state, stopped.reason) == (State.STOPPED, f"by {service.actor}")
    again = service.start("train")
    assert (again.id, again.container) == (session.id, session.container)
    assert again.state is State.RUNNING
    assert again.end is None
    kinds = [event.kind for event in service.events(session.id)]
    assert kinds == ["requested", "started", "stopped", "started"]


def test_stop_start_and_remove_are_idempotent(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """Each can be said twice."""
    session = service.create(declare(command="x"), name="train").session
    assert service.start("train").id == session.id
    service.stop(session)
    service.stop(service.get("train"))
    stopped = service.get("train")
    service.remove(stopped, force=True)
    service.remove(stopped, force=True)
    assert left(engine, state) == []


def test_stop_works_when_the_session_does_not_listen(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A session in which nothing can be started any more is stopped from outside."""
    session = service.create(declare(command="x"), name="train").session
    engine.fail("exec_detached", EngineError("no more processes"))
    service.stop(session)
    assert service.get("train").state is State.STOPPED


def test_history_outlives_the_session(service: Mooring, declare) -> None:
    """A removed session is remembered, with who removed it, and the error for its name says so."""
    session = service.create(declare(command="x"), name="train").session
    service.remove(session, force=True)
    past = service.past("train")
    assert past is not None
    assert past.reason == "removed by tester"
    with pytest.raises(SessionNotFound, match="is gone"):
        service.get("train")


def test_a_start_that_fails_is_told(service: Mooring, engine: FakeEngine, declare) -> None:
    """A session that cannot be started again is an EngineError and is still stopped."""
    service.stop(service.create(declare(command="x"), name="train").session)
    engine.fail("start", EngineError("no"))
    with pytest.raises(EngineError):
        service.start("train")
    assert service.get("train").state is State.STOPPED


def test_a_lost_session_is_not_started(service: Mooring, engine: FakeEngine, declare) -> None:
    """A session whose container is gone cannot be started; the error says how to clean up."""
    session = service.create(declare(command="x"), name="train").session
    engine.containers.clear()
    with pytest.raises(SessionStateError) as caught:
        service.start("train")
    assert "train" in caught.value.message
    service.remove(service.get("train"), force=True)
    assert service.sessions() == []
    assert service.past(session.id) is not None


@pytest.mark.parametrize("act", ["hold", "update"])
def test_only_a_running_session_has_a_clock(service: Mooring, declare, act: str) -> None:
    """Holding or changing a stopped session is refused, with what to do first."""
    service.stop(service.create(declare(command="x"), name="train").session)
    session = service.get("train")
    with pytest.raises(SessionStateError) as caught:
        service.hold(session, 60.0) if act == "hold" else service.update(session, idle_timeout_s=60)
    assert caught.value.hint == "start it first: mooring start train"


def test_hold_and_update_reach_the_clock(service: Mooring, declare) -> None:
    """What is held or changed stands in the files that the clock reads, and in the history."""
    session = service.create(declare(command="x"), name="train").session
    service.hold(session, 7200)
    service.update(session, idle_timeout_s=600, max_duration_s=0)
    folder = Folder.open(session.id)
    assert float((folder.run / "hold").read_text()) > 7000
    assert folder.settings()["idle_timeout_s"] == "600"
    assert folder.settings()["max_duration_s"] == "0"
    details = [(event.kind, event.detail) for event in service.events(session.id)]
    assert details[2:] == [("held", "for 2h"), ("updated", "idle_timeout 10m, max_duration never")]


def test_a_maximum_that_has_passed_is_refused(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A maximum duration below what has run already is refused, not obeyed at once."""
    session = service.create(declare(command="x"), name="train").session
    now = uptime()
    status = f"sampled {now}\nstarted {now - 120}\nlast_signal {now} start\ncomplete\n"
    shared.write(Folder.open(session.id).run, "status", status)
    with pytest.raises(SpecError, match="has run for 2m"):
        service.update(session, max_duration_s=60.0)
    assert Folder.open(session.id).settings()["max_duration_s"] == "0.0"


@pytest.mark.parametrize(
    ("said", "held", "refused"),
    [("", 0, True), ("kernel", 0, False), ("cpu", 0, False), ("", 60, False)],
)
def test_an_idle_timeout_that_has_passed_is_refused(
    service: Mooring, engine: FakeEngine, declare, said: str, held: float, refused: bool
) -> None:
    """One below what a session has been idle is refused; one that is at work has not been."""
    session = service.create(declare(command="x"), name="train").session
    now = uptime()
    status = (
        f"sampled {now}\nstarted {now - 300}\nlast_signal {now - 120} terminal\n"
        f"active {said}\nunknown\ncomplete\n"
    )
    folder = Folder.open(session.id)
    shared.write(folder.run, "status", status)
    if held:
        service.hold(session, held)
    before = folder.settings()["idle_timeout_s"]
    with pytest.raises(SpecError, match="has been idle for 2m") if refused else nullcontext():
        service.update(session, idle_timeout_s=60.0)
    assert folder.settings()["idle_timeout_s"] == (before if refused else "60")
    service.update(session, idle_timeout_s=180.0)
    service.update(session, idle_timeout_s=0.0)


def test_when_the_maximum_ends_it(service: Mooring, engine: FakeEngine, declare) -> None:
    """What is left of the maximum as it stands now, by the clock's own time; None without one."""
    session = service.create(declare(command="x"), name="train").session
    now = uptime()
    status = f"sampled {now}\nstarted {now - 120}\nlast_signal {now} start\ncomplete\n"
    shared.write(Folder.open(session.id).run, "status", status)
    assert service.ends_in_s(session) is None
    service.update(session, max_duration_s=180.0)
    assert service.ends_in_s(session) == pytest.approx(60, abs=20)


@pytest.mark.parametrize("act", ["start", "hold", "update"])
def test_a_full_disk_is_an_error_of_ours(
    service: Mooring, declare, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """What cannot be written is a MooringError on every way, not a traceback."""
    session = service.create(declare(command="x"), name="train").session
    if act == "start":
        service.stop(session)

    def full(*arguments: object, **options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(shared, "write", full)
    acts: dict[str, Callable[[], object]] = {
        "start": lambda: service.start("train"),
        "hold": lambda: service.hold(session, 60.0),
        "update": lambda: service.update(session, idle_timeout_s=60.0),
    }
    with pytest.raises(MooringError, match="No space left"):
        acts[act]()


# Looking


def test_names_ids_and_patterns(service: Mooring, declare) -> None:
    """A session is found by its name, four characters of its id, or a shell pattern; each once."""
    one, two = (service.create(declare(command="x"), name=f"run-{n}").session for n in (1, 2))
    assert service.get(one.id[:8]).id == one.id
    assert service.get(two.id).id == two.id
    assert [s.name for s in service.find(["run-2", "run-*"])] == ["run-2", "run-1"]
    for nobody in ("nobody", one.id[:3], "nobod*"):
        with pytest.raises(SessionNotFound, match="no session named") as caught:
            service.get(nobody)
        assert "run-1" in caught.value.hint


def test_running_asks_the_engine_once(service: Mooring, engine: FakeEngine, declare) -> None:
    """Finding a running session by its name is one request."""
    service.create(declare(command="x"), name="train")
    engine.calls.clear()
    assert service.running("train").name == "train"
    assert engine.calls == ["list"]


def test_running_says_what_it_is_instead(service: Mooring, declare) -> None:
    """A session that does not run is an error with its state, its reason and the way on."""
    service.stop(service.create(declare(command="x"), name="train").session)
    with pytest.raises(SessionStateError, match=r"train is stopped \(by ") as caught:
        service.running("train")
    assert caught.value.hint == "start it again: mooring start train"


def test_a_list_is_one_request(service: Mooring, engine: FakeEngine, declare) -> None:
    """However many sessions there are, looking is one request to the engine."""
    for _ in range(5):
        service.create(declare(command="x"))
    engine.calls.clear()
    assert len(service.sessions()) == 5
    assert engine.calls == ["list"]


# In it


def test_exec_counts_as_activity(engine: FakeEngine, service: Mooring, declare) -> None:
    """A command without a terminal runs under the clock's eye; one with a terminal has its size."""
    seen: list[FakeProcess] = []
    engine._execute = lambda process: seen.append(process) or 0  # type: ignore[func-returns-value]
    session = service.create(declare(command="x")).session
    for tty in (False, True):
        stream = service.exec(session, ["true"], tty=tty, stdin=False, size=(40, 100))
        stream.socket().recv(1)
        stream.close()
    plain, terminal = sorted(seen, key=lambda process: process.tty)
    assert plain.argv[2] == "exec"
    assert plain.argv[-2:] == ("--", "true")
    assert terminal.argv[2:] == ("shell", "40", "100", "--", "true")
    assert terminal.size == (40, 100)


def test_a_session_of_kernels_has_nothing_to_attach_to(service: Mooring, declare) -> None:
    """The main process of a kernel's session is its clock: there is no stream to it."""
    with_kernel = service.create(declare(kernel="python3")).session
    assert service.attach(with_kernel) is None
    with_command = service.create(declare(command="x")).session
    stream = service.attach(with_command)
    assert stream is not None
    stream.close()


def test_sessions_are_shared_by_name(service: Mooring, project: Path, declare) -> None:
    """Asking for a session by name makes it once, finds it afterwards, and starts a stopped one."""
    spec = declare(command="x")
    first = service.find_or_create(spec, "shared", cwd=project)
    assert service.find_or_create(spec, "shared", cwd=project).id == first.id
    service.stop(first)
    again = service.find_or_create(spec, "shared", cwd=project)
    assert (again.id, again.state) == (first.id, State.RUNNING)


def patience(seconds: float) -> Callable[[], bool]:
    """Gives up in the end, so that a test that fails does end."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def test_a_wait_for_who_makes_a_shared_session_ends_in_time(
    service: Mooring, project: Path, declare
) -> None:
    """Another that makes the session holds its lock, for GPUs as long as it takes."""
    lock = paths.state_dir() / f"shared-{hashlib.sha256(b'lab').hexdigest()[:8]}.lock"
    with (
        filelock.FileLock(lock),
        pytest.raises(SessionTimeout, match=r"lab within 0\.1 s"),
    ):
        service.find_or_create(
            declare(command="x"), "lab", cwd=project, max_wait_s=0.1, cancelled=patience(5)
        )
    made = service.find_or_create(declare(command="x"), "lab", cwd=project, max_wait_s=0)
    assert made.state is State.RUNNING


def test_what_the_lock_has_taken_is_not_waited_for_again(
    service: Mooring, project: Path, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for a shared session's lock, and that for GPUs, are one wait."""
    given: list[object] = []

    @contextlib.contextmanager
    def slowly(*arguments: object) -> Iterator[None]:
        time.sleep(0.1)
        yield

    def create(*arguments: object, **options: object) -> None:
        given.append(options["max_wait_s"])
        raise SessionTimeout("no turn")

    monkeypatch.setattr(creating, "_patiently_locked", slowly)
    monkeypatch.setattr(service, "create", create)
    for longest in (10.0, 0.05, None):
        with pytest.raises(SessionTimeout):
            service.find_or_create(declare(command="x"), "lab", cwd=project, max_wait_s=longest)
    assert given == [pytest.approx(9.9, abs=0.1), 0.0, None]


def test_the_installation_is_on_every_container(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """Every container, a probe's too, carries this installation's id."""
    engine.images[IMAGE] = "sha256:1"
    labels: list[str] = []
    real = engine.create
    engine.create = lambda config: (  # type: ignore[method-assign]
        labels.append(config.labels.get(LABEL_INSTALLATION, "")) or real(config)
    )
    service.create(declare(command="x", image=IMAGE))
    assert labels == [(state / "installation").read_text().strip()] * 2


def test_history_is_no_condition(service: Mooring, state: Path, declare) -> None:
    """With a history that cannot be written, everything else goes on."""
    (state / "history.db").mkdir()
    assert isinstance(service.history, History)
    session = service.create(declare(command="x"), name="train").session
    service.stop(session)
    service.remove(service.get("train"), force=True)
    assert service.sessions() == []


def test_facts_of_an_image_are_the_images(service: Mooring, engine: FakeEngine, declare) -> None:
    """An image that is known by its id is asked for by the name that was given this time."""
    engine.images = {"one:1": "sha256:1", "two:2": "sha256:1"}
    service.create(declare(command="x", image="one:1"))
    del engine.images["one:1"]
    session = service.create(declare(command="x", image="two:2")).session
    assert engine.containers[session.container].config.image == "two:2"


def test_stop_waits_for_a_start_that_has_its_gpus(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """A session that is about to run again is not stopped by that: it is when stop returns."""
    session = service.create(declare(name="s", command="sleep 9")).session
    service.stop(session)
    stopped = service.get("s")
    folder = Folder.open(session.id)
    assert folder.take()  # as a start does while it has GPUs and its container does not run yet
    stopping = threading.Thread(target=service.stop, args=(stopped,))
    stopping.start()
    stopping.join(0.3)
    assert stopping.is_alive()
    engine.start(session.container)
    folder.release()
    stopping.join(30)
    assert service.get("s").state is State.STOPPED


def test_remove_waits_for_a_start_that_has_its_gpus(
    service: Mooring, engine: FakeEngine, state: Path, declare
) -> None:
    """One that is about to run again, perhaps in another container, is refused; or it is made to
    give up first, and nothing of it is left."""
    session = service.create(declare(name="s", command="sleep 9")).session
    service.stop(session)
    stopped = service.get("s")
    folder = Folder.open(session.id)
    assert folder.take()  # as a start does
    with pytest.raises(SessionStateError, match="s is being started"):
        service.remove(stopped)
    removing = threading.Thread(target=service.remove, args=(stopped,), kwargs={"force": True})
    removing.start()
    removing.join(0.2)
    assert removing.is_alive()
    assert folder.cancelled()
    recreate.move(engine, stopped, ())
    folder.release()
    removing.join(30)
    assert left(engine, state) == []


def test_who_looks_during_a_start_does_not_see_an_end(
    service: Mooring, engine: FakeEngine, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is started again ends once more when it does, and not while it starts."""
    session = service.create(declare(name="s", command="sleep 9")).session
    service.stop(session)
    start = engine.start

    def look_then_start(container: str) -> None:
        service.sessions()
        start(container)

    monkeypatch.setattr(engine, "start", look_then_start)
    service.start("s")
    assert [event.kind for event in service.events(session.id)].count("ended") == 0
    engine.stop(session.container, grace_s=1.0)  # by none of mooring's doors
    service.sessions()
    assert [event.kind for event in service.events(session.id)].count("ended") == 1


def test_a_driver_that_tells_only_numbers_costs_no_session_its_gpu(
    service: Mooring, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Degraded is one whose device the driver does not list; without it nobody can tell."""
    session = service.create(declare(command="x"), name="s").session
    session = dataclasses.replace(session, claims=(Claim("GPU-a"),))
    there = Gpu("GPU-b", 0, "nvidia", "A100", 2**35, "550")
    for gpu, degraded in ((there, "gpu lost"), (dataclasses.replace(there, driver=""), "")):
        monkeypatch.setattr("mooring.gpus.inventory.inventory", lambda gpu=gpu: (gpu,))
        (seen,) = service._with_gpus([session])
        assert seen.degraded == degraded
