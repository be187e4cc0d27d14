"""mooring cp with a session that does not run: its home and its mounts, and nothing else."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.host.users import caller
from tests.support.sessions import session_folder

pytestmark = pytest.mark.engine

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

LEAVES = """
mkdir -p runs/7/deep; echo model >runs/7/model.bin; chmod 640 runs/7/model.bin
touch -d @1000000000 runs/7/model.bin; ln -s model.bin runs/7/best; ln -s runs/7 latest
ln -s /etc/passwd planted; ln -s /etc away; ln -s ../../../../../../etc/passwd climbing
ln -s $HOME/runs absolute; ln -s round round; mkfifo runs/7/pipe
ln -s /run/mooring/status own; echo start >>count; echo lost >/tmp/log
"""


@pytest.fixture
def r1(cli: Cli, project: Path) -> str:
    """A command that has left files, and has ended."""
    cli("run", "--name", "r1", "--exec", LEAVES, "host", check=0)
    return "r1"


def test_what_a_run_left_comes_out(cli: Cli, r1: str, project: Path) -> None:
    """A file and a folder come out of a session that has ended, as they are, without a start."""
    cli("cp", f"{r1}:runs/7/model.bin", ".", check=0)
    cli("cp", f"{r1}:~/runs/7/model.bin", "again", check=0)
    found = (project / "model.bin").stat()
    assert (project / "model.bin").read_text() == (project / "again").read_text() == "model\n"
    assert (found.st_mode & 0o777, int(found.st_mtime)) == (0o640, 10**9)
    done = cli("cp", f"{r1}:runs/7", "seven", check=1)
    assert done.stderr == "left out: pipe is a special file\n"
    assert sorted(os.listdir(project / "seven")) == ["best", "deep", "model.bin"]
    assert os.readlink(project / "seven" / "best") == "model.bin"
    cli("cp", "-L", f"{r1}:runs/7/best", ".", check=0)
    assert (project / "best").read_text() == "model\n"
    assert not (project / "best").is_symlink()
    cli("cp", f"{r1}:count", ".", check=0)
    assert (project / "count").read_text() == "start\n"
    assert not [name for name in os.listdir(project) if name.startswith(".mooring")]
    assert cli("ps", "-a", "--json", check=0).stdout.count('"stopped"') == 1


def test_links_lead_where_they_lead_in_the_session(cli: Cli, r1: str, project: Path) -> None:
    """A link on the way is followed within the session's own folders."""
    cli("cp", f"{r1}:latest/model.bin", "one", check=0)
    cli("cp", f"{r1}:absolute/7/model.bin", "two", check=0)
    assert (project / "one").read_text() == (project / "two").read_text() == "model\n"
    cli("cp", f"{r1}:planted", ".", check=0)  # a link is copied as a link
    assert os.readlink(project / "planted") == "/etc/passwd"
    assert "levels of symbolic links" in cli("cp", "-L", f"{r1}:round", ".", check=1).stderr


def test_no_link_leads_out(cli: Cli, r1: str, project: Path) -> None:
    """What is of this machine, of the image, or mooring's own is refused, with what can be had."""
    (project / "mine").write_text("mine\n")
    before = Path("/etc/passwd").read_bytes()
    links = ["planted", "climbing", "away/passwd", "own"]
    for path in [*links, "/etc/passwd", "/run/mooring/status", "/tmp/log", "/usr/bin/env"]:
        for words in (("-L", f"{r1}:{path}", "out"), ("mine", f"{r1}:{path}")):
            done = cli("cp", *words, check=1)
            assert f"session {r1} is not running" in done.stderr
            assert caller().home in done.stderr
            assert f"mooring start {r1}" in done.stderr
            assert len(done.stderr.splitlines()) == 2
    assert os.listdir(project) == ["mine"]
    assert Path("/etc/passwd").read_bytes() == before


