"""How the clock ends a session, in real containers, under each shell that may be /bin/sh."""

from __future__ import annotations

import re
import time

import pytest

from tests.support.docker import docker
from tests.support.yard import (
    CLOCK,
    Yard,
    uptime,
    wait_for,
)

pytestmark = [pytest.mark.engine, pytest.mark.timed]


def test_a_command_cannot_lose_its_clock_by_name(yard: Yard) -> None:
    """`pkill sh` and signals to all leave the clock of a command's session alone."""
    script = "trap '' TERM HUP INT QUIT TSTP USR1; while :; do sleep 1; done"
    session = yard.sampled("/bin/sh", "-c", script, sample_s=0.5, grace_s=1)
    clock = session.status()["clock"]
    for signal in ("TERM", "HUP", "INT", "QUIT", "TSTP", "USR1"):
        session.exec("/bin/sh", "-c", f"pkill -{signal} sh; kill -{signal} {clock}")
    assert session.sampled_after(uptime() + 1)["clock"] == clock


def test_end_stops_an_interactive_shell(yard: Yard) -> None:
    """`end` ends a shell that ignores TERM, well within its grace, and says who asked."""
    shell = "/bin/sh" if yard.shell == "busybox" else "/usr/bin/bash"
    session = yard.sampled(shell, flags=("-i", "-t"), sample_s=1, grace_s=20)
    session.write("k/one/busy", "idle 3")
    session.sampled_after(uptime())
    began = uptime()
    session.exec("/bin/sh", CLOCK, "end", "stopped", "by ada,\nwho left")
    session.wait(20)
    assert uptime() - began < 5
    assert session.end["reason"] == "stopped"
    assert session.end["detail"] == "by ada, who left"
    assert re.match(r"kernel=\d terminal=never", session.end["signals"])


@pytest.mark.parametrize("how", ["end", "docker stop"])
def test_a_session_without_a_command_stops_gracefully(yard: Yard, how: str) -> None:
    """Processes get TERM and the time to use it; the session then leaves with 0."""
    session = yard.sampled(sample_s=60, grace_s=20)
    script = (
        "trap 'sleep 1; echo saved >/run/mooring/saved; exit' TERM; while :; do sleep 0.1; done"
    )
    docker("exec", "-d", session.id, "/bin/sh", "-c", script)
    wait_for("it to run", lambda: script[:20] in docker("top", session.id).stdout)
    time.sleep(0.3)
    if how == "end":
        session.exec("/bin/sh", CLOCK, "end", "stopped")
    else:
        docker("stop", "-t", "20", session.id)
    assert session.wait(20) == 0
    assert session.end["reason"] == "stopped"
    assert (session.run_dir / "saved").read_text() == "saved\n"


def test_it_tells_the_memory_in_use(yard: Yard) -> None:
    """Shared memory that was written counts; the page cache of a file does not."""
    session = yard.sampled(sample_s=0.5)
    before = int(session.status()["memory_bytes"])
    (session.run_dir / "big").write_bytes(bytes(16 << 20))
    shell = ("/bin/sh", "-c")
    for target in ("/run/mooring/1", "/run/mooring/2", "/dev/shm/x"):
        assert session.exec(*shell, f"cat /run/mooring/big >{target}").returncode == 0
    grown = int(session.sampled_after(uptime())["memory_bytes"]) - before
    assert 15 << 20 < grown < 26 << 20
