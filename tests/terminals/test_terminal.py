"""Terminals that a keeper holds, of an engine that is the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mooring.errors import SessionStateError
from mooring.terminals.keeper.client import KeeperClient
from mooring.terminals.listing import exec_id_of, terminals
from mooring.terminals.terminal import MainTerminal, PersistentTerminal, command_of, settle_all


def test_a_main_terminal_is_kept_from_its_first_byte(engine: Any, session_dir: Path) -> None:
    """It is handed over before its container starts, with what it is."""
    terminal = MainTerminal(engine, session_dir, ["python3", "-q"]).keep("c1", None)
    assert isinstance(terminal, PersistentTerminal)
    assert (terminal.name, terminal.new, terminal.incomplete) == ("main", True, False)
    (entry,) = terminals(session_dir)
    assert (entry.id, entry.command, entry.ended) == ("main", ("python3", "-q"), False)


def test_one_that_no_keeper_held_is_incomplete_once(engine: Any, session_dir: Path) -> None:
    """A client is warned that earlier output may be missing; the next one finds it kept."""
    main = MainTerminal(engine, session_dir)
    first: Any = main.find("c1", "ctrl-p,ctrl-q")
    again: Any = main.find("c1", "ctrl-p,ctrl-q")
    assert (first.incomplete, again.incomplete) == (True, False)
    assert (first.new, again.new) == (False, False)
    assert len(engine.programs) == 1


def test_without_a_keeper_it_is_the_engines_own_stream(engine: Any, tmp_path: Path) -> None:
    """Where none can be started a client has the terminal even so, and nobody has an error."""
    main = MainTerminal(engine, tmp_path / "gone")
    assert main.keep("c1", None) is None
    stream: Any = main.keep("c1", "ctrl-p,ctrl-q")
    assert not isinstance(stream, PersistentTerminal)
    stream.close()
    with pytest.raises(SessionStateError):
        KeeperClient(tmp_path / "gone").connect()


def test_exit_codes_are_settled_once_the_engine_knows_them(engine: Any, session_dir: Path) -> None:
    """While the engine does not answer they are asked for again; terminals that run are left."""
    keeper = KeeperClient.start(session_dir)
    for container in ("c1", "c2"):
        stream = engine.attach(container, tty=True, detach_keys="")
        keeper.hand_over(stream, "", {"container": container, "exec": f"exec-{container}"})
        stream.close()
    assert settle_all(engine, session_dir)
    engine.programs[0].close()
    while next(iter(rows(session_dir)))["held"]:
        pass
    engine.down = True
    assert not settle_all(engine, session_dir)
    engine.down, engine.code = False, 3
    assert settle_all(engine, session_dir)
    assert [(one.id, one.code) for one in terminals(session_dir)] == [("t1", 3), ("t2", None)]
    assert exec_id_of(session_dir, "t1") == "exec-c1"


def rows(session_dir: Path) -> list[dict[str, Any]]:
    link = KeeperClient.start(session_dir).connect()
    try:
        return link.list_terminals()
    finally:
        link.close()


@pytest.mark.parametrize(
    ("command", "arguments"), [(None, []), ("ls -l", ["ls -l"]), (["ls", "-l"], ["ls", "-l"])]
)
def test_a_commands_arguments(command: object, arguments: list[str]) -> None:
    """A line for a shell is one argument, and a shell has none."""
    assert command_of({"command": command}) == arguments


def test_a_command_of_any_length_is_kept(engine: Any, session_dir: Path) -> None:
    """A script as an argument does not keep its terminal from being held, nor the session's from
    being listed; the list shows its beginning."""
    keeper = KeeperClient.start(session_dir)
    for number, length in enumerate((100_000, 400_000, 400_000)):  # a socket's buffer, a frame
        stream = engine.attach("c1", tty=True, detach_keys="")
        about = {"command": ["sh", "-c", "é" * length, "more"], "exec": f"e{number}"}
        assert keeper.hand_over(stream, "", about) == f"t{number + 1}"
        stream.close()
    entries = terminals(session_dir)
    assert len(entries) == 3
    assert entries[0].command[:2] == ("sh", "-c")
    assert entries[0].command[2].strip("é") == "…"
