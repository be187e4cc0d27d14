"""describe: everything about a session."""

from __future__ import annotations

import json
from typing import Any


def test_describe_tells_all(stage: Any) -> None:
    """What it holds, with model and UUID; deadlines, kernels, place, events; also as JSON."""
    said = stage.said("mooring describe bert-finetune sweep-07 diffusion-xl", 120, terminal=False)
    for text in (
        "NVIDIA A100-SXM4-80GB, 80 GiB, GPU-5f1c0de1-7a3b-41c8-9d2e-0b5a6c7d8e91",
        "idle timeout    30m", "max duration    8h", "memory        61.4 / 128 GiB",
        "7d1fe2a90c34  busy, 214 requests", "granted    alice", "1st in the queue for 4 GPUs",
        "priority        10", "which is not on this machine now", "running (gpu lost)",
    ):  # fmt: skip
        assert text in said, text
    (one, other) = json.loads(stage.said("mooring describe --json bert-finetune vision-lab", 80))
    assert [gpu["index"] for gpu in one["gpu_list"]] == [0, 1]
    assert other["gpu_list"][0]["share"] == 0.5
    assert one["events"][0]["kind"] == "requested"
    assert json.loads(stage.said("mooring describe --json notes", 80))["name"] == "notes"
