"""What a program changes in its terminal: undone by detaching, there again by attaching."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mooring.terminals.modes import Modes
from mooring.terminals.sequences import RESET
from tests.support.waiting import eventually

SET = b"\x1b[?1049h\x1b[?25lx\x1b[?1;2004h\x1b="

# Each setting of a terminal: what sets it, and what a program resets it with
SETTINGS = {
    "cursor keys": (b"\x1b[?1h", b"\x1b[?1l"),
    "reverse video": (b"\x1b[?5h", b"\x1b[?5l"),
    "autowrap": (b"\x1b[?7l", b"\x1b[?7h"),
    "cursor": (b"\x1b[?25l", b"\x1b[?25h"),
    "mouse": (b"\x1b[?1000;1006h", b"\x1b[?1006;1000l"),
    "all mouse movements": (b"\x1b[?1003h\x1b[?1016h", b"\x1b[?1016l\x1b[?1003l"),
    "focus": (b"\x1b[?1004h", b"\x1b[?1004l"),
    "bracketed paste": (b"\x1b[?2004h", b"\x1b[?2004l"),
    "colour scheme reports": (b"\x1b[?2031h", b"\x1b[?2031l"),
    "size reports": (b"\x1b[?2048h", b"\x1b[?2048l"),
    "a mode of tomorrow": (b"\x1b[?5522h", b"\x1b[?5522l"),
    "alternate screen": (b"\x1b[?1049h", b"\x1b[?1049l"),
    "alternate screen of old": (b"\x1b[?47h", b"\x1b[?47l"),
    "insert": (b"\x1b[4h", b"\x1b[4l"),
    "newline": (b"\x1b[20h", b"\x1b[20l"),
    "local echo": (b"\x1b[12l", b"\x1b[12h"),
    "keypad": (b"\x1b=", b"\x1b>"),
    "scroll region": (b"\x1b[2;10r", b"\x1b[r"),
    "scroll region, reset in full": (b"\x1b[5;9r", b"\x1b[0;0r"),
    "origin": (b"\x1b[?6h", b"\x1b[?6l"),
    "margins": (b"\x1b[?69h\x1b[5;40s", b"\x1b[?69l"),
    "line drawing": (b"\x1b(0", b"\x1b(B"),
    "line drawing, shifted": (b"\x1b)0\x0e", b"\x0f\x1b)B"),
    "a set of 96": (b"\x1b-A\x1bn", b"\x0f\x1b)B"),
    "not UTF-8": (b"\x1b%@", b"\x1b%G"),
    "8-bit controls": (b"\x1b G", b"\x1b F"),
    "cursor's shape": (b"\x1b[5 q", b"\x1b[ q"),
    "protected": (b'\x1b[1"q', b'\x1b[0"q'),
    "status line": (b"\x1b[1$}", b"\x1b[0$}"),
    "printer": (b"\x1b[5i", b"\x1b[4i"),
    "pointer": (b"\x1b[>2p", b"\x1b[>1p"),
    "kitty keyboard": (b"\x1b[>1u", b"\x1b[<u"),
    "kitty keyboard, twice": (b"\x1b[>1u\x1b[>31u", b"\x1b[<2u"),
    "kitty keyboard, set": (b"\x1b[=5u\x1b[=8;2u\x1b[=1;3u", b"\x1b[=0u"),
    "modifyOtherKeys": (b"\x1b[>4;2m", b"\x1b[>4m"),
    "modifyOtherKeys, to nought": (b"\x1b[>4;1m", b"\x1b[>4;0m"),
    "modifyOtherKeys, all": (b"\x1b[>1;2m\x1b[>4;1m", b"\x1b[>m"),
    "formatOtherKeys": (b"\x1b[>4;1f", b"\x1b[>4f"),
    "bold and red": (b"\x1b[1;31m", b"\x1b[22;39m"),
    "colours of many": (b"\x1b[38;5;208;48;2;1;2;3;4:3m\x1b[58:5:9m", b"\x1b[m"),
    "hyperlink": (b"\x1b]8;id=1;http://example.org/\x1b\\", b"\x1b]8;;\x07"),
    "palette": (b"\x1b]4;1;#112233;2;red\x07", b"\x1b]104\x07"),
    "one colour of the palette": (b"\x1b]4;7;#112233\x07", b"\x1b]104;7\x1b\\"),
    "colours": (b"\x1b]10;#fff;#000;red\x1b\\", b"\x1b]110\x07\x1b]111\x07\x1b]112\x07"),
    "mouse pointer": (b"\x1b]22;crosshair\x07", b"\x1b]22;\x07"),
    "progress": (b"\x1b]9;4;1;50\x07", b"\x1b]9;4;0\x07"),
    "title": (b"\x1b[22;0;0t", b"\x1b[23;0;0t"),
}
HARMLESS = [
    b"text", b"\xc3\xa9\r\n", b"\x1b[H", b"\x1b[10;20H", b"\x1b[2J", b"\x1b[6n", b"\x1b[?u",
    b"\x1b]0;title\x07", b"\x1b]11;?\x07", b"\x1b]52;c;QQ==\x07", b"\x1bP$qm\x1b\\", b"\x1b[>q",
    b"\x1b[18t", b"\x1b[c", b"\x1b[1;2H", b"\x1bM", b"\x1b[0i", b"\x1b[?2026l",
]  # fmt: skip
PIECES = st.sampled_from(
    [*itertools.chain.from_iterable(SETTINGS.values()), *HARMLESS, b"\x1b7", b"\x1b8", b"\x1b[!p"]
)
OUTPUT = st.lists(PIECES, max_size=12).map(b"".join)


def fed(*pieces: bytes) -> Modes:
    modes = Modes()
    for piece in pieces:
        modes.feed(piece)
    return modes


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_of_a_terminal(name: str) -> None:
    """A program's settings are known until the program resets them; an undone and restored
    terminal has neither more nor less."""
    sets, resets = SETTINGS[name]
    modes = fed(sets)
    assert modes.undone()
    assert modes.restored()
    assert fed(sets, resets).restored() == fed(sets, resets).undone() == b""
    assert fed(sets, modes.undone()).restored() == b""
    again = Modes(modes.saved)
    assert (again.restored(), again.undone()) == (modes.restored(), modes.undone())
    assert fed(sets, b"\x1bc").restored() in (b"", b"\x1b[22;0;0t")  # a full reset


@given(OUTPUT, st.lists(st.integers(0, 500), max_size=6))
def test_settings_are_read_wherever_the_output_is_cut(output: bytes, cuts: list[int]) -> None:
    """Sequences that arrive in pieces count like those that arrive whole."""
    ends = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    modes = fed(*(output[start:end] for start, end in itertools.pairwise(ends)))
    assert (modes.restored(), modes.undone()) == (fed(output).restored(), fed(output).undone())


@example(b"\x1b(0\x1b[?1049h", b"\x1b[?1049h")
@example(b"\x1b[?1049h\x1b[>1u\x1b[?1049l", b"\x1b[?1h")
@given(OUTPUT, OUTPUT)
def test_a_terminal_gets_the_settings_of_another(shown: bytes, wanted: bytes) -> None:
    """After a replay of any part of the output, this terminal is set as the program left its own;
    detaching gives it back as it was."""
    here, program = fed(shown), Modes(fed(wanted).saved)
    terminal = fed(shown)
    terminal.feed(here.become(program))
    assert terminal.become(program) == here.become(program) == b""
    assert here.full_screen == program.full_screen
    here.feed(here.undone())
    assert here.restored() == b""


@given(st.binary(max_size=300) | st.lists(PIECES | st.binary(max_size=9)).map(b"".join))
def test_no_output_is_too_odd(output: bytes) -> None:
    """Whatever bytes a program prints, what restores them is read back as the same."""
    modes = fed(output)
    again = Modes(modes.saved)
    assert again.restored() == modes.restored()
    assert fed(output, modes.undone()).restored() == b""


def test_what_is_counted_is_bounded() -> None:
    """A program that sets settings without an end fills no memory and no screen."""
    numbers = range(2000)
    modes = fed(
        b"".join(b"\x1b[?%dh\x1b[>%du\x1b[22;0t\x1b[38;5;%dm" % (n, n, n) for n in numbers),
        b"".join(b"\x1b]4;%d;#123456\x07" % n for n in numbers),
        b"\x1b]11;" + b"x" * 100_000 + b"\x07",
    )
    assert len(modes.undone()) < 20_000
    assert len(modes.restored()) < 20_000


def test_values_of_any_length_are_bounded_together() -> None:
    """A keeper sends the settings in one message: the longest that a program can make of them fit,
    with bytes that JSON escapes; a hyperlink may be as long as a browser's address."""
    link = b"\x1b]8;;http://example.org/" + b"\xe9" * 2050 + b"\x1b\\"
    modes = fed(
        link,
        *(b"\x1b[%d:%sm" % (n, b"0" * 60_000) for n in range(1, 110)),
        *(b"\x1b[38;2;1;2;%sm" % (b"0" * length) for length in (2000, 4000, 60_000)),
        *(b"\x1b[22;%st" % (b"0" * 497) for _ in range(200)),
        *(b"\x1b[%s>99999u" % screen for screen in (b"", b"?1049h\x1b[") for _ in range(200)),
        *(b"\x1b]4;%d;%s\x07" % (n, b"\xff" * size) for n in range(600) for size in (80, 2000, 80)),
    )
    assert link in modes.restored()
    assert len(modes.restored()) < 80_000
    assert Modes(modes.saved).restored() == modes.restored()


