"""What a session plants in its run directory, where this machine reads and writes as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.guest.shared import MAX_BYTES, SharedGuest
from mooring.sessions.model import State
from mooring.spec.resolve import resolve
from tests.support.sessions import session_folder

pytestmark = pytest.mark.engine

VICTIM = "export PATH=/usr/bin\n"


def run_in(mooring: Mooring, cli, name: str, script: str) -> None:
    cli("exec", name, "--", "sh", "-c", script, check=0)


def test_nothing_is_written_through_a_link(cli, mooring: Mooring, project: Path) -> None:
    """No command writes to where a link that a session planted leads."""
    victim = project / "bashrc"
    victim.write_text(VICTIM)
    flags = {"command": ["sleep", "1000"], "idle_timeout": "1h"}
    session = mooring.sessions.create(resolve(flags=flags), LaunchOptions(name="planter")).session
    names = ("kernelhost", "settings", "hold", "mounts", "python", "exec", "checked")
    planting = f"cd /run/mooring && for n in {' '.join(names)}; do ln -sf {victim} $n; done"
    run_in(mooring, cli, "planter", planting)
    cli("hold", "planter", "1h", check=0)
    cli("update", "planter", "--idle-timeout", "2h", check=0)
    mooring.kernels.ensure_host(mooring.sessions.get("planter"))
    run_in(mooring, cli, "planter", f"ln -sf {victim} /run/mooring/end")
    cli("ps", check=0)
    cli("stop", "planter", check=0)
    for name in (*names, "status", "end"):  # the clock's own, which it writes while it runs
        path = session_folder(session.id).run / name
        path.unlink(missing_ok=True)
        path.symlink_to(victim)
    cli("start", "planter", check=0)
    assert victim.read_text() == VICTIM


def test_a_kernels_key_goes_nowhere_else(cli, mooring: Mooring, project: Path) -> None:
    """A link in the place of the kernels' folder gets no key, and loses no file."""
    elsewhere = project / "elsewhere"
    (elsewhere / "k1").mkdir(parents=True)
    (elsewhere / "k1" / "mine").write_text("mine")
    flags = {"command": ["sleep", "1000"]}
    session = mooring.sessions.create(resolve(flags=flags), LaunchOptions(name="linker")).session
    planting = f"rm -r /run/mooring/k && ln -s {elsewhere} /run/mooring/k"
    run_in(mooring, cli, "linker", planting)
    handle = mooring.kernels.handle(session.id, "k1")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        handle.write_connection(key=b"", encrypt=False, kernel_name="python3")
    handle.forget()
    assert [path.name for path in sorted(elsewhere.rglob("*"))] == ["k1", "mine"]


def test_no_file_of_a_session_stops_a_command(cli, mooring: Mooring, project: Path) -> None:
    """Pipes, folders, bytes that are no text and numbers that are none cost their session alone."""
    for name in ("odd", "even"):
        mooring.sessions.create(
            resolve(flags={"command": ["sleep", "1000"]}), LaunchOptions(name=name)
        )
    planting = """
        cd /run/mooring && mkdir -p k/x k/y k/z && printf '\\377' >k/x/busy
        printf 'busy \\302\\262' >k/y/busy && echo '{"code": -50, "oom": 3}' >k/z/exit
        mkfifo k/x/exit && rm -f status && mkfifo status kernelhost.lock
        rm -f settings && mkdir settings && rm -f hold && echo nan >hold
        rm -f exec && mkdir exec
    """
    run_in(mooring, cli, "odd", planting)
    rows = {row["name"]: row for row in json.loads(cli("ps", "--json", check=0, timeout=20).stdout)}
    assert rows["even"]["state"] == rows["odd"]["state"] == "running"
    for command in ("describe", "why", "events"):
        cli(command, "odd", check=0, timeout=20)
    assert mooring.kernels.handle(mooring.sessions.get("odd").id, "x").poll() == -9
    run_in(mooring, cli, "odd", "true")
    cli("stop", "odd", "even", check=0, timeout=40)
    assert {session.state for session in mooring.sessions.list()} == {State.STOPPED}


def test_a_read_is_bounded(tmp_path: Path) -> None:
    """Of a long file only the first, or the last, 64 KiB are read."""
    (tmp_path / "long").write_text("a" * MAX_BYTES + "b" * 10)
    guest = SharedGuest(tmp_path)
    assert guest.read("long") == "a" * MAX_BYTES
    assert guest.read("long", tail=True).endswith("ab" + "b" * 9)
    assert guest.text("none") == ""


def test_an_empty_or_shared_name_is_no_session(cli, mooring: Mooring, project: Path) -> None:
    """An unset variable in the place of a name hits nobody, and neither does half a name."""
    for name in ("one-a", "one-b"):
        mooring.sessions.create(
            resolve(flags={"command": ["sleep", "1000"]}), LaunchOptions(name=name)
        )
    assert cli("exec", "", "--", "true").returncode == 125
    several = cli("exec", "one-*", "--", "true")
    assert several.returncode == 125
    assert "several" in several.stderr
