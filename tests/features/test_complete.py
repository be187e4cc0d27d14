"""That every line of ``lines.md`` has tests, and that they use what the line promises."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.main import get_command

HERE = Path(__file__).parent
WORD = re.compile(r"`([^`]+)`")
TEST = re.compile(r"^def test_(\w+)(.*?)(?=\n\n\n|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Line:
    """A line of the tables."""

    tests: str
    here: str

    @property
    def words(self) -> list[str]:
        """The commands, flags and keys that it promises."""
        given = [word for part in WORD.findall(self.here) for word in part.split()]
        return [word for word in given if word != "mooring"]


def lines() -> list[Line]:
    """Those of both tables."""
    rows = [
        [cell.strip() for cell in row.strip("| \n").split(" | ")]
        for row in (HERE / "lines.md").read_text().splitlines()
        if row.startswith("| ") and not row.startswith("| tests")
    ]
    assert {len(row) for row in rows} == {3}
    return [Line(row[0], row[2]) for row in rows]


@functools.cache
def proofs() -> dict[str, str]:
    """The source of every test of this folder but these, by name."""
    found: dict[str, str] = {}
    for file in sorted(HERE.glob("test_*.py")):
        if file == Path(__file__):
            continue
        for name, text in TEST.findall(file.read_text()):
            assert name not in found, f"two tests are called test_{name}"
            found[name] = text
    return found


def of(line: Line) -> dict[str, str]:
    """The tests of a line."""
    return {name: text for name, text in proofs().items() if name.startswith(f"{line.tests}_")}


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.tests)
def test_each_line_has_a_test_that_gives_what_it_promises(line: Line) -> None:
    """A line without a test fails, and so does a flag that no test of its line uses."""
    found = of(line)
    assert found, f"no test_{line.tests}_… is there"
    used = "".join(found.values())
    unused = [word for word in line.words if not re.search(rf"""["'\n]{word}["'=:]""", used)]
    assert not unused, f"no test of {line.tests} gives: {', '.join(unused)}"


def test_each_test_is_of_one_line() -> None:
    """A test's name says which line it proves."""
    everything = [line.tests for line in lines()]
    for name in proofs():
        assert [one for one in everything if name.startswith(f"{one}_")], name
    assert len(set(everything)) == len(everything)


def test_the_tests_are_the_lines_own() -> None:
    """No test of one line is taken for one of another."""
    counted = [name for line in lines() for name in of(line)]
    assert sorted(counted) == sorted(proofs())


def test_each_command_is_there() -> None:
    """What a line calls a command is one, and has a help text."""
    from mooring_cli.main import app

    group = get_command(app)
    commands = dict(group.commands)  # type: ignore[attr-defined]
    for line in lines():
        for part in WORD.findall(line.here):
            if part.startswith("mooring "):
                assert commands[part.split()[1]].help, part
