"""The commands: each is in the module of its name, and imported when it is used."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import mooring_cli
from mooring_cli import main, option_hints
from mooring_cli.columns import COLUMNS
from mooring_cli.examples import EXAMPLES
from mooring_cli.help import example_text

# Imports and builds a command as the parser does, and prints which other modules that took
BUILD = """
import sys
from mooring_cli import main
main.Commands()[sys.argv[1]]
print(*(name.partition(".")[2] for name in sys.modules if name.startswith("mooring_cli.")))
"""
HELPERS = {
    "attach", "columns", "events", "launch", "option_hints", "options", "output", "progress",
    "selection", "spec_flags", "terminal_io", "unsupported",
}  # fmt: skip


@pytest.mark.parametrize("command", ["ps", "exec", "stop", "create"])
def test_a_command_imports_no_other_command(command: str) -> None:
    """What a command costs to start does not grow with the number of commands."""
    argv = [sys.executable, "-c", BUILD, command]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - HELPERS == {"main", command}


def test_every_command_module_is_on_the_command_line() -> None:
    """A module that registers a command is in the list of commands, and the other way round."""
    folder = Path(str(mooring_cli.__file__)).parent
    registering = {
        path.stem for path in folder.glob("*.py") if "\ndef register(" in path.read_text()
    }
    listed = {main.ELSEWHERE.get(name, name).replace("-", "_") for name in main.COMMANDS}
    assert registering == listed


def test_a_command_is_in_the_module_of_its_name() -> None:
    """Who looks for a command opens the file of that name."""
    commands = main.Commands()
    for name in main.COMMANDS:
        assert commands[name].name == name
        if not hasattr(commands[name], "commands"):
            expected = main.ELSEWHERE.get(name, name).replace("-", "_")
            assert commands[name].callback.__module__ == f"mooring_cli.{expected}"
            assert importlib.import_module(f"mooring_cli.{expected}").register


def test_a_command_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped command is an error that names the nearest one; nothing is imported for it."""
    with pytest.raises(KeyError):
        main.Commands()["pss"]
    group = typer.main.get_command(main.app)
    assert list(group.commands) == list(main.COMMANDS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
def test_any_encoding_of_the_output(encoding: str) -> None:
    """What an encoding does not have is printed in other characters (an internal error before)."""
    script = (
        "from mooring_cli import main; main._open_standard_streams();"
        "print('a\\u2713 \\u2026 \\U0001f40b \\udcff', end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    printed = done.stdout.decode(encoding)
    if encoding.startswith("utf"):
        assert printed == "a\u2713 \u2026 \U0001f40b \\udcff"
    else:
        ellipsis = "\u2026" if encoding == "cp1252" else "..."
        assert printed == f"aok {ellipsis} \\U0001f40b \\udcff"


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("sessions", "no such command 'sessions'", "use: mooring ps"),
        ("log x", "no such command 'log'", "use: mooring logs"),
        ("bash x", "no such command 'bash'", "use: mooring exec NAME"),
        ("delete x", "no such command 'delete'", "use: mooring rm"),
        ("pss", "no such command 'pss'. Did you mean 'ps'?", "see: "),
        ("rm -rf x", "no such option: -r", "rm always removes the whole session; leave out -r"),
    ],
)
def test_other_systems_commands(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    error: str,
    hint: str,
) -> None:
    """A command that other systems have is one error with what does it here, and code 2."""
    monkeypatch.setattr(sys, "argv", ["mooring", *line.split()])
    with pytest.raises(SystemExit) as caught:
        main.run()
    assert caught.value.code == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == f"error: {error}"
    assert shown[1].startswith(f"hint: {hint}")


def test_hints_name_commands_that_there_are() -> None:
    """What is pointed to exists, and what is pointed away from does not."""
    for other, own in option_hints.OTHERS.items():
        assert other not in (*main.COMMANDS, *option_hints.ALIASES)
        assert own.startswith("--") or own.split()[0].rstrip(",") in main.COMMANDS
    assert not set(option_hints.ALIASES) & set(main.COMMANDS)
    assert {own.split()[0] for own in option_hints.ALIASES.values()} <= set(main.COMMANDS)


def test_help_is_the_same_for_everyone() -> None:
    """Whatever typer's version, each argument is explained, and no type of Python's is shown."""
    group = typer.main.get_command(main.app)
    context = group.make_context("mooring", ["ps"])
    for name in main.COMMANDS:
        command = group.commands[name]  # type: ignore[attr-defined]
        for part in getattr(command, "commands", {name: command}).values():
            text = part.get_help(type(context)(part, info_name=f"mooring {name}"))
            assert text.startswith(f"Usage: mooring {name} [OPTIONS]")
            assert not re.search(r"[<{\\]|\bstr\b|\bpath\b <", text), text
            assert "--help" in text.partition("Options:")[2]
    describe = group.commands["describe"]  # type: ignore[attr-defined]
    lines = describe.get_help(type(context)(describe, info_name="mooring describe")).splitlines()
    assert lines[0] == "Usage: mooring describe [OPTIONS] NAMES..."
    assert "  NAMES...  Names, starts of ids, or patterns such as 'bert-*'." in lines
    logs = group.commands["logs"]  # type: ignore[attr-defined]
    lines = logs.get_help(type(context)(logs, info_name="mooring logs")).splitlines()
    assert lines[0] == "Usage: mooring logs [OPTIONS] NAME [KERNEL]"
    assert "  --tail N      Show the last N lines." in lines


def test_every_command_has_examples_that_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """An example parses as what it says, in a help of at most 80 columns with whole words."""
    group = typer.main.get_command(main.app)
    context = group.make_context("mooring", ["ps"])
    seen = set()
    for name in main.COMMANDS:
        command = group.commands[name]  # type: ignore[attr-defined]
        parts = getattr(command, "commands", None)
        for leaf, part in (parts or {"": command}).items():
            own = f"{name} {leaf}".strip()
            if part.hidden:
                continue
            seen.add(own)
            for line, _ in EXAMPLES[own]:
                words = shlex.split(line.partition(" | ")[0].partition(" >")[0])
                assert " ".join(words[: len(own.split())]) == own
                part.make_context(own, words[len(own.split()) :], parent=context)
            with pytest.raises(SystemExit) as caught:
                app_run(["mooring", *own.split(), "--help"])
            assert caught.value.code in (0, None)
            help_ = capsys.readouterr().out
            assert max(map(len, help_.splitlines())) <= 80, help_
            if own == "ps":
                assert ", ".join(COLUMNS) in " ".join(help_.split())
            assert all(f"  $ {example_text(*example)}\n" in help_ for example in EXAMPLES[own])
    assert seen == set(EXAMPLES)


def app_run(argv: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)
        patch.setenv("COLUMNS", "80")
        main.run()


def test_the_main_help_is_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command that is not hidden is in one group, with a summary that is not cut."""
    with pytest.raises(SystemExit):
        app_run(["mooring", "--help"])
    help_ = capsys.readouterr().out
    for title in main.GROUPS:
        assert (f"\n{title}:\n" in help_) is (title != "Images")
    assert "..." not in help_.partition("\n\n")[2]
    for name in set(main.COMMANDS) - {"save", "build", "push"}:
        assert len(re.findall(rf"^  {name} ", help_, flags=re.M)) == 1
    assert max(map(len, help_.splitlines())) <= 80
