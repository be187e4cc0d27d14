"""What was left to wait starts by itself: with every terminal closed, in order, and none lost."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines import open_engine
from mooring.engines.base import Engine
from mooring.engines.labels import LABEL_INSTALLATION
from mooring.gpus.tickets import TicketQueue, open_ticket_queue
from mooring.host.paths import Installation
from mooring.sessions.model import State
from tests.fakes.gpus import HOOK, FakeGpus
from tests.faults.conftest import PrivateEngine
from tests.gpus.observer import Holding, Observer
from tests.support.invariants import leaks
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.gpus,
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]

MANY = 20
LIMIT_S = 120.0

# Twenty commands at one terminal, one after the other, as a person or a loop types them
SCRIPT = """
for number in $(seq -f %02g {count}); do
    "$0" -m mooring_cli create --enqueue-only --name "q$number" --gpus 1 -- sleep {sleep} ||
        echo "FAILED q$number"
done
echo "ALL ARE QUEUED"
"""


def enqueue_and_close_the_terminal(count: int = MANY, sleep: float = 0.2) -> None:
    """Run them on a terminal of their own, and close it: what is still there gets SIGHUP."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", SCRIPT.format(count=count, sleep=sleep), sys.executable])
    said = b""
    try:
        while b"ALL ARE QUEUED" not in said:
            said += os.read(terminal, 4096)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert b"FAILED" not in said, said.decode()


@contextlib.contextmanager
def taken(gpus: FakeGpus, *, left: int) -> Iterator[None]:
    """So few GPUs are there, and until the end a process outside of mooring computes on each."""
    while len(gpus.devices) > left:
        gpus.lose(-1)
    for uuid in gpus.uuids:
        gpus.run(uuid, os.getpid())
    yield
    for uuid in gpus.uuids:
        gpus.end(uuid, os.getpid())


def containers(engine: Engine) -> dict[str, str]:
    """The state of each session's container, by the engine alone: no mooring command is needed."""
    rows = engine.list({LABEL_INSTALLATION: Installation.here().id})
    return {row.labels["mooring.name"]: row.state for row in rows}


def until_all_have_run(engine: Engine, count: int = MANY) -> None:
    def all_have() -> bool:
        found = containers(engine)
        return len(found) == count and set(found.values()) == {"exited"}

    eventually(all_have, LIMIT_S)


def names(holdings: list[Holding]) -> list[str]:
    return [one.name.split("-")[1] for one in holdings]


def in_order(count: int = MANY) -> list[str]:
    return [f"q{number:02}" for number in range(1, count + 1)]


def dispatcher() -> int:
    """The process that starts what waits; there is one of this test's."""
    mine = f"MOORING_STATE_DIR={os.environ['MOORING_STATE_DIR']}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            if b"mooring.launch.dispatcher" not in command or command.startswith(b"/bin/sh"):
                continue
            if mine in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    assert len(found) == 1, f"dispatchers: {found}"
    return found[0]


def no_dispatcher_is_left(engine: Engine) -> None:
    """Once nothing waits it ends, and leaves no ticket and no lock of its own."""
    ticket_queue = open_ticket_queue(engine.address)  # type: ignore[attr-defined]
    eventually(lambda: list(ticket_queue.folder.glob("[td]-*")) == [], 20)


def test_twenty_run_in_order_with_their_terminal_closed(
    mooring: Mooring, gpu_engine: Engine, nvml: FakeGpus, project: Path
) -> None:
    """One GPU, twenty sessions, no mooring command after the last: all run, one by one."""
    with Observer(nvml.uuids) as observer:
        with taken(nvml, left=1):
            enqueue_and_close_the_terminal()
            assert containers(gpu_engine) == {}
        until_all_have_run(gpu_engine)
    assert observer.faults + observer.doubled == []
    assert names(observer.holdings) == in_order()
    for before, after in zip(observer.holdings, observer.holdings[1:], strict=False):
        assert before.ended is not None
        assert before.ended <= after.started
    assert [session.state for session in mooring.sessions.list()] == [State.STOPPED] * MANY
    no_dispatcher_is_left(gpu_engine)


