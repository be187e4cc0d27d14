"""Threads for blocking calls: no kind holds up another, or the end of the server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from mooring import Sessions
from mooring_server_extension.pools import SIZES, Pools
from tests.server.inprocess import InProcess
from tests.support.pace import in_time
from tests.support.waiting import eventually


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the test's end, whatever became of it."""
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def pools() -> Iterator[Pools]:
    made = Pools()
    yield made
    made.close()


@pytest.mark.parametrize("verb", ["stop", "remove"])
def test_slow_stops_are_in_nobodys_way(
    server: InProcess, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """With as many of them as there are threads, one session is looked at as ever."""
    server.ask("POST", "/sessions", {"name": "aa"})
    monkeypatch.setattr(Sessions, verb, lambda *_, **__: gate.wait(30))
    method, path = {
        "stop": ("POST", "/sessions/aa/stop"),
        "remove": ("DELETE", "/sessions/aa?force=1"),
    }[verb]
    with ThreadPoolExecutor(SIZES["act"] + 1) as pool:
        asked = [pool.submit(server.ask, method, path) for _ in range(SIZES["act"] + 1)]
        names = [f"mooring-{kind}" for kind in ("act", "quick")]
        eventually(lambda: busy(names[0]) == SIZES["act"] or busy(names[1]) == SIZES["quick"])
        for path in ("/sessions/aa", "/sessions/aa/events", "/sessions", "/sessions/aa/logs"):
            before = time.monotonic()
            assert server.ask("GET", path)[0] == 200
            assert in_time(time.monotonic() - before, 2)
        gate.set()
        assert all(one.result()[0] in (200, 204) for one in asked)


def busy(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_no_more_run_at_once_than_there_may(pools: Pools, gate: threading.Event) -> None:
    """One recording at a time; the others wait their turn, and each gets its own answer."""
    running: list[int] = []
    most = []

    def call(number: int) -> int:
        running.append(number)
        most.append(len(running))
        assert gate.wait(30)
        running.remove(number)
        return number

    asked: list[Future[int]] = [
        pools.submit("recording", lambda n=number: call(n)) for number in range(10)
    ]
    assert busy("mooring-recording") == 1
    gate.set()
    assert [one.result(10) for one in asked] == list(range(10))
    assert max(most) == 1
    failing = pools.submit("quick", lambda: 1 / 0)
    assert isinstance(failing.exception(10), ZeroDivisionError)


def test_closed_threads_take_no_more(pools: Pools, gate: threading.Event) -> None:
    """What has begun goes on, what has not never does, and nothing new is taken."""
    first = pools.submit("recording", lambda: gate.wait(30))
    second = pools.submit("recording", lambda: True)
    pools.close()
    assert second.cancelled()
    for pool in (*SIZES, "look"):
        with pytest.raises(RuntimeError):
            pools.submit(pool, lambda: None)  # type: ignore[arg-type]
    gate.set()
    assert first.result(10)


PROGRAM = """
import sys, threading, time
from mooring_server_extension.pools import Pools
pools, begun = Pools(), threading.Semaphore(0)

def call(pool):
    begun.release()
    time.sleep(float(sys.argv[1]))
    print(pool, flush=True)

for pool in sys.argv[2:]:
    pools.submit(pool, lambda pool=pool: call(pool))
for _ in sys.argv[2:]:
    begun.acquire()
pools.close()
"""


def ended(seconds: float, *pools: str) -> tuple[float, str]:
    """How long a process lives whose calls take so long, and what they printed."""
    before = time.monotonic()
    program = [sys.executable, "-c", PROGRAM, str(seconds), *pools]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return time.monotonic() - before, done.stdout


def test_calls_that_hang_do_not_hold_up_the_end() -> None:
    """A frozen engine answers no question; a change alone is waited for, and not for ever."""
    assert ended(3600, "quick", "recording", "look")[0] < 4
    took, reply = ended(1.5, "create")
    assert reply == "create\n"
    took, reply = ended(3600, "act", "create", "quick")
    assert took < 12
    assert reply == ""
