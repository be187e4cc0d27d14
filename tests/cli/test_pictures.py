"""The pictures of the docs show what the commands print."""

from __future__ import annotations

from types import ModuleType


def test_the_pictures_are_what_the_commands_print(docs: tuple[ModuleType, ModuleType]) -> None:
    """Each picture of the docs, drawn again from the same scene, is the one that is there."""
    for path, svg in docs[0].pictures().items():
        assert path.read_text() == svg, f"{path.name}: run python docs/scene.py"