def test_a_pending_one_that_is_stopped_never_runs(
    mooring: Mooring, gpu_engine: Engine, nvml: FakeGpus, project: Path, cli: Callable[..., object]
) -> None:
    """stop cancels one in the middle of the queue; those behind it move up, and all of them run."""
    with Observer(nvml.uuids) as observer:
        with taken(nvml, left=1):
            enqueue_and_close_the_terminal(8)
            cli("stop", "q05", check=0)
        until_all_have_run(gpu_engine, 7)
    assert names(observer.holdings) == [name for name in in_order(8) if name != "q05"]
    assert "q05" not in [session.name for session in mooring.sessions.list()]
    no_dispatcher_is_left(gpu_engine)


def test_a_killed_dispatcher_loses_none(
    mooring: Mooring, gpu_engine: Engine, nvml: FakeGpus, project: Path, cli: Callable[..., object]
) -> None:
    """kill -9 of the process that starts them: with the next mooring command it goes on."""
    with Observer(nvml.uuids) as observer:
        with taken(nvml, left=2):
            enqueue_and_close_the_terminal()
        for enough in (4, 9, 14):
            eventually(lambda enough=enough: len(containers(gpu_engine)) >= enough, LIMIT_S)
            os.kill(dispatcher(), signal.SIGKILL)
            time.sleep(0.3)  # whoever looks at once must not take its tickets for dead
            cli("ps", check=0)
        until_all_have_run(gpu_engine)
    assert observer.faults + observer.doubled == []
    # a container whose gate was still closed is made anew: nothing has run in it
    started = list(dict.fromkeys(names(observer.holdings)))
    assert sorted(started) == in_order()
    for session in mooring.sessions.list():
        kinds = [event.kind for event in mooring.sessions.events(session.id)]
        assert kinds.count("started") == 1, f"{session.name} ran twice: {kinds}"
    for place, name in enumerate(started):  # two run at a time, and may change places
        assert abs(in_order().index(name) - place) <= 2, started
    no_dispatcher_is_left(gpu_engine)


@pytest.fixture
def restartable(
    nvml: FakeGpus, state: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PrivateEngine]:
    """A dockerd of the test's own, which takes requests for GPUs too."""
    if os.getuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("an engine of the tests' own needs root and dockerd")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{HOOK}")
    folder = Path(tempfile.mkdtemp(prefix="md-", dir="/var/tmp"))
    engine = PrivateEngine(folder)
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    engine.start()
    yield engine
    queue = open_ticket_queue(engine.address).folder
    engine.stop()
    for line in Path("/proc/mounts").read_text().splitlines():
        if str(folder) in line:
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(queue, ignore_errors=True)


def test_a_restarted_engine_loses_none(
    restartable: PrivateEngine, nvml: FakeGpus, state: Path, project: Path
) -> None:
    """dockerd killed, and stopped, while they wait: when it is back all run, and each once."""
    with taken(nvml, left=4):
        enqueue_and_close_the_terminal(sleep=1.0)
    engine = open_engine()
    eventually(lambda: len(containers(engine)) >= 5, LIMIT_S)
    restartable.kill()
    time.sleep(3)  # several looks of the queue's find nobody
    restartable.start()
    eventually(lambda: len(containers(engine)) >= 12, LIMIT_S)
    restartable.stop()
    time.sleep(3)
    restartable.start()
    until_all_have_run(engine)
    assert sorted(containers(engine)) == in_order()
    no_dispatcher_is_left(engine)
    service = Mooring(engine, actor="tester")
    for session in service.sessions.list():
        started = [event.kind for event in service.sessions.events(session.id)].count("started")
        assert started == 1, f"{session.name} was started {started} times"
        service.sessions.remove(session, force=True)
    assert leaks(engine, state, Installation.here().id) == []
    engine.close()


def test_the_queue_of_this_test_is_its_own(gpu_engine: Engine, nvml: FakeGpus) -> None:
    """What these tests stand on: their own queue, which is empty, and GPUs that nobody has."""
    ticket_queue: TicketQueue = open_ticket_queue(gpu_engine.address)  # type: ignore[attr-defined]
    assert ticket_queue.tickets() == []
    assert len(set(nvml.uuids)) == 8
