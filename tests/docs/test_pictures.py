"""The pictures of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?:\S*/)?pictures/([^)]+)\)")


def test_every_picture_is_shown_and_every_link_has_its_picture() -> None:
    """What is drawn is linked from a page, and no page links to a picture that is not there."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    linked = {name for page in pages for name in LINK.findall(page.read_text())}
    assert linked == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