def test_renditions_without_a_reset_are_reduced() -> None:
    """Of thousands of colours the last one is kept, with what was set before them."""
    modes = fed(b"\x1b[1m", *(b"\x1b[38;2;%d;1;1m" % (n % 256) for n in range(3000)))
    assert modes.restored() == b"\x1b[1;38;2;183;1;1m"


def test_what_the_cursor_saves_is_restored_with_it() -> None:
    """Renditions and character sets come back with the cursor, and when a full screen ends."""
    assert fed(b"\x1b7\x1b[31m\x1b(0\x1b8").restored() == b""
    assert fed(b"\x1b[31m\x1b[?1049h\x1b[0;1m\x1b(0\x1b[?1049l").restored() == b"\x1b[31m"
    assert fed(b"\x1b[s\x1b[31m\x1b[u").restored() == b""


def test_modes_that_a_program_saves_and_restores() -> None:
    """A mode that was saved in the terminal is the saved one again."""
    assert fed(b"\x1b[?1001s\x1b[?1001h\x1b[?1001r").restored() == b""
    assert fed(b"\x1b[?7l\x1b[?7s\x1b[?7h\x1b[?7r").restored() == b"\x1b[?7l"


def test_each_screen_has_its_keyboard() -> None:
    """What was pushed on the main screen's keyboard stays under that of a full screen."""
    modes = fed(b"\x1b[>1u\x1b[?1049h\x1b[>5u\x1b[>7u")
    assert modes.restored() == b"\x1b[>1u\x1b[?1049h\x1b[>5u\x1b[>7u"
    assert modes.undone() == b"\x1b[<2u\x1b[?1049l\x1b[<1u\x1b[0m"


