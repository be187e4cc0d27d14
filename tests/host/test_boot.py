"""This machine's boot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mooring.host import boot
from mooring.host.boot import boot_id


def test_uptime_is_the_time_scale_of_clocks() -> None:
    """It is what /proc/uptime says, which the clock in a container reads, and goes forward."""
    before = boot.uptime()
    told = float(Path("/proc/uptime").read_text().split()[0])
    after = boot.uptime()
    assert before - 0.02 <= told <= after + 0.02  # the file has two decimals
    assert before <= after


def test_a_boot_has_one_id() -> None:
    """The id is a UUID, the same at each call, on one line."""
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot.boot_id())
    assert boot.boot_id() == boot.boot_id()


def test_times_of_day_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set changes no uptime."""
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert boot.uptime() > 0


def test_this_boot_has_a_name() -> None:
    """One boot is told from another."""
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()
