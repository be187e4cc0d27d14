"""No command line, spec or surroundings end in an internal error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.odd import search
from tests.support.command_lines import FILES, FOLDERS, HOMES, STREAMS, Line, Runner, check

# `python -m tests.cli.odd --examples 5000` draws more
EXAMPLES = 40
COMMANDS = (
    ("create", "-d", "-f", "session.yml"),
    ("exec", "train", "--", "echo", os.fsdecode(b"\xff")),
    ("kernel", "list"),
    ("doctor",),
)
# The files that a command reads
READ = {"create": FILES[:-1], "kernel": FILES[-1:]}


def test_whatever_is_drawn() -> None:
    """Odd arguments, specs, variables, files, folders, encodings and streams are no bug's news."""
    search(EXAMPLES)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_each_kind_of_surroundings(runner: Runner, command: tuple[str, ...]) -> None:
    """Every kind of folder, home and stream, and broken files of the user's, each by itself."""
    for folder in FOLDERS:
        check(runner, Line(command, folder=folder))
    for home in HOMES:
        check(runner, Line(command, home=home))
    for number in range(3):
        for kind in STREAMS:
            streams = ["null", "file", "file"]
            streams[number] = kind
            check(runner, Line(command, streams=tuple(streams)))  # type: ignore[arg-type]
    for name in READ.get(command[0], ()):
        for content in ("\xff\xfe", "[" * 100_000, "[]", "null"):
            check(runner, Line(command, files={name: content}))


@pytest.mark.parametrize(
    "environ",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "nonsense.ISO-8859-15"},
        {"PYTHONIOENCODING": "utf-16"},
        {"HOME": "relative"},
        {"HOME": ""},
        {"COLUMNS": "-1", "TERM": "\udcff"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_real_processes(state: Path, project: Path, environ: dict[str, str]) -> None:
    """The locale and what Python itself makes of the environment are a process's own."""
    words = ["create", "-d", "--name", os.fsdecode(b"\xff\xc3"), "--env", "\u2713=\u2026"]
    done = subprocess.run(
        [os.fsencode(word) for word in (sys.executable, "-m", "mooring_cli", *words)],
        env={**os.environ, "DOCKER_HOST": f"unix://{state}/none", **environ},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.replace(b"\0", b"").lstrip(b"\xff\xfe").startswith(b"error: flag --")


@pytest.mark.parametrize(
    ("redirected", "code"),
    [
        ("<&-", 0),
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        (">/dev/full 2>&1", 1),
        ("1</dev/null", 1),
        ("2</dev/null", 0),
    ],
)
def test_closed_descriptors(state: Path, project: Path, redirected: str, code: int) -> None:
    """Whatever the standard streams are, a command says what it can and has its exit code."""
    for value, expected in (("2", code), ("two", 2)):
        script = f'exec "$0" -m mooring_cli config show --cpus {value} {redirected}'
        words = ["sh", "-c", script, sys.executable]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == expected, done.stderr
        assert "internal error" not in done.stderr
        assert "Traceback" not in done.stderr
