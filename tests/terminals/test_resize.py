"""A change of this process's terminal is noticed, and the session's terminal gets its size."""

from __future__ import annotations

import select
import signal
import threading

import pytest

from mooring.errors import EngineError
from mooring.terminals.resize import Resizer, size_changes

TIMEOUT_S = 10.0


class Sized:
    """A terminal whose engine refuses to resize it a number of times."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.sizes: list[tuple[int, int]] = []
        self.refused = threading.Event()

    def resize(self, rows: int, columns: int) -> None:
        if self.refusals:
            self.refusals -= 1
            self.refused.set()
            raise EngineError("not now")
        self.sizes.append((rows, columns))


def test_a_change_wakes_the_loop_whichever_thread_the_signal_takes() -> None:
    """The system may deliver a signal to any thread: the main one is woken from its wait."""

    def elsewhere() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGWINCH)

    with size_changes(True) as changed:
        poll = select.poll()
        poll.register(changed, select.POLLIN)
        assert poll.poll(0) == []
        thread = threading.Thread(target=elsewhere)
        thread.start()
        assert poll.poll(TIMEOUT_S * 1000), "the loop was not woken"
        thread.join()
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_are_left_alone_where_there_is_no_terminal() -> None:
    """Without a size to tell, a program's own handler for SIGWINCH stays."""
    handler = signal.getsignal(signal.SIGWINCH)
    with size_changes(False) as changed:
        assert signal.getsignal(signal.SIGWINCH) is handler
        assert select.select([changed], [], [], 0)[0] == []


def test_a_size_that_the_engine_refuses_is_told_again() -> None:
    """The terminal has its right size as soon as the engine sets it."""
    terminal = Sized(refusals=2)
    resizer = Resizer(terminal, retry_delay_s=0.0)
    resizer.apply((50, 120))
    assert resizer.wait(TIMEOUT_S)
    assert terminal.sizes == [(50, 120)]
    resizer.close()


@pytest.mark.parametrize("refusals", [1, 3])
def test_a_newer_size_is_not_held_up(refusals: int) -> None:
    """While one size is refused a newer one replaces it, without the delay of a retry."""
    terminal = Sized(refusals)
    resizer = Resizer(terminal, retry_delay_s=TIMEOUT_S if refusals == 1 else 0.0)
    resizer.apply((50, 120))
    assert terminal.refused.wait(TIMEOUT_S)
    resizer.apply((10, 40))
    assert resizer.wait(TIMEOUT_S / 2)
    assert terminal.sizes[-1] == (10, 40)
    resizer.close()


def test_a_program_that_shall_draw_again_sees_two_sizes() -> None:
    """Programs draw their screen when the size changes: it changes, and is right at the end."""
    terminal = Sized()
    resizer = Resizer(terminal)
    resizer.apply((24, 80), redraw=True)
    assert resizer.wait(TIMEOUT_S)
    assert terminal.sizes == [(24, 79), (24, 80)]
    resizer.close()
