"""What is told of sessions, and deadlines that are changed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mooring.client import Mooring
from tests.conftest import Background, Cli
from tests.support.kernel_clients import install, jupyter, kernel
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine


def remember(mooring: Mooring, name: str, identity: str) -> None:
    """A session that was removed a moment ago."""
    mooring.history.session_created(identity, name=name, owner="me", image="host", spec={})
    mooring.history.session_ended(identity, at=time.time(), reason="removed", exit_code=0)


def test_session_list_chooses(cli: Cli, project: Path, mooring: Mooring) -> None:
    """Rows by state and by fields, columns by name, names alone, JSON; the newest change first."""
    for name in ("first", "third"):
        cli("create", "-d", "--name", name, check=0)
    cli("stop", "first", check=0)
    remember(mooring, "second", "0" * 12)

    def names(*flags: str) -> list[str]:
        return cli("ps", *flags, "-q", check=0).stdout.split()

    assert names("--running") == ["third"]
    assert sorted(names("--dead")) == ["first", "second"]
    assert names("--all", "--filter", "state=stopped") == ["first"]
    shown = cli("ps", "--format", "name,state", check=0).stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["NAME", "first", "third"]
    rows = json.loads(cli("ps", "--json", check=0).stdout)
    assert [(row["name"], row["state"]) for row in rows] == [
        ("first", "stopped"),
        ("third", "running"),
    ]
    for flags in (["--format", "nme"], ["--filter", "colour=red"]):
        done = cli("ps", *flags, check=2)
        assert done.stderr.startswith("error: ")
        assert "\nhint: " in done.stderr


def test_session_list_is_ten_at_first(cli: Cli, project: Path, mooring: Mooring) -> None:
    """Ten are shown, and how to see more is said; --all shows all."""
    for number in range(12):
        remember(mooring, f"past-{number}", f"{number:012x}")
    done = cli("ps", "--dead", check=0)
    assert len(done.stdout.splitlines()) == 1 + 10
    assert "past-11" in done.stdout.splitlines()[1]
    assert "2 more: mooring ps --dead --all" in done.stderr
    assert len(cli("ps", "--dead", "--all", check=0).stdout.splitlines()) == 1 + 12
    assert cli("ps", check=0).stdout == ""


def test_describe_run_tells_all(cli: Cli, project: Path, mooring: Mooring, jupyter: Path) -> None:
    """Its spec, its deadlines, its port, its kernel and its events, for people and as JSON."""
    cli(
        "create", "-d", "--name", "one", "--kernel", "python3", "--memory", "2GiB",
        "--max-duration", "3h", "-p", "8080", check=0,
    )  # fmt: skip
    with kernel(install(session="one")) as (manager, client):
        assert client.is_alive()
        said = cli("describe", "one", check=0).stdout
        document = json.loads(cli("describe", "--json", "one", check=0).stdout)
        assert manager.is_alive()
    parts = {part.split("\n")[0].split("  ")[0]: part for part in said.split("\n") if part}
    assert parts["max duration"].split()[-1] == "3h"
    for head in ("ports", "spec", "kernels", "events"):
        assert head in parts, said
    assert " 127.0.0.1:" in said.split("ports")[1]
    assert "2 GiB" in said or "2GiB" in said
    assert [len(document[key]) for key in ("kernel_list", "events")] == [1, 3]
    assert document["deadlines"]["max_duration"] == 3 * 3600
    done = cli("describe", "nosuch", check=1)
    assert done.stderr.startswith("error: no session named nosuch")


def test_events_from_request_to_end(
    cli: Cli, project: Path, background: Background, mooring: Mooring
) -> None:
    """-f follows until the session is gone: each step with who did it, and why it ended."""
    cli("create", "-d", "--name", "one", "--max-duration", "4s", check=0)
    with background("events", "-f", "one") as following:
        deadline = time.monotonic() + 40
        while mooring.sessions.get("one").state != "stopped":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        cli("start", "one", check=0)
        cli("rm", "-f", "one", check=0)
        said, told = following.communicate(timeout=30)
        assert following.returncode == 0, told
    lines = [line.split(maxsplit=4) for line in said.splitlines()]
    kinds = [line[2] for line in lines]
    assert kinds[:3] == ["requested", "started", "ended"], said
    assert kinds[-1] == "removed", said
    assert "maximum duration" in said
    assert all(line[3] for line in lines)
    assert cli("events", "one", check=0).stdout == said
    assert "no session named nosuch" in cli("events", "nosuch", check=1).stderr


def test_update_run_is_live(cli: Cli, project: Path, mooring: Mooring) -> None:
    """New deadlines hold at once; one that has passed is refused, and how to end it is said."""
    cli("create", "-d", "--name", "one", "--max-duration", "1h", check=0)
    cli("update", "one", "--max-duration", "12h", "--idle-timeout", "2h", check=0)
    said = json.loads(cli("describe", "--json", "one", check=0).stdout)
    assert said["deadlines"] == {"idle_timeout": 7200, "max_duration": 12 * 3600}
    done = cli("update", "one", "--max-duration", "0.1s", check=2)
    assert "has run for" in done.stderr
    assert "mooring stop one" in done.stderr
    assert "nothing to update" in cli("update", "one", check=2).stderr
    cli("update", "one", "--max-duration", "12", check=2)
    folder = session_folder(mooring.sessions.get("one").id)

    def rests() -> bool:
        status = folder.clock.status()
        if status is None or status.active_signals or status.failed_probes:
            return False
        return status.last_signal_ago_s > 1

    eventually(rests)
    done = cli("update", "one", "--idle-timeout", "1s", check=2)
    assert "has been idle for" in done.stderr
    assert "mooring stop one" in done.stderr
    ends = time.monotonic() + 60
    cli("update", "one", "--idle-timeout", "15s", check=0)
    while mooring.sessions.get("one").state != "stopped":
        assert time.monotonic() < ends, "the new deadline ended nothing"
        time.sleep(0.2)
    cli("update", "one", "--max-duration", "1h", check=1)
