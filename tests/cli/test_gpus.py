"""gpus: the machine's GPUs, their holders and the queue."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mooring import Gpu, GpuUse, Holder, Waiting
from mooring_cli import gpus


def test_gpus_as_json(stage: Any) -> None:
    """Each GPU with its state and its holders, in the shape of the library's values."""
    rows = json.loads(stage.said("mooring gpus --json", 80))
    assert [row["state"] for row in rows] == [
        "held", "held", "shared", "held", "held", "outside", "draining", "split", "held", "free",
        "free",
    ]  # fmt: skip
    assert rows[0]["holders"][0]["session"] == "bert-finetune"
    assert rows[2]["free_share"] == 0.25
    assert [row["kept_for"] for row in rows[2:4]] == ["sweep-07", ""]
    assert rows[8]["parent"] == rows[7]["uuid"]


def test_a_machine_without_gpus(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and where to look."""
    monkeypatch.delenv("MOORING_FAKE_NVML")
    said = stage.said("mooring gpus", 80, terminal=False)
    assert said == "no GPUs on this machine\nif this machine has GPUs, see: mooring doctor\n"


def test_numbers_of_gpus_and_their_parts() -> None:
    """A GPU is called by its index, an instance by its GPU's and its own."""
    gpu = Gpu("GPU-2", 2, "nvidia", "A", 1, "d", split=True)
    parts = [Gpu(f"MIG-{i}", 2, "nvidia", "A MIG", 1, "d", parent="GPU-2") for i in range(2)]
    every = [gpu, *parts]
    assert [gpus.number_of(one, every) for one in every] == ["2", "2:0", "2:1"]


def test_gpus_of_which_little_is_known() -> None:
    """Without memory, use or driver there are dashes, and no error."""
    gpu = Gpu("nvidia0", 0, "nvidia", "GPU", 0, "")
    holder = Holder("", "", "", "", "container \033[2Jweb", 0.0, 1.0, None, False)
    use = GpuUse(gpu, "outside", 0.0, (holder,))
    assert gpus.summary([use]) == "1 x GPU; free: none"
    (row,) = gpus.rows_of(use, [gpu])
    assert row[3:5] == ["-", "-"]


def test_free_gpus_that_are_kept_for_who_waits() -> None:
    """The summary says how many of the free ones are, their lines for whom, and who waits."""
    every = [Gpu(f"GPU-{i}", i, "nvidia", "A", 0, "") for i in range(3)]
    kept = [GpuUse(gpu, "free", 1.0, (), kept_for="big") for gpu in every]
    free = GpuUse(every[2], "free", 1.0, ())
    assert gpus.summary([*kept[:2], free]).endswith(
        "free: 3, 2 of them reserved for a queued session"
    )
    assert gpus.summary(kept).endswith("free: 3, reserved for a queued session")
    assert gpus.rows_of(kept[0], every)[0][5] == "reserved for big"
    line = [Waiting(f"s{n}", "bob", "1 GPU", ()) for n in range(6)]
    assert gpus.queue_lines(line[:1]) == ["waiting: s0 (bob, 1 GPU)"]
    assert gpus.queue_lines(line)[0].endswith("s3 (bob, 1 GPU) and 2 more")
    assert gpus.queue_lines([]) == []
