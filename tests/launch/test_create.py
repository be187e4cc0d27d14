"""Creating sessions: what is made, what is left when it fails, and what is reported."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine, LaunchOptions, Wait
from mooring.client import Mooring
from mooring.engines.base import PullProgress
from mooring.engines.labels import LABEL_INSTALLATION, LABEL_SPEC
from mooring.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    ImageError,
    KernelError,
    MooringError,
    SessionExists,
    SessionStateError,
)
from mooring.sessions.model import Session, State
from tests.support.sessions import leftovers, session_folder
from tests.support.waiting import eventually

IMAGE = "python:3.12"


def test_create_runs_what_was_declared(service: Mooring, engine: FakeEngine, declare) -> None:
    """A created session runs, and its container is what the spec asked for."""
    spec = declare(
        "name: train\ncommand: sleep 9\nmemory: 1GiB\nshm: 64MiB\ncpus: 1.5\nenv: {A: '1'}\n"
    )
    session = service.sessions.create(spec).session
    assert (session.name, session.state) == ("train", State.RUNNING)
    (container,) = engine.containers.values()
    config = container.config
    assert config.argv[-3:] == ("/bin/sh", "-c", "sleep 9")
    assert (config.memory_bytes, config.shm_bytes, config.cpus) == (1 << 30, 64 << 20, 1.5)
    assert config.env["A"] == "1"
    assert config.env["MOORING_SESSION"] == "train"
    assert config.user == f"{os.getuid()}:{os.getgid()}"
    assert json.loads(config.labels[LABEL_SPEC])["memory"] == 1 << 30
    assert [session.id for session in service.sessions.list()] == [session.id]


def test_a_session_without_a_name_is_given_one(service: Mooring, declare) -> None:
    """Sessions that nobody names have names of their own."""
    names = {service.sessions.create(declare(command="x")).session.name for _ in range(3)}
    assert len(names) == 3


def test_a_name_is_taken(service: Mooring, engine: FakeEngine, state: Path, declare) -> None:
    """A second session of one name is refused, and leaves the first alone."""
    first = service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
    before = leftovers(engine, state)
    with pytest.raises(SessionExists, match="train exists already") as caught:
        service.sessions.create(declare(command="x"), LaunchOptions(name="train"))
    assert "mooring describe train" in caught.value.hint
    assert caught.value.hint.endswith("mooring rm -f train")  # it works if train runs, too
    assert leftovers(engine, state) == before
    assert service.sessions.get("train").id == first.id


def test_a_name_is_free_again(service: Mooring, declare) -> None:
    """The name of a removed session can be used again."""
    service.sessions.remove(
        service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session,
        force=True,
    )
    assert (
        service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session.name
        == "train"
    )


def test_secrets_stand_in_files_alone(
    service: Mooring, engine: FakeEngine, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret's value is in its 0400 file, and in no label, argument, environment or record."""
    sentinel = "s3ntinel-value"
    monkeypatch.setenv("MINE", sentinel)
    session = service.sessions.create(
        declare(command="x", secrets={"TOKEN": {"env": "MINE"}})
    ).session
    folder = session_folder(session.id)
    path = folder.secrets / "TOKEN"
    assert path.read_text() == sentinel
    assert path.stat().st_mode & 0o777 == 0o400
    assert sentinel not in repr(engine.containers)
    assert sentinel not in (folder.path / "record.json").read_text()
    assert sentinel not in repr(service.sessions.events(session.id)) + repr(
        service.sessions.past(session.id)
    )


METHODS = "ping image_id import_image create attach start mounted attach_network list".split()


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
            service.sessions.create(spec, LaunchOptions(attach=True))
        (session,) = service.sessions.list()
        assert session.state is State.RUNNING
        return
    with pytest.raises(EngineError) as caught:
        service.sessions.create(spec, LaunchOptions(attach=True))
    assert caught.value is error
    assert method in engine.calls
    assert leftovers(engine, state) == []
    assert service.sessions.list() == []


def test_every_method_that_creates_is_failed(service: Mooring, engine: FakeEngine, declare) -> None:
    """The list of calls that are made to fail is the list of calls that a creation makes."""
    made = service.sessions.create(declare(kernel="python3"), LaunchOptions(attach=True))
    assert made.stream is not None
    made.stream.close()
    assert set(engine.calls) == {*METHODS, "remove_older_images"}


