"""Which sessions a command applies to."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.errors import SpecError
from mooring_cli.selection import select


def test_commands_are_called_as_they_are_typed(state: Path) -> None:
    """What removes is rm."""
    with pytest.raises(SpecError, match=r"^rm needs the name of a session"):
        select(Mooring(FakeEngine()), None, verb="remove")
