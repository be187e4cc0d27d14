"""Text from elsewhere, made fit to be printed."""

from __future__ import annotations


def one_line(text: object, limit: int | None = None) -> str:
    """A text as one printable line: control characters and line breaks are escaped.

    Args:
        limit: the longest result, in characters; a longer one ends with ``…``. None for no limit.
    """
    line = str(text)
    line = line if line.isprintable() else ascii(line)[1:-1]
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"
