"""Files that a session leaves behind: no depth, no mode and no owner costs anybody a command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.sessions.model import State
from mooring.spec.resolve import resolve
from tests.support.sessions import session_folder

pytestmark = pytest.mark.engine

# As `mkdir d; cd d` does, and without a process for each: deeper than any path is long
DIG = """python3 -c '
import os
here = os.open(".", os.O_RDONLY)
for _ in range({depth}):
    os.mkdir("d", dir_fd=here)
    below = os.open("d", os.O_RDONLY, dir_fd=here)
    os.close(here)
    here = below
os.close(os.open("file", os.O_CREAT, dir_fd=here))
'"""


@pytest.fixture(autouse=True)
def nothing_deep_stays(state: Path, tmp_path: Path) -> Iterator[None]:
    """What a failed test leaves is deleted by a program that can."""
    yield
    subprocess.run(["rm", "-rf", state / "sessions", tmp_path], check=True)


def create(mooring: Mooring, name: str, **flags: object) -> str:
    flags = {"command": ["sleep", "1000"], **flags}
    return mooring.sessions.create(resolve(flags=flags), LaunchOptions(name=name)).session.id


def plant(cli, name: str, script: str) -> None:
    cli("exec", name, "--", "sh", "-c", script, check=0, timeout=120)


def left(state: Path) -> list[str]:
    return [path.name for path in (state / "sessions").iterdir()]


@pytest.mark.parametrize("where", ["$HOME", "/run/mooring", "/run/mooring/k"])
def test_a_deep_tree_costs_nobody_a_command(
    cli, mooring: Mooring, project: Path, state: Path, where: str
) -> None:
    """A folder 3,000 deep goes with its session, and everybody's commands go on."""
    for name in ("digger", "other"):
        create(mooring, name)
    plant(cli, "digger", f"cd {where} && {DIG.format(depth=3000)}")
    cli("ps", check=0)
    cli("stop", "digger", check=0)
    cli("rm", "digger", check=0)
    assert len(left(state)) == 1
    rows = json.loads(cli("ps", "--json", check=0).stdout)
    assert [(row["name"], row["state"]) for row in rows] == [("other", "running")]


def test_a_deep_kernel_folder_goes_with_the_kernel(cli, mooring: Mooring, project: Path) -> None:
    """What a session put into a kernel's folder does not keep the folder."""
    session = create(mooring, "digger")
    plant(
        cli,
        "digger",
        f"mkdir /run/mooring/k/k1 && cd /run/mooring/k/k1 && {DIG.format(depth=1100)}",
    )
    mooring.kernels.handle(session, "k1").forget()
    assert not session_folder(session).guest.exists("k/k1")


def test_deep_trees_are_copied_as_far_as_a_copy_goes(cli, mooring: Mooring, project: Path) -> None:
    """cp of a tree that is too deep copies what lies above, and says what it left out."""
    create(mooring, "digger")
    plant(cli, "digger", f"cd && mkdir top && cd top && echo up >up && {DIG.format(depth=1100)}")
    running = cli("cp", "digger:~/top", "running")
    assert running.returncode == 1
    assert "folders deep" in running.stderr
    cli("stop", "digger", check=0)
    stopped = cli("cp", "digger:~/top", "stopped")
    assert stopped.returncode == 1
    assert "folders deep" in stopped.stderr
    assert (project / "stopped" / "up").read_text() == "up\n"
    sent = cli("cp", "stopped", "digger:~/again")
    assert sent.returncode in (0, 1)


def test_what_is_in_the_way_of_moorings_own_files_goes(
    cli, mooring: Mooring, project: Path
) -> None:
    """Folders and pipes in the place of its settings stop no update, hold, stop nor start."""
    create(mooring, "odd", idle_timeout="1h")
    names = ("settings", "hold", "exec", "end", "status", "gpu")
    make = {"folder": "mkdir -p {0}/x", "pipe": "mkfifo {0}", "link": "ln -s /etc/passwd {0}"}
    for how in make.values():
        planting = " && ".join(f"rm -rf {name}; {how.format(name)}" for name in names)
        plant(cli, "odd", f"cd /run/mooring && {planting}")
        cli("ps", check=0, timeout=20)
        cli("hold", "odd", "1h", check=0, timeout=20)
        cli("update", "odd", "--idle-timeout", "2h", check=0, timeout=20)
        cli("stop", "odd", check=0, timeout=60)
        for name in names:  # as its last moments may have made them
            subprocess.run(["rm", "-rf", session_folder(mooring.sessions.get("odd").id).run / name])
        cli("start", "odd", check=0, timeout=60)
    assert mooring.sessions.get("odd").state is State.RUNNING


def test_a_thousand_false_kernels_cost_a_moment(cli, mooring: Mooring, project: Path) -> None:
    """A listing reads a bounded number of names, and little of each file."""
    create(mooring, "crowd")
    plant(
        cli,
        "crowd",
        "cd /run/mooring/k && i=0; "
        "{ echo '{\"code\":1}'; head -c 60000 /dev/zero | tr '\\0' ' '; } >../big; "
        "while [ $i -lt 1500 ]; do "
        "mkdir $i; ln ../big $i/busy; ln ../big $i/exit; i=$((i+1)); done",
    )
    rows = json.loads(cli("ps", "--json", check=0, timeout=30).stdout)
    assert rows[0]["state"] == "running"