def test_a_sequence_that_was_not_finished_is_ended() -> None:
    """A terminal that waits for the end of a string would swallow what the shell prints next."""
    long = b"\x1b]52;c;" + b"A" * 100_000
    for output in (b"\x1b]0;ti", b"\x1b[3", b"\x1bP$q", b"\x1b]0;title\x1b", long):
        assert fed(output).undone() == b"\x1b\\".join((b"\x18", b"")), output[:20]
    assert fed(long, b"B" * 100, b"\x1b", b"\\").undone() == fed(long, b"\x07").undone() == b""


def test_a_frame_is_not_restored() -> None:
    """Synchronized output is ended on detaching, and not begun on attaching: it hides output."""
    modes = fed(b"\x1b[?2026h")
    assert modes.undone().startswith(b"\x1b[?2026l")
    assert modes.restored() == b""


def test_tab_stops_are_undone() -> None:
    """The user's terminal has its tab stops again."""
    for output in (b"\x1b[3g", b"\x1bH", b"\x1b[g"):
        modes = fed(output)
        assert modes.become(Modes()) == b""  # after a replay they are still the program's
        assert modes.undone().startswith(b"\x1b[?5W")


def test_the_modes_of_an_earlier_keeper() -> None:
    """Keepers of earlier versions send numbers of modes; what cannot be read changes nothing."""
    assert Modes([0, 25, 1049]).restored() == b"\x1b[?1049h\x1b=\x1b[?25l"
    assert Modes(None).restored() == Modes({"a": 1}).restored() == b""


