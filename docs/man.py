"""The manual pages of the command line: mooring(1), and one for each command."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from mooring_cli.examples import EXAMPLES
from mooring_cli.help import argument_text, example_text, other_names, value_text

_NOTE = r".\" Written by docs/generate.py from the code: change that, then run `make docs`."
_SEE = "Documentation and issues: the README of mooring, and its folder docs/."

_OWN = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)

Path = tuple[str, ...]


def pages(group: Any) -> dict[str, str]:
    """Write a page for a command line and for each of its commands.

    Args:
        group: the command line, as click has it.

    Returns:
        The pages by the names of their files, ``mooring-create.1``.
    """
    found = {"-".join(path) + ".1": _page(path, command) for path, command in _commands(group)}
    return {"mooring.1": _main(group), **found}


def _commands(group: Any, path: Path = ("mooring",)) -> Iterator[tuple[Path, Any]]:
    for name, found in group.commands.items():
        if not found.hidden:
            if hasattr(found, "commands"):
                yield from _commands(found, (*path, name))
            else:
                yield (*path, name), found


def _main(group: Any) -> str:
    summary, rest = _summary(group)
    lines = [*_head(("mooring",), summary), r"\fBmooring\fR [OPTIONS] COMMAND [ARGS]..."]
    lines += [".SH DESCRIPTION", *_text(rest or summary)]
    lines += [".SH COMMANDS"]
    for path, command in _commands(group):
        lines += [".TP", rf"\fB{_escaped('-'.join(path))}\fR(1)", _escaped(_summary(command)[0])]
    lines += [*_options(group), ".SH EXIT STATUS", *_text(group.epilog)]
    return "\n".join([*lines, ".SH SEE ALSO", _escaped(_SEE)]) + "\n"


def _page(path: Path, command: Any) -> str:
    summary, rest = _summary(command)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join(["[OPTIONS]", *map(argument_text, arguments)])
    lines = [*_head(path, summary), rf"\fB{_escaped(' '.join(path))}\fR {_escaped(usage)}"]
    lines += [".SH DESCRIPTION", *_text(summary), *([".PP", *_text(rest)] if rest else [])]
    if any(one.help for one in arguments):
        lines.append(".SH ARGUMENTS")
        for one in arguments:
            lines += [".TP", rf"\fI{_escaped(argument_text(one))}\fR", _escaped(one.help or "")]
    lines += _options(command)
    own = " ".join(path[1:])
    if examples := EXAMPLES.get(own):
        shown = [_escaped(f"$ {example_text(*example)}") for example in examples]
        lines += [".SH EXAMPLES", ".nf", *shown, ".fi"]
    if names := other_names(own):
        lines += [".SH ALSO", _escaped(", ".join(names))]
    return "\n".join([*lines, ".SH SEE ALSO", r"\fBmooring\fR(1)"]) + "\n"


def _head(path: Path, summary: str) -> list[str]:
    name = "-".join(path)
    title = _escaped(name.upper())
    return [
        _NOTE,
        f'.TH "{title}" 1 "" "mooring" "mooring manual"',
        ".nh",  # what is typed is neither broken nor spread
        ".ad l",
        ".SH NAME",
        rf"{_escaped(name)} \- {_escaped(summary.rstrip('.'))}",
        ".SH SYNOPSIS",
    ]


def _options(command: Any) -> list[str]:
    lines = [".SH OPTIONS"]
    for one in command.params:
        if one.param_type_name != "option" or one.hidden or one.name == "help":
            continue
        names = ", ".join(rf"\fB{_escaped(name)}\fR" for name in (*one.opts, *one.secondary_opts))
        value = value_text(one)
        has_default = isinstance(one.default, str) and one.default
        lines += [
            ".TP",
            rf"{names} \fI{_escaped(value)}\fR" if value else names,
            _escaped((one.help or "") + (f" Default: {one.default}." if has_default else "")),
        ]
    return [*lines, ".TP", r"\fB\-h\fR, \fB\-\-help\fR", "Show this message and exit."]


def _summary(command: Any) -> tuple[str, str]:
    """The first paragraph of a command's help, on one line, and the rest."""
    first, _, rest = inspect.cleandoc(command.help or "").partition("\n\n")
    return " ".join(first.split()), rest


def _text(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        kept = paragraph.lstrip().startswith("\b")  # as click keeps its lines
        if lines:
            lines.append(".PP")
        words = [_escaped(line.strip()) for line in paragraph.replace("\b", "").splitlines()]
        shown = [line for line in words if line]
        lines += [".nf", *shown, ".fi"] if kept else [" ".join(shown)]
    return lines


def _escaped(text: str) -> str:
    """Quote what groff would read as its own, or print as another character; groff_char(7)."""
    plain = " ".join(text.split()).translate(_OWN)
    return rf"\&{plain}" if plain.startswith(".") else plain
