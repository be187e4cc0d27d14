"""The manual pages, as man shows them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MANUAL = Path(__file__).resolve().parents[2] / "docs" / "man"
PAGES = sorted(MANUAL.glob("*.1"))


def shown(page: Path) -> str:
    """A page as man prints it, in 80 columns; fails on a warning of groff's."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed: apt install groff-base")
    done = subprocess.run(
        ["groff", "-mandoc", "-Tutf8", "-ww", "-P-bcu", str(page)],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page: Path) -> None:
    """Each is whole, is found by apropos(1), and has its options as they are typed."""
    text = shown(page)
    assert re.search(rf"^NAME\n +{page.stem} -\s", text, re.MULTILINE)
    heads = re.findall(r"^[A-Z][A-Z ]+$", text, re.MULTILINE)
    assert heads[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"]
    assert "-h, --help" in text
    assert max(map(len, text.splitlines())) <= 80 or "EXAMPLES" in heads


def test_every_command_has_one() -> None:
    """The first page lists all of them, and no other."""
    text = shown(MANUAL / "mooring.1")
    listed = re.findall(r"^ +(mooring-\S+)\(1\)$", text, re.MULTILINE)
    assert sorted(f"{name}.1" for name in listed) == [p.name for p in PAGES if p.stem != "mooring"]
    for part in ("mooring-create", "Exit codes", "--version"):
        assert part in text


def test_what_is_typed_is_shown_as_it_is_typed() -> None:
    """Quotes, backticks, tildes and hyphens can be copied to a shell."""
    text = " ".join(shown(page) for page in PAGES)
    assert "'bert-*'" in text
    assert not re.search(r"[\u2010\u2018\u2019\u2212\u02dc]", text)
