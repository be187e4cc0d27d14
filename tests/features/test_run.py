"""Code and commands in new sessions of any image: run, pulls, and who one is inside."""

from __future__ import annotations

import json
import os
import pwd
import re
import time
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.sessions.model import State
from tests.conftest import Cli
from tests.features.conftest import Open
from tests.support.registry import SlowRegistry, slow_registry
from tests.support.sessions import home_of_a_run
from tests.support.waiting import eventually

__all__ = ["slow_registry"]
pytestmark = pytest.mark.engine


def test_image_run_code(cli: Cli, project: Path, mooring: Mooring) -> None:
    """--rm -c: the code's output and exit code, and nothing left of it."""
    done = cli("run", "--rm", "-c", "print(1)", "host", check=0)
    assert (done.stdout, done.stderr) == ("1\n", "")
    cli("run", "--rm", "-c", "raise SystemExit(4)", "host", check=4)
    assert (
        "-c and --exec cannot be combined" in cli("run", "-c", "1", "--exec", "true", "host").stderr
    )
    assert mooring.sessions.list() == []


def test_image_run_a_file(cli: Cli, project: Path, mooring: Mooring) -> None:
    """--exec with files: they are where it runs, and the rest of the folder is not."""
    (project / "s.py").write_text("import glob; print(sorted(glob.glob('*')))")
    (project / "unsent").touch()
    done = cli("run", "--exec", "python s.py", "--name", "kept", "host", "./s.py", check=0)
    assert done.stdout == f"{home_of_a_run('s.py')}\n"
    assert mooring.sessions.get("kept").state is State.STOPPED
    assert cli("logs", "kept", check=0).stdout == done.stdout
    assert "nosuch" in cli("run", "--exec", "true", "host", "nosuch", check=2).stderr


def test_image_run_with_resources(cli: Cli, project: Path, mooring: Mooring) -> None:
    """-r cpu and -r mem limit it; what there is not is named."""
    show = "cat /sys/fs/cgroup/memory.max 2>/dev/null || echo unseen"
    resources = ["-r", "cpu=2", "-r", "mem=256m"]
    cli("run", "-d", "--name", "small", *resources, "--exec", f"{show}; sleep 60", "host", check=0)
    (row,) = json.loads(cli("ps", "--json", check=0).stdout)
    assert (row["cpus"], row["memory_limit_bytes"]) == (2, 256 << 20)
    seen = eventually(lambda: cli("logs", "small", check=0).stdout.strip())
    assert seen in (str(256 << 20), "unseen")
    done = cli("run", "-r", "tpu=1", "host", check=2)
    assert done.stderr.startswith("error: flag -r: no resource 'tpu'\nhint: choose from: ")


def test_image_run_enqueued(cli: Cli, project: Path, mooring: Mooring) -> None:
    """--enqueue-only returns with a name while it goes on by itself."""
    began = time.monotonic()
    done = cli(
        "run", "--enqueue-only", "--name", "later", "-T", "--exec", "sleep 30; exit 3", "host",
        check=0,
    )  # fmt: skip
    assert done.stdout == "later\n"
    assert time.monotonic() - began < 20
    assert mooring.sessions.get("later").state is State.RUNNING


def test_image_run_gives_up_a_pull(cli: Cli, project: Path, slow_registry: SlowRegistry) -> None:
    """--max-wait that runs out is exit code 3, and nothing is left."""
    done = cli("run", "--max-wait", "1s", "--rm", slow_registry.image, check=3)
    assert "error: the session did not start within 1 s: pulling " in done.stderr
    assert cli("ps", "-q", check=0).stdout == ""


def test_pull_never_and_absent(cli: Cli, project: Path, mooring: Mooring) -> None:
    """--pull never of what is not there: No such image, exit code 1, and nothing left."""
    done = cli("create", "--pull", "never", "--image", "mooring-test/nosuch:1", check=1)
    assert "No such image" in done.stderr
    assert "\nhint: " in done.stderr
    assert "must be always, missing or never" in cli("create", "--pull", "so", check=2).stderr
    assert mooring.sessions.list() == []


def test_pull_shows_its_progress(terminal: Open, cli: Cli, slow_registry: SlowRegistry) -> None:
    """missing pulls once, and tells how far it is; always asks again; never takes what is there.
    docker:// may stand before the name."""
    slow_registry.seconds = 2
    flags = ["--rm", "--image", f"docker://{slow_registry.image}"]
    busybox = ["--", "/bin/busybox", "echo", "there"]
    child = terminal("create", "--pull", "missing", *flags, *busybox)
    child.expect(r"pulling [^ ]+: \d+% of")
    child.expect("there\r\n")
    assert child.code() == 0
    for pull in ("never", "always"):
        done = cli("create", "--pull", pull, *flags, *busybox, check=0)
        assert done.stdout == "there\n"
    slow_registry.close()
    done = cli("create", "--pull", "always", *flags, *busybox, check=1)
    assert done.stderr.startswith("error: ")
    cli("create", "--pull", "missing", *flags, *busybox, check=0)


def test_image_build_and_its_kin_are_refused(cli: Cli, project: Path, mooring: Mooring) -> None:
    """Building, saving and pushing come later: each is named, with what to do meanwhile."""
    (project / "session.yml").write_text("build: {dockerfile: Dockerfile}\n")
    for given, name in {
        ("create", "-f", "session.yml"): "build",
        ("save", "one", "repository:tag"): "mooring save",
        ("save", "one", "repository:tag", "--push"): "mooring save --push",
        ("create", "--save-image", "-d"): "--save-image",
    }.items():
        done = cli(*given, check=2)
        assert f"{name} is not supported by this version\nhint: " in done.stderr
    assert mooring.sessions.list() == []


def test_user_mapping_in_an_image_that_knows_others(
    terminal: Open, cli: Cli, image: str, project: Path
) -> None:
    """The image calls our uid otherwise, or has no such user: inside one is who one is here."""
    me = pwd.getpwuid(os.getuid())
    script = "whoami; id -u; id -g; echo $HOME; echo ~; pwd; touch here ~/there"
    for flags in (["--image", image], []):
        done = cli("create", "--rm", *flags, "--", "sh", "-c", script, check=0)
        home = me.pw_dir
        assert done.stdout.splitlines() == [
            me.pw_name, str(me.pw_uid), str(me.pw_gid), home, home, str(project),
        ]  # fmt: skip
    assert (project / "here").stat().st_uid == me.pw_uid
    assert not (Path(me.pw_dir) / "there").exists()
    child = terminal("create", "--rm", "--image", image)
    assert child.ask("whoami") == me.pw_name
    child.sendline("exit")
    assert child.code() == 0
    assert not re.search("no name", str(child.before), re.I)


def test_nodes_are_refused(cli: Cli, project: Path, mooring: Mooring) -> None:
    """Several nodes come later: as a key of a spec, and as a flag of attach and exec."""
    (project / "session.yml").write_text("distribution: {type: dask, nodes: 10}\n")
    for given, name in {
        ("create", "-f", "session.yml"): "distribution",
        ("attach", "one", "--rank", "2"): "--rank",
        ("exec", "--rank", "2", "one", "--", "true"): "--rank",
    }.items():
        done = cli(*given, check=2)
        assert f"{name} is not supported by this version\nhint: " in done.stderr
    assert mooring.sessions.list() == []
