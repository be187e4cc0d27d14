"""The programs of a session: all that they read is written beside them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from mooring.guest import bundle


def test_the_script_ships_with_the_package() -> None:
    """All programs of a session lie where the package finds them at run time."""
    spec = importlib.util.find_spec("mooring")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("mooring is not installed in this environment")
    guest = Path(spec.submodule_search_locations[0]) / "guest"
    assert [name for name in bundle.PROGRAMS if not (guest / name).is_file()] == []


def test_a_session_gets_all_that_its_programs_read(tmp_path: Path) -> None:
    """Whatever a script of a session's sources is written beside it."""
    bundle.write_programs(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {*bundle.PROGRAMS, "gate", "run"}
    assert os.readlink(tmp_path / "run") == "/run/mooring"
    for script in tmp_path.glob("*.sh"):
        lines = (line.strip() for line in script.read_text().splitlines())
        sourced = {line.split("/")[-1].strip('"') for line in lines if line.startswith(". ")}
        assert sourced <= written


def test_a_gate_has_a_new_fifo_at_each_start(tmp_path: Path) -> None:
    """Who has opened the last one, and lives on, does not open the next."""
    bundle.close_gate(tmp_path)
    held = bundle.open_gate(tmp_path)
    bundle.close_gate(tmp_path)
    again = bundle.open_gate(tmp_path)
    assert os.fstat(held).st_ino != os.fstat(again).st_ino
    os.close(held)
    os.close(again)
