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
