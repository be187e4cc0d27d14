"""mooring cp: docker cp's rules, whole files or none, on any image."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.engines.base import Engine
from tests.support.images import busybox_image, image_maker
from tests.support.memory import peak_kib
from tests.support.sessions import ways_below

pytestmark = pytest.mark.engine

MOORING = [sys.executable, "-m", "mooring_cli"]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ODD = [
    "new\nline",
    "-leading",
    "ü",
    "k" * 200,
    " ",
    "*",
    "a b",
    ".hidden",
    "..double",
    "back\\slash",
]


@pytest.fixture(scope="module")
def busybox(real_engine: Engine) -> Iterator[str]:
    with busybox_image() as reference:
        yield reference


@pytest.fixture(params=["tar", "busybox"])
def name(request: pytest.FixtureRequest, cli: Cli, project: Path) -> str:
    """A session of this machine's software, with GNU tar, and of an image with busybox alone."""
    image = []
    if request.param == "busybox":
        image = ["--image", request.getfixturevalue("busybox"), "--pull", "never"]
    name = str(request.param)
    cli("create", "-d", "--name", name, *image, check=0)
    return name


@pytest.fixture
def box(cli: Cli, project: Path) -> str:
    cli("create", "-d", "--name", "box", check=0)
    return "box"


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the session does not see, and the current one from now on."""
    folder = tmp_path / "away"
    folder.mkdir()
    return folder


def tree(root: Path) -> None:
    """A folder with all that a copy must keep."""
    (root / "sub" / "empty").mkdir(parents=True)
    for number, each in enumerate(ODD):
        (root / each).write_text(f"{number}\n" * number)
    (root / "sub" / "script").write_text("#!/bin/sh\n")
    (root / "sub" / "script").chmod(0o750)
    (root / "secret").write_text("x")
    (root / "secret").chmod(0o600)
    (root / "link").symlink_to("secret")
    (root / "dangling").symlink_to("/nowhere/at all")
    (root / "folder-link").symlink_to("sub")
    os.utime(root / "secret", (1_000_000_000, 1_000_000_000))
    (root / "sub" / "empty").chmod(0o500)
    os.utime(root / "sub", (1_100_000_000, 1_100_000_000))


def facts(root: Path, folder_times: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything that is kept of a folder, by path."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        info = path.lstat()
        kind = stat.S_IFMT(info.st_mode)
        what: object = ""
        if path.is_symlink():
            found[str(path.relative_to(root))] = (kind, os.readlink(path))
            continue
        if path.is_file():
            what = path.read_bytes()
        mtime = int(info.st_mtime) if path.is_file() or folder_times else 0
        found[str(path.relative_to(root))] = (kind, oct(info.st_mode), mtime, what)
    return found


def in_tmp(cli: Cli, name: str) -> list[str]:
    """What lies in the session's /tmp, beside the mounts of the project and the environment."""
    said = cli("exec", name, "--", "ls", "-A", "/tmp", check=0).stdout.splitlines()
    environment = ways_below(Path("/tmp"))
    return [name for name in said if name not in environment and not name.startswith("pytest-")]


def test_a_folder_comes_back_as_it_was(cli: Cli, name: str, away: Path) -> None:
    """Modes, times, links, empty folders and odd names go in and out, by either tar."""
    tree(away / "in")
    cli("cp", str(away / "in"), f"{name}:/tmp/there", check=0)
    cli("cp", f"{name}:/tmp/there", str(away / "out"), check=0)
    with_times = name != "busybox"  # its tar sets a folder's time before it fills the folder
    assert facts(away / "out", with_times) == facts(away / "in", with_times)
    assert sorted(os.listdir(away)) == ["in", "out"]
    assert in_tmp(cli, name) == ["there"]


