"""The scene of the docs' pictures, and a terminal to print it on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.command_lines import Runner

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def docs() -> Iterator[tuple[ModuleType, ModuleType]]:
    """``docs/scene.py`` and ``docs/svg.py``."""
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import scene
        import svg

        yield scene, svg
    finally:
        sys.path[:] = before
        for name in ("scene", "svg"):
            sys.modules.pop(name, None)


@pytest.fixture
def stage(docs: tuple[ModuleType, ModuleType]) -> Iterator[Any]:
    with docs[0].scene() as found:
        yield found


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Standard output is a terminal with 256 colours."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return monkeypatch


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """Runs command lines on a fake engine, each in a process of its own."""
    with Runner() as started:
        yield started
