"""What the page on local kernels promises: each line names a test, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "local-kernel.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[str]:
    """The lines of the page's tables, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.endswith("| test |")]


def test_every_line_names_its_test() -> None:
    """Each line of a table ends with the tests that show it."""
    assert len(rows()) > 10
    assert [row for row in rows() if not TEST.search(row.split(" | ")[-1])] == []


@pytest.mark.parametrize(("file", "name"), sorted(set(TEST.findall(PAGE.read_text()))))
def test_the_tests_are_there(file: str, name: str) -> None:
    """A test that is named is in the file that is named."""
    assert f"def {name}(" in (ROOT / file).read_text()
