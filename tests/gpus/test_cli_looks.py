"""gpus, ps, describe and why with sessions that hold GPUs of a real engine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fakes.gpus import FakeGpus

pytestmark = pytest.mark.engine


def test_what_holds_gpus_is_told_everywhere(cli, gpu_engine, nvml: FakeGpus, project: Path) -> None:
    """A claim shows in gpus, ps and describe; a lost GPU in ps, describe and why; stop frees it."""
    free = json.loads(cli("gpus", "--json", check=0).stdout)
    assert {use["state"] for use in free} == {"free"}
    cli("create", "-d", "--name", "two", "--gpus", "2", "--max-duration", "3h", "--",
        "sleep", "1000", check=0)  # fmt: skip
    cli("create", "-d", "--name", "half", "--gpus", "0.5", "--", "sleep", "1000", check=0)
    uses = json.loads(cli("gpus", "--json", check=0).stdout)
    held = [use for use in uses if use["holders"]]
    assert sorted(use["state"] for use in held) == ["held", "held", "shared"]
    of_two = [use["uuid"] for use in held if use["holders"][0]["session"] == "two"]
    assert len(of_two) == 2
    said = cli("gpus", check=0).stdout
    assert said.startswith("8 x NVIDIA A100-SXM4-40GB (40 GiB), driver 550.54.15; free: 5\n")
    assert "half (0.5)" in said
    rows = {line.split()[0]: line.split() for line in cli("ps", check=0).stdout.splitlines()}
    assert (rows["two"][2], rows["half"][2]) == ("2", "0.5")
    described = cli("describe", "two", check=0).stdout
    for found in of_two:
        assert f"NVIDIA A100-SXM4-40GB, 40 GiB, {found}" in described
    events = [event["kind"] for event in json.loads(cli("events", "--json", "two").stdout)]
    assert events[:1] == ["requested"]
    assert events[-2:] == ["granted", "started"]
    nvml.lose(of_two[0])
    assert "running (gpu lost)" in cli("ps", check=0).stdout
    assert "two is running (gpu lost)" in cli("why", "two", check=0).stdout
    assert f"{of_two[0]}, which is not on this machine now" in cli("describe", "two").stdout
    assert "gpu lost" in cli("top", "--once", check=0).stdout
    only = cli("ps", "-q", "--filter", "degraded=?*", check=0).stdout
    assert only == "two\n"
    cli("stop", "half", check=0)
    uses = json.loads(cli("gpus", "--json", check=0).stdout)
    assert sum(bool(use["holders"]) for use in uses) == 1
    assert "gpus, until it ended" in cli("describe", "half", check=0).stdout


def test_a_process_outside_mooring_is_shown(cli, gpu_engine, nvml: FakeGpus) -> None:
    """What computes on a GPU without mooring stands there with its name and user."""
    nvml.run(3, os.getpid())
    (row,) = (line for line in cli("gpus", check=0).stdout.splitlines() if line.startswith("3 "))
    assert "outside" in row
    assert f"process {os.getpid()}" in row
    assert nvml.uuids[3] in cli("gpus", "--json", check=0).stdout
