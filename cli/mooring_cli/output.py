"""Print errors, notes, tables and values; colours are used only on terminals."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mooring import MooringError

FAILED = 125  # exit code for mooring's own errors in commands that return the remote exit code

# Colours of medium brightness among the 256 fixed ones: each has a contrast of at least 3:1 with
# white, with black and with common themes' backgrounds. The first sixteen colours depend on the
# theme, and yellow is unreadable in many light themes. For the same reason no text is faint.
COLOURS = {"good": 28, "busy": 130, "bad": 196, "odd": 133, "quiet": 243}
_SIXTEEN = {"good": 32, "busy": 35, "bad": 31, "odd": 35}
_TABS = str.maketrans("\n\t", "  ")
NARROWEST = 20
_LARGEST = 1 << 62
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def clean(text: str) -> str:
    """Replace control characters in untrusted text, which could control the user's terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def one_line(text: object) -> str:
    """Apply ``clean`` and replace line breaks and tabs with blanks, for a table's cell."""
    return clean(str(text)).translate(_TABS)


def print_error(error: MooringError) -> None:
    """Print an ``error:`` line and, if the error has a hint, a ``hint:`` line to standard error.

    Of several mistakes each is printed.
    """
    if error.mistakes:
        for mistake in error.mistakes:
            print_error(mistake)
        return
    print(f"{paint('error:', 'bad', sys.stderr)} {clean(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"{paint('hint:', 'quiet', sys.stderr)} {clean(error.hint)}", file=sys.stderr)


def note(text: str, *, raw: bool = False) -> None:
    """Print a line to standard error, separate from the command's output.

    Args:
        text: the line.
        raw: whether the terminal is in raw mode, which requires explicit carriage returns.
    """
    line = paint(clean(text), "quiet", sys.stderr)
    print(f"\r\n{line}\r" if raw else line, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def print_chunks(chunks: Iterable[bytes]) -> None:
    """Write bytes to standard output, unchanged and unbuffered."""
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


# colours


def paint(text: str, style: str, stream: Any = None) -> str:
    """Return text with the escape sequences of a style, or unchanged if colours are disabled.

    Args:
        text: the text.
        style: a key of ``COLOURS``, or ``bold``; empty for none.
        stream: the stream that it will be printed to; default: standard output.
    """
    if not text or not style or not _coloured(stream or sys.stdout):
        return text
    if style == "bold":
        code = "1"
    elif _knows_256():
        code = f"38;5;{COLOURS[style]}"
    else:
        code = str(_SIXTEEN.get(style, 0))
    return f"\033[{code}m{text}\033[0m" if code != "0" else text


def _coloured(stream: Any) -> bool:
    """Return whether the stream is a terminal with colours and NO_COLOR (no-color.org) is unset."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return bool(stream.isatty())


def _knows_256() -> bool:
    term = os.environ.get("TERM", "")
    return "256color" in term or bool(os.environ.get("COLORTERM")) or "kitty" in term


# widths


def terminal_width() -> int:
    """Return the terminal's width in columns, at least ``NARROWEST``."""
    import shutil

    return max(NARROWEST, shutil.get_terminal_size().columns)


def width_of(text: str) -> int:
    """Return the width of a text in columns: two for a wide character, zero for a combining one."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        2 if east_asian_width(character) in "WF" else 0 if combining(character) else 1
        for character in text
    )


def fitted(text: str, width: int) -> str:
    """Return a text of exactly ``width`` columns: padded with blanks, or cut with an ellipsis."""
    taken = width_of(text)
    if taken > width:
        while text and taken > width - 1:
            text, taken = text[:-1], taken - width_of(text[-1])
        text, taken = text + "…" * (width > 0), taken + (width > 0)
    return text + " " * (width - taken)


# tables, without rich: importing it takes 21 ms, an eighth of the run time of `mooring ps`

# The columns to shrink, in this order, each with its minimum width; 0: the column is omitted
ShrinkOrder = Sequence[tuple[str, int]]


def print_rows(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    style: Callable[[int, int], str] = lambda row, column: "",
    *,
    shrink: ShrinkOrder = (),
    right: Sequence[str] = (),
) -> None:
    """Print a table; rows are shortened to fit on a terminal, but not elsewhere.

    Args:
        heads: the headers of the columns.
        rows: the cells of each row.
        style: returns a cell's style for ``paint`` from the indices of its row and its column.
        shrink: the columns to shrink on a narrow terminal. If that is not enough, the widest column
            is shortened repeatedly, the first column last.
        right: headers of the columns to align right.
    """
    width = terminal_width() if sys.stdout.isatty() else 0
    for line in lines_of(heads, rows, style, shrink=shrink, right=right, width=width):
        print(line)


def lines_of(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    style: Callable[[int, int], str] = lambda row, column: "",
    *,
    shrink: ShrinkOrder = (),
    right: Sequence[str] = (),
    width: int = 0,
) -> Iterator[str]:
    """Yield the lines of a table; other arguments as for ``print_rows``.

    Args:
        width: maximum width of a line, in columns; 0 for no limit.
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(width_of(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    if width:
        _shrink(heads, widths, shrink, width)
    shown = [i for i, taken in enumerate(widths) if taken]

    def line(cells: Sequence[str], painted: Callable[[int], str]) -> str:
        texts = []
        for i in shown:
            text = fitted(cells[i], widths[i])
            if heads[i] in right:
                text = text.rstrip().rjust(widths[i])
            bare = text.rstrip()
            texts.append(paint(bare, painted(i)) + " " * (len(text) - len(bare)))
        return "  ".join(texts).rstrip()

    yield line(heads, lambda i: "bold")
    for number, row in enumerate(rows):
        yield line(row, lambda i, number=number: style(number, i))  # type: ignore[misc]


def _shrink(heads: Sequence[str], widths: list[int], order: ShrinkOrder, room: int) -> None:
    """Reduce the columns' widths in place until a line fits; width 0 omits a column."""
    natural = list(widths)

    def excess() -> int:
        shown = [taken for taken in widths if taken]
        return sum(shown) + 2 * (len(shown) - 1) - room

    shrinking = [(heads.index(head), least) for head, least in order if head in heads]
    for at, least in shrinking:
        over = excess()
        if over <= 0:
            break
        widths[at] = min(widths[at], max(least, widths[at] - over)) if least else 0
    for least in (8, 3):
        while excess() > 0:
            others = [i for i in range(1, len(widths)) if widths[i] > least]
            widest = max(others, key=lambda i: widths[i]) if others else 0
            if widths[widest] <= least:
                break
            widths[widest] -= 1
    for at, _ in reversed(shrinking):  # omitting a column may have freed more than needed
        if widths[at]:
            widths[at] = min(natural[at], widths[at] - excess())


# values


def value_text(key: str, value: object) -> str:
    """Format a value of a spec as in a spec file: ``30m``, ``16 GiB``; ``-`` for none."""
    from mooring import format_duration, format_size

    if (
        isinstance(value, (int, float)) and 0 <= value <= _LARGEST
    ):  # labels of foreign containers may have any value
        if key in ("idle_timeout", "max_duration"):
            return format_duration(value) if value else "never"
        if key in ("memory", "shm", "record"):
            return format_size(int(value)) if value else "off"
    if value is None or value in ([], {}, ()):
        return "-"
    if isinstance(value, (bool, list, dict)):  # JSON is valid YAML
        return json.dumps(_without_nulls(value), ensure_ascii=False)
    return str(value)


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def size_text(size_bytes: int | None) -> str:
    """Format a size with a suitable binary unit and up to three digits, as in ``61.2 GiB``.

    Args:
        size_bytes: the size in bytes; None is formatted as ``-``.
    """
    if size_bytes is None:
        return "-"
    value, unit = float(size_bytes), ""
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    text = f"{value:.1f}" if value < 100 and unit not in ("B", "KiB") else f"{value:.0f}"
    return f"{text.removesuffix('.0')} {unit}"


def part_text(part_bytes: int, size_bytes: int) -> str:
    """Format a part of a size and the size, in the size's unit: ``61.4 / 80 GiB``.

    A part of less than one unit has its own: ``36 MiB / 1 GiB``.
    """
    whole = size_text(size_bytes)
    unit = whole.rpartition(" ")[2]
    part = part_bytes / 1024 ** _UNITS.index(unit)
    if 0 < part < 1:
        return f"{size_text(part_bytes)} / {whole}"
    text = f"{part:.1f}" if part < 100 else f"{part:.0f}"
    return f"{text.removesuffix('.0')} / {whole}"


def print_value(start: str, value: str, style: str = "") -> None:
    """Print a value after a label; on a terminal long values wrap with a hanging indent.

    Args:
        start: the label, including the blanks after it.
        value: may have several lines; ``-`` is printed for an empty value.
        style: the value's style for ``paint``.
    """
    room = terminal_width() - width_of(start) if sys.stdout.isatty() else 0
    texts = value.splitlines() or ["-"]
    if 0 < room < max(map(width_of, texts)):
        texts = [part for text in texts for part in wrapped(text, max(room, 20)) or [""]]
    for number, text in enumerate(texts):
        print(((start if number == 0 else " " * width_of(start)) + paint(text, style)).rstrip())


def wrapped(text: str, width: int) -> list[str]:
    """Wrap a text between words into lines; words with hyphens are not broken."""
    import textwrap

    return textwrap.wrap(text, width, break_on_hyphens=False)


def print_in_pages(text: str) -> None:
    """Print a text, through a pager if it is longer than the terminal, as git does.

    ``PAGER`` sets the pager; empty or ``cat`` means none.
    """
    import shlex
    import shutil
    import subprocess

    pager = shlex.split(os.environ.get("PAGER", "less"))
    lines = shutil.get_terminal_size().lines
    longer = text.count("\n") >= lines and sys.stdout.isatty() and sys.stdin.isatty()
    if not longer or not pager or pager[0] == "cat" or shutil.which(pager[0]) is None:
        print(text, end="", flush=True)
        return
    # as git sets it: exit if the text fits, keep colours, and leave the text on the screen
    environ = {"LESS": "FRX", **os.environ}
    with subprocess.Popen(pager, stdin=subprocess.PIPE, env=environ, text=True) as running:
        try:
            running.communicate(text)
        except KeyboardInterrupt:  # the pager handles it
            running.wait()
