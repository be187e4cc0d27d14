"""This machine's descriptions of terminals, terminfo(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

# Where ncurses is built to look, by distribution
_FOLDERS = ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_LARGEST = 32 << 10  # that ncurses reads, term(5)


def description(name: str, environ: Mapping[str, str]) -> bytes:
    """Return the compiled description of a terminal; empty if this machine has none.

    Args:
        name: the terminal's name, as in ``TERM``.
        environ: the environment variables, which may name further folders.
    """
    if not _NAME.fullmatch(name):
        return b""
    for folder in _folders(environ):
        for part in (name[0], f"{ord(name[0]):x}"):  # the second one on file systems without case
            try:
                with open(f"{folder}/{part}/{name}", "rb") as file:
                    data = file.read(_LARGEST + 1)
            except OSError:
                continue
            if len(data) <= _LARGEST:
                return data
    return b""


def _folders(environ: Mapping[str, str]) -> Iterator[str]:
    yield from filter(None, [environ.get("TERMINFO")])
    yield os.path.expanduser("~/.terminfo")
    yield from filter(None, environ.get("TERMINFO_DIRS", "").split(":"))
    yield from _FOLDERS
