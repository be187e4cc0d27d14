"""Earlier output that is replayed: whole, but for what would make the terminal answer."""

from __future__ import annotations

import pytest

from mooring.terminals.replay import Replay

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


def test_a_sequence_that_a_replay_ends_in_is_not_broken() -> None:
    """What restores the modes is written between the replay and the new output: the sequence that
    stands across is new output as a whole."""
    data = b"text\x1b[3"
    replay = Replay(len(data), cut=False)
    assert replay.feed(data[:6]) == (b"text", b"")
    assert replay.feed(data[6:] + b"1mred") == (b"", b"\x1b[31mred")
