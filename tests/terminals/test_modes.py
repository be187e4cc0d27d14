"""Modes that a program sets on its terminal, and output that is replayed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.terminals.modes import Modes, Replay

SET = b"\x1b[?1049h\x1b[?25lx\x1b[?1;2004h\x1b="


@given(st.lists(st.integers(0, len(SET)), max_size=5))
def test_modes_are_read_wherever_the_output_is_cut(cuts: list[int]) -> None:
    """Sequences that arrive in pieces count like those that arrive whole."""
    modes = Modes()
    ends = [0, *sorted(cuts), len(SET)]
    for start, end in itertools.pairwise(ends):
        modes.feed(SET[start:end])
    assert modes.changed == [0, 1, 25, 1049, 2004]
    assert modes.full_screen


def test_what_was_set_is_undone_and_restored() -> None:
    """Detaching resets the terminal's modes; attaching sets those of the program."""
    modes = Modes()
    modes.feed(SET)
    again = Modes()
    again.feed(modes.restored())
    assert again.changed == modes.changed
    again.feed(modes.undone())
    assert again.changed == []
    assert Modes().undone() == Modes().restored() == b""


@pytest.mark.parametrize("reset", [b"\x1bc", b"\x1b[!p"])
def test_a_reset_resets_all(reset: bytes) -> None:
    """A terminal that the program has reset has its default modes."""
    modes = Modes([25, 1049])
    modes.feed(b"text" + reset)
    assert modes.changed == []


QUESTIONS = [
    b"\x1b[6n",
    b"\x1b[5n",
    b"\x1b[c",
    b"\x1b[0c",
    b"\x1b[>c",
    b"\x1b[?2026$p",
    b"\x1b[18t",
    b"\x1b[?u",
    b"\x1b[>q",
    b"\x1bZ",
    b"\x05",
    b"\x1bP$qm\x1b\\",
    b"\x1bP+q544e\x1b\\",
    b"\x1b]11;?\x07",
    b"\x1b]4;1;?\x1b\\",
    b"\x1b]52;c;?\x07",
]
HARMLESS = [b"\x1b[31m", b"\x1b[2J", b"\x1b[?25h", b"\x1b]0;title\x07", b"\x1b[8;24;80t", b"\x1b[H"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_is_asked_again(question: bytes) -> None:
    """A sequence that makes a terminal answer is not replayed, wherever the output is cut."""
    data = b"before" + question + b"after"
    for cut in range(len(data)):
        replay = Replay(len(data), cut=False)
        shown = b"".join(replay.feed(piece)[0] for piece in (data[:cut], data[cut:]))
        assert shown == b"beforeafter", cut


def test_all_else_is_shown_and_the_new_is_as_it_came() -> None:
    """Colours, titles and positions are replayed; new output passes unchanged, questions too."""
    data = b"".join(HARMLESS)
    assert Replay(len(data), cut=False).feed(data + b"\x1b[6n") == (data, b"\x1b[6n")


def test_a_replay_begins_with_a_line() -> None:
    """The rest of a line, or of a full screen that was left, is not replayed."""
    assert Replay(11, cut=True).feed(b"st\r\nwhole\r\n") == (b"whole\r\n", b"")
    data = b"\x1b[5Hrest of vi\n\x1b[?1049l$ ls\r\n"
    assert Replay(len(data), cut=True).feed(data) == (b"$ ls\r\n", b"")
