"""What the clock makes of GPUs, in real containers, under each shell that may be /bin/sh."""

from __future__ import annotations

import re
import time

import pytest

from tests.support.docker import docker
from tests.support.pace import in_time
from tests.support.yard import (
    BACKSTOP,
    IDLE,
    Session,
    Yard,
    assert_idle_after,
    measured,
    play,
    uptime,
)

pytestmark = [pytest.mark.engine, pytest.mark.timed]

# Reads the use from the run directory, and counts how often it is asked
SMI = """#!/bin/sh
[ "$*" = '--query-gpu=utilization.gpu --format=csv,noheader,nounits' ] || exit 64
echo asked >>/run/mooring/asked
cat /run/mooring/use
"""


def with_gpus(yard: Yard, use: str, *command: str, smi: str = SMI, **options: object) -> Session:
    """A session that holds two GPUs, with what the driver's tool prints of them."""
    tools = yard.root / f"tools{time.monotonic_ns()}"
    tools.mkdir()
    if smi:
        (tools / "nvidia-smi").write_text(smi)
        (tools / "nvidia-smi").chmod(0o755)
    flags = ("-v", f"{tools}:/tools:ro", "-e", "PATH=/tools:/usr/bin:/bin")

    def prepare(session: Session) -> None:
        session.write("use", use)
        session.write("node", "")

    settings = IDLE | {"gpus": 2, "gpu_node": "/run/mooring/node"} | options
    return yard.sampled(*command, flags=flags, prepare=prepare, **settings)


def gpu_in_use(yard: Yard) -> Session:
    session = with_gpus(yard, "0\n5\n", **BACKSTOP)
    time.sleep(6)
    session.notes["status"] = session.status()
    session.write("use", "4\n4\n")
    session.notes["last"] = uptime()
    return session


def gpu_held_only(yard: Yard) -> Session:
    return with_gpus(yard, "0\n4\n", **BACKSTOP)


def gpu_without_a_tool(yard: Yard) -> Session:
    return with_gpus(yard, "", smi="", **BACKSTOP)


def gpu_split(yard: Yard) -> Session:
    return with_gpus(yard, "[N/A]\n[N/A]\n", **BACKSTOP)


def gpu_failing(yard: Yard) -> Session:
    session = with_gpus(yard, "", smi="#!/bin/sh\nexit 9\n", max_duration_s=12)
    session.notes["unknown"] = session.sampled_after(uptime() + 2)["unknown"]
    return session


def gpu_hanging(yard: Yard) -> Session:
    script = "#!/bin/sh\necho asked >>/run/mooring/asked\nexec sleep 1000\n"
    session = with_gpus(yard, "", smi=script, max_duration_s=16)
    status = session.sampled_after(uptime() + 4)
    session.notes["unknown"], session.notes["status"] = status["unknown"], status
    top = docker("top", session.id, "-o", "pid,args").stdout
    session.notes["hung"] = top.count("sleep 1000")
    return session


def gpu_lost(yard: Yard) -> Session:
    session = with_gpus(yard, "0\n0\n", max_duration_s=16)
    session.notes["before"] = session.sampled_after(uptime() + 1)["gpu"]
    (session.run_dir / "node").unlink()
    status = session.sampled_after(uptime() + 2)
    session.notes["unknown"], session.notes["status"] = status["unknown"], status
    return session


def gpu_asked_seldom(yard: Yard) -> Session:
    """Somebody works in it anyway: what its GPUs do decides nothing."""
    session = with_gpus(yard, "0\n0\n", **BACKSTOP)
    session.write("k/one/busy", "busy 1\n")
    time.sleep(8)
    session.notes["asked"] = (session.run_dir / "asked").read_text().count("asked")
    docker("kill", session.id)
    return session


def cost_with_gpus(yard: Yard) -> Session:
    """As ``cost``; its idle timeout is such that the driver's tool is run for every sample."""
    session = with_gpus(yard, "0\n0\n", "sleep", "100", idle_timeout_s=30, sample_s=0.5)
    return measured(session)


