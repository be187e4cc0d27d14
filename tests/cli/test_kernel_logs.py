"""What ``logs --kernel`` makes of a recording: text for a person, nothing for the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.errors import SessionNotFound, SessionStateError
from mooring.launch.options import LaunchOptions
from mooring.sessions.folder import SessionFolder
from mooring_cli.kernel_logs import print_kernels
from mooring_cli.logs import logs
from tests.kernels.conftest import KernelHostStub
from tests.support.fake import clock, declare, engine, service
from tests.support.recordings import HOSTILE, cell, idle, line, out, show, write
from tests.support.sessions import make_folder

__all__ = ["clock", "declare", "engine", "service"]
NAMED = LaunchOptions(name="nb")


@pytest.fixture
def folder(state: Path) -> Iterator[SessionFolder]:
    """A session's folder with a kernel "a" and a kernel host that lives."""
    made = make_folder("0123456789ab")
    made.release()
    (made.run / "k" / "a").mkdir()
    host = KernelHostStub(made.run)
    yield made
    host.close()


def printed(folder: SessionFolder, capsys: pytest.CaptureFixture[str], *lines: str) -> str:
    write(folder.run, *lines)
    print_kernels(Mooring(FakeEngine()), folder.id, "", follow=False)
    return capsys.readouterr().out


def without_times(text: str) -> str:
    return "\n".join(
        f"── {line.split(' ', 3)[-1]}" if line.startswith("── ") else line
        for line in text.split("\n")
    )


def test_it_reads_as_the_notebook_does(
    folder: SessionFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each execution is under its own line: streams, results, displays and tracebacks."""
    text = printed(
        folder,
        capsys,
        cell("\nfirst()\nsecond()", count=3),
        out("a"),
        out("b"),
        show("shown"),
        idle(),
        cell("boom()", "m2", count=4),
        out("late\n"),
        line("error", "m2", ename="E", evalue="v", traceback=["one", "two"]),
        line("error", "m2", ename="E", evalue="v", traceback=[]),
    )
    assert without_times(text) == (
        "── [3] first()\nab\nshown\n── [4] boom()\n── [3] first()\nlate\n"
        "── [4] boom()\none\ntwo\nE: v\n"
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (["\r 10%", "\r 20%", "\r100%\n"], "100%\n"),
        (["a\r\nb\r\n"], "a\nb\n"),
        (["abc\b\bX\n"], "aX\n"),
        (["\b\b\n\bx\n"], "\nx\n"),
        (["no end"], "no end"),
        (["\33[31mred\33[0m \33[2J\33]0;t\7\n"], "red �[2J�]0;t�\n"),
        (["a" * 100_000 + "\b" * 200_000 + "x\n"], "x\n"),
    ],
)
def test_a_text_is_what_is_seen_of_it_at_the_end(
    folder: SessionFolder, capsys: pytest.CaptureFixture[str], said: list[str], shown: str
) -> None:
    """Progress bars show their last state, and nothing drives the reader's terminal."""
    text = printed(folder, capsys, cell(), *map(out, said))
    assert text.partition("\n")[2] == shown


def test_a_terminal_is_shown_colours(
    folder: SessionFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal colours are kept and ended; what moves the cursor is not."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = printed(folder, capsys, cell(), out("\33[31mred\33[2J\n"))
    assert text.partition("\n")[2] == "\33[31mred�[2J\33[0m\n"


def test_hostile_lines_are_printed_or_left(
    folder: SessionFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """No recording breaks the command, or says what a terminal obeys."""
    text = printed(folder, capsys, *HOSTILE, out("after\n", parent="\33[2J"))
    assert text.endswith("after\n")
    assert "\33" not in text


def test_an_unknown_kernel_is_told_with_those_there_are(folder: SessionFolder, state: Path) -> None:
    """A name that fits no kernel is an error that names the kernels."""
    with pytest.raises(SessionNotFound) as caught:
        print_kernels(Mooring(FakeEngine()), folder.id, "b", follow=False)
    assert caught.value.hint == "its kernels: a"


def test_it_says_why_there_is_nothing(
    folder: SessionFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without output it is told why: the kernels printed nothing, or are no longer there."""
    mooring = Mooring(FakeEngine())
    print_kernels(mooring, folder.id, "", follow=False)
    assert capsys.readouterr() == ("", "its kernels have printed nothing\n")
    shutil.rmtree(folder.run / "k" / "a")
    print_kernels(mooring, folder.id, "", follow=True)
    out, err = capsys.readouterr()
    assert (out, err.startswith("it has no kernels; ")) == ("", True)


def test_logs_without_a_main_process(
    service: Mooring, declare: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """`logs` of a session for kernels alone prints what they printed; --tail says where that is."""
    session = service.sessions.create(declare("kernel: python3\nrecord: off"), NAMED).session
    monkeypatch.setattr("mooring.Mooring", lambda: service)
    (service.installation.sessions / session.id / "run" / "k" / "a").mkdir()
    write(service.installation.sessions / session.id / "run", cell(), out("hello\n"), idle())
    logs("nb", kernel=False, follow=False)
    shown, notes = capsys.readouterr()
    assert "hello\n" in shown
    assert notes == "what its kernels print is not kept: record is off\n"
    with pytest.raises(SessionStateError) as caught:
        logs("nb", tail=3)
    assert caught.value.hint.endswith("mooring logs --kernel nb")
