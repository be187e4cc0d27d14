"""How long a command waits, and what it shows meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from mooring.errors import SessionTimeout, SpecError
from mooring_cli import progress
from mooring_cli.progress import PullDeadline, parse_max_wait, show_progress


def test_only_a_pull_is_ended_by_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """After --max-wait a pull is over; the queue has a deadline of its own."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    steps: list[str] = []
    deadline = PullDeadline(60, steps.append)
    deadline.progress("pulling python:3.12: 41% of 1.2 GiB")
    now = 159.0
    assert not deadline.cancelled()
    now = 161.0
    with pytest.raises(SessionTimeout, match=r"did not start within 60 s: pulling python:3\.12"):
        deadline.cancelled()
    deadline.progress("1st in the queue for 4 GPUs")
    assert not deadline.cancelled()
    assert steps[1:] == ["1st in the queue for 4 GPUs"]


def test_without_a_limit_a_pull_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --max-wait nothing is given up."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    deadline = PullDeadline(None, lambda text: None)
    deadline.progress("pulling python:3.12: 41% of 1.2 GiB")
    monkeypatch.setattr(time, "monotonic", lambda: 1e6)
    assert not deadline.cancelled()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("off", None), (" Never ", None), ("90s", 90.0), ("10m", 600.0), ("0", 0.0)],
)
def test_the_longest_wait(text: str | None, seconds: float | None) -> None:
    """A duration; off is no limit."""
    assert parse_max_wait(text) == seconds


def test_a_longest_wait_that_is_none() -> None:
    """What is not a duration is an error that names the flag."""
    with pytest.raises(SpecError, match=r"^flag --max-wait: 'soon' "):
        parse_max_wait("soon")


def test_without_a_terminal_each_step_that_lasts_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step is told once, however its figures change; a start only after another step."""

    class AtOnce:
        def __init__(self, seconds: float, act: Callable[[], None]) -> None:
            self.start = act

        def cancel(self) -> None:
            pass

    monkeypatch.setattr(threading, "Timer", AtOnce)
    with show_progress() as show:
        show(progress.STARTING)
        show("pulling a: 1%")
        show("pulling a: 2%")
        show("")
        show(progress.STARTING)
    assert capsys.readouterr().err == f"pulling a\n{progress.STARTING}\n"
