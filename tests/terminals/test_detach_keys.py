"""The detach keys, in whatever pieces they are typed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mooring.terminals.detach_keys import DetachKeys


@given(st.lists(st.binary(max_size=4), max_size=20))
def test_keys_that_do_not_leave_are_passed_on(pieces: list[bytes]) -> None:
    """Keys are passed on in order, none lost, however they arrive; the detach keys detach."""
    keys = DetachKeys(b"\x10\x11")
    passed, typed = b"", b"".join(pieces)
    for piece in pieces:
        out, detached = keys.feed(piece, 0.0)
        passed += out
        if detached:
            assert typed.startswith(passed + b"\x10\x11")
            return
    passed += keys.flush()
    assert passed == typed
    assert b"\x10\x11" not in typed


def test_a_possible_beginning_is_held_back_from_when_it_was_typed() -> None:
    """The loop that feeds the keys knows since when it waits, and passes them on in the end."""
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"ab\x10", 5.0) == (b"ab", False)
    assert (keys.pending, keys.pending_since) == (b"\x10", 5.0)
    assert keys.flush() == b"\x10"
    assert keys.pending == b""


def test_without_detach_keys_nothing_is_held_back() -> None:
    """An empty sequence detaches nobody."""
    assert DetachKeys(b"").feed(b"\x10\x11", 0.0) == (b"\x10\x11", False)