SCENES = (
    gpu_in_use, gpu_held_only, gpu_without_a_tool, gpu_split, gpu_failing, gpu_hanging, gpu_lost,
    gpu_asked_seldom, cost_with_gpus,
)  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(yard: Yard) -> dict[str, Session]:
    """The session of each scene, by the scene's name; all have ended."""
    return play(yard, SCENES)


def test_a_gpu_in_use_keeps_a_session(outcomes: dict[str, Session]) -> None:
    """5 % of one of its GPUs is activity, and lets go of it one timeout later."""
    session = outcomes["gpu_in_use"]
    status = session.notes["status"]
    assert isinstance(status, dict)
    assert (status["active"], status["gpu"], status["gpu_percent"]) == ("gpu", "ok", "5")
    assert float(status["seen"].rpartition("gpu=")[2]) > float(status["started"]) + 3
    assert session.age > 6
    assert_idle_after(session, session.notes["last"])
    assert session.end["detail"].startswith("no kernel, terminal, exec, hold, gpu for 3s; cpu ")
    assert re.search(r"hold=never gpu=[1-5] cpu=", session.end["signals"])


def test_a_gpu_that_is_merely_held_is_no_activity(outcomes: dict[str, Session]) -> None:
    """Under 5 % of each, a session is idle."""
    session = outcomes["gpu_held_only"]
    assert session.end["reason"] == "idle"
    assert session.age < 5.5
    assert session.status()["gpu_percent"] == "4"


@pytest.mark.parametrize("scene", ["gpu_without_a_tool", "gpu_split"])
def test_gpus_that_nobody_tells_of_do_not_pause_the_clock(
    outcomes: dict[str, Session], scene: str
) -> None:
    """An image without the driver's tool, or a split GPU, has no such signal; the end says so."""
    session = outcomes[scene]
    assert session.end["reason"] == "idle"
    assert session.age < 5.5
    assert session.status()["gpu"] == "absent"
    assert session.end["detail"].endswith("; the use of its GPUs is unavailable")
    assert "gpu=absent cpu=" in session.end["signals"]


@pytest.mark.parametrize("scene", ["gpu_failing", "gpu_hanging", "gpu_lost"])
def test_a_failing_probe_is_not_idle(outcomes: dict[str, Session], scene: str) -> None:
    """Unknown pauses the idle clock, but not the maximum duration."""
    assert outcomes[scene].notes["unknown"] == "gpu"
    assert outcomes[scene].end["reason"] == "max_duration"


def test_a_driver_that_hangs_is_asked_once(outcomes: dict[str, Session]) -> None:
    """The clock goes on beside it, and what hangs does not pile up."""
    session = outcomes["gpu_hanging"]
    status = session.notes["status"]
    assert isinstance(status, dict)
    assert status["gpu"] == "failed"
    assert session.notes["hung"] in (0, 1)
    assert 16 <= session.age < 17.5


def test_a_lost_gpu_is_told(outcomes: dict[str, Session]) -> None:
    """Devices that could be opened at the start and cannot be any more are lost."""
    session = outcomes["gpu_lost"]
    status = session.notes["status"]
    assert isinstance(status, dict)
    assert (session.notes["before"], status["gpu"]) == ("ok", "lost")


def test_gpus_are_asked_seldom_while_somebody_works(outcomes: dict[str, Session]) -> None:
    """Asking costs: while something else is active, every half a minute is enough."""
    assert outcomes["gpu_asked_seldom"].notes["asked"] == 1


def test_asking_for_gpus_costs_little(
    outcomes: dict[str, Session], yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a tool that costs next to nothing, asking at each sample stays under 0.4 %."""
    each_ms = float(str(outcomes["cost_with_gpus"].notes["ms"]))
    with capsys.disabled():
        print(f"\n{yard.shell}, cost_with_gpus: {each_ms:.1f} ms a sample")
    assert in_time(each_ms / 5000 * 100, 0.4)
