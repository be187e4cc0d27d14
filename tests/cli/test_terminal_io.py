"""This terminal while it is another's: what is told in it, and signals that are ignored."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import mooring
from mooring import PersistentTerminal
from mooring_cli import main, terminal_io


def test_what_is_told_in_a_kept_terminal_is_readable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message begins on a line of its own, returns the cursor, and drives no terminal."""

    class Telling:
        def __init__(self, terminal: object, *, warn: Callable[[str], None], **_: object) -> None:
            self.warn = warn

        def run(self) -> int:
            self.warn("output may be \x1b[2Jmissing")
            return 0

    monkeypatch.setattr(mooring, "Attachment", Telling)
    nothing: Any = None
    kept = PersistentTerminal(nothing, "", nothing, "main")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    terminal_io.join(kept, stdin=None, detach_keys="")
    assert capsys.readouterr().err == "\r\noutput may be �[2Jmissing\r\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    terminal_io.join(kept, stdin=None, detach_keys="")
    assert capsys.readouterr().err == "output may be �[2Jmissing\n"


@pytest.fixture
def ignored() -> Iterator[None]:
    """As ``nohup`` starts a program."""
    kept = {each: signal.getsignal(each) for each in (signal.SIGHUP, signal.SIGTERM)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


def test_a_command_that_ignores_hangups_goes_on(
    ignored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nohup mooring …` is not ended by a hangup, whatever it does just then."""
    stream: Any = SimpleNamespace(tty=False)
    sent: Any = SimpleNamespace(signal=lambda *_: pytest.fail("it was passed on"))

    def command(**_: object) -> int:
        hang_up()
        with terminal_io.interruptible():
            hang_up()
        with terminal_io.forwarding(sent, sent, stream):
            hang_up()
        return 7

    monkeypatch.setattr(main, "app", command)
    with pytest.raises(SystemExit) as left:
        main.run()
    assert left.value.code == 7
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_command_that_does_not_is_ended(ignored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a hangup ends a command, with the code that says so."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    monkeypatch.setattr(main, "app", lambda **_: hang_up())
    with pytest.raises(SystemExit) as left:
        main.run()
    assert left.value.code == 128 + signal.SIGHUP
