"""A stopped session and GPUs: it gives them back, and gets as many again."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine, LaunchOptions, Wait
from mooring.client import Mooring
from mooring.engines.labels import container_name
from mooring.errors import EngineError, EngineUnavailable, SessionTimeout
from mooring.gpus.claims import Claim
from mooring.gpus.devices import GUEST_PIPES, Devices
from mooring.sessions.context import Context
from mooring.sessions.model import Session, State
from mooring.sessions.recreate import recreate, snapshot_image
from mooring.spec.resolve import ResolvedSpec, resolve
from tests.conftest import Cli
from tests.fakes.gpus import FakeGpus
from tests.support.sessions import session_folder

NOTE = 'echo "$MOORING_GPU_UUIDS" >>/tmp/note; exec sleep 1000'


def spec(command: str = NOTE, gpus: int = 1) -> ResolvedSpec:
    return resolve(flags={"gpus": gpus, "command": command}, environ={})


def test_the_same_devices_if_they_are_free(
    mooring: Mooring, nvml: FakeGpus, project: Path, cli: Cli
) -> None:
    """What was stopped holds nothing, and gets its own devices back while nobody has them."""
    session = mooring.sessions.create(spec(), LaunchOptions(name="a", tty=True)).session
    assert session.claims == (Claim(nvml.uuids[0]),)
    mooring.sessions.stop(session)
    assert {use.state for use in mooring.gpus.list()} == {"free"}
    again = mooring.sessions.start(mooring.sessions.get("a"))
    assert (again.claims, again.container) == (session.claims, session.container)


def test_others_when_those_are_taken(
    mooring: Mooring, nvml: FakeGpus, project: Path, cli: Cli
) -> None:
    """Another's devices are not waited for: it goes on with free ones, and with all its files."""
    session = mooring.sessions.create(spec(), LaunchOptions(name="a", tty=True)).session
    mooring.sessions.stop(session)
    mooring.sessions.create(spec(), LaunchOptions(name="b", tty=True))
    told: list[str] = []
    again = mooring.sessions.start(mooring.sessions.get("a"), wait=Wait(progress=told.append))
    assert again.state is State.RUNNING
    assert again.claims == (Claim(nvml.uuids[1]),)
    assert told == ["going on with other GPUs"]
    said = cli("exec", "a", "--", "sh", "-c", "cat /tmp/note; echo $NVIDIA_VISIBLE_DEVICES")
    assert said.stdout.split() == [nvml.uuids[0], nvml.uuids[1], nvml.uuids[1]]
    asked = [request.ids for request in mooring.engine.device_requests(again.container)]
    assert asked == [(nvml.uuids[1],)]
    assert mooring.engine.inspect(session.container) is None
    cli("rm", "-f", "a", check=0)
    assert mooring.engine.image_id(snapshot_image(session.id)) is None


def test_waiting_to_start(mooring: Mooring, nvml: FakeGpus, project: Path) -> None:
    """With none free it waits, no longer than it was told to, and stays as it was."""
    session = mooring.sessions.create(spec(gpus=8), LaunchOptions(name="a", tty=True)).session
    mooring.sessions.stop(session)
    mooring.sessions.create(spec(gpus=1), LaunchOptions(name="b", tty=True))
    with pytest.raises(SessionTimeout):
        mooring.sessions.start(mooring.sessions.get("a"), wait=Wait(max_wait_s=0.5))
    found = mooring.sessions.get("a")
    assert (found.state, found.container) == (State.STOPPED, session.container)


