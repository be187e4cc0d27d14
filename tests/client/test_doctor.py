"""Is this machine fit: every finding is told with what to do, and looking never fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from mooring import FakeEngine
from mooring.client import doctor
from mooring.client.doctor import Finding, examine
from mooring.engines.base import EngineInfo
from mooring.errors import EngineError, EngineUnavailable
from mooring.gpus import inventory, place
from mooring.gpus.inventory import Gpu
from mooring.spec.resolve import user_config_path
from tests.support.sessions import session_folder


def about(subject: str, engine: FakeEngine) -> list[Finding]:
    return [finding for finding in examine(engine) if finding.subject == subject]


def levels(subject: str, engine: FakeEngine) -> list[str]:
    return [finding.level for finding in about(subject, engine)]


class Old(FakeEngine):
    """An engine that says it is another one."""

    def __init__(self, kind: str, version: str) -> None:
        super().__init__()
        self.said = EngineInfo(kind, version, "1.41", "linux", False)

    def info(self) -> EngineInfo:
        return self.said


def test_a_sound_machine(engine: FakeEngine) -> None:
    """Where all is well there is no problem, and every subject is told."""
    found = examine(engine)
    assert {finding.subject for finding in found} >= {"system", "engine", "state", "kernel", "gpus"}
    assert all(finding.level in ("ok", "info", "warning") for finding in found)
    assert ("ok", "fake 1.0, API 1.0") in [(f.level, f.text) for f in found]


class AtASocket(FakeEngine):
    """An engine whose socket a group may use."""

    address = ""


@pytest.fixture
def shared_engine(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    monkeypatch.setattr(place, "SHARED_FOLDERS", (str(tmp_path),))
    tmp_path.chmod(0o1777)
    socket = tmp_path / "docker.sock"
    socket.touch()
    socket.chmod(0o660)
    if os.geteuid() == 0:
        os.chown(socket, 0, 12345)
    else:
        pytest.skip("only root can make another user's file")
    engine = AtASocket()
    engine.address = f"unix://{socket}"
    return engine


def test_the_gpu_queue_of_a_stranger(shared_engine: AtASocket) -> None:
    """Who took the queue's path is named, with the command that makes the queue; then all is well,
    and it is root's."""
    shared = place.shared_place(shared_engine.address)
    assert shared is not None
    shared.folder.mkdir()
    os.chown(shared.folder, 65534, 65534)
    (finding,) = about("queue", shared_engine)
    assert finding.level == "problem"
    assert "belongs to nobody" in finding.text
    subprocess.run(["sh", "-c", finding.hint.removeprefix("as root: ")], check=True)
    assert levels("queue", shared_engine) == ["ok"]


