"""How things look: errors, colours, widths, tables. Coloured only where a person watches."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mooring.errors import MooringError

# Of the 256 fixed colours those of middle brightness: each stands out at 3 : 1 or better from
# white, from black and from what themes have for them. The sixteen others are the theme's, and
# many a light one has a yellow that nobody can read. No faint text, for the same reason.
COLOURS = {"good": 28, "busy": 130, "bad": 196, "odd": 133, "quiet": 243}
_SIXTEEN = {"good": 32, "busy": 35, "bad": 31, "odd": 35}
_TABS = str.maketrans("\n\t", "  ")
NARROWEST = 20
_MOST = 1 << 62
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def clean(text: str) -> str:
    """Text of others, without control characters: it must not drive the reader's terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def one_line(text: object) -> str:
    """The same on one line, as a table's cell needs it."""
    return clean(str(text)).translate(_TABS)


def explain(error: MooringError) -> None:
    """One ``error:`` line and one ``hint:`` line on standard error."""
    print(f"{paint('error:', 'bad', sys.stderr)} {clean(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"{paint('hint:', 'quiet', sys.stderr)} {clean(error.hint)}", file=sys.stderr)


def note(text: str, *, raw: bool = False) -> None:
    """A line for the person, beside the output: on standard error.

    Args:
        raw: the terminal is, and the cursor stands anywhere: it returns before and after.
    """
    line = paint(clean(text), "quiet", sys.stderr)
    print(f"\r\n{line}\r" if raw else line, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


# colours


def paint(text: str, style: str, stream: Any = None) -> str:
    """Text in a colour of ``COLOURS`` or in ``bold``; as it is where nobody sees colours.

    Args:
        style: empty for none.
        stream: where it is going to be printed; default is standard output.
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
    """Whether its reader wants colours (https://no-color.org) and can see them."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return bool(stream.isatty())


def _knows_256() -> bool:
    term = os.environ.get("TERM", "")
    return "256color" in term or bool(os.environ.get("COLORTERM")) or "kitty" in term


# widths


def columns() -> int:
    """How many columns the reader's terminal has."""
    import shutil

    return max(NARROWEST, shutil.get_terminal_size().columns)


def width_of(text: str) -> int:
    """How many columns a text takes: two for a wide character, none for an accent."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        2 if east_asian_width(character) in "WF" else 0 if combining(character) else 1
        for character in text
    )


def fitted(text: str, width: int) -> str:
    """A text of exactly that many columns: filled with blanks, or cut, with an ellipsis."""
    taken = width_of(text)
    if taken > width:
        while text and taken > width - 1:
            text, taken = text[:-1], taken - width_of(text[-1])
        text, taken = text + "…" * (width > 0), taken + (width > 0)
    return text + " " * (width - taken)


# tables

# Which column gives way, and down to how many characters; 0: it is left out
Giving = Sequence[tuple[str, int]]
Painter = Callable[[int, str, str], str]


def print_rows(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    style: Callable[[int, int], str] = lambda row, column: "",
    *,
    give: Giving = (),
    right: Sequence[str] = (),
) -> None:
    """Aligned columns. On a terminal a row fits a line; elsewhere nothing is cut.

    Args:
        style: of a cell, by the numbers of its row and its column; see ``paint``.
        give: which columns give way to the others on a narrow terminal, the first ones first.
            When that is not enough, and without, the widest is shortened; the first column last.
        right: heads of columns of numbers.
    """
    width = columns() if sys.stdout.isatty() else 0
    for line in lines_of(heads, rows, style, give=give, right=right, width=width):
        print(line)


def lines_of(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    style: Callable[[int, int], str] = lambda row, column: "",
    *,
    give: Giving = (),
    right: Sequence[str] = (),
    width: int = 0,
) -> Iterator[str]:
    """``print_rows``, line by line; ``width`` is the most columns of one, 0 for any number."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(width_of(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    if width:
        _squeeze(heads, widths, give, width)
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


def _squeeze(heads: Sequence[str], widths: list[int], give: Giving, room: int) -> None:
    """Take from the columns' widths until a line has room; 0 leaves a column out."""
    wanted = list(widths)

    def excess() -> int:
        shown = [taken for taken in widths if taken]
        return sum(shown) + 2 * (len(shown) - 1) - room

    giving = [(heads.index(head), least) for head, least in give if head in heads]
    for at, least in giving:
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
    for at, _ in reversed(giving):  # what the last column left was more than was needed
        if widths[at]:
            widths[at] = min(wanted[at], widths[at] - excess())


# values


def value_text(key: str, value: object) -> str:
    """A value of a spec as a person writes it: ``30m``, ``16 GiB``, ``-`` for nothing."""
    from mooring.spec.units import format_duration, format_size

    if isinstance(value, (int, float)) and 0 <= value <= _MOST:  # others' labels hold anything
        if key in ("idle_timeout", "max_duration"):
            return format_duration(value) if value else "never"
        if key in ("memory", "shm", "record"):
            return format_size(int(value)) if value else "off"
    if value is None or value in ([], {}, ()):
        return "-"
    if isinstance(value, (bool, list, dict)):  # as it may stand in YAML
        return json.dumps(_without_nothing(value), ensure_ascii=False)
    return str(value)


def _without_nothing(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nothing(one) for key, one in value.items() if one is not None}
    return [_without_nothing(one) for one in value] if isinstance(value, list) else value


def size_text(size_bytes: int | None) -> str:
    """Bytes in the binary unit that suits them, in three digits: ``61.2 GiB``, ``512 MiB``."""
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
    """So many bytes of so many, in the unit of the latter: ``61.4 / 80 GiB``."""
    whole = size_text(size_bytes)
    unit = whole.rpartition(" ")[2]
    part = part_bytes / 1024 ** _UNITS.index(unit)
    text = f"{part:.1f}" if part < 100 else f"{part:.0f}"
    return f"{text.removesuffix('.0')} / {whole}"


def in_pages(text: str) -> None:
    """Print it; through a pager if it is longer than the reader's terminal, as git does.

    ``PAGER`` is the pager; set to nothing, or to ``cat``, there is none.
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
    # as git: leave if it fits, keep colours, and let the text stand afterwards
    environ = {"LESS": "FRX", **os.environ}
    with subprocess.Popen(pager, stdin=subprocess.PIPE, env=environ, text=True) as running:
        try:
            running.communicate(text)
        except KeyboardInterrupt:  # the pager's own business
            running.wait()
