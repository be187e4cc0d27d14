"""Descriptions of terminals are found where ncurses finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring.host.terminfo import description

NAME = "mt-odd"


def entry(folder: Path, part: str = "m", data: bytes = b"data") -> str:
    (folder / part).mkdir(parents=True)
    (folder / part / NAME).write_bytes(data)
    return str(folder)


@pytest.mark.parametrize("part", ["m", "6d"])
def test_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """In TERMINFO, then in the home folder, then in TERMINFO_DIRS; by letter or by its number."""
    dirs = f"/nowhere::{entry(tmp_path / 'dirs', part, b'dirs')}"
    assert description(NAME, {"TERMINFO_DIRS": dirs}) == b"dirs"
    monkeypatch.setenv("HOME", str(tmp_path))
    entry(tmp_path / ".terminfo", part, b"home")
    assert description(NAME, {"TERMINFO_DIRS": dirs}) == b"home"
    own = entry(tmp_path / "own", part, b"own")
    assert description(NAME, {"TERMINFO": own, "TERMINFO_DIRS": dirs}) == b"own"


def test_the_systems_are_found() -> None:
    """Those of the distribution need no variable."""
    assert description("xterm", {})[:1] in (b"\x1a", b"\x1e")  # term(5), the magic numbers


@pytest.mark.parametrize(
    "name", ["", "nosuch-terminal", "../m/mt-odd", "m/mt-odd", ".mt", "x" * 100, "a\nb"]
)
def test_what_is_no_terminal_has_none(tmp_path: Path, name: str) -> None:
    """A name leads to no other file."""
    assert description(name, {"TERMINFO": entry(tmp_path)}) == b""


def test_one_that_is_too_large(tmp_path: Path) -> None:
    """ncurses would not read it either."""
    assert description(NAME, {"TERMINFO": entry(tmp_path, data=bytes(1 << 20))}) == b""