def test_a_gpu_queue_that_a_stranger_could_take(
    shared_engine: AtASocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are GPUs, the lines that let root make the queue first are offered."""
    assert about("queue", shared_engine) == []
    one = Gpu("GPU-1", 0, "nvidia", "NVIDIA A100", 80 << 30, "550.54")
    monkeypatch.setattr("mooring.gpus.inventory.inventory", lambda: [one])
    (finding,) = about("queue", shared_engine)
    assert finding.level == "info"
    assert f"cp {place.TMPFILES} /etc/tmpfiles.d/mooring.conf" in finding.hint


def test_files_of_a_removed_session_that_stay(
    engine: FakeEngine, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be deleted is named with the command that deletes it, and only while it is."""
    gone = state / "sessions" / ".0123456789ab.gone"
    gone.mkdir(parents=True)

    def refuse(path: Path) -> None:
        raise OSError(13, "Permission denied", "theirs")

    with monkeypatch.context() as patch:
        patch.setattr("mooring.host.trees.remove_path", refuse)
        (finding,) = about("files", engine)
    assert finding.text == f"cannot delete {gone}: theirs: Permission denied"
    assert finding.hint == f"as root: rm -rf -- {gone}"
    assert about("files", engine) == []
    assert not gone.exists()


@pytest.mark.parametrize(
    ("kind", "version", "level"),
    [
        ("docker", "20.10.24", "warning"),
        ("docker", "24.0.8", "warning"),
        ("docker", "24.0.9", None),
        ("docker", "25.0.0", "warning"),
        ("docker", "25.0.1", "warning"),
        ("docker", "25.0.2", None),
        ("docker", "27.1", None),
        ("docker", "20.10.24+dfsg1", "info"),
        ("podman", "4.9.1", "warning"),
        ("podman", "5.0.0", None),
        ("docker", "dev", "warning"),
        ("fake", "0.1", None),
    ],
)
def test_known_holes(kind: str, version: str, level: str | None) -> None:
    """A version with a known hole is a warning; a distribution's own package is told apart."""
    found = [f.level for f in about("engine", Old(kind, version)) if "CVE" in f.text]
    assert found == ([level] if level else [])


def test_an_engine_that_is_down(engine: FakeEngine) -> None:
    """No engine is a problem with the engine's own hint, and the rest is looked at all the same."""
    engine.fail("info", EngineUnavailable("no engine", "start it"))
    (finding,) = about("engine", engine)
    engine.fail("info", EngineUnavailable("no engine", "start it"))
    assert (finding.level, finding.text, finding.hint) == ("problem", "no engine", "start it")
    assert len(examine(engine)) > 3


def test_without_an_engine_it_looks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that the environment asks for and that cannot be is a finding, not an error."""
    for host in ("tcp://127.0.0.1:1", "unix:///nonexistent/docker.sock"):
        monkeypatch.setenv("DOCKER_HOST", host)
        (finding,) = [found for found in examine() if found.subject == "engine"]
        assert finding.level == "problem"
        assert finding.hint


def test_docker_means_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root and may use Docker is told what that means."""
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(doctor.paths, "state_dir", lambda: Path("/"))
    assert levels("rights", Old("docker", "27.0.0")) == ["info"]
    assert levels("rights", Old("podman", "5.0.0")) == []


def test_sessions_that_are_not_filtered(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the engine cannot keep sessions from making set-user-ID files, that is told."""
    assert levels("seccomp", engine) == []
    monkeypatch.setattr(engine, "why_no_mode_filter", lambda: "it does not filter")
    (finding,) = about("seccomp", engine)
    assert finding.level == "warning"
    assert "it does not filter" in finding.text
    assert finding.hint


def test_a_path_too_long_for_sockets(
    engine: FakeEngine, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state folder that is too deep for kernels is a problem, before any kernel fails."""
    monkeypatch.setenv("MOORING_STATE_DIR", str(state / ("x" * 60)))
    (finding,) = about("state", engine)
    assert finding.level == "problem"
    assert "107" in finding.text
    assert "MOORING_STATE_DIR" in finding.hint


def test_the_longest_path_that_is_well_is_well(
    engine: FakeEngine, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told about the path's length is what a kernel then finds."""
    from mooring.errors import KernelError
    from mooring.kernels.kernel import KernelHandle

    told, found = [], []
    for length in range(20, 60):
        monkeypatch.setenv("MOORING_STATE_DIR", str(state / ("x" * length)))
        told.append(levels("state", engine) == ["ok"])
        try:
            KernelHandle(session_folder("0" * 12).guest, "0" * 12)
            found.append(True)
        except KernelError:
            found.append(False)
    assert told == found
    assert {True, False} == set(found)


def test_a_state_folder_that_cannot_be(
    engine: FakeEngine, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state folder that cannot be made is a problem with its hint."""
    (state / "file").touch()
    monkeypatch.setenv("MOORING_STATE_DIR", str(state / "file" / "x"))
    assert levels("state", engine) == ["problem"]


def test_a_disk_that_is_nearly_full(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a gigabyte is a warning."""
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=10, f_frsize=4096))
    assert levels("disk", engine) == ["warning"]


def test_no_ipykernel(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ipykernel, kernels of the host image cannot be: a warning with the command."""

    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    (finding,) = about("kernel", engine)
    assert (finding.level, finding.hint[:21]) == ("warning", "pip install ipykernel")


@pytest.mark.parametrize("place", ["config.yml", "profiles/gpu.yml", "environment"])
def test_a_broken_configuration(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A mistake in the user's own files or variables, which fails every session, is a problem with
    its line; what is sound is told as such."""
    assert about("config", engine) == []
    path = user_config_path().parent / place
    if place == "environment":
        monkeypatch.setenv("MOORING_MEMORY", "lots")
        expected = "environment MOORING_MEMORY: memory must be"
    else:
        path.parent.mkdir(parents=True)
        path.write_text("memory: 1GiB\nmemroy: 2GiB\n")
        expected = f"{path}:2:1: memroy is not a key"
    (finding,) = about("config", engine)
    assert finding.level == "problem"
    assert expected in finding.text
    assert finding.hint
    if place == "config.yml":
        path.write_text("memory: 1GiB\n")
        assert about("config", engine) == [Finding("ok", "config", str(path))]


def test_the_panel(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """JupyterLab without mooring's panel is told with what builds it: pip says nothing of it."""
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *names: [str(tmp_path)])
    (finding,) = about("panel", engine)
    assert finding.level == "warning"
    assert "make panel" in finding.hint
    (tmp_path / "mooring").mkdir()
    (tmp_path / "mooring" / "package.json").touch()
    assert levels("panel", engine) == ["ok"]

    def no_lab(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", no_lab)
    assert levels("panel", engine) == ["info"]


def test_another_system(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels cannot be, it says what to do instead."""
    monkeypatch.setattr(sys, "platform", "darwin")
    (finding,) = about("system", engine)
    assert (finding.level, bool(finding.hint)) == ("problem", True)


def test_gpus_are_counted(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs are told with their number, model and driver; those without a driver as a warning."""
    devices = [Path("/dev/nvidia0"), Path("/dev/nvidia1")]
    one = Gpu("GPU-1", 0, "nvidia", "NVIDIA A100", 80 << 30, "550.54")
    known: list[Gpu] = []

    def glob(path: Path, pattern: str) -> Iterator[Path]:
        return iter(devices if str(path) == "/dev" else [])

    monkeypatch.setattr(Path, "glob", glob)
    monkeypatch.setattr(inventory, "inventory", lambda: tuple(known))
    (finding,) = about("gpus", engine)
    assert finding.level == "warning"
    assert finding.text == "2 NVIDIA device(s) here, and no driver reports them"
    known += [one, replace(one, uuid="GPU-2", index=1, split=True)]
    known += [replace(one, uuid="MIG-1", parent="GPU-2", memory_bytes=10 << 30)]
    assert [(f.level, f.text) for f in about("gpus", engine)] == [
        ("ok", "2 x NVIDIA A100, 80 GiB each, driver 550.54"),
        ("ok", "1 MIG instance(s) of them"),
    ]
    known.clear()
    devices.clear()
    assert levels("gpus", engine) == ["info"]


def test_every_problem_says_what_to_do(
    engine: FakeEngine, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No problem and no warning is told without a way on."""
    monkeypatch.setenv("MOORING_STATE_DIR", str(state / ("x" * 60)))
    engine.fail("info", EngineUnavailable("no engine", "start it"))
    for finding in examine(engine):
        assert finding.hint or finding.level in ("ok", "info")


def test_a_state_folder_that_the_engine_cannot_mount(engine: FakeEngine) -> None:
    """A state folder on a file system that root cannot read is a problem, and not well
    (moby#35002)."""
    engine.fail("check_source", EngineError("the engine may not read /x", "mount it"))
    (finding,) = about("state", engine)
    assert (finding.level, finding.text) == ("problem", "the engine may not read /x")
    assert finding.hint == "mount it; or set MOORING_STATE_DIR to another folder"
    engine.fail("check_source", EngineUnavailable("down"))
    assert levels("state", engine) == ["ok"]
