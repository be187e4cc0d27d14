"""What keeps a session and what ends it, in real containers, under each shell that may be /bin/sh.

Most tests of one shell judge containers that ran side by side (``outcomes``).
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import threading
import time

import pytest

from tests.support.docker import docker
from tests.support.pace import in_time
from tests.support.yard import (
    BACKSTOP,
    EXEC,
    IDLE,
    Session,
    Yard,
    assert_idle_after,
    measured,
    play,
    uptime,
    wait_for,
)

pytestmark = [pytest.mark.engine, pytest.mark.timed]


def silent(yard: Yard) -> Session:
    return yard.sampled(**IDLE)


def silent_beside_a_command(yard: Yard) -> Session:
    return yard.sampled("sleep", "100", **IDLE)


def kernel_busy(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    session.write("k/one/busy", "busy 1\n")
    time.sleep(6)
    session.notes["last"] = uptime()
    session.write("k/one/busy", "idle 1\n")
    return session


def kernel_counting(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    for count in range(8):
        session.write("k/one/busy", f"idle {count}")
        session.notes["last"] = uptime()
        time.sleep(0.8)
    return session


def kernel_gone(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    session.write("k/one/exit", "0\n")
    session.write("k/one/busy", "busy 1\n")
    return session


def execs(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    clock = ("/bin/sh", EXEC, "counted")
    begun = uptime()
    docker("exec", "-d", session.id, *clock, "one", "--", "sleep", "6")
    session.notes["last"] = begun + 6
    session.notes["code"] = session.exec(*clock, "two", "--", "/bin/sh", "-c", "exit 9").returncode
    session.write("x/stale", "1 2\n")
    wait_for(
        "the dead execs' files to go", lambda: len(list((session.run_dir / "x").iterdir())) == 1
    )
    session.notes["files"] = [path.name for path in (session.run_dir / "x").iterdir()]
    return session


def execs_begun(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    for _ in range(8):
        session.notes["last"] = uptime()
        session.write("exec", f"{session.notes['last']}\n")
        time.sleep(0.8)
    return session


def held(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    session.notes["last"] = uptime() + 5.5
    session.write("hold", f"{session.notes['last']:.2f}\n")
    return session


def burning(yard: Yard) -> Session:
    return yard.sampled("/bin/sh", "-c", "while :; do :; done", **IDLE | {"max_duration_s": 9})


def burnt(yard: Yard) -> Session:
    script = "(while :; do :; done) & sleep 5; kill $!; exec sleep 100"
    session = yard.sampled("/bin/sh", "-c", script, **IDLE, **BACKSTOP)
    session.notes["last"] = float(str(session.notes["started"])) + 5
    return session


def stubborn(yard: Yard) -> Session:
    script = "trap '' TERM HUP INT; while :; do sleep 1; done"
    settings = {"idle_timeout_s": 2.5, "max_duration_s": 4.2, "sample_s": 60, "grace_s": 1}
    session = yard.sampled("/bin/sh", "-c", script, **settings)
    session.write("hold", f"{uptime() + 1000}\n")
    session.wait()
    session.notes["gone"] = uptime()
    return session


def paused(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    docker("pause", session.id)
    time.sleep(9)
    session.notes["last"] = uptime()
    docker("unpause", session.id)
    return session


def unsure(yard: Yard) -> Session:
    session = yard.sampled(**IDLE | {"max_duration_s": 7})
    session.write("k/one/busy", "gibberish")
    session.notes["unknown"] = session.sampled_after(uptime())["unknown"]
    return session


def unsure_of_execs(yard: Yard) -> Session:
    session = yard.sampled(**IDLE | {"max_duration_s": 7})
    session.write("exec", "")
    session.notes["unknown"] = session.sampled_after(uptime())["unknown"]
    return session


def counted_v2(yard: Yard) -> Session:
    """A control group of version 2, as the kernel would mount it."""

    flags = ("-v", f"{yard.root}/v2:/sys/fs/cgroup:ro")
    (yard.root / "v2").mkdir()
    (yard.root / "v2" / "cpu.stat").write_text("usage_usec 1000000\nuser_usec 0\n")
    session = yard.sampled(flags=flags, **IDLE, **BACKSTOP)
    began = uptime()
    while uptime() < began + 6:
        fresh = yard.root / "v2" / ".new"
        used = 1_000_000 + int((uptime() - began) * 500_000)
        fresh.write_text(f"usage_usec {used}\nuser_usec 0\n")
        fresh.replace(yard.root / "v2" / "cpu.stat")
        session.notes["last"] = uptime()
        time.sleep(0.2)
    session.notes["percent"] = session.status()["cpu_percent"]
    return session


def usage_lost(yard: Yard) -> Session:
    """The usage file was there and is no longer."""
    (yard.root / "lost").mkdir()
    (yard.root / "lost" / "cpu.stat").write_text("usage_usec 1000000\n")
    flags = ("-v", f"{yard.root}/lost:/sys/fs/cgroup:ro")
    session = yard.sampled(flags=flags, **IDLE | {"max_duration_s": 7})
    (yard.root / "lost" / "cpu.stat").unlink()
    session.notes["unknown"] = session.sampled_after(uptime())["unknown"]
    return session


def changed(yard: Yard) -> Session:
    session = yard.sampled(idle_timeout_s=0, sample_s=1, max_duration_s=0)
    session.notes["before"] = session.status()
    session.settings(idle_timeout_s="banana", sample_s="1.2.3", max_duration_s="-4")
    session.notes["garbled"] = session.sampled_after(uptime() + 1)
    session.settings(**IDLE)
    return session


def vanished(yard: Yard) -> Session:
    """The run directory's files go; the container tells when it ended."""
    session = yard.sampled(idle_timeout_s=0, max_duration_s=5, sample_s=1, grace_s=1)
    shutil.rmtree(session.run_dir, ignore_errors=True)
    session.wait()
    session.notes["gone"] = uptime()
    return session


