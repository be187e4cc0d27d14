"""Files by scp, sftp and rsync: of the session, and of nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ssh.conftest import Cli, Client, need
from tests.ssh.test_channels import proxies
from tests.support.memory import peak_kib

pytestmark = pytest.mark.engine

MISSING = re.compile("not found|No such file")
ODD = "a b'c $(x);ü"


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The modes and contents below a folder."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            os.readlink(path).encode() if path.is_symlink() else path.read_bytes(),
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with files of odd names and modes, and links."""
    folder = tmp_path / "files"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "plain").write_bytes(os.urandom(300_000))
    (folder / "deep" / ODD).write_text("odd")
    (folder / "deep" / "er" / "run").write_text("#!/bin/sh\n")
    (folder / "deep" / "er" / "run").chmod(0o750)
    (folder / "empty").touch()
    (folder / "link").symlink_to("deep/er/run")
    return folder


@pytest.mark.parametrize("mode", [[], ["-O"]], ids=["new", "old"])
def test_scp_copies_both_ways(mode: list[str], ssh: Client, files: Path, tmp_path: Path) -> None:
    """Folders, modes and names, with the protocol of today and that of before OpenSSH 9."""
    (files / "link").unlink()  # scp follows links
    ssh.run(*mode, "-rpq", str(files), "box:there", program="scp", check=0)
    ssh.run(*mode, "-rpq", "box:there", str(tmp_path / "back"), program="scp", check=0)
    assert tree(tmp_path / "back") == tree(files)
    ssh.run(*mode, "-q", str(files / "plain"), "box:~/p", program="scp", check=0)
    assert ssh.text("wc -c < ~/p").strip() == "300000"
    done = ssh.run(*mode, "box:missing", str(tmp_path), program="scp")
    assert done.returncode == 1
    assert b"No such file" in done.stderr


def test_rsync_copies_both_ways(ssh: Client, files: Path, tmp_path: Path) -> None:
    """Also what has changed, and what is gone."""
    need("rsync")

    def rsync(*words: str) -> None:
        shell = " ".join(["ssh", *ssh.options()])
        subprocess.run(["rsync", "-a", "--delete", "-e", shell, *words], check=True, timeout=60)

    rsync(f"{files}/", "box:there/")
    (files / "empty").unlink()
    (files / "new").write_text("new")
    rsync(f"{files}/", "box:there/")
    rsync("box:there/", f"{tmp_path}/back/")
    assert tree(tmp_path / "back") == tree(files)


def test_sftp_does_what_its_commands_say(ssh: Client, files: Path, tmp_path: Path) -> None:
    """put, get, ls, rename, chmod, symlink, ln, rm, mkdir, rmdir, df: in the session's home."""
    said = ssh.sftp(
        "pwd",
        f"put {files}/plain first",
        "rename first second",
        "chmod 640 second",
        "ln -s second soft",
        "ln second hard",
        "mkdir folder",
        "ls -la",
        "df",
        f"get hard {tmp_path}/got",
        "rm soft",
        "rm hard",
        "rmdir folder",
    )
    home = os.path.expanduser("~")
    assert f"Remote working directory: {home}" in said
    assert (tmp_path / "got").read_bytes() == (files / "plain").read_bytes()
    lines = [line.split(None, 8) for line in said.splitlines()]
    rows = {words[8].split(" ->")[0]: words for words in lines if len(words) == 9}
    assert rows["second"][0] == "-rw-r-----"
    assert rows["soft"][0].startswith("l")
    assert rows["hard"][1] == "2"
    assert rows["folder"][0].startswith("d")
    assert sorted(ssh.text("ls ~").split()) == ["second"]
    for wrong, words in (
        ("get missing", "not found"),
        ("mkdir second", "Failure"),
        ("rm folder", "No such file"),
        ("rmdir /proc", "Failure"),
    ):
        assert words in ssh.sftp(wrong, check=1), wrong


def test_no_file_of_this_machine_can_be_reached(ssh: Client, tmp_path: Path) -> None:
    """Paths and links are the session's: they end in its own files, or in none."""
    key = ssh.config.parent / "host_key"
    assert key.exists()
    ssh.text(f"ln -s {key} ~/stolen; ln -s {ssh.config.parent} ~/folder")
    for path in (str(key), f"/../../..{key}", "stolen", "folder/host_key", f"/proc/1/root{key}"):
        assert MISSING.search(ssh.sftp(f"get {path} {tmp_path}/got", check=1)), path
    assert not (tmp_path / "got").exists()
    ssh.sftp(f"put {key} folder", check=1)  # a link to nothing: no such folder
    assert sorted(os.listdir(ssh.config.parent)) == ["config", "host_key", "known_hosts"]


def test_an_image_without_a_program_for_it_is_told_of(
    bare_image: str, cli: Cli, project: Path, entries: Callable[[], Client]
) -> None:
    """Commands and shells need sh alone; sftp says what it needs, and what else there is."""
    cli("create", "-d", "--name", "box", "--image", bare_image, "--", "sleep", "1000", check=0)
    ssh = entries()
    assert ssh.text("echo $SHELL; pwd").split()[0].endswith("sh")
    done = ssh.run(os.devnull, "box:x", program="scp")
    assert done.returncode != 0
    assert b"error: the image has neither sftp-server nor python3" in done.stderr
    assert b"hint: use mooring cp" in done.stderr
    assert ssh.run("-tt", "box", input=b"tty; exit 3\n").returncode == 3


@pytest.mark.slow
@pytest.mark.alone
def test_a_gibibyte_is_copied_in_time_and_little_memory(ssh: Client, tmp_path: Path) -> None:
    """By scp and through a command, both ways, whole; marked alone for its seconds."""
    big, back = tmp_path / "big", tmp_path / "back"
    block, digest = os.urandom(1 << 20), hashlib.sha256()
    with big.open("wb") as file:
        for _ in range(1024):
            file.write(block)
            digest.update(block)
    peaks = []
    for words in (
        ["scp", *ssh.options("-q", str(big), "box:/tmp/big")],
        ["ssh", *ssh.options("box", "cat /tmp/big")],
        ["ssh", *ssh.options("box", "cat > /tmp/big")],
        ["scp", *ssh.options("-q", "box:/tmp/big", str(back))],
    ):
        began = time.monotonic()
        with big.open("rb") as source, back.open("wb") as sink:
            process = subprocess.Popen(words, stdin=source, stdout=sink)
            while process.poll() is None:
                peaks += [peak_kib(pid) for pid in proxies()]
                time.sleep(0.2)
        assert process.returncode == 0
        assert time.monotonic() - began < 60, words
    with back.open("rb") as file:
        copied = hashlib.sha256()
        while data := file.read(1 << 20):
            copied.update(data)
    assert copied.digest() == digest.digest()
    assert max(peaks) < 150 << 10