def test_what_goes_in_is_there_at_the_next_start(cli: Cli, project: Path) -> None:
    """Files and folders for a stopped session are there when it runs again."""
    cli("create", "-d", "--name", "box", "--", "sh", "-c", "cat ~/in/f; sleep 1000", check=0)
    cli("stop", "box", check=0)
    (project / "in").mkdir()
    (project / "in" / "f").write_text("one\n")
    (project / "in" / "link").symlink_to("f")
    cli("cp", "in", "box:~", check=0)  # goes into it
    (project / "in" / "f").write_text("two\n")
    cli("cp", "in/.", "box:~/in", check=0)  # merged
    cli("cp", "in/f", "box:here", check=0)  # the working directory is this folder
    assert (project / "here").read_text() == "two\n"
    assert "is a file in the session" in cli("cp", "in", "box:~/in/f", check=1).stderr
    assert "not a folder" in cli("cp", "in/f", "box:~/nix/", check=1).stderr
    assert "there is no" in cli("cp", "in/f", "box:~/nix/deeper/f", check=1).stderr
    cli("start", "box", check=0)
    said = cli("exec", "box", "--", "sh", "-c", "cat ~/in/f ~/in/link; ls -A ~/in", check=0)
    assert said.stdout.split() == ["two", "two", "f", "link"]
    cli("cp", "box:~/in/f", "back", check=0)  # and ~ is its home while it runs
    assert (project / "back").read_text() == "two\n"


def test_mounts_can_be_had_and_inputs_stay_read_only(
    cli: Cli, tmp_path: Path, project: Path
) -> None:
    """Inputs and outputs are reached by their paths in the session; nothing goes into an input."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "data").write_text("data\n")
    (tmp_path / "in" / "leads-out").symlink_to("/etc/hostname")
    mounted = ["--input", f"in={tmp_path}/in", "--output", f"out={tmp_path}/out"]
    mounted += ["--input", f"one={tmp_path}/in/data"]
    cli("create", "-d", "--name", "box", *mounted, "--", "true", check=0)
    cli("stop", "box", check=0)
    cli("cp", "box:/mnt/inputs/in/data", ".", check=0)
    cli("cp", "box:/mnt/inputs/one", ".", check=0)
    assert (project / "data").read_text() == (project / "one").read_text() == "data\n"
    cli("cp", "data", "box:/mnt/outputs/out", check=0)
    assert (tmp_path / "out" / "data").read_text() == "data\n"
    for path in ("in", "in/new", "in/data", "one"):
        done = cli("cp", "data", f"box:/mnt/inputs/{path}", check=1)
        assert "read-only" in done.stderr or "is not running" in done.stderr, path
    assert sorted(os.listdir(tmp_path / "in")) == ["data", "leads-out"]
    assert "is not running" in cli("cp", "-L", "box:/mnt/inputs/in/leads-out", "x", check=1).stderr
    # a mount that is exchanged for a link grants nothing
    (tmp_path / "in").rename(tmp_path / "was")
    (tmp_path / "in").symlink_to("/etc")
    assert "root:" not in cli("cp", "box:/mnt/inputs/in/passwd", "x", check=1).stderr
    assert not (project / "x").exists()


def test_what_others_are_mounted_over_does_not_come_along(
    cli: Cli, mooring: Mooring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount in the home is copied by its own path, and nothing is put under it; mooring's own
    files never come."""
    project = Path(caller().home) / f".mooring-test-{os.getpid()}"
    project.mkdir()
    monkeypatch.chdir(project)
    try:
        (project / "mine").write_text("mine\n")
        cli("create", "-d", "--name", "box", "--", "sh", "-c", "echo x >~/x", check=0)
        cli("stop", "box", check=0)
        done = cli("cp", "box:~/.", str(tmp_path / "home"), check=1)
        assert f"left out: {project.name} is a mount" in done.stderr
        assert (tmp_path / "home" / "x").read_text() == "x\n"
        assert not (tmp_path / "home" / project.name).exists()
        cli("cp", f"box:~/{project.name}", str(tmp_path / "out"), check=0)
        assert (tmp_path / "out" / "mine").read_text() == "mine\n"
        (tmp_path / "put" / project.name).mkdir(parents=True)
        done = cli("cp", f"{tmp_path}/put/.", "box:~", check=1)
        assert "is a mount of session box" in done.stderr
        (session,) = mooring.sessions.list()
        assert not list((session_folder(session.id).home / project.name).iterdir())
    finally:
        (project / "mine").unlink(missing_ok=True)
        project.rmdir()


def test_a_stream_comes_out_and_none_goes_in(r1: str, project: Path) -> None:
    """- is a tar stream out of a stopped session; one goes into a session that runs."""
    argv = [sys.executable, "-m", "mooring_cli", "cp"]
    out = subprocess.run([*argv, f"{r1}:runs/7/model.bin", "-"], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as archive:
        assert archive.getnames() == ["./model.bin"]
    done = subprocess.run(
        [*argv, "-", f"{r1}:"], input=out.stdout, capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: session r1 is not running")
