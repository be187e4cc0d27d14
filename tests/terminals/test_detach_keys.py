"""The detach keys, in whatever pieces and in whatever encoding they are typed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.terminals.detach_keys import ESCAPE_TIMEOUT_S, KEY_TIMEOUT_S, DetachKeys
from mooring.terminals.pump import key_codes

KEYS = "ctrl-p,ctrl-q"


def typed(keys: str, *pieces: bytes) -> tuple[bytes, bool]:
    """What is forwarded of keys that arrive in these pieces, and whether they detach."""
    found, forwarded = DetachKeys(key_codes(keys)), b""
    for piece in pieces:
        out, detached = found.feed(piece, 0.0)
        forwarded += out
        if detached:
            return forwarded, True
    return forwarded + found.flush(), False


@given(st.lists(st.binary(max_size=4), max_size=20))
def test_keys_that_do_not_leave_are_passed_on(pieces: list[bytes]) -> None:
    """Keys are passed on in order, none lost, however they arrive; the detach keys detach."""
    passed, detached = typed(KEYS, *pieces)
    whole = b"".join(pieces)
    if detached:
        assert whole.startswith(passed + b"\x10\x11")
    else:
        assert passed == whole
        assert b"\x10\x11" not in whole


def test_a_possible_beginning_is_held_back_from_when_it_was_typed() -> None:
    """The loop that feeds the keys knows until when it waits, and passes them on in the end."""
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"ab\x10", 5.0) == (b"ab", False)
    assert (keys.pending, keys.deadline) == (b"\x10", 5.0 + KEY_TIMEOUT_S)
    assert keys.flush() == b"\x10"
    assert (keys.pending, keys.deadline) == (b"", None)


def test_the_escape_key_is_passed_on_soon() -> None:
    """It is also the beginning of a sequence: it waits for that no longer than nobody notices."""
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"ab\x1b", 5.0) == (b"ab", False)
    assert keys.deadline == 5.0 + ESCAPE_TIMEOUT_S < 5.05
    assert keys.flush() == b"\x1b"


def test_without_detach_keys_nothing_is_held_back() -> None:
    """An empty sequence detaches nobody."""
    assert DetachKeys(b"").feed(b"\x10\x11\x1b", 0.0) == (b"\x10\x11\x1b", False)


def test_a_beginning_that_is_typed_twice() -> None:
    """The keys detach after a beginning of them that came to nothing."""
    assert typed(KEYS, b"\x10\x10\x11") == (b"\x10", True)
    assert typed("a,a,b", b"aaab") == (b"a", True)
    assert typed("a,b,a,c", b"ababac") == (b"ab", True)


# Extended keyboards

DETACHING = {
    "kitty": b"\x1b[112;5u\x1b[113;5u",  # shpool#278
    "xterm": b"\x1b[27;5;112~\x1b[27;5;113~",  # abduco#71
    "xterm, formatted": b"\x1b[112;5u\x1b[113;5u",
    "one of each": b"\x10\x1b[113;5u",
    "caps lock": b"\x1b[112;69u\x1b[113;69u",
    "num lock": b"\x1b[112;133u\x1b[113;133u",
    "both locks": b"\x1b[112;197u\x1b[113;197u",
    "shift": b"\x1b[112:80;6u\x1b[113:81;6u",
    "shift, xterm": b"\x1b[27;6;80~\x1b[27;6;81~",
    "a press": b"\x1b[112;5:1u\x1b[113;5:1u",
    "held down": b"\x1b[112;5:1u\x1b[113;5:2u",
    "with releases": b"\x1b[112;5:1u\x1b[112;5:3u\x1b[113;5:1u",
    "with Ctrl itself": b"\x1b[112;5:1u\x1b[112;5:3u\x1b[57442;1:3u\x1b[57442;5:1u\x1b[113;5:1u",
    "alternate keys": b"\x1b[112:80:112;5u\x1b[113::113;5u",
    "text": b"\x1b[112;5;112u\x1b[113;5;113u",
    "a Russian layout": b"\x1b[1079::112;5u\x1b[1081::113;5u",
}


@pytest.mark.parametrize("name", DETACHING)
def test_detach_keys_under_an_extended_keyboard(name: str) -> None:
    """They detach in each encoding that a program may have chosen, cut at any byte."""
    keys = DETACHING[name]
    assert typed(KEYS, b"ls\r" + keys + b"rest") == (b"ls\r", True)
    for cut in range(1, len(keys)):
        assert typed(KEYS, b"ls\r" + keys[:cut], keys[cut:]) == (b"ls\r", True)
    assert typed(KEYS, *(keys[at : at + 1] for at in range(len(keys)))) == (b"", True)


NOT_DETACHING = [
    b"\x1b[112;1u\x1b[113;1u",  # p and q
    b"\x1b[112u\x1b[113u",
    b"\x1b[112;7u\x1b[113;7u",  # Alt
    b"\x1b[112;13u\x1b[113;13u",  # Super
    b"\x1b[112;5:3u\x1b[113;5:3u",  # releases
    b"\x1b[112;5u\x1b[114;5u\x1b[113;5u",
    b"\x1b[27;5;112~\x1b[27;5~\x1b[27;5;113~",
    b"\x1b[200~\x1b[201~\x1b[1;5P\x1b[15;5~\x1bOP\x1b[<0;10;10M\x1b[I\x1b[?1;2c",
    b"\x1b[112;5",
    b"\x1b[;5u\x1b[u\x1b[::;;u\x1b[99999999999;5u\x1b[112;5\x18u",
]


@pytest.mark.parametrize("keys", NOT_DETACHING, ids=repr)
def test_other_keys_are_the_programs(keys: bytes) -> None:
    """What is not a detach key is passed on byte for byte."""
    assert typed(KEYS, keys) == (keys, False)
    assert typed(KEYS, *(keys[at : at + 1] for at in range(len(keys)))) == (keys, False)


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ("ctrl-@", b"\x1b[32;5u"),  # Ctrl-Space, as in any terminal
        ("ctrl-@", b"\x1b[50:64;6u"),
        ("ctrl-@", b"\x1b[50;6u"),
        ("ctrl-@", b"\x1b[64;6u"),
        ("ctrl-@", b"\x1b[27;5;64~"),
        ("ctrl-]", b"\x1b[93;5u"),
        ("ctrl-\\", b"\x1b[92;5u"),
        ("ctrl-[", b"\x1b"),
        ("ctrl-a,ctrl-[", b"\x01\x1b"),
        ("ctrl-[", b"\x1b[91;5u"),
        ("ctrl-[", b"\x1b[27u"),
        ("ctrl-^", b"\x1b[54:94;6u"),
        ("ctrl-^", b"\x1b[54;6u"),
        ("ctrl-_", b"\x1b[45:95;6u"),
        ("ctrl-_", b"\x1b[45;6u"),
        ("ctrl-_", b"\x1b[47;5u"),
        ("ctrl-a,d", b"\x1b[97;5ud"),
        ("ctrl-a,d", b"\x1b[97;5u\x1b[100u"),
        ("ctrl-a,d", b"\x1b[97;5u\x1b[100;1u"),
        ("ctrl-a,d", b"\x1b[97;5u\x1b[100;129;100u"),
        ("ctrl-a,d", b"\x1b[97;5u\x1b[100:68;66u"),  # Shift with Caps Lock
        ("ctrl-a,D", b"\x1b[97;5u\x1b[100:68;2;68u"),
        ("ctrl-a,D", b"\x1b[97;5u\x1b[100;2u"),
        ("ctrl-a,D", b"\x1b[97;5u\x1b[100;65u"),  # Caps Lock
        ("ctrl-a,D", b"\x1b[27;5;97~\x1b[27;2;68~"),
        ("ctrl-a,?", b"\x1b[97;5u\x1b[47:63;2u"),
        ("~,.", b"\x1b[96:126;2u\x1b[46u"),
        ("ctrl-m", b"\x1b[109;5u"),
    ],
)
def test_any_detach_keys(keys: str, sent: bytes) -> None:
    """Each key of Docker's notation is known by what a terminal sends for it."""
    assert typed(keys, sent) == (b"", True)


