"""A clock samples more rarely while all is quiet, and loses nothing by that.

The containers of one shell run side by side; what is judged is what their clocks wrote.
"""

from __future__ import annotations

import itertools
import os
import pty
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.docker import docker
from tests.support.yard import Session, Yard, play, uptime, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timed]

# Quiet after twelve samples, and then one in five seconds
PACE = {"sample_s": 1, "warn_s": 5, "grace_s": 2}
RARE_S = 3.0  # at least, between samples that are rare
OFTEN_S = 2.5  # at most, between others


def watch(session: Session, until: Callable[[list[float]], bool]) -> list[float]:
    """When samples were taken, in seconds since the first, until there are those one waits for."""
    started, seen = float(str(session.notes["started"])), [0.0]
    deadline = time.monotonic() + 60
    while not until(seen) and not session.end:
        assert time.monotonic() < deadline
        at = float(session.status()["sampled"]) - started
        if at > seen[-1]:
            seen.append(at)
        time.sleep(0.05)
    return seen


def gaps(samples: list[float], begin_s: float, end_s: float) -> list[float]:
    """The times between samples, of those that began and ended then."""
    pairs = itertools.pairwise(samples)
    return [end - begin for begin, end in pairs if begin >= begin_s and end <= end_s]


def is_rare(samples: list[float]) -> bool:
    return len(samples) > 1 and samples[-1] - samples[-2] > RARE_S


def deadline(yard: Yard) -> Session:
    """It ends as idle after 34 seconds."""
    session = yard.sampled("sleep", "100", idle_timeout_s=34, **PACE)
    session.notes["samples"] = watch(session, lambda samples: False)
    session.notes["idle"] = session.age
    session.wait()
    return session


def maximum(yard: Yard) -> Session:
    """It is never idle, and ends after 30 seconds."""
    session = yard.sampled("sleep", "100", idle_timeout_s=0, max_duration_s=30, **PACE)
    session.notes["samples"] = watch(session, lambda samples: False)
    session.wait()
    return session


def after_something(session: Session, act: Callable[[], object]) -> Session:
    """Act while samples are rare, and note what the next one says."""
    watch(session, is_rare)
    time.sleep(0.3)
    session.notes["acted"] = uptime()
    act()
    sampled = float(session.status()["sampled"])
    wait_for("the next sample", lambda: float(session.status()["sampled"]) > sampled)
    status = session.status()
    session.notes["status"] = status
    session.notes["after"] = float(status["sampled"]) - float(str(session.notes["acted"]))
    since = float(status["sampled"]) - float(str(session.notes["started"]))
    samples = watch(session, lambda seen: seen[-1] > since + 4)
    session.notes["gaps"] = gaps(samples, since, since + 9)
    docker("kill", session.id)
    return session


def kept(yard: Yard) -> Session:
    """It is held, and nothing happens in it."""
    session = yard.sampled("sleep", "100", idle_timeout_s=300, **PACE)
    session.write("hold", f"{uptime() + 1000:.2f}\n")
    session.notes["samples"] = watch(session, lambda samples: samples[-1] > 22)
    docker("kill", session.id)
    return session


def with_gpus(yard: Yard) -> Session:
    session = yard.sampled("sleep", "100", idle_timeout_s=300, gpus=1, **PACE)
    session.notes["samples"] = watch(session, lambda samples: samples[-1] > 22)
    docker("kill", session.id)
    return session


def executed(yard: Yard) -> Session:
    session = yard.sampled("sleep", "100", idle_timeout_s=300, **PACE)
    return after_something(session, lambda: session.write("exec", f"{uptime():.6f}\n"))


def computed(yard: Yard) -> Session:
    session = yard.sampled("sleep", "100", idle_timeout_s=300, **PACE)
    return after_something(session, lambda: session.write("k/one/busy", "idle 1\n"))


def held(yard: Yard) -> Session:
    session = yard.sampled("sleep", "100", idle_timeout_s=300, **PACE)
    return after_something(session, lambda: session.write("hold", f"{uptime() + 0.5:.2f}\n"))


def typed(yard: Yard) -> Session:
    session = yard.sampled("sleep", "100", idle_timeout_s=300, **PACE)
    terminal, theirs = pty.openpty()
    words = ["docker", "exec", "-it", session.id, "/bin/sh"]
    client = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)

    def drain() -> None:
        try:
            while os.read(terminal, 4096):
                pass
        except OSError:
            pass

    threading.Thread(target=drain, daemon=True).start()
    time.sleep(9)  # within which the kernel does not date what is typed anew
    after_something(session, lambda: os.write(terminal, b":\n"))
    client.wait(20)
    os.close(terminal)
    return session


@pytest.fixture(scope="module")
def outcomes(yard: Yard) -> dict[str, Session]:
    return play(yard, (deadline, maximum, kept, with_gpus, executed, computed, held, typed))


def test_a_quiet_session_is_sampled_rarely(outcomes: dict[str, Session]) -> None:
    """One in five, after twelve in which nothing happened."""
    for scene in ("deadline", "maximum", "kept"):
        samples = outcomes[scene].notes["samples"]
        assert isinstance(samples, list)
        assert max(gaps(samples, 0, 11)) < OFTEN_S
        assert max(gaps(samples, 11, 40)) > RARE_S


def test_the_use_of_gpus_is_sampled_as_often_as_ever(outcomes: dict[str, Session]) -> None:
    """It leaves no stamp: what it was between two samples would be missed."""
    samples = outcomes["with_gpus"].notes["samples"]
    assert isinstance(samples, list)
    assert max(gaps(samples, 0, 40)) < OFTEN_S


def test_near_a_deadline_it_is_sampled_often(outcomes: dict[str, Session]) -> None:
    """From before it warns on, so that what happens then is seen in time; it ends on time."""
    idle, maximum = outcomes["deadline"], outcomes["maximum"]
    for session, end_s in ((idle, 34.0), (maximum, 30.0)):
        samples = session.notes["samples"]
        assert isinstance(samples, list)
        assert max(gaps(samples, end_s - 6, end_s)) < OFTEN_S
        assert end_s - 0.1 < session.age < end_s + 2
    assert idle.end["reason"] == "idle"
    assert maximum.end["reason"] == "max_duration"


@pytest.mark.parametrize(
    ("scene", "signal", "within_s"),
    [
        ("executed", "exec", 0.2),
        ("computed", "kernel", 2.1),
        ("held", "hold", 0.7),
        ("typed", "terminal", 10.1),
    ],
)
def test_what_happened_between_two_samples_is_dated(
    outcomes: dict[str, Session], scene: str, signal: str, within_s: float
) -> None:
    """By its own stamp, as exactly as that is, and never before it; then samples are frequent,
    unless it was only held."""
    notes = outcomes[scene].notes
    status, acted = notes["status"], float(str(notes["acted"]))
    assert isinstance(status, dict)
    assert signal in status["active"].split()
    at, name = status["last_signal"].split()
    assert name == signal
    assert acted <= float(at) <= min(acted + within_s, float(status["sampled"]))
    assert float(status["idle_at"]) == pytest.approx(float(at) + 300, abs=0.02)
    following = notes["gaps"]
    assert isinstance(following, list)
    assert (max(following) < OFTEN_S) is (scene != "held")