def test_a_soft_reset_resets_what_it_should() -> None:
    """The cursor, the region and the character sets are the default ones; the screen stays."""
    assert fed(SET, b"\x1b[2;5r\x1b(0\x1b[1m\x1b[!p").restored() == b"\x1b[?1049h\x1b[?2004h"


# Output that is not tracked, or only made to look so

ZEROS = {
    "mode": (b"\x1b[?0001003h", b"\x1b[?1003h"),
    "ANSI mode": (b"\x1b[004h", b"\x1b[4h"),
    "colour": (b"\x1b]00011;#fff\x07", b"\x1b]11;#fff\x1b\\"),
    "kitty keyboard": (b"\x1b[>0000000005u", b"\x1b[>5u"),
}
DUMMIES = b"".join(b"\x1b[?%dh" % n for n in range(5000, 5600))
ODD = {
    "NUL in a sequence": b"\x1b[?10\x0003h",
    "backspace in a sequence": b"\x1b[?1003\x08h",
    "newline in a sequence": b"\x1b[?1003\nh",
    "tab before a sequence's parameters": b"\x1b\t[?1003h",
    "shift in a sequence": b"\x1b[?10\x0e\x0f03h",
    "delete in a sequence": b"\x1b[\x7f?1003h",
    "NUL in renditions": b"\x1b[3\x001m",
    "NUL in a keyboard's flags": b"\x1b[>\x001u",
    "NUL in a character set": b"\x1b(\x000",
    "newline in a command": b"\x1b]11;#fff\n\x07",
    "shift in a command": b"\x1b]11;#f\x0e\x0fff\x07",
    "8-bit": b"\x9b?1003h",
    "8-bit after text": b"a\x9b?1003h",
    "8-bit in UTF-8": b"\xc2\x9b?1003h",
    "8-bit command in UTF-8": b"\xc2\x9d11;#fff\xc2\x9c",
    "8-bit where UTF-8 is off": b"\x1b%@\xc4\x9b?1003h\x1b%G",
    "long parameters": b"\x1b[?" + b"1;" * 300 + b"1003h",
    "long parameters of keys": b"\x1b[>4;" + b"0" * 600 + b"2m",
    "too long parameters": b"\x1b[?" + b"1;" * 2500 + b"1003h",
    "a parameter in parts": b"\x1b[?1003:0h",
    "a parameter that overflows": b"\x1b[?4294968299h",
    "a prefix that is late": b"\x1b[1;?1003h",
    "another prefix": b"\x1b[ ?1003h",
    "palette of the console": b"\x1b]P0ff0000",
    "a long colour": b"\x1b]11;" + b"x" * 200 + b"\x07",
    "too long a colour": b"\x1b]11;" + b"x" * 5000 + b"\x07",
    "a command with a long number": b"\x1b]99999;x\x07",
}
NOT_ODD = [
    *HARMLESS, b"\xc4\x9b \xe2\x80\x9b\xf0\x9f\x98\x80", b"\x1b[?2026$p", b"\x1b[12345;2H",
    b"\x1b]52;c;" + b"A" * 9000 + b"\x07", b"\x1b]1337;File=:" + b"A" * 9000 + b"\x07",
    b"\x1b[31;" + b"1;" * 600 + b"0m", b"\x1bPq\r\n#0\x1b\\", b"a\tb\x08\r\n",
    b"\x1b[38;2;1;2;3m\x1b[0m", b"\x1b[3;4r\x1b[r", b"\x1b[2 q\x1b[ q", RESET,
]  # fmt: skip


