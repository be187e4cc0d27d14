"""Make untrusted text printable, and fit to be pasted into a shell."""

from __future__ import annotations

import os
import shlex


def one_line(text: object, limit: int | None = 200) -> str:
    """Return text as one printable line.

    If the text has line breaks or other unprintable characters, they and all non-ASCII characters
    are escaped.

    Args:
        text: converted with ``str``.
        limit: the maximum length in characters, with a final ``…`` if truncated; None for no limit.
    """
    line = str(text)
    line = line if line.isprintable() else ascii(line)[1:-1]
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def quoted(word: object) -> str:
    """Return a path or name as one word of a shell command, for commands that users paste.

    A word with unprintable characters is quoted as in Bash, ``$'a\\x0ab'``, so that no character
    of it acts on a terminal.

    Args:
        word: converted with ``str``.
    """
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(
        character
        if character.isprintable() and character not in "\\'"
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
        for character in text
    )
    return f"$'{escaped}'"