@pytest.mark.parametrize("step", ["recreate", "remove", "rename"])
def test_a_move_that_is_cut_off(
    step: str, nvml: FakeGpus, state: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a move ends, there is one session after the next look, and nothing beside it."""
    engine = FakeEngine()
    mooring = Mooring(engine, actor="tester")
    session = mooring.sessions.create(spec(), LaunchOptions(name="a")).session
    mooring.sessions.stop(session)
    ctx = Context(engine, "tester")
    engine.fail(step, EngineError("cut off"), done=step == "recreate")
    with pytest.raises(EngineError):
        recreate(ctx, session, [Claim(nvml.uuids[3])])
    monkeypatch.setattr(
        "mooring.sessions.recreate.alive", lambda mark: False
    )  # who moved it has died
    assert [one.name for one in mooring.sessions.list()] == ["a"]
    (left,) = [one for one in engine.containers.values() if "mooring.id" in one.config.labels]
    moved = step != "recreate"
    assert mooring.sessions.get("a").claims == (Claim(nvml.uuids[3 if moved else 0]),)
    assert mooring.sessions.start(mooring.sessions.get("a")).state is State.RUNNING
    mooring.sessions.stop(mooring.sessions.get("a"))
    recreate(ctx, mooring.sessions.get("a"), [Claim(nvml.uuids[5])])  # nothing is in its way
    mooring.sessions.remove(mooring.sessions.get("a"), force=True)
    assert not session_folder(session.id).exists
    assert snapshot_image(session.id) not in engine.images
    assert left.config.name.startswith(container_name("a", session.id))


@pytest.fixture
def mps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], socket.socket]:
    """Starts what answers as an MPS daemon does, until it is closed."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))

    def start() -> socket.socket:
        (tmp_path / "control").unlink(missing_ok=True)
        daemon = socket.socket(socket.AF_UNIX)
        daemon.bind(str(tmp_path / "control"))
        daemon.listen()
        return daemon

    return start


def test_what_limits_a_share_goes_with_its_daemon_and_comes_back(
    mps: Callable[[], socket.socket], nvml: FakeGpus, state: Path, project: Path
) -> None:
    """A session that is started again is held to its share by what is there now, and its record
    says so; while that has not changed its container stays the same."""
    engine = FakeEngine()
    mooring = Mooring(engine, actor="tester")
    flags = {"gpus": 0.5, "command": NOTE, "env": {"CUDA_MPS_PIPE_DIRECTORY": "/mine"}}

    def limits() -> tuple[str, str, bool, str]:
        session = mooring.sessions.get("a")
        config = engine.containers[session.container].config
        (statement,) = session_folder(session.id).record().state.gpu_sharing.values()
        return (
            config.env.get("CUDA_MPS_PIPE_DIRECTORY", ""),
            config.env.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", ""),
            GUEST_PIPES in [bind.target for bind in config.binds],
            statement.rpartition(" ")[2] if "by agreement" not in statement else "nothing",
        )

    def again() -> str:
        mooring.sessions.stop(mooring.sessions.get("a"))
        stopped = mooring.sessions.get("a")
        return mooring.sessions.start(stopped, wait=Wait(progress=told.append)).container

    told: list[str] = []
    by_mps, by_nothing = (GUEST_PIPES, "50", True, "MPS"), ("/mine", "", False, "nothing")
    with mps():
        first = mooring.sessions.create(
            resolve(flags=flags, environ={}), LaunchOptions(name="a")
        ).session.container
        assert limits() == by_mps
        assert again() == first
    second = again()
    assert second != first
    assert limits() == by_nothing
    assert again() == second
    assert told == ["going on with other limits of its GPUs"]
    with mps():
        third = again()
        assert limits() == by_mps
        mooring.sessions.stop(mooring.sessions.get("a"))
        recreate(
            Context(engine, "tester"), mooring.sessions.get("a"), [Claim(nvml.uuids[3], 0.5)]
        )  # to another GPU, too
        assert limits() == by_mps
    assert len({first, second, third}) == 3
    mooring.sessions.remove(mooring.sessions.get("a"), force=True)
    assert not [name for name in engine.images if name.startswith("mooring/moved")]


def stopped() -> tuple[FakeEngine, Session]:
    """A session that can go on with other GPUs, and its engine."""
    engine = FakeEngine()
    mooring = Mooring(engine, actor="tester")
    session = mooring.sessions.create(spec(), LaunchOptions(name="a")).session
    mooring.sessions.stop(session)
    return engine, session


def test_the_groups_of_other_devices_come_with_them(
    nvml: FakeGpus, state: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AMD's devices are files of a group: who goes on with others is in it."""
    engine, session = stopped()
    before = engine.containers[session.container].config.groups
    given = Devices(nodes=("/dev/kfd",), groups=(4242,))
    monkeypatch.setattr("mooring.sessions.recreate.devices_of", lambda claims: given)
    config = engine.containers[
        recreate(Context(engine, "tester"), session, [Claim("amd-1")])
    ].config
    assert (config.groups, config.devices) == (tuple(sorted((*before, 4242))), ("/dev/kfd",))


def test_a_move_that_was_cut_off_leaves_no_second_picture(
    nvml: FakeGpus, state: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try would fill the disk with all of the session's files: the last one's goes first."""
    engine, session = stopped()
    engine.fail("recreate", EngineUnavailable("did not answer"))
    with pytest.raises(EngineUnavailable):
        recreate(Context(engine, "tester"), session, [Claim(nvml.uuids[3])])
    engine.images[snapshot_image(session.id)] = "sha256:1"  # the engine has kept them all the same
    seen: list[bool] = []
    real = engine.recreate

    def look(*arguments: Any, **options: Any) -> str:
        seen.append(snapshot_image(session.id) in engine.images)
        return real(*arguments, **options)

    monkeypatch.setattr(engine, "recreate", look)
    recreate(Context(engine, "tester"), session, [Claim(nvml.uuids[3])])
    assert seen == [False]
