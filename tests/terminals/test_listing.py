"""Which terminal a client takes, and what is known of a session's terminals without a keeper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mooring.terminals.listing import TerminalEntry, exec_id_of, terminals, unattached


def entry(name: str, **facts: Any) -> TerminalEntry:
    values: dict[str, Any] = {
        "command": (), "since": 0.0, "size": (24, 80), "clients": 0, "bytes": 0,
        "ended": False, "code": None, "lost": False, "label": "",
    }  # fmt: skip
    return TerminalEntry(id=name, **values | facts)


def test_a_terminal_that_has_ended_is_not_one_to_work_in() -> None:
    """With a label only one that runs is chosen; without, one that ended where no other is left."""
    ended = entry("t2", ended=True, code=0, label="panel")
    going = entry("t1", label="panel")
    assert unattached([ended], "panel") == ""
    assert unattached([going, ended], "panel") == "t1"
    assert unattached([going, ended]) == "t1"
    assert unattached([ended]) == "t2"
    assert unattached([entry("t1", clients=1), entry("t2", ended=True, lost=True)]) == ""
    assert unattached([going, entry("t3")], "panel") == "t1"
    assert unattached([going, entry("t3")]) == "t3"


def test_a_killed_keepers_terminals_are_lost_and_the_main_one_is_not(tmp_path: Path) -> None:
    """No client reaches an exec's terminal again; the main process's can be connected anew."""
    for name, about in {
        "t1": {"command": ["top"], "exec": "e1"},
        "t2": {"command": [], "code": 3},
        "main": {"command": ["sh"]},
        "t10": "torn",
    }.items():
        (tmp_path / "term" / name).mkdir(parents=True)
        text = about if isinstance(about, str) else json.dumps(about)
        (tmp_path / "term" / name / "about").write_text(text)
    entries = terminals(tmp_path)
    assert [(one.id, one.ended, one.lost, one.code) for one in entries] == [
        ("main", False, False, None),
        ("t1", True, True, None),
        ("t2", True, False, 3),
    ]
    assert [exec_id_of(tmp_path, name) for name in ("t1", "main", "t10", "t99")] == [
        "e1",
        "",
        "",
        "",
    ]


def test_a_session_without_a_keeper_has_no_terminals(tmp_path: Path) -> None:
    """Nothing is there to list, and that is no error."""
    assert terminals(tmp_path) == []
