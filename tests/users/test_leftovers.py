"""Files that a session leaves to an ordinary user, whom modes and owners stop."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.users.people import Person

pytestmark = pytest.mark.engine


def test_closed_folders_go_for_an_ordinary_user(alice: Person) -> None:
    """Folders of mode 000, 0500 and 0300 that a session left are deleted with it."""
    alice.mooring("create", "--name", "shut", "-d", "--", "sleep", "300")
    script = """
        cd && for mode in 000 500 300; do
            mkdir -p $mode/in/ner && touch $mode/in/ner/file
            chmod $mode $mode/in/ner $mode/in $mode
        done; chmod 000 /run/mooring/k; chmod 500 .
    """
    alice.mooring("exec", "shut", "--", "sh", "-c", script)
    alice.mooring("stop", "shut")
    alice.mooring("rm", "shut")
    assert list((alice.state / "sessions").iterdir()) == []


def test_what_belongs_to_root_is_told_once_and_found_by_doctor(alice: Person) -> None:
    """A file that its owner cannot delete fails its own removal, with the command that deletes it,
    and nobody's listing; doctor finds it, until it is gone."""
    for name in ("full", "other"):
        alice.mooring("create", "--name", name, "-d", "--", "sleep", "300")
    (folder,) = [
        path
        for path in (alice.state / "sessions").iterdir()
        if json.loads((path / "record.json").read_text())["name"] == "full"
    ]
    foreign = folder / "home" / "roots own"
    foreign.mkdir(mode=0o755)
    (foreign / "file").touch()
    alice.mooring("stop", "full")
    done = alice.mooring("rm", "full", check=1)
    gone = folder.with_name(f".{folder.name}.gone")
    assert f"error: cannot delete {gone}: roots own: Permission denied" in done.stderr
    assert f"hint: as root: rm -rf -- {gone}" in done.stderr
    told = [alice.mooring("ps", "--json") for _ in range(3)]
    assert [json.loads(one.stdout)[0]["name"] for one in told] == ["other"] * 3
    assert sum(str(gone) in one.stderr for one in told) == 1
    assert "problem" in alice.mooring("events", "full").stdout
    doctor = alice.mooring("doctor", check=None).stdout
    assert f"rm -rf -- {gone}" in doctor
    subprocess.run(["rm", "-rf", "--", gone], check=True)
    assert str(gone) not in alice.mooring("doctor", check=None).stdout