def typed(yard: Yard) -> Session:
    """Someone types for 11 s: the kernel keeps a terminal's atime in steps of 8 s."""
    session = yard.sampled("sleep", "100", flags=("-t",), idle_timeout_s=9, sample_s=1, **BACKSTOP)
    words = ["docker", "exec", "-it", session.id, "/bin/sh"]
    terminal, theirs = pty.openpty()
    client = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    began = uptime()
    while uptime() < began + 11:
        os.write(terminal, b":\n")
        session.notes["last"] = uptime()
        time.sleep(0.5)
    session.wait()
    client.wait()
    os.close(terminal)
    return session


def warned(yard: Yard) -> Session:
    return yard.sampled("sleep", "100", flags=("-t",), **IDLE, name="bert")


def cost(yard: Yard, *flags: str) -> Session:
    """The clock's CPU time and that of its children, over some twenty samples."""
    # always about to warn, so that it never samples more rarely
    pace = {"idle_timeout_s": 1000, "warn_s": 2000, "sample_s": 0.5}
    session = yard.sampled("sleep", "100", flags=flags, **pace)
    return measured(session)


def cost_plain(yard: Yard) -> Session:
    return cost(yard)


def cost_with_a_terminal(yard: Yard) -> Session:
    return cost(yard, "-t")


def drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


SCENES = (
    typed, paused, kernel_busy, kernel_counting, kernel_gone, execs, execs_begun, held, burning,
    burnt, stubborn, unsure, unsure_of_execs, counted_v2, usage_lost, changed, vanished, warned,
    silent, silent_beside_a_command, cost_plain, cost_with_a_terminal,
)  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(yard: Yard) -> dict[str, Session]:
    """The session of each scene, by the scene's name; all have ended."""
    return play(yard, SCENES)


def test_a_silent_session_ends_at_its_idle_timeout(outcomes: dict[str, Session]) -> None:
    """Without any signal a session ends after the idle timeout and says why."""
    session = outcomes["silent"]
    assert session.end["reason"] == "idle"
    assert 3 <= session.age < 5.5
    assert session.exit_code == 0
    detail = r"no kernel, terminal, exec, hold for 3s; cpu \d\.\d% of one core over the window"
    assert re.fullmatch(detail, session.end["detail"])
    signals = r"kernel=never terminal=never exec=never hold=never cpu=\d\.\d%"
    assert re.fullmatch(signals, session.end["signals"])
    assert abs(int(session.end["time"]) - time.time()) < 300


def test_a_silent_command_ends_too(outcomes: dict[str, Session]) -> None:
    """The clock beside a command ends it, and the container with it."""
    session = outcomes["silent_beside_a_command"]
    assert session.end["reason"] == "idle"
    assert 3 <= session.age < 5.5
    assert session.exit_code == 143


@pytest.mark.parametrize(
    "scene", ["kernel_busy", "kernel_counting", "execs", "execs_begun", "held", "counted_v2"]
)
def test_activity_keeps_a_session(outcomes: dict[str, Session], scene: str) -> None:
    """Each signal holds a session past its timeout, and lets go of it one timeout later."""
    session = outcomes[scene]
    assert session.age > 6
    assert_idle_after(session, session.notes["last"])


def test_the_end_names_the_last_signals(outcomes: dict[str, Session]) -> None:
    """The end file says how long ago each signal was seen."""
    assert re.match(r"kernel=[234] terminal=never", outcomes["kernel_busy"].end["signals"])
    assert re.search(r"exec=[234] hold=never", outcomes["execs"].end["signals"])
    assert re.search(r"exec=[234] hold=never", outcomes["execs_begun"].end["signals"])
    assert re.search(r"hold=[234] cpu", outcomes["held"].end["signals"])