def test_an_older_image_that_stays_fails_nothing(
    service: Mooring, engine: FakeEngine, declare
) -> None:
    """Tidying up is not what the session needs."""
    engine.fail("remove_older_images", EngineError("refused"))
    service.sessions.create(declare(command="x"))
    assert "remove_older_images" in engine.calls


@pytest.mark.parametrize("method", ["image_id", "create", "start", "wait", "logs", "remove"])
def test_a_look_into_an_image_that_fails_leaves_nothing(
    service: Mooring, engine: FakeEngine, state: Path, declare, method: str
) -> None:
    """A probe of an image whose engine goes away leaves no session and is removed afterwards."""
    engine.images[IMAGE] = "sha256:1"
    engine.fail(method, EngineUnavailable("down"))
    with pytest.raises(EngineUnavailable):
        service.sessions.create(declare(command="x", image=IMAGE))
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
        service.sessions.create(declare(command="x"))
    assert len(engine.containers) == 1
    mend()
    assert service.sessions.list() == []
    assert leftovers(engine, state) == []


def test_a_full_disk_leaves_nothing(
    service: Mooring, engine: FakeEngine, state: Path, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file cannot be written, the error says so and nothing of the session is left."""
    spec = declare(command="x", secrets={"TOKEN": {"env": "MINE"}})
    _ = service.sessions.list()  # what an installation writes once is there
    room = 0  # files that can still be written

    def take_room(path: str) -> None:
        nonlocal room
        if path.startswith(str(state)):
            room -= 1
            if room < 0:
                raise OSError(28, "No space left on device", path)

    real_open, real_write_text = os.open, Path.write_text

    def open_(path: Any, flags: int, *arguments: Any, dir_fd: int | None = None) -> int:
        above = f"/proc/self/fd/{dir_fd}" if dir_fd is not None else os.curdir
        full_path = os.path.join(os.path.realpath(above), os.fspath(path))
        if flags & os.O_CREAT and not os.path.lexists(full_path):
            take_room(full_path)
        return real_open(path, flags, *arguments, dir_fd=dir_fd)

    def write_text(path: Path, *arguments: Any, **options: Any) -> int:
        take_room(str(path))
        return real_write_text(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(Path, "write_text", write_text)
    monkeypatch.setenv("MINE", "x")
    failures = 0
    while True:
        room = failures
        with contextlib.suppress(MooringError):
            service.sessions.create(spec)
            break
        assert room < 0
        assert leftovers(engine, state) == []
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
        service.sessions.create(declare(command="x"), wait=Wait(progress=interrupt))
    assert leftovers(engine, state) == []


def test_an_image_without_ipykernel_cannot_have_kernels(
    engine: FakeEngine, state: Path, service: Mooring, declare
) -> None:
    """A kernel in an image that cannot run one is an ImageError that says how to add it."""
    engine.images[IMAGE] = "sha256:1"
    with pytest.raises(ImageError, match="cannot run a Jupyter kernel") as caught:
        service.sessions.create(declare(kernel="python3", image=IMAGE))
    assert "pip install ipykernel" in caught.value.hint
    assert leftovers(engine, state) == []


def test_an_image_with_ipykernel_has_kernels(state: Path, declare) -> None:
    """In an image that has one, kernels are started by the interpreter that was found there."""
    engine = FakeEngine(images=[IMAGE], python="/opt/bin/python3")
    session = Mooring(engine).sessions.create(declare(kernel="python3", image=IMAGE)).session
    assert (
        session_folder(session.id).path / "programs" / "kernelhost"
    ).read_text() == "/opt/bin/python3\n"


@pytest.mark.parametrize("preload", [[], ["torch", "numpy.linalg"]])
def test_modules_to_preload_are_told_to_the_kernel_host(
    state: Path, declare, preload: list[str]
) -> None:
    """What the spec preloads is written beside the kernel host's program, a line each."""
    engine = FakeEngine(images=[IMAGE], python="/opt/bin/python3")
    spec = declare(kernel="python3", image=IMAGE, preload=preload)
    session = Mooring(engine).sessions.create(spec).session
    folder = session_folder(session.id)
    assert folder.programs.text("preload").split() == preload
    assert session.declared.get("preload", []) == preload


def test_a_pull_is_told(engine: FakeEngine, service: Mooring, declare) -> None:
    """While an image is pulled, the caller hears how far it is."""
    engine.registry.add(IMAGE)
    heard: list[str] = []
    service.sessions.create(declare(command="x", image=IMAGE), wait=Wait(progress=heard.append))
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
            creator.sessions.create(
                declare(command="x", image=IMAGE),
                LaunchOptions(name="big", notebook="/p/a.ipynb"),
            )
        except Cancelled as error:
            failed.append(error)

    creating = threading.Thread(target=create)
    creating.start()
    found: list[Session] = []

    def is_pulling() -> bool:
        found[:] = other.sessions.list()
        return bool(found) and "41%" in found[0].waiting

    eventually(is_pulling, timeout=10)
    assert (found[0].state, found[0].notebook) == (State.STARTING, "/p/a.ipynb")
    assert found[0].to_dict()["waiting"] == f"pulling {IMAGE}: 41% of 100 bytes"
    with pytest.raises(SessionStateError, match="big is starting"):
        other.sessions.remove(found[0])
    other.sessions.stop(found[0]) if end == "stop" else other.sessions.remove(found[0], force=True)
    creating.join(10)
    engine.over.set()
    assert "creation of session big was cancelled" in str(failed[0])
    assert leftovers(engine, state) == []
    assert other.sessions.list() == []


def test_a_creator_can_give_up_by_itself(engine: FakeEngine, state: Path, declare) -> None:
    """What asks ``cancelled`` ends the creation at its next step, and nothing is left."""
    with pytest.raises(Cancelled):
        Mooring(engine).sessions.create(declare(command="x"), wait=Wait(cancelled=lambda: True))
    assert leftovers(engine, state) == []


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
    service.sessions.create(declare(command="x", image=IMAGE))
    assert set(labels) == {(state / "installation").read_text().strip()}
    assert len(labels) >= 2


def test_facts_of_an_image_are_the_images(service: Mooring, engine: FakeEngine, declare) -> None:
    """An image that is known by its id is asked for by the name that was given this time."""
    engine.images = {"one:1": "sha256:1", "two:2": "sha256:1"}
    service.sessions.create(declare(command="x", image="one:1"))
    del engine.images["one:1"]
    session = service.sessions.create(declare(command="x", image="two:2")).session
    assert engine.containers[session.container].config.image == "two:2"


def test_a_kernel_session_is_refused_before_it_is_made(
    engine: FakeEngine, declare, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With such a path, a session for kernels is not begun."""
    monkeypatch.setenv("MOORING_STATE_DIR", str(state / ("x" * 60)))
    service = Mooring(engine, actor="tester")
    with pytest.raises(KernelError, match="too long"):
        service.sessions.create(declare(kernel="python3"))
    assert engine.containers == {}
    assert service.sessions.create(declare(command="x")).session.name


class WithoutLateNetworks(FakeEngine):
    """As Podman: a container has its network from the start, or never."""

    attach_network = None  # type: ignore[assignment]


def test_a_kernels_session_needs_no_late_network(declare, state: Path) -> None:
    """Where an engine gives no network to a container that runs, it is there from the start."""
    engine = WithoutLateNetworks(python="/usr/bin/python3")
    service = Mooring(engine, actor="tester")
    session = service.sessions.create(declare(kernel="python3")).session
    assert session.state is State.RUNNING
    assert engine.containers[session.container].config.network


@pytest.mark.parametrize(
    ("spec", "mib"), [({"memory": "8GiB"}, 4096), ({"memory": "8GiB", "shm": "1GiB"}, 1024)]
)
def test_shared_memory_is_half_of_the_memory(
    service: Mooring, engine: FakeEngine, declare, spec: dict[str, str], mib: int
) -> None:
    """/dev/shm has room for a data loader (pytorch#5040, kubeflow#2522), unless a spec says how
    much."""
    service.sessions.create(declare(command="x", **spec))
    (container,) = engine.containers.values()
    assert container.config.shm_bytes == mib << 20


def test_shared_memory_without_a_limit(service: Mooring, engine: FakeEngine, declare) -> None:
    """Without a limit of the memory it is half of the machine's, as of any tmpfs."""
    service.sessions.create(declare(command="x"))
    (container,) = engine.containers.values()
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert container.config.shm_bytes == machine // 2