def encoded(code: int, how: int) -> bytes:
    """A control character as one of the encodings has it."""
    letter = code + 96
    return [b"%c" % code, b"\x1b[%d;5u" % letter, b"\x1b[27;5;%d~" % letter][how]


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 16, 17]), st.integers(0, 2)).map(lambda key: encoded(*key))
        | st.sampled_from([b"x", b"\x1b[A", b"\x1b[97u", b"\x1b[112;5:3u", b"\x1b[57442;5u"]),
        max_size=12,
    ),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_keys_in_any_encodings_and_pieces(keys: list[bytes], cuts: list[int]) -> None:
    """The same keys detach at the same place whatever the reads, and the rest is unchanged."""
    data = b"".join(keys)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(ends)]
    passed, detached = typed(KEYS, *pieces)
    assert (passed, detached) == typed(KEYS, data)
    meant = [key for key in keys if not key.endswith((b":3u", b"42;5u"))]
    p, q = ({encoded(code, how) for how in range(3)} for code in (16, 17))
    assert detached == any(one in p and two in q for one, two in itertools.pairwise(meant))
    assert data.startswith(passed)
    assert detached or passed == data


# Reports, which are not keys

REPORTS = {
    "cursor": b"\x1b[5;5R",
    "cursor at F3": b"\x1b[1;5R",
    "cursor and page": b"\x1b[?24;80;1R",
    "attributes": b"\x1b[?64;1;2;4;6;9;15;16;17;18;21;22;28;29c",
    "attributes of old": b"\x1b[?1;2c",
    "secondary attributes": b"\x1b[>41;390;0c",
    "tertiary attributes": b"\x1bP!|00000000\x1b\\",
    "status": b"\x1b[0n",
    "colour scheme": b"\x1b[?997;1n",
    "mode": b"\x1b[?2026;2$y",
    "ANSI mode": b"\x1b[4;2$y",
    "parameters": b"\x1b[2;1;1;128;128;1;0x",
    "locator": b"\x1b[1;0;5;5;0&w",
    "graphics": b"\x1b[?1;0;256S",
    "window's size": b"\x1b[8;24;80t",
    "window's state": b"\x1b[1t",
    "size, unasked": b"\x1b[48;24;80;400;800t",
    "title": b"\x1b]l\xc3\xa9: a title\x1b\\",
    "focus": b"\x1b[I",
    "focus lost": b"\x1b[O",
    "mouse": b"\x1b[M !!",
    "mouse, far": b"\x1b[M#\xff\x00",
    "mouse, not UTF-8": b"\x1b[M \x85\xff",
    "mouse, in UTF-8": b"\x1b[M \xc3\x85!",
    "mouse, far in UTF-8": b"\x1b[M\xc2\xa0\xdf\xbf\xc3\x85",
    "mouse, highlight": b"\x1b[t!!",
    "mouse, highlighted": b"\x1b[T!!!!!!",
    "mouse, SGR": b"\x1b[<35;10;10M",
    "mouse released, SGR": b"\x1b[<0;1000;1000m",
    "mouse, urxvt": b"\x1b[32;10;10M",
    "colour": b"\x1b]11;rgb:ffff/ffff/ffff\x1b\\",
    "colour, ended by a bell": b"\x1b]4;255;rgb:ffff/ffff/ffff\x07",
    "clipboard": b"\x1b]52;c;" + b"QUJD" * 300 + b"\x1b\\",
    "setting": b"\x1bP1$r0;1m\x1b\\",
    "capability": b"\x1bP1+r544e=787465726d\x1b\\",
    "version": b"\x1bP>|XTerm(390)\x1b\\",
    "checksum": b"\x1bP1!~ABCD\x1b\\",
    "kitty graphics": b"\x1b_Gi=31;OK\x1b\\",
    "kitty keyboard": b"\x1b[?31u",
    "modifyOtherKeys": b"\x1b[>4;2m",
    "cursors": b"\x1b[>" + b"29:2:3:4;" * 60 + b"1 q",
    "paste begins": b"\x1b[200~",
    "paste ends": b"\x1b[201~",
    "a key's release": b"\x1b[97;1:3u",
    "an arrow's release": b"\x1b[1;1:3A",
    "Delete's release": b"\x1b[3;5:3~",
    "a key's release on Windows": b"\x1b[80;25;16;0;8;1_",
    "Shift on Windows": b"\x1b[16;42;0;1;16;1_",
    "VT52": b"\x1b/Z",
    "8-bit cursor": b"\x9b5;5R",
    "8-bit cursor in UTF-8": b"\xc2\x9b5;5R",
    "8-bit colour": b"\x9d11;rgb:ffff/ffff/ffff\x9c",
    "8-bit colour in UTF-8": b"\xc2\x9d11;rgb:ffff/ffff/ffff\xc2\x9c",
    "8-bit setting": b"\x901$r0;1m\x9c",
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports_of_the_terminal_do_not_break_the_detach_keys(name: str) -> None:
    """However many reports a program asks for, its terminal can be left: cut at any byte."""
    report = REPORTS[name]
    data = b"x\x10" + report + b"\x11"
    for cut in range(1, len(data)):
        assert typed(KEYS, data[:cut], data[cut:]) == (b"x", True)
    assert typed(KEYS, *(data[at : at + 1] for at in range(len(data)))) == (b"x", True)
    assert typed(KEYS, b"\x1b[112;5u", report, report, b"\x1b[113;5u") == (b"", True)


@pytest.mark.parametrize("name", REPORTS)
def test_reports_are_passed_on_in_order(name: str) -> None:
    """The program gets them where they came among its keys, also when nobody detaches."""
    report = REPORTS[name]
    for data in (b"\x10" + report + b"x", report + b"\x10", report * 3, b"\x10" + report):
        assert typed(KEYS, data) == (data, False)
        for cut in range(1, len(data)):
            assert typed(KEYS, data[:cut], data[cut:]) == (data, False)
        assert typed(KEYS, *(data[at : at + 1] for at in range(len(data)))) == (data, False)


def test_what_a_report_says_does_not_detach() -> None:
    """A program cannot type the detach keys by a title that it asks for."""
    assert typed("~,.", b"\x1b]l~.\x1b\\") == (b"\x1b]l~.\x1b\\", False)
    assert typed("~,.", b"\x1b]l~.\x1b\\~.") == (b"\x1b]l~.\x1b\\", True)


@pytest.mark.parametrize("keys", [b"\x1b]1", b"\x1bP1", b"\x1b_G", b"\x1b[M", b"\x1b[M ", b"\x1b["])
def test_the_beginning_of_a_report_holds_no_key_back(keys: bytes) -> None:
    """Keys that look like the beginning of a report, such as Alt-], do not end detaching."""
    assert typed(KEYS, keys + b"\x10\x11") == (keys, True)
    assert typed(KEYS, keys, b"\x10", b"\x11") == (keys, True)
    assert typed(KEYS, keys + b"abc\x1b[112;5u\x1b[113;5u") == (keys + b"abc", True)
    found = DetachKeys(b"~.")
    forwarded, _ = found.feed(keys, 0.0)
    assert forwarded + found.flush() == keys
    assert found.deadline is None
    assert found.feed(b"~.", 1.0) == (b"", True)


def test_reports_do_not_hold_a_key_back_for_longer() -> None:
    """A key is passed on when it is due, with the reports that have come since."""
    found = DetachKeys(key_codes(KEYS))
    found.feed(b"\x10", 5.0)
    for tenth in range(1, 5):
        assert found.feed(b"\x1b[5;5R", 5.0 + tenth / 10) == (b"", False)
        assert found.deadline == 5.0 + KEY_TIMEOUT_S
    assert found.flush() == b"\x10" + b"\x1b[5;5R" * 4
    found.feed(b"\x10", 6.0)
    flood = b"\x1b[5;5R" * 100_000
    forwarded = [found.feed(flood, 6.0)[0] for _ in range(4)]
    assert len(found.pending) <= 1 << 20
    assert b"".join(forwarded) + found.flush() == b"\x10" + flood * 4


WINDOWS_P, WINDOWS_Q = b"\x1b[80;25;16;1;8;1_", b"\x1b[81;16;17;1;8;1_"


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        (KEYS, WINDOWS_P + WINDOWS_Q),
        (KEYS, b"\x1b[17;29;0;1;8;1_" + WINDOWS_P + b"\x1b[80;25;16;0;8;1_" + WINDOWS_Q),
        (KEYS, WINDOWS_P + b"\x1b[17;29;0;0;0;1_\x1b[17;29;0;1;8;1_" + WINDOWS_Q),
        (KEYS, b"\x1b[80;25;16;1;4;1_\x1b[81;16;17;1;4_"),  # Ctrl on the right; no count
        (KEYS, b"\x1b[80;;16;1;232;1_\x1b[81;;17;1;40;1_"),  # locks
        (KEYS, b"\x1b[80;25;112;1;8;1_\x1b[81;16;0;1;8;1_"),  # without Ctrl in the character
        (KEYS, b"\x10" + WINDOWS_Q),
        ("ctrl-p,ctrl-p", b"\x1b[80;25;16;1;8;2_"),
        ("ctrl-p,ctrl-p,ctrl-q", b"\x1b[80;25;16;1;8;2_" + WINDOWS_Q),
        ("ctrl-@", b"\x1b[32;57;32;1;8;1_"),
        ("ctrl-@", b"\x1b[50;3;0;1;24;1_"),
        ("ctrl-a,d", b"\x1b[65;30;1;1;8;1_\x1b[68;32;100;1;0;1_"),
        ("ctrl-a,@", b"\x1b[65;30;1;1;8;1_\x1b[81;16;64;1;9;1_"),  # AltGr
        ("ctrl-\\", b"\x1b[220;43;28;1;8;1_"),
    ],
)
def test_keys_of_windows(keys: str, sent: bytes) -> None:
    """The detach keys are known in Windows' key events too, cut at any byte."""
    for cut in range(len(sent)):
        assert typed(keys, sent[:cut], sent[cut:])[1]
    assert typed(keys, *(sent[at : at + 1] for at in range(len(sent))))[1]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x1b[80;25;16;0;8;1_\x1b[81;16;17;0;8;1_",  # releases
        b"\x1b[80;25;112;1;0;1_\x1b[81;16;113;1;0;1_",  # p and q
        b"\x1b[80;25;16;1;10;1_\x1b[81;16;17;1;10;1_",  # with Alt
        b"\x1b[112;59;0;1;8;1_\x1b[113;60;0;1;8;1_",  # F1 and F2, whose numbers are p's and q's
        WINDOWS_P + b"\x1b[38;72;0;1;256;1_" + WINDOWS_Q,
        b"\x1b[_\x1b[;;;1_\x1b[80;25;16;1;8;1:_\x1b[1;2;3;4;5;6;7;8_",
        b"\x1b[80;25;16;1;8;99999999999_",
    ],
)
def test_other_keys_of_windows(sent: bytes) -> None:
    """Other keys are passed on byte for byte."""
    assert typed(KEYS, sent) == (sent, False)
    assert typed(KEYS, *(sent[at : at + 1] for at in range(len(sent)))) == (sent, False)


def test_keys_of_eight_bits() -> None:
    """A program that has chosen 8-bit controls and modifyOtherKeys can be left as well."""
    assert typed(KEYS, b"x\x9b27;5;112~\x9b27;5;113~") == (b"x", True)
    assert typed(KEYS, b"x\xc2\x9b27;5;112~\xc2\x9b27;5;113~") == (b"x\xc2", True)
    assert DetachKeys(key_codes(KEYS)).feed(b"\xc4\x9b", 0.0) == (b"\xc4\x9b", False)
