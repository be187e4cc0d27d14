"""Text from elsewhere, made fit to be printed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.host.text import one_line, quoted


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


@pytest.mark.parametrize(
    ("word", "as_pasted"),
    [
        ("plain/path.yml", "plain/path.yml"),
        (Path("/a b"), "'/a b'"),
        ("x; rm -rf ~", "'x; rm -rf ~'"),
        ("$(id)`id`", "'$(id)`id`'"),
        ("it's", "'it'\"'\"'s'"),
        ("two\nlines'\\", "$'two\\x0alines\\x27\\x5c'"),
        ("\x1b]0;title\x07", "$'\\x1b]0;title\\x07'"),
        ("", "''"),
    ],
)
def test_what_is_pasted(word: object, as_pasted: str) -> None:
    """A word that a shell would take apart is quoted, and nothing in it reaches the terminal."""
    assert quoted(word) == as_pasted


@given(st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw))
def test_a_shell_reads_back_the_same(raw: bytes) -> None:
    """Whatever a file's name is made of, the shell gets that file's name, and one word."""
    word = quoted(os.fsdecode(raw))
    assert word.isprintable()
    words = ["bash", "-c", f"printf '%s\\0' {word}"]
    done = subprocess.run(words, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout == raw + b"\0"
