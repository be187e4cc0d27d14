"""People of this machine: users that are made for a test, and removed with all that is theirs."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.wheel_env import InstalledWheel

ENGINE_SOCKET = "/var/run/docker.sock"

# One cell, executed by nbclient through the kernelspec `host`
ONE_CELL = """
import nbformat, nbclient, sys
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
nbclient.NotebookClient(notebook, kernel_name="host", timeout=60).execute()
print(notebook.cells[0].outputs[0]["text"], end="")
"""


@contextlib.contextmanager
def open_to_all(mode: int = 0o755) -> Iterator[Path]:
    """A folder that every user of the machine can reach; pytest's own are root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    folder.chmod(mode)
    yield folder
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Person:
    """A user of this machine, with mooring from a wheel that is installed for all.

    Attributes:
        env: all of the environment that their commands see.
    """

    name: str
    uid: int
    gid: int
    home: Path
    wheel: InstalledWheel
    env: Mapping[str, str]

    @property
    def state(self) -> Path:
        """Where mooring keeps this user's things: the default place."""
        return self.home / ".local" / "state" / "mooring"

    def run(
        self,
        *words: str | Path,
        check: int | None = 0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 100,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, after a login as it were."""
        done = subprocess.run(
            self.command(*words),
            cwd=cwd or self.home,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            umask=0o022,
        )
        if check is not None:
            told = f"{self.name}: {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == check, told
        assert "Traceback" not in done.stderr or check is None, done.stderr
        return done

    def command(self, *words: str | Path) -> list[str]:
        switch = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups"]
        return [*switch, *map(str, words)]

    def mooring(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(self.wheel.mooring, *words, **options)

    def python(self, script: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(self.wheel.python, "-c", script, **options)

    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.mooring("ps", "--json").stdout)
        return found

    def container(self, name: str) -> str:
        (found,) = [row["container"] for row in self.sessions() if row["name"] == name]
        return str(found)

    def folder(self, name: str) -> Path:
        """A new folder of this user's below the home."""
        path = self.home / name
        path.mkdir(parents=True)
        for made in [path, *path.parents][: len(path.relative_to(self.home).parts)]:
            os.chown(made, self.uid, self.gid)
        return path

    def write(self, path: Path, text: str, mode: int = 0o644) -> Path:
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, self.uid, self.gid)
        return path


@contextlib.contextmanager
def person(
    name: str,
    wheel: InstalledWheel,
    *,
    groups: tuple[int, ...],
    env: Mapping[str, str] | None = None,
) -> Iterator[Person]:
    """Make a user, and remove user, home and all that is theirs at the end.

    Args:
        groups: supplementary ones: the engine's, for one who may use it.
        env: added to the environment of their commands.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can make users: run the tests as root, as .ci/run does")
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        _remove(name)  # left over from a run that was killed
    extra = ["-G", ",".join(map(str, groups))] if groups else []
    subprocess.run(["useradd", "-m", "-s", "/bin/bash", *extra, name], check=True)
    try:
        entry = pwd.getpwnam(name)
        become = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        tried = ["setpriv", *become, str(wheel.python), "-c", "pass"]
        if subprocess.run(tried, check=False).returncode:
            pytest.skip("other users cannot read this Python: make test PYTHON=/usr/bin/python3")
        variables = {
            "HOME": entry.pw_dir,
            "USER": name,
            "LOGNAME": name,
            "SHELL": "/bin/bash",
            "PATH": f"{wheel.bin}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TMPDIR": entry.pw_dir,  # what a client that is killed leaves goes with the home
            **(env or {}),
        }
        home = Path(entry.pw_dir)
        yield Person(name, entry.pw_uid, entry.pw_gid, home, wheel, variables)
    finally:
        _remove(name)


def _remove(name: str) -> None:
    entry = pwd.getpwnam(name)
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if process.name.isdigit() and process.stat().st_uid == entry.pw_uid:
                os.kill(int(process.name), 9)
    # -f: a process that has just been killed may still be there
    subprocess.run(["userdel", "-r", "-f", name], check=False, capture_output=True)
    shutil.rmtree(entry.pw_dir, ignore_errors=True)


def engine_group() -> int:
    """The group whose members may use the engine."""
    return os.stat(ENGINE_SOCKET).st_gid


def foreign_files(top: Path, uid: int) -> list[str]:
    """Everything below (and with) a folder that does not belong to this user."""
    found = [top, *top.rglob("*")]
    return [
        f"{path} belongs to {path.lstat().st_uid}" for path in found if path.lstat().st_uid != uid
    ]


def remove_sessions(user: Person) -> list[str]:
    """End and remove all of a user's sessions; what is left after that, a line each."""
    names = [row["name"] for row in user.sessions()]
    if names:
        user.mooring("rm", "-f", *names)
    listed = subprocess.run(
        [
            "docker",
            "ps",
            "-a",
            "--format",
            "{{.Names}}",
            "--filter",
            f"label=mooring.owner={user.name}",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    left = [f"container {name} is left" for name in listed]
    left += [f"{path} is left" for path in (user.state / "sessions").glob("*")]
    left += foreign_files(user.home, user.uid)
    return left