def test_docker_cps_rules_hold_going_in(cli: Cli, name: str, away: Path) -> None:
    """What is there decides: a file replaces a file, goes into a folder, and makes none."""
    (away / "d").mkdir()
    (away / "d" / "f").write_text("one\n")
    cli("cp", str(away / "d"), f"{name}:/tmp/new", check=0)  # becomes it
    cli("cp", str(away / "d"), f"{name}:/tmp/new", check=0)  # goes into it
    cli("cp", f"{away}/d/.", f"{name}:/tmp/new/deep", check=0)  # its contents become it
    (away / "d" / "f").write_text("two\n")
    cli("cp", f"{away}/d/.", f"{name}:/tmp/new", check=0)  # merged: the file is replaced
    cli("cp", str(away / "d" / "f"), f"{name}:/tmp/file", check=0)
    cli("cp", str(away / "d" / "f"), f"{name}:/tmp/new/d/", check=0)
    show = "cd /tmp; for f in file new/f new/d/f new/deep/f; do echo $f; cat $f; done"
    found = cli("exec", name, "--", "sh", "-c", show, check=0)
    assert found.stdout.split() == "file two new/f two new/d/f two new/deep/f one".split()
    no = cli("cp", str(away / "d" / "f"), f"{name}:/tmp/missing/", check=1)
    assert "not a folder" in no.stderr
    no = cli("cp", str(away / "d" / "f"), f"{name}:/tmp/missing/f", check=1)
    assert "does not exist in the session" in no.stderr
    no = cli("cp", str(away / "d"), f"{name}:/tmp/file", check=1)
    assert "is a file" in no.stderr
    cli("exec", name, "--", "mkdir", "/tmp/new/x", check=0)
    (away / "x").write_text("")
    no = cli("cp", str(away / "x"), f"{name}:/tmp/new", check=1)
    assert "is a folder" in no.stderr
    listed = cli("exec", name, "--", "ls", "-A", "/tmp", "/tmp/new", check=0).stdout
    assert ".mooring" not in listed


def test_docker_cps_rules_hold_coming_out(cli: Cli, name: str, away: Path) -> None:
    """The same rules for what comes out; a missing path, a slash behind a file are errors."""
    cli("exec", name, "--", "sh", "-c", "mkdir -p /tmp/d; echo one >/tmp/d/f", check=0)
    cli("cp", f"{name}:/tmp/d", str(away / "new"), check=0)
    cli("cp", f"{name}:/tmp/d", str(away / "new"), check=0)
    cli("cp", f"{name}:/tmp/d/.", str(away / "new" / "deep"), check=0)
    cli("exec", name, "--", "sh", "-c", "echo two >/tmp/d/f", check=0)
    cli("cp", f"{name}:/tmp/d/.", str(away / "new"), check=0)
    cli("cp", f"{name}:/tmp/d/f", str(away / "file"), check=0)
    said = {str(p.relative_to(away)): p.read_text().strip() for p in away.rglob("*") if p.is_file()}
    assert said == {"file": "two", "new/f": "two", "new/d/f": "one", "new/deep/f": "one"}
    assert "there is no" in cli("cp", f"{name}:/tmp/nix", str(away), check=1).stderr
    assert "not a folder" in cli("cp", f"{name}:/tmp/d/f/", str(away), check=1).stderr
    assert "not a folder" in cli("cp", f"{name}:/tmp/d/f", f"{away}/nix/", check=1).stderr
    assert "is a file" in cli("cp", f"{name}:/tmp/d", str(away / "file"), check=1).stderr
    assert "folder of" in cli("cp", f"{name}:/tmp/d", str(away / "nix" / "x"), check=1).stderr
    assert sorted(os.listdir(away)) == ["file", "new"]


def test_a_relative_path_starts_at_the_working_directory(
    cli: Cli, box: str, project: Path, away: Path
) -> None:
    """NAME:path means the folder in which a command of exec starts; NAME: is that folder."""
    (away / "note").write_text("here\n")
    cli("cp", str(away / "note"), f"{box}:copied", check=0)
    cli("cp", str(away / "note"), f"{box}:", check=0)
    assert (project / "copied").read_text() == (project / "note").read_text() == "here\n"
    cli("cp", f"{box}:note", str(away / "back"), check=0)
    assert (away / "back").read_text() == "here\n"
    assert (project / "copied").stat().st_uid == os.getuid()


def test_links_are_copied_and_followed_on_request(cli: Cli, box: str, away: Path) -> None:
    """A link is copied as a link; -L copies what it leads to."""
    (away / "real").write_text("real\n")
    (away / "link").symlink_to("real")
    cli("cp", str(away / "link"), f"{box}:/tmp/l", check=0)
    cli("cp", "-L", str(away / "link"), f"{box}:/tmp/f", check=0)
    cli("exec", box, "--", "sh", "-c", "ln -s f /tmp/g; test -h /tmp/l && cat /tmp/f", check=0)
    cli("cp", f"{box}:/tmp/g", str(away / "g"), check=0)
    cli("cp", "-L", f"{box}:/tmp/g", str(away / "h"), check=0)
    assert os.readlink(away / "g") == "f"
    assert (away / "h").read_text() == "real\n"
    assert not (away / "h").is_symlink()


def test_special_files_are_left_out_and_told(cli: Cli, name: str, away: Path) -> None:
    """A pipe or a socket is left out with a line; all else is copied, and the exit code is 1."""
    folder = away / "d"
    folder.mkdir()
    (folder / "file").write_text("x")
    os.mkfifo(folder / "pipe")
    done = cli("cp", str(folder), f"{name}:/tmp/d", check=1)
    assert "left out: pipe is" in done.stderr
    assert cli("exec", name, "--", "ls", "/tmp/d", check=0).stdout == "file\n"
    assert "a device, a pipe" in cli("cp", str(folder / "pipe"), f"{name}:/tmp/", check=1).stderr
    assert "a device, a pipe" in cli("cp", f"{name}:/dev/null", str(away), check=1).stderr
    cli("cp", str(folder / "file"), f"{name}:/tmp/e", check=0)


