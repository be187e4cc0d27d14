"""What the pages on security promise: each promise has a test, or is said to have none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)`")


def promises() -> list[str]:
    """The items of the page's lists."""
    return [line for line in PAGE.read_text().splitlines() if line.startswith("- ")]


def test_every_promise_names_its_test() -> None:
    """Each item names a test, or says that nothing holds it."""
    assert len(promises()) > 40
    bare = [line for line in promises() if not TEST.search(line) and "Nothing " not in line]
    assert bare == []


@pytest.mark.parametrize("name", sorted(set(TEST.findall(PAGE.read_text()))))
def test_the_tests_are_there(name: str) -> None:
    """A test that is named has tests in it."""
    assert re.search(r"^ *(async )?def test_", (ROOT / name).read_text(), re.MULTILINE)


def test_who_reports_a_vulnerability_finds_the_way() -> None:
    """SECURITY.md says how to report and which versions are mended, and the README leads there."""
    policy = (ROOT / "SECURITY.md").read_text()
    assert "## Reporting a vulnerability" in policy
    assert "## Versions that are mended" in policy
    readme = (ROOT / "README.md").read_text()
    for page in ("SECURITY.md", "docs/explanation/threat-model.md", "docs/explanation/security.md"):
        assert f"({page})" in readme
