"""A change of this terminal's size is heard of, whatever else goes on."""

from __future__ import annotations

import select
import signal
import threading
import time
from typing import Any, cast

from mooring.errors import EngineError
from mooring.terminals import attach
from mooring.terminals.attach import Joined, _Sizer


class Sized:
    """A terminal that the engine refuses to resize so many times."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.sizes: list[tuple[int, int]] = []
        self.done = threading.Event()

    def resize(self, rows: int, columns: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise EngineError("not now")
        self.sizes.append((rows, columns))
        self.done.set()


def test_a_change_wakes_the_loop_whichever_thread_the_signal_takes() -> None:
    """The system may give a signal to any thread: the main one is woken from its wait even so."""
    joined = Joined(cast("Any", Sized()), size=lambda: (24, 80))

    def elsewhere() -> None:
        time.sleep(0.2)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGWINCH)

    with joined._woken():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        poll = select.poll()
        poll.register(joined._wake, select.POLLIN)
        assert poll.poll(5000), "nobody told the loop"
        thread.join()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_size_that_the_engine_refuses_is_told_again() -> None:
    """The terminal has its right size as soon as the engine takes it."""
    terminal = Sized(refusals=2)
    sizer = _Sizer(cast("Any", terminal))
    sizer.apply((50, 120))
    assert terminal.done.wait(10)
    assert terminal.sizes == [(50, 120)]
    sizer.close()


def test_a_newer_size_is_not_held_up(monkeypatch: Any) -> None:
    """While one is refused the next counts, and the old one is never told after it."""
    monkeypatch.setattr(attach, "TOLD_AGAIN_S", 0.05)
    terminal = Sized(refusals=3)
    sizer = _Sizer(cast("Any", terminal))
    sizer.apply((50, 120))
    time.sleep(0.01)
    sizer.apply((10, 40))
    assert terminal.done.wait(10)
    time.sleep(0.2)
    assert terminal.sizes[-1] == (10, 40)
    sizer.close()
