"""Text from elsewhere, made fit to be printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.host.text import one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("größer", "größer"),
        (Path("/a/b"), "/a/b"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[2Jclear", r"\x1b[2Jclear"),
        ("a\u202eb", r"a\u202eb"),
        ("lone \udcff", r"lone \udcff"),
        ("", ""),
    ],
)
def test_what_is_printed(text: object, line: str) -> None:
    """What can be printed stands as it is; a text with anything else is escaped."""
    assert one_line(text) == line


def test_a_long_text_is_cut() -> None:
    """A limit is kept to, and three dots in one character say that something is missing."""
    assert one_line("x" * 10, 10) == "x" * 10
    assert one_line("x" * 11, 10) == "x" * 9 + "…"


@given(st.text(), st.integers(1, 40))
def test_always_one_printable_line(text: str, limit: int) -> None:
    """Whatever comes, it is printable and no longer than it may be."""
    line = one_line(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
