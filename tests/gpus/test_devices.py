"""What a container gets for its claims."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.gpus import devices
from mooring.gpus.claims import Claim
from mooring.gpus.inventory import Gpu

A100 = Gpu("GPU-a", 0, "nvidia", "A100", 40 * 2**30, "1")


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one GPU."""
    monkeypatch.setattr(devices, "inventory", lambda: (A100,))


def test_without_claims_nothing_is_seen() -> None:
    """An image that asks for every GPU gets none if its session has none."""
    container = devices.devices_of(())
    assert container.requested == ()
    assert container.env == {"NVIDIA_VISIBLE_DEVICES": "void"}


def test_whole_devices() -> None:
    """Devices are requested from the engine by UUID, and named in the environment."""
    container = devices.devices_of([Claim("GPU-a")])
    assert container.requested == ("GPU-a",)
    assert container.env == {"NVIDIA_VISIBLE_DEVICES": "GPU-a", "MOORING_GPU_UUIDS": "GPU-a"}
    assert container.binds == ()


def test_amd_devices_are_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """AMD's devices need no GPU runtime: their device files are passed to the container."""
    amd = Gpu("GPU-m", 0, "amd", "MI300", 1, "amdgpu", nodes=("/dev/kfd", "/dev/dri/renderD128"))
    monkeypatch.setattr(devices, "inventory", lambda: (amd,))
    container = devices.devices_of([Claim("GPU-m")])
    assert (container.requested, container.nodes) == ((), ("/dev/kfd", "/dev/dri/renderD128"))
    assert "NVIDIA_VISIBLE_DEVICES" not in container.env


def test_a_share_without_anything_to_limit_it_says_so(tmp_path: Path) -> None:
    """If neither MPS nor an instance limits a session to its share, that is stated."""
    share = devices.limits(Claim("GPU-a", 0.5), A100, {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})
    assert share.statement.startswith("0.5 of it by agreement, because nothing enforces the limit")
    assert (share.env, share.binds) == ({}, ())
    assert "by agreement" in devices.devices_of([Claim("GPU-a", 0.5)]).sharing["GPU-a"]


def test_a_share_by_mps(tmp_path: Path) -> None:
    """If an MPS daemon answers, its limits are set to the share."""
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "control"))
        daemon.listen()
        share = devices.limits(
            Claim("GPU-a", 0.25), A100, {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
        )
    assert share.env == {
        "CUDA_MPS_PIPE_DIRECTORY": "/run/nvidia-mps",
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=10240M",
    }
    assert [(bind.source, bind.target) for bind in share.binds] == [
        (str(tmp_path), "/run/nvidia-mps")
    ]


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[dict[str, str]]:
    """A process that answers in a folder as an MPS daemon does, and the variable that names it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "control"))
        listening.listen()
        yield {"CUDA_MPS_PIPE_DIRECTORY": str(folder)}


@pytest.mark.parametrize("how", ["open", "link", "movable", "strangers", "answered by a stranger"])
def test_a_strangers_daemon_is_not_used(tmp_path: Path, how: str) -> None:
    """A folder in which somebody else could answer, or which they could exchange, is not mounted,
    and the reason is stated."""
    folder = tmp_path / "above" / "mps"
    folder.mkdir(parents=True)
    with daemon(folder) as environ:
        assert devices.limits(Claim("GPU-a", 0.5), A100, environ).binds
        if how == "open":
            folder.chmod(0o777)
        elif how == "movable":
            folder.parent.chmod(0o777)
        elif how == "link":
            (tmp_path / "link").symlink_to(folder)
            environ = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "link")}
        elif os.getuid() != 0:
            pytest.skip("giving files away needs root")
        else:
            os.chown(folder if how == "strangers" else folder / "control", 65534, 65534)
        share = devices.limits(Claim("GPU-a", 0.5), A100, environ)
    assert (share.env, share.binds) == ({}, ())
    assert share.statement.startswith("0.5 of it by agreement, because nothing enforces the limit")
    assert "is not used: " in share.statement
    assert str(tmp_path) in share.statement


def test_the_daemons_folder_is_a_mount_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is told of the daemon's folder, by its path."""
    with daemon(tmp_path) as environ:
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", environ["CUDA_MPS_PIPE_DIRECTORY"])
        container = devices.devices_of([Claim("GPU-a", 0.5)])
    assert container.sources == (("gpus, by MPS", tmp_path),)
    assert devices.devices_of([Claim("GPU-a")]).sources == ()


def test_an_instance_limits_itself() -> None:
    """A MIG instance needs no limit to its share."""
    part = Gpu("MIG-a", 0, "nvidia", "A100 MIG 1g.5gb", 1, "1", parent="GPU-a")
    assert devices.limits(Claim("MIG-a"), part, {}).statement.startswith("a MIG instance")