def test_pipes_of_a_session_are_left_out(cli: Cli, box: str, away: Path) -> None:
    """So it is the other way round."""
    cli("exec", box, "--", "sh", "-c", "mkdir /tmp/d; cd /tmp/d; mkfifo p; echo >f; chmod 755 f")
    done = cli("cp", f"{box}:/tmp/d", str(away), check=1)
    assert "left out: p is a named pipe" in done.stderr
    assert os.listdir(away / "d") == ["f"]
    assert stat.S_IMODE((away / "d" / "f").stat().st_mode) == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="sessions of others cannot set these bits")
def test_set_id_bits_stay_in_the_session(cli: Cli, project: Path, busybox: str, away: Path) -> None:
    """They do not come along: here the file would be its caller's, for everybody."""
    cli("create", "-d", "--name", "box", "--image", busybox, "--pull", "never", check=0)
    script = "cd /tmp; echo >f; busybox chmod 6755 f; stat -c %a f"
    assert cli("exec", "box", "--", "sh", "-c", script, check=0).stdout == "6755\n"
    cli("cp", "box:/tmp/f", str(away), check=0)
    assert stat.S_IMODE((away / "f").stat().st_mode) == 0o755


def test_streams(box: str, cli: Cli, away: Path) -> None:
    """- is a tar stream: out of one session and into another folder, links and all."""
    tree(away / "in")
    cli("cp", str(away / "in"), f"{box}:/tmp/in", check=0)
    out = subprocess.run([*MOORING, "cp", f"{box}:/tmp/in", "-"], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as archive:
        assert "./in/sub/script" in archive.getnames()
    cli("exec", box, "--", "mkdir", "/tmp/two", check=0)
    subprocess.run([*MOORING, "cp", "-", f"{box}:/tmp/two"], input=out.stdout, check=True)
    cli("cp", f"{box}:/tmp/two/in", str(away / "out"), check=0)
    assert facts(away / "out") == facts(away / "in")
    bad = subprocess.run(
        [*MOORING, "cp", "-", f"{box}:/tmp/two"], input=b"no tar", capture_output=True, check=False
    )
    assert bad.returncode == 1
    assert bad.stderr.startswith(b"error: cannot write in the session")


def test_an_image_without_tar_is_told(
    real_engine: Engine, cli: Cli, project: Path, away: Path
) -> None:
    """One line says that cp needs tar, in every direction, and the hint what to install."""
    (away / "f").write_text("x")
    with image_maker() as make:
        image = make("mv", name="no-tar")
        cli("create", "-d", "--name", "small", "--image", image, "--pull", "never", check=0)
        for words in (
            (str(away / "f"), "small:/tmp/f"),
            ("small:/etc/passwd", str(away)),
            ("small:/etc/passwd", "-"),
            ("-", "small:/tmp"),
        ):
            assert cli("cp", *words, check=1).stderr == (
                "error: the image of session small has no tar, which cp requires\n"
                "hint: install tar or busybox in the image\n"
            )
        cli("rm", "-f", "small", check=0)
    assert os.listdir(away) == ["f"]


def test_what_makes_no_sense_is_one_line(cli: Cli, box: str, away: Path) -> None:
    """Two sessions or none are misuse; an unknown one or a missing file fails. Each has a hint."""
    for words, code, said in (
        (("a", "b"), 2, "both sides are on this machine\nhint: a session's side has a colon"),
        (("box:a", "box:b"), 2, "both sides are sessions"),
        (("nobody:a", "b"), 1, "no session named nobody"),
        ((f"{away}/missing", "box:"), 1, "No such file"),
        ((f"{away}/f/", "box:"), 1, "not a folder"),
    ):
        (away / "f").touch()
        done = cli("cp", *words, check=code)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) <= 2


def test_a_file_that_cannot_be_read_is_told(cli: Cli, box: str, away: Path) -> None:
    """The rest is copied, and the exit code is 1."""
    if os.getuid() == 0:
        pytest.skip("root reads everything")
    cli("exec", box, "--", "sh", "-c", "cd /tmp; mkdir d; echo >d/a; echo >d/b; chmod 0 d/b")
    done = cli("cp", f"{box}:/tmp/d", str(away), check=1)
    assert "Permission denied" in done.stderr
    assert os.listdir(away / "d") == ["a"]


