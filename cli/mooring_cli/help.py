"""A command's --help, which is the same with every version of typer."""

from __future__ import annotations

from typing import Any

from mooring_cli.examples import EXAMPLES
from mooring_cli.option_hints import ALIASES


def format_help(command: Any, context: Any, formatter: Any) -> None:
    """Write a command's help: its usage, its text, its arguments and its options.

    Args:
        command: the command, which has no subcommands.
        context: the context of its invocation.
        formatter: what it is written to.
    """
    parameters = [one for one in command.get_params(context) if not getattr(one, "hidden", False)]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    options = [one for one in parameters if one.param_type_name == "option"]
    usage = " ".join(["[OPTIONS]", *map(argument_text, arguments)])
    formatter.write_usage(context.command_path, usage)
    command.format_help_text(context, formatter)
    rows = [(argument_text(one), one.help or "") for one in arguments]
    if any(text for _, text in rows):
        with formatter.section("Arguments"):
            formatter.write_dl(rows)
    with formatter.section("Options"):
        formatter.write_dl([(_option_text(one), _meaning(one)) for one in options])
    own = context.command_path.removeprefix(context.find_root().command_path).strip()
    if lines := EXAMPLES.get(own):
        with formatter.section("Examples"):
            for line, meaning in lines:
                formatter.write(f"{'':{formatter.current_indent}}$ {example_text(line, meaning)}\n")
    if names := other_names(own):
        with formatter.section("Also"):
            formatter.write_text(", ".join(names))


def example_text(line: str, meaning: str) -> str:
    """Return an example as one types it, with what it does as a comment."""
    return f"mooring {line}" + (f"  # {meaning}" if meaning else "")


def other_names(command: str) -> list[str]:
    """Return what else runs a command, sorted: ``["mooring list", …]`` for ``ps``."""
    return sorted(f"mooring {other}" for other, own in ALIASES.items() if own == command)


def argument_text(argument: Any) -> str:
    """Return an argument as in a usage line: ``NAME``, ``[NAME]``, ``NAMES...``."""
    name = str(argument.metavar or argument.name.upper())
    if "[" in name or "..." in name:
        return name  # says itself what may be omitted or repeated
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def value_text(option: Any) -> str:
    """Return the word for an option's value; empty for a flag."""
    return "" if option.is_flag else str(option.metavar or "TEXT")


def _option_text(option: Any) -> str:
    def joined(names: list[str]) -> str:  # -f, --file
        return ", ".join(sorted(names, key=lambda name: len(name) - len(name.lstrip("-"))))

    parts = filter(None, (joined(option.opts), joined(option.secondary_opts)))
    return " ".join(filter(None, (" / ".join(parts), value_text(option))))


def _meaning(option: Any) -> str:
    default = option.default
    shown = default not in (None, "") and not option.is_flag
    return f"{option.help or ''}  [default: {default}]" if shown else option.help or ""
