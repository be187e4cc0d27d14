"""From a spec to a launch plan: what is refused before anything is created."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mooring.client import Mooring
from mooring.errors import NoCapacity, SpecError
from mooring.host.memory import total_memory


def plant(folder: Path, name: str, **metadata: Any) -> None:
    kernel = folder / "kernels" / name
    kernel.mkdir(parents=True)
    spec = {"argv": ["x"], "display_name": name, "language": "x", "metadata": metadata}
    (kernel / "kernel.json").write_text(json.dumps(spec))


def test_a_kernel_that_this_machine_lacks(
    service: Mooring, declare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With image host a kernel's name is checked when the session or the kernelspec is made, not
    when a notebook asks for it; mooring's own kernelspecs are no kernels of an image."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    plant(tmp_path / "jupyter", "Julia-1")
    provisioner = {"provisioner_name": "mooring-provisioner", "config": {}}
    plant(tmp_path / "jupyter", "demo", kernel_provisioner=provisioner)
    for fits in ("python3", "julia-1", "Julia-1"):
        service.sessions.plan(declare(f"kernel: {fits}"))
    with pytest.raises(SpecError, match=r"session\.yml:1: no kernel 'python4'") as caught:
        service.sessions.plan(declare("kernel: python4"))
    assert caught.value.hint == "did you mean python3?"
    with pytest.raises(SpecError, match="flag --kernel: no kernel 'demo'") as caught:
        service.sessions.plan(declare(kernel="demo"))
    assert caught.value.hint.startswith("choose from: julia-1, ")
    assert "demo" not in caught.value.hint
    service.sessions.plan(declare("kernel: elsewhere\nimage: python:3.12"))
    service.sessions.plan(declare("kernel: brought\nenv: {JUPYTER_PATH: /mnt/inputs/kernels}"))


def test_no_more_memory_than_there_is(service: Mooring, declare: Any) -> None:
    """A limit beyond the machine's memory is refused with its origin; what was sold as so much, and
    is a little less, is not."""
    with pytest.raises(NoCapacity) as caught:
        service.sessions.plan(declare(memory=total_memory() * 2))
    assert "flag --memory" in caught.value.message
    assert caught.value.hint == f"request at most {total_memory() >> 30}GiB"
    service.sessions.plan(declare(memory=total_memory() * 33 // 32))
