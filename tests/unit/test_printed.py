"""What ``logs --kernel`` makes of a recording: text for a person, nothing for the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mooring.errors import SessionNotFound
from mooring.sessions.record import Folder
from mooring_cli.printed import print_kernels
from tests.unit.test_recording import cell, folder, idle, line, out, show, write

__all__ = ["folder"]


def printed(folder: Folder, capsys: pytest.CaptureFixture[str], *lines: str) -> str:
    write(folder, *lines)
    print_kernels(folder, "", follow=False)
    return capsys.readouterr().out


def without_times(text: str) -> str:
    return "\n".join(
        f"── {line.split(' ', 3)[-1]}" if line.startswith("── ") else line
        for line in text.split("\n")
    )


def test_it_reads_as_the_notebook_does(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
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
    folder: Folder, capsys: pytest.CaptureFixture[str], said: list[str], shown: str
) -> None:
    """Progress bars show their last state, and nothing drives the reader's terminal."""
    text = printed(folder, capsys, cell(), *map(out, said))
    assert text.partition("\n")[2] == shown


def test_a_terminal_is_shown_colours(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal colours are kept and ended; what moves the cursor is not."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = printed(folder, capsys, cell(), out("\33[31mred\33[2J\n"))
    assert text.partition("\n")[2] == "\33[31mred�[2J\33[0m\n"


def test_hostile_lines_are_printed_or_left(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    """No recording breaks the command, or says what a terminal obeys."""
    from tests.unit.test_recording import HOSTILE

    text = printed(folder, capsys, *HOSTILE, out("after\n", parent="\33[2J"))
    assert text.endswith("after\n")
    assert "\33" not in text


def test_an_unknown_kernel_is_told_with_those_there_are(folder: Folder, state: Path) -> None:
    """A name that fits no kernel is an error that names the kernels."""
    with pytest.raises(SessionNotFound) as caught:
        print_kernels(folder, "b", follow=False)
    assert caught.value.hint == "its kernels: a"
