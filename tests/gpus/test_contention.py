"""Many creations at once for few GPUs, with kill -9 inside. See ``tests.gpus.contention``.

``MOORING_TEST_ROUNDS=20 pytest -s tests/gpus/test_contention.py`` runs as many rounds as asked for
and prints their figures; so does ``python -m tests.gpus.contention --rounds 20`` without pytest.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.gpus.contention import Figures, contest
from tests.gpus.observer import why_no_requests

# The suite's conftest clears the environment of what is mooring's, so it is read at once
ROUNDS = int(os.environ.get("MOORING_TEST_ROUNDS", "1"))

pytestmark = [
    pytest.mark.gpus,
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(120 + 240 * ROUNDS),
]


@pytest.fixture(autouse=True)
def requests_taken() -> None:
    why = why_no_requests()
    if why and os.environ.get("CI"):
        pytest.fail(f"CI needs an engine that takes requests for GPUs: {why}")
    if why:
        pytest.skip(f"the engine takes no requests for GPUs: {why}")
    return


def held(kind: str) -> Figures:
    """Run the rounds, and find nothing wrong in them."""
    figures = contest(kind, ROUNDS)
    assert figures.faults == []
    assert figures.killed > 0
    assert figures.granted > figures.rounds * 25
    return figures


def test_no_gpu_is_given_twice_to_fifty_at_once() -> None:
    """Eight GPUs, fifty processes, kill -9 inside: each GPU once, in order, and nothing leaks."""
    assert held("whole").most_at_once <= 8


def test_no_share_above_one_is_given_to_fifty_at_once() -> None:
    """The same for quarters and halves: a device's shares never add up to more than all of it."""
    assert held("shares").most_at_once > 8


def test_two_installations_share_one_queue() -> None:
    """The same for two installations on one engine, which know nothing of each other."""
    assert held("installations").most_at_once <= 8


@pytest.mark.skipif(os.getuid() != 0, reason="makes a user, which needs root")
def test_two_users_share_one_queue() -> None:
    """The same for two users: neither can hold back the other, or take what the other has."""
    clone = Path(__file__).resolve()
    private = [folder for folder in clone.parents if not folder.stat().st_mode & stat.S_IXOTH]
    if private:
        pytest.skip(f"the other user cannot read this clone: only its owner enters {private[-1]}")
    assert held("users").most_at_once <= 8
