"""top: what sessions use."""

from __future__ import annotations

from mooring import Claim
from mooring.kernels.listing import KernelEntry
from mooring_cli import top
from tests.support.cli import clock, session


def test_what_top_shows() -> None:
    """CPU of one core, memory of its limit, GPU use and what is lost, in a line each."""
    used = clock(memory_bytes=3 << 30, gpu_percent=88.0)
    kernels = (KernelEntry("k", busy=True, requests=1, exit=None),)
    said = top.lines(
        [
            session(
                clock=used, declared={"memory": 8 << 30}, claims=(Claim("a"),), kernels=kernels
            ),
            session("broken", degraded="gpu lost", clock=clock(), claims=(Claim("b"),)),
        ],
        0,
    )
    assert said[0].split() == [
        "NAME", "STATE", "CPU", "MEMORY", "GPUS", "GPU", "KERNELS", "ACTIVITY", "STOPS", "IN",
    ]  # fmt: skip
    assert said[1].split() == [
        "train", "running", "250%", "3", "/", "8", "GiB", "1", "88%", "1,", "1", "busy", "kernel",
        "1m", "(idle)",
    ]  # fmt: skip
    assert "gpu lost" in said[2]
