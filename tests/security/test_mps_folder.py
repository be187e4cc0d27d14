"""Attacks through the folder of NVIDIA's MPS daemon, which anybody can make in /tmp first."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.errors import PolicyError
from mooring.gpus.devices import GUEST_PIPES
from mooring.images.host_environment import host_environment
from mooring.sessions.model import Session
from mooring.spec.resolve import resolve
from tests.gpus.conftest import nvml, real_engine, refusal_of_requests
from tests.policy.conftest import plant
from tests.policy.support import Plant
from tests.support.docker import inspect
from tests.users.people import open_to_all

__all__ = ["nvml", "plant", "real_engine", "refusal_of_requests"]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.gpus,
    pytest.mark.skipif(os.getuid() != 0, reason="being somebody else needs root"),
]

NOBODY = 65534
# Answers in a folder as the daemon does, until its input ends
ANSWER = """
import os, socket, sys
listening = socket.socket(socket.AF_UNIX)
if not os.path.exists(sys.argv[1]):
    os.mkdir(sys.argv[1], 0o755)
listening.bind(sys.argv[1] + "/control")
listening.listen()
print("listening", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder like /tmp."""
    with open_to_all(0o1777) as folder:
        yield folder


@contextlib.contextmanager
def answering(folder: Path, uid: int) -> Iterator[None]:
    """A process of some user's that answers in a folder, which it makes if it is missing."""
    switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    python = "/usr/bin/python3" if uid else sys.executable
    with subprocess.Popen(
        [*switch, python, "-c", ANSWER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        try:
            yield
        finally:
            process.communicate(timeout=10)


def half(mooring: Mooring, monkeypatch: pytest.MonkeyPatch, pipes: Path, name: str) -> Session:
    """A session with half a GPU, where the daemon's folder is said to be ``pipes``."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(pipes))
    spec = resolve(flags={"gpus": 0.5, "command": ["sleep", "300"]}, environ={})
    return mooring.sessions.create(spec, LaunchOptions(name=name)).session


def pipes_of(mooring: Mooring, session: Session) -> list[str]:
    """What is mounted as the daemon's folder."""
    mounts = inspect(mooring.sessions.get(session.name).container)["Mounts"]
    return [mount["Source"] for mount in mounts if mount["Destination"] == GUEST_PIPES]


@pytest.mark.parametrize("how", ["made first", "in an open folder", "by a link", "a file"])
def test_a_strangers_folder_is_not_mounted(
    mooring: Mooring, project: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Who is not root and not the caller cannot have a folder mounted by answering in it."""
    pipes = answers = shared / "nvidia-mps"
    if how == "in an open folder":
        pipes.mkdir()
        pipes.chmod(0o777)
    if how == "by a link":
        answers = shared / "real"
    with answering(answers, NOBODY):
        if how == "by a link":
            pipes.symlink_to(answers)
        if how == "a file":
            shutil.rmtree(pipes)
            pipes.touch()
        session = half(mooring, monkeypatch, pipes, "s")
        assert pipes_of(mooring, session) == []


def test_the_exchange_of_the_folder_grants_nothing(
    mooring: Mooring, project: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of root's is mounted; when it is gone, and a stranger's or a link to elsewhere is in
    its place, the session that had it starts without it."""
    pipes, loot = shared / "nvidia-mps", shared / "loot"
    loot.mkdir()
    with answering(pipes, 0):
        session = half(mooring, monkeypatch, pipes, "s")
        assert pipes_of(mooring, session) == [str(pipes)]
        mooring.sessions.stop(session)
    shutil.rmtree(pipes)
    with answering(pipes, NOBODY):
        mooring.sessions.start(mooring.sessions.get("s"))
        assert pipes_of(mooring, session) == []
        mooring.sessions.stop(mooring.sessions.get("s"))
    shutil.rmtree(pipes)
    pipes.symlink_to(loot)
    with answering(loot, 0):
        mooring.sessions.start(mooring.sessions.get("s"))
        assert pipes_of(mooring, session) == []


def test_the_policy_is_asked(
    mooring: Mooring,
    project: Path,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Plant,
) -> None:
    """The daemon's folder is held against the policy's host_paths, at create and at start."""
    pipes = shared / "nvidia-mps"
    others = [project, *(source for _, source in host_environment().sources)]

    def allow(*folders: Path) -> None:
        plant(f"host_paths: {json.dumps([str(folder) for folder in folders])}")

    with answering(pipes, 0):
        allow(*others)
        with pytest.raises(PolicyError, match=f"gpus, by MPS: {pipes} is outside the folders"):
            half(mooring, monkeypatch, pipes, "refused")
        allow(*others, pipes)
        session = half(mooring, monkeypatch, pipes, "s")
        assert pipes_of(mooring, session) == [str(pipes)]
        mooring.sessions.stop(session)
        allow(*others)
        with pytest.raises(PolicyError, match=f"gpus, by MPS: {pipes}"):
            mooring.sessions.start(mooring.sessions.get("s"))
