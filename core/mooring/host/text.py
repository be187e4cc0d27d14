"""Make untrusted text printable."""

from __future__ import annotations


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