def test_a_dead_kernel_is_no_activity(outcomes: dict[str, Session]) -> None:
    """A kernel that died while busy holds nothing."""
    assert outcomes["kernel_gone"].end["reason"] == "idle"
    assert outcomes["kernel_gone"].age < 5.5


def test_execs_pass_their_code_and_leave_no_file(outcomes: dict[str, Session]) -> None:
    """A finished exec's file is removed, as is one whose pid is another process by now."""
    assert outcomes["execs"].notes["code"] == 9
    assert outcomes["execs"].notes["files"] == ["one"]


def test_cpu_keeps_a_session_until_its_maximum(outcomes: dict[str, Session]) -> None:
    """A session that only computes is active, and the maximum duration ends it."""
    session = outcomes["burning"]
    assert session.end["reason"] == "max_duration", session.end
    assert 9 <= session.age < 10.5
    assert "cpu" in session.status()["active"]


def test_cpu_counts_over_the_window_only(outcomes: dict[str, Session]) -> None:
    """Once the window has passed without computing, the session is idle."""
    assert_idle_after(outcomes["burnt"], outcomes["burnt"].notes["last"])


def test_the_maximum_ends_what_ignores_signals_and_is_held(outcomes: dict[str, Session]) -> None:
    """The maximum duration holds during a hold and against a process deaf to TERM and HUP."""
    session = outcomes["stubborn"]
    assert session.end["reason"] == "max_duration"
    assert 4.2 <= session.age < 5.5
    assert float(str(session.notes["gone"])) - float(session.end["uptime"]) < 1 + 4
    assert session.exit_code == 137


def test_a_gap_restarts_the_window(outcomes: dict[str, Session]) -> None:
    """A session that was frozen past its timeout gets its whole window again."""
    session = outcomes["paused"]
    assert session.end["reason"] == "idle"
    assert 3 - 0.1 <= float(session.end["uptime"]) - float(str(session.notes["last"])) < 7
    assert session.status()["last_signal"].endswith(" resume")


@pytest.mark.parametrize(
    ("scene", "probe"),
    [
        ("unsure", "kernel"),
        ("unsure_of_execs", "exec"),
        ("usage_lost", "cpu"),
    ],
)
def test_a_failing_probe_is_not_idle(outcomes: dict[str, Session], scene: str, probe: str) -> None:
    """Unknown pauses the idle clock, but not the maximum duration."""
    assert outcomes[scene].notes["unknown"] == probe
    assert outcomes[scene].end["reason"] == "max_duration"


def test_settings_are_live_and_garbled_ones_ignored(outcomes: dict[str, Session]) -> None:
    """A timeout set later counts from the last signal; nonsense keeps the last good value."""
    session = outcomes["changed"]
    for notes in ("before", "garbled"):
        status = session.notes[notes]
        assert isinstance(status, dict)
        assert (status["idle_at"], status["max_at"]) == ("never", "never")
    assert session.end["reason"] == "idle"
    assert session.end["detail"].startswith("no kernel, terminal, exec, hold for 3s;")


def test_a_session_ends_without_its_run_directory(outcomes: dict[str, Session]) -> None:
    """The clock decides from what it remembers when its files are gone."""
    session = outcomes["vanished"]
    lived = float(str(session.notes["gone"])) - float(str(session.notes["started"]))
    assert 5 <= lived < 10


def test_typing_keeps_a_session(outcomes: dict[str, Session]) -> None:
    """Reading a terminal is activity; the 8 s steps of its atime are the tolerance."""
    session = outcomes["typed"]
    assert session.end["reason"] == "idle"
    since = float(session.end["uptime"]) - float(str(session.notes["last"]))
    assert 9 - 8 - 2 < since < 9 + 2.5
    assert session.age > 9 + 2
    assert re.search(r"terminal=(9|1[01]) ", session.end["signals"])


def test_terminals_are_warned_once(outcomes: dict[str, Session]) -> None:
    """A terminal reads when and why the session stops, and how to keep it."""
    said = docker("logs", outcomes["warned"].id).stdout
    sentence = (
        r"mooring: this session stops in [01] s \(idle\)\. "
        r"Keep it: type something here, or run: mooring hold bert 2h"
    )
    assert len(re.findall(sentence, said)) == 1
    assert outcomes["warned"].age < 5.5


@pytest.mark.parametrize("scene", ["cost_plain", "cost_with_a_terminal"])
def test_the_clock_costs_little(
    outcomes: dict[str, Session], scene: str, yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sampling every 5 s takes less than 0.2 % of one core, with its children's time."""
    each_ms = float(str(outcomes[scene].notes["ms"]))
    percent = each_ms / 5000 * 100
    with capsys.disabled():
        print(
            f"\n{yard.shell}, {scene}: {each_ms:.1f} ms a sample, {percent:.3f} % of a core at 5 s"
        )
    assert in_time(percent, 0.2)
