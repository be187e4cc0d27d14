"""What GPUs cost, by the benchmarks that anybody can run: ``make bench ARGS='--only gpu_…'``.

The bounds are wider than the goals (1.2 times docker run, 100 ms), as other work on the machine
disturbs both sides of a pair, but never quite alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.engines.base import Engine

pytestmark = [
    pytest.mark.alone,
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "bench.py"


def measured(name: str, tmp_path: Path) -> dict[str, float]:
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, str(BENCH), "--only", name, "--rounds", "7", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    (row,) = json.loads(out.read_text())
    return row


def test_a_session_on_a_free_gpu_costs_little_more_than_docker_run(
    gpu_engine: Engine, tmp_path: Path
) -> None:
    """create -d --gpus 1 against docker run -d --gpus with the same options."""
    assert measured("gpu_start", tmp_path)["ratio"] <= 1.5


def test_claiming_among_many_takes_a_moment(gpu_engine: Engine, tmp_path: Path) -> None:
    """A claim among 64 GPUs and 200 sessions: hardly more than one listing of what runs."""
    row = measured("gpu_claim", tmp_path)
    assert row["mooring"] <= 0.15 or row["ratio"] <= 1.5, row
