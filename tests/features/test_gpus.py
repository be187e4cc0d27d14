"""What holds GPUs and what waits for them, on an engine with eight fake ones."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.sessions.model import State
from tests.conftest import Background, Cli
from tests.fakes.gpus import FakeGpus
from tests.gpus.conftest import nvml, real_engine, refusal_of_requests
from tests.support.kernel_clients import install, jupyter, kernel, run
from tests.support.waiting import eventually

__all__ = ["jupyter", "nvml", "real_engine", "refusal_of_requests"]
pytestmark = pytest.mark.engine

SEEN = ["--", "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"]


@pytest.fixture
def full(cli: Cli, nvml: FakeGpus, project: Path) -> None:
    """All eight are held by ``first``, for eight hours at most."""
    cli("create", "-d", "--name", "first", "--gpus", "8", "--max-duration", "8h", check=0)


def pending(mooring: Mooring, name: str) -> bool:
    return any(one.name == name and one.state is State.PENDING for one in mooring.sessions.list())


def test_session_create_with_gpus(
    cli: Cli, nvml: FakeGpus, mooring: Mooring, project: Path
) -> None:
    """--gpus 1 claims one that nobody else has; more than there are is refused at once."""
    cli("create", "-d", "--name", "one", "--gpus", "7", check=0)
    (claimed,) = cli("create", "--rm", "--gpus", "1", *SEEN, check=0).stdout.split()
    assert claimed in nvml.uuids
    assert claimed not in {claim.gpu for claim in mooring.sessions.get("one").claims}
    assert cli("create", "--rm", *SEEN, check=0).stdout.strip() in ("", "void")
    done = cli("create", "--gpus", "9", check=1)
    assert "this machine has 8 x NVIDIA A100" in done.stderr
    cli("create", "--gpus", "many", check=2)


def test_session_stop_gives_gpus_back(
    cli: Cli, mooring: Mooring, full: None, background: Background
) -> None:
    """stop releases what a session holds, and cancels one that waits for it."""
    cli("create", "--enqueue-only", "--name", "waits", "--gpus", "1", check=0)
    assert pending(mooring, "waits")
    assert cli("stop", "waits", check=0).stdout == "waits\n"
    assert [one.name for one in mooring.sessions.list()] == ["first"]
    cli("stop", "first", check=0)
    cli("create", "--rm", "--gpus", "8", "--max-wait", "20s", *SEEN, check=0)
    cli("start", "first", check=0)
    assert len(mooring.sessions.get("first").claims) == 8


def test_describe_run_tells_claims(cli: Cli, nvml: FakeGpus, project: Path) -> None:
    """Each GPU of a session with its model, and what it waits for while it has none."""
    cli("create", "-d", "--name", "one", "--gpus", "2", check=0)
    said = cli("describe", "one", check=0).stdout
    assert said.count("NVIDIA A100-SXM4-40GB, 40 GiB, GPU-") == 2
    (document,) = [json.loads(cli("describe", "one", "--json", check=0).stdout)]
    assert [gpu["share"] for gpu in document["gpu_list"]] == [1, 1]
    cli("create", "--enqueue-only", "--name", "waits", "--gpus", "8", check=0)
    said = cli("describe", "waits", check=0).stdout
    assert "in the queue for 8 GPUs" in said


def test_util_shows_gpus_and_sessions(
    cli: Cli, nvml: FakeGpus, mooring: Mooring, project: Path
) -> None:
    """gpus has a line for each with its use and its holder; top the sessions and what they use."""
    cli("create", "-d", "--name", "one", "--gpus", "1", check=0)
    (claim,) = mooring.sessions.get("one").claims
    nvml.change(claim.gpu, use=97)
    nvml.run(next(uuid for uuid in nvml.uuids if uuid != claim.gpu), 1)
    said = cli("gpus", check=0).stdout
    assert "8 x NVIDIA A100-SXM4-40GB (40 GiB), driver 550.54.15; free: 6" in said
    (held,) = [line for line in said.splitlines() if " one " in line]
    assert held.split()[1:3] == ["held", "97%"]
    assert sum(" free " in line for line in said.splitlines()) == 6
    (outside,) = [line for line in said.splitlines() if " outside " in line]
    assert "process 1 " in outside
    states = {gpu["state"] for gpu in json.loads(cli("gpus", "--json", check=0).stdout)}
    assert states == {"held", "outside", "free"}
    assert "one" in cli("top", check=0).stdout
    cli("gpus", "one", check=2)


def test_image_run_with_shares(
    cli: Cli, nvml: FakeGpus, mooring: Mooring, project: Path, full: None
) -> None:
    """-r cuda.shares asks for GPUs; --max-wait that runs out in the queue is exit code 3."""
    flags = ["-r", "cuda.shares=2", "--exec", "echo $NVIDIA_VISIBLE_DEVICES"]
    done = cli("run", "--rm", *flags, "--max-wait", "1s", "host", check=3)
    assert "in the queue for 2 GPUs" in done.stderr
    assert [one.name for one in mooring.sessions.list()] == ["first"]
    done = cli("run", "--enqueue-only", "-T", "--name", "later", *flags, "host", check=0)
    assert done.stdout == "later\n"
    assert pending(mooring, "later")
    cli("stop", "first", check=0)
    eventually(lambda: mooring.sessions.get("later").state is State.STOPPED, 40)
    assert len(cli("logs", "later", check=0).stdout.split(",")) == 2


def test_events_of_one_that_waited(cli: Cli, mooring: Mooring, full: None) -> None:
    """Between its request and its start stand the queue, and what it was given."""
    cli("create", "--enqueue-only", "--name", "waits", "--gpus", "1", check=0)
    cli("stop", "first", check=0)
    eventually(lambda: mooring.sessions.get("waits").state is State.RUNNING, 40)
    cli("stop", "waits", check=0)
    said = cli("events", "waits", check=0).stdout
    kinds = [line.split()[2] for line in said.splitlines()]
    assert kinds[0] == "requested"
    assert {"queued", "granted", "started"} <= set(kinds)
    assert kinds.index("queued") < kinds.index("granted") < kinds.index("started")
    assert kinds[-1] == "stopped"


def test_waiting_in_the_queue_is_told(
    cli: Cli, mooring: Mooring, full: None, background: Background
) -> None:
    """Its place, who holds the GPUs and until when; here, and in ps; then it runs."""
    with background("create", "--rm", "--gpus", "2", "--name", "next", *SEEN) as waiting:
        assert waiting.stderr
        told = waiting.stderr.readline()
        assert told.startswith("1st in the queue for 2 GPUs; held by first (")
        assert " until " in told or " by " in told
        shown = cli("ps", "--filter", "name=next", check=0).stdout
        assert "pending" in shown
        assert "1st in the queue" in cli("why", "next", check=0).stdout
        cli("stop", "first", check=0)
        said, _ = waiting.communicate(timeout=40)
        assert waiting.returncode == 0
    assert len(said.split(",")) == 2


def test_ctrl_c_in_the_queue(
    cli: Cli, mooring: Mooring, full: None, background: Background
) -> None:
    """Its place is given up, and nothing is left: who comes next gets the GPUs."""
    with background("create", "--gpus", "1", "--name", "next") as waiting:
        eventually(lambda: pending(mooring, "next"))
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == 130
    assert [one.name for one in mooring.sessions.list()] == ["first"]
    cli("stop", "first", check=0)
    cli("create", "--rm", "--gpus", "8", "--max-wait", "20s", "--name", "next", *SEEN, check=0)


def test_kernel_waits_for_gpus(cli: Cli, mooring: Mooring, full: None, jupyter: Path) -> None:
    """A notebook's kernel waits its turn as long as it takes, and ps tells for what."""
    name = install(flags={"gpus": 1})

    def told() -> str:
        return "".join(one.waiting for one in mooring.sessions.list() if one.state is State.PENDING)

    def watch() -> None:
        try:
            eventually(lambda: "1st in the queue for 1 GPU; held by first" in told())
            assert "in the queue for 1 GPU" in cli("ps", check=0).stdout
        finally:  # or the kernel waits for ever
            cli("stop", "first", check=0)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        with kernel(name) as (_, client):
            watching.result()
            seen = run(client, "import os; print(os.environ['NVIDIA_VISIBLE_DEVICES'])").text
    assert seen.startswith("GPU-")