BIG = 256 << 20


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("big") / "big"
    with path.open("wb") as file:
        for _ in range(BIG >> 20):
            file.write(os.urandom(1 << 20))
    yield path
    path.unlink()


def root_of(cli: Cli, name: str) -> Path:
    """A session's root filesystem, as this machine sees it."""
    rows = json.loads(cli("ps", "--json", check=0).stdout)
    (container,) = [row["container"] for row in rows if row["name"] == name]
    asked = ["docker", "inspect", "-f", "{{.State.Pid}}", container]
    pid = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return Path(f"/proc/{pid}/root")


def digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            found.update(data)
    return found.hexdigest()


def test_a_large_file_goes_in_and_out_with_little_memory(box: str, big: Path, away: Path) -> None:
    """256 MiB are the same on return, and no command holds more than 100 MiB."""
    for words in ((str(big), f"{box}:/tmp/big"), (f"{box}:/tmp/big", str(away / "back"))):
        process = subprocess.Popen([*MOORING, "cp", *words])
        peak = 0
        while process.poll() is None:
            peak = max(peak, peak_kib(process.pid))
            time.sleep(0.02)
        assert process.returncode == 0
        assert 0 < peak < 100 << 10
    assert digest(away / "back") == digest(big)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_copy_leaves_nothing_half(
    cli: Cli, box: str, big: Path, away: Path, how: signal.Signals
) -> None:
    """Whatever ends the command in the middle, no half file has the final name, on either side.

    Only SIGKILL leaves a draft, and only on this machine: in the session its own side clears up.
    """
    cli("cp", str(big), f"{box}:/tmp/whole", check=0)
    (away / "kept").write_text("before")
    inside = root_of(cli, box) / "tmp"
    for words, folder in (
        ((str(big), f"{box}:/tmp/half"), inside),
        ((f"{box}:/tmp/whole", str(away / "kept")), away),
    ):
        process = subprocess.Popen([*MOORING, "cp", *words], stderr=subprocess.DEVNULL)

        def begun(folder: Path = folder) -> bool:
            return any(each.startswith(".mooring-cp") for each in os.listdir(folder))

        deadline = time.monotonic() + 20
        while not begun() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(how)
        process.wait(timeout=20)
        expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how]
        assert process.returncode == expected
    assert (away / "kept").read_text() == "before"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        left = in_tmp(cli, box)
        if left == ["whole"]:
            break
    assert left == ["whole"]
    if how != signal.SIGKILL:
        assert os.listdir(away) == ["kept"]


def test_what_another_process_exchanges_for_a_link_is_not_read(
    cli: Cli, box: str, away: Path
) -> None:
    """A link below the source is sent as a link, never as what it leads to."""
    secret = away / "secret"
    secret.write_text("sentinel-7391")
    (away / "d").mkdir()
    (away / "d" / "a").symlink_to(secret)
    (away / "d" / "b").symlink_to(away)
    cli("cp", str(away / "d"), f"{box}:/tmp/d", check=0)
    said = cli("exec", box, "--", "sh", "-c", "cat /tmp/d/a /tmp/d/b/secret")
    assert "sentinel" not in said.stdout


def test_progress_is_for_terminals(cli: Cli, box: str, away: Path) -> None:
    """Without a terminal nothing is printed when all is well."""
    (away / "f").write_text("x")
    done = cli("cp", str(away / "f"), f"{box}:/tmp/f", check=0)
    assert done.stdout == done.stderr == ""


def test_no_network_is_needed_and_a_socket_is_left_out(cli: Cli, box: str, away: Path) -> None:
    """A Unix socket in a folder is named and left out."""
    (away / "d").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(away / "d" / "s"))
        done = cli("cp", str(away / "d"), f"{box}:/tmp/d", check=1)
    assert "left out: s is" in done.stderr


def test_what_a_killed_copy_left_goes_with_the_next(cli: Cli, box: str, tmp_path: Path) -> None:
    """A draft that nobody holds is deleted by the next copy to its folder; one in use is not."""
    import fcntl

    for name in ("left", "used", "young"):
        (tmp_path / f".mooring-cp-{name}").mkdir()
        (tmp_path / f".mooring-cp-{name}" / "half").write_text("half")
    for name in ("left", "used"):
        os.utime(tmp_path / f".mooring-cp-{name}", (1, 1))
    used = os.open(tmp_path / ".mooring-cp-used", os.O_RDONLY)
    try:
        fcntl.flock(used, fcntl.LOCK_EX)
        cli("cp", f"{box}:/etc/passwd", str(tmp_path / "passwd"), check=0)
        drafts = sorted(path.name for path in tmp_path.glob(".mooring-cp-*"))
        assert drafts == [".mooring-cp-used", ".mooring-cp-young"]
    finally:
        os.close(used)
