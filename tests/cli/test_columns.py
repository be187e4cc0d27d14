"""The cells of a session."""

from __future__ import annotations

from typing import Any

import pytest

from mooring import Claim
from mooring.sessions.model import State
from mooring_cli import columns
from tests.support.cli import clock, session


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "-"),
        ({"claims": (Claim("a"), Claim("b"))}, "2"),
        ({"claims": (Claim("a", 0.25),)}, "0.25"),
        ({"claims": (Claim("a"),), "clock": clock(gpu_unused_s=1500.0)}, "1, unused 25m"),
        ({"claims": (Claim("a"),), "clock": clock(gpu_unused_s=30.0)}, "1"),
        ({"claims": (Claim("a"),), "clock": clock(gpu_unused_s=None)}, "1"),
        ({"claims": (Claim("a"),), "state": State.STOPPED}, "-"),
        ({"claims": (), "state": State.PENDING, "declared": {"gpus": 2}}, "2"),
        ({"claims": (), "state": State.PENDING, "declared": {"gpus": {"count": 3}}}, "3"),
    ],
)
def test_the_gpus_of_a_session(changes: dict[str, Any], said: str) -> None:
    """How many it holds or waits for, and for how long it has not used them."""
    assert columns.gpus(session(**changes)) == said