def cuts(output: bytes) -> Iterator[list[bytes]]:
    """The output cut at each byte, and into bytes; long ones less often."""
    for cut in range(0, len(output), 1 + len(output) // 100):
        yield [output[:cut], output[cut:]]
    yield [output[at : at + 1] for at in range(len(output))]


@pytest.mark.parametrize("name", ZEROS)
def test_numbers_with_zeros_are_the_same_numbers(name: str) -> None:
    """Zeros before a number do not hide a setting."""
    output, plain = ZEROS[name]
    for pieces in cuts(output):
        assert fed(*pieces).restored() == plain
        assert fed(*pieces).undone() == fed(plain).undone()


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_tracked_is_undone_by_a_reset(name: str) -> None:
    """Terminals execute more than is read here: after such output all that is usual is reset,
    wherever the output is cut; what else was set is undone as well."""
    for pieces in cuts(ODD[name]):
        modes = fed(b"\x1b[?5522h", *pieces)
        assert modes.undone().endswith(RESET), pieces
        assert b"\x1b[?5522l" in modes.undone()
        assert modes.reports
        assert fed(*pieces, modes.undone()).restored() == b""


@pytest.mark.parametrize("mode", [1003, 1004, 2004])
def test_modes_after_too_many_are_undone(mode: int) -> None:
    """Modes that nobody knows do not use up the room of those that disturb."""
    sets = b"\x1b[?%dh" % mode
    assert b"\x1b[?%dl" % mode in fed(DUMMIES, sets).undone()
    saved = DUMMIES.replace(b"h", b"s").replace(b"5", b"6", 1)
    saves = b"".join(b"\x1b[?%ds" % n for n in range(6000, 6700))
    assert fed(saved, saves, b"\x1b[?7l\x1b[?7s\x1b[?7h\x1b[?7r").undone().endswith(RESET)


@pytest.mark.parametrize("output", NOT_ODD, ids=lambda output: repr(output[:20]))
def test_usual_output_needs_no_reset(output: bytes) -> None:
    """Text, long commands, and the reset itself leave nothing to undo."""
    for pieces in cuts(output):
        assert fed(*pieces).undone() == b"", pieces


UNLOCK = b"\x18\x1b\\\x1b[2l"


@pytest.mark.parametrize(
    "output", [b"\x1b[2h", b"\x1b[4;2h", b"\x1b[0002h", b"\x1b[2\0h", b"\xc2\x9b2h", b"\x1b[?2:2h"]
)
def test_a_locked_keyboard_is_unlocked_at_once(output: bytes) -> None:
    """Else its user could not type the detach keys; it is not locked again on attaching."""
    for pieces in cuts(output):
        modes = Modes()
        answers = [modes.feed(piece) for piece in pieces]
        assert b"".join(answers) in (UNLOCK, UNLOCK * 2)
        assert modes.feed(b"text") == b""
        assert b"\x1b[2l" in modes.undone()
        assert b"\x1b[2" not in modes.restored()
    assert fed(b"\x1b[2h\x1b[2l").undone() == b""
    assert Modes().feed(b"\x1b[2l\x1b[?2004h\x1b[12l") == b""


# Output that is made to take long

STREAM_BYTES = 64 << 10
MOST_TIMES_LONGER = 10
ORDINARY = b"\x1b[?25l\x1b[?25h"
COLOURS = b"".join(b"\x1b]4;%d;rgb:00/00/00\x1b\\" % n for n in range(600))
MODES = b"".join(b"\x1b[?%dh" % n for n in range(3000, 3600))
# What a program sets first, and what it then prints again and again
HOSTILE = {
    "keys reset": (COLOURS, b"\x1b[>m"),
    "a key set and keys reset": (COLOURS, b"\x1b[>1;1m\x1b[>m"),
    "full reset": (COLOURS, b"\x1bc"),
    "full reset of modes": (MODES, b"\x1bc"),
    "a mode set and full reset": (COLOURS, b"\x1b=\x1bc"),
    "a colour set and full reset": (COLOURS, b"\x1b]4;1;a\x07\x1bc"),
    "palette reset": (MODES, b"\x1b]104\x07"),
    "other palette reset": (COLOURS, b"\x1b]105\x07"),
    "soft reset": (COLOURS, b"\x1b[!p"),
    "long renditions restored": (b"\x1b[" + b"1;" * 2040 + b"m\x1b7", b"\x1b8\x1b[1;1;1;1;1;1;1m"),
    "character sets saved and restored": (b"\x1b(0\x1b)0\x1b*0\x1b+0\x0e", b"\x1b7\x1b8"),
    "cursor saved and restored": (b"", b"\x1b7\x1b8"),
    "cursor saved and restored by numbers": (b"\x1b(0\x0e", b"\x1b[s\x1b[u"),
    "control characters in sequences": (b"", b"\x1b[?\0"),
    "controls of eight bits": (b"", b"\xc4\x9b"),
    "long numbers": (b"", b"\x1b[?" + b"0" * 490 + b"h"),
    "too long sequences": (b"", b"\x1b[" + b"0" * 4000),
    "zeros of a command": (b"", b"\x1b]" + b"0" * 4000 + b"\x07"),
    "shifts in a command": (b"", b"\x1b]11;" + b"\x0e" * 4000 + b"\x07"),
    "escapes and intermediates": (b"", b"\x1b    "),
    "shifts": (COLOURS, b"\x0e\x0f"),
    "many modes at once": (COLOURS, b"\x1b[?" + b"47;" * 160 + b"h"),
    "long command": (b"", b"\x1b]0000;" + b"y" * 4080 + b"\x07"),
    "endless command": (b"", b"\x1b]0000;" + b"y" * STREAM_BYTES),
    "long string": (b"", b"\x1bP" + b"y" * 4090 + b"\x1b\\"),
    "long parameters": (b"", b"\x1b[" + b"0;" * 2040 + b"m"),
    "long intermediates": (b"", b"\x1b[" + b" " * 4090 + b"\x1b" + b" " * 4090),
    "escapes": (b"", b"\x1b"),
}  # fmt: skip


def cpu_s(sets: bytes, unit: bytes, piece_bytes: int) -> float:
    modes = fed(sets)
    stream = (unit * (STREAM_BYTES // len(unit) + 1))[:STREAM_BYTES]
    pieces = [stream[at : at + piece_bytes] for at in range(0, STREAM_BYTES, piece_bytes)]
    began = time.process_time()
    for piece in pieces:
        modes.feed(piece)
    return time.process_time() - began


@pytest.mark.parametrize("piece_bytes", [STREAM_BYTES, 1], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_output_takes_long(name: str, piece_bytes: int) -> None:
    """A session cannot use up the host's processor by what it prints: whatever was set before, and
    wherever the output is cut, it takes about as long as a program's usual sequences."""
    sets, unit = HOSTILE[name]
    for _ in range(3):  # others use this machine
        hostile, ordinary = cpu_s(sets, unit, piece_bytes), cpu_s(b"", ORDINARY, piece_bytes)
        if hostile <= MOST_TIMES_LONGER * ordinary:
            return
    pytest.fail(f"{hostile:.3f} s, where usual output takes {ordinary:.3f} s")


def test_groups_of_settings_are_reset_and_others_stay() -> None:
    """Of many settings in any order, a reset ends those that it names, also after a full reset."""
    sets = b"\x1b]4;1;a\x07\x1b[>4;1m\x1b]5;1;b\x07\x1b[>4;1f\x1b[?1h\x1b]4;2;c\x07\x1b[>1n"
    assert fed(sets, b"\x1b[>m\x1b]104\x07").restored() == b"\x1b]5;1;b\x1b\\\x1b[>4;1f\x1b[?1h"
    modes = fed(sets, b"\x1bc\x1b[?1h\x1b]4;1;d\x07")
    assert modes.restored() == b"\x1b[?1h\x1b]4;1;d\x1b\\"
    undone = [
        b"\x1b]104;1\x1b\\",
        b"\x1b[?1l",
        b"\x1b]104;2\x1b\\",
        b"\x1b]105;1\x1b\\",
        b"\x1b[0m",
    ]
    assert modes.undone() == b"".join(undone)
    taken_over = fed()
    taken_over.become(modes)
    taken_over.feed(b"\x1b]104\x07")
    assert modes.undone() == b"".join(undone)
    modes.feed(b"\x1b]104\x07")
    assert modes.undone() == taken_over.undone() == b"\x1b[?1l\x1b]105;1\x1b\\\x1b[0m"


# Against a terminal of somebody else's

FLAGS = (
    "alternate_on cursor_flag insert_flag keypad_cursor_flag keypad_flag mouse_all_flag "
    "mouse_any_flag mouse_button_flag mouse_sgr_flag mouse_standard_flag origin_flag "
    "scroll_region_lower scroll_region_upper wrap_flag pane_tabs"
).split()
VISIBLE = [
    b"\x1b[?1h", b"\x1b[?25l", b"\x1b[?7l", b"\x1b[4h", b"\x1b=", b"\x1b[?6h", b"\x1b[3;9r",
    b"\x1b[?1000;1006h", b"\x1b[?1002h", b"\x1b[?1003h", b"\x1b[?1049h", b"\x1b[1;31m", b"\x1b(0",
    b"\x1b)0\x0e", b"\x1b[?1049h\x1b[2;8r\x1b[7m\x1b[?1000h",
]  # fmt: skip


class Tmux:
    """A terminal: what it was sent, and what state it is in."""

    def __init__(self, folder: Path) -> None:
        self._command = ["tmux", "-S", f"{folder}/socket", "-f", "/dev/null"]
        self._count = 0
        os.mkfifo(folder / "output")
        program = f"stty raw -echo; exec cat {folder}/output"
        self.run("new-session", "-d", "-x", "80", "-y", "24", program)
        self._output = (folder / "output").open("wb", buffering=0)

    def run(self, *words: str) -> str:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state(self, *output: bytes) -> tuple[str, str]:
        """Show output and text; return the flags of the terminal, and how the text looks."""
        self._count += 1
        data = b"".join(output)
        flags = " ".join(f"{flag}=#{{{flag}}}" for flag in FLAGS)
        self._output.write(data + b"\x1b[3Hlqk\x1b]2;%d\x07" % self._count)
        eventually(
            lambda: self.run("display", "-p", "#{pane_title}").strip() == str(self._count), 20
        )
        return self.run("display", "-p", flags), self.run("capture-pane", "-e", "-p")

    def close(self) -> None:
        with contextlib.suppress(AssertionError):
            self.run("kill-server")
        self._output.close()


@pytest.fixture(scope="module")
def tmux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux: install it")
    terminal = Tmux(tmp_path_factory.mktemp("tmux"))
    yield terminal
    terminal.close()


def test_a_reset_is_harmless(tmux: Tmux) -> None:
    """On a terminal in its default state it changes nothing, and undoes what it is for."""
    clear = b"\x1bc\x1b[2J"
    before = tmux.state(clear, b"\x1b[5;7Hx")
    assert tmux.state(clear, b"\x1b[5;7H", RESET, b"x") == before
    for sets in (*VISIBLE, b"\x1b[?10\x0003h", b"\x1b[?1049\nh"):
        assert tmux.state(clear, b"\x1b[?9999\0h", sets, b"\x1b[?6l") != before
        undone = fed(b"\x1b[?9999\0h", sets).undone()
        assert tmux.state(clear, sets, undone, b"\x1b[2J\x1b[5;7Hx") == before, sets


@pytest.mark.parametrize("sets", VISIBLE, ids=repr)
def test_a_real_terminal_is_as_it_was(tmux: Tmux, sets: bytes) -> None:
    """tmux, a terminal, has its own state again when what was changed is undone, and the program's
    when it is restored (atch#34)."""
    clear = b"\x1bc\x1b[2J"
    before, changed = tmux.state(clear), tmux.state(clear, sets)
    assert changed != before
    assert tmux.state(clear, fed(sets).restored()) == changed
    assert tmux.state(clear, sets, fed(sets).undone(), b"\x1b[2J") == before
