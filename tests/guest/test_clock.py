"""A session's clock, as its run folder tells: read without faith in what is in it."""

from __future__ import annotations

import time

import pytest

from mooring.host.boot import uptime
from mooring.sessions.folder import SessionFolder
from tests.support.sessions import folder

__all__ = ["folder"]


def test_settings_are_what_the_clock_reads(folder: SessionFolder) -> None:
    """Settings are one a line, key and value, and come back as they were."""
    folder.clock.write_settings(name="train", idle_timeout_s=30.0)
    assert (
        folder.path / "programs" / "settings"
    ).read_text() == "name train\nidle_timeout_s 30.0\n"
    assert folder.clock.settings() == {"name": "train", "idle_timeout_s": "30.0"}


def write_status(folder: SessionFolder, **lines: object) -> None:
    text = "".join(f"{key} {value}\n" for key, value in lines.items())
    (folder.run / "status").write_text(text)


def test_the_clocks_status(folder: SessionFolder) -> None:
    """What the clock wrote in uptimes is told in seconds from now."""
    now = uptime()
    write_status(
        folder,
        sampled=now - 2,
        idle_at=now + 60,
        max_at="never",
        active="kernel exec hold",
        unknown="cpu",
        cpu_percent="1.50",
        last_signal=f"{now - 7:.2f} terminal input",
        complete="",
    )
    folder.clock.hold(600.0)
    status = folder.clock.status()
    assert status is not None
    assert status.age_s == pytest.approx(2, abs=1)
    assert status.idle_stop_in_s == pytest.approx(60, abs=1)
    assert status.max_stop_in_s is None
    assert (status.active_signals, status.failed_probes) == (("kernel", "exec", "hold"), ("cpu",))
    assert status.cpu_percent == 1.5
    assert status.held_for_s == pytest.approx(600, abs=1)
    assert status.last_signal == "terminal input"
    assert status.last_signal_ago_s == pytest.approx(7, abs=1)


def test_the_clocks_word_on_gpus(folder: SessionFolder) -> None:
    """How much they are used and since when not; unknown is not unused, and lost is told."""
    now = uptime()
    seen = "kernel=never gpu={}".format
    known = {"sampled": now, "started": now - 100, "gpu": "ok", "gpu_percent": 34}
    write_status(folder, **known, seen=seen("never"))
    status = folder.clock.status()
    assert status is not None
    assert (status.gpu_percent, status.gpu_lost, status.gpu_absent) == (34.0, False, False)
    assert status.gpu_unused_s == pytest.approx(100, abs=1)
    write_status(folder, **known, seen=seen(now - 40))
    status = folder.clock.status()
    assert status is not None
    assert status.gpu_unused_s == pytest.approx(40, abs=1)
    for state in ("lost", "failed", "absent"):
        write_status(folder, **known | {"gpu": state, "gpu_percent": "-"}, seen=seen("never"))
        status = folder.clock.status()
        assert status is not None
        assert (status.gpu_percent, status.gpu_unused_s) == (None, None)
        assert (status.gpu_lost, status.gpu_absent) == (state == "lost", state == "absent")
    write_status(folder, sampled=now)
    status = folder.clock.status()
    assert status is not None
    assert (status.gpu_percent, status.gpu_unused_s, status.gpu_lost) == (None, None, False)


def test_a_hold_counts_before_the_clock_has_seen_it(folder: SessionFolder) -> None:
    """Held, or given up, between two samples: activity, end and last signal agree at once."""
    now = uptime()
    folder.clock.write_settings(idle_timeout_s=600)
    write_status(folder, sampled=now, idle_at=now + 20, last_signal=f"{now - 580:.2f} start")
    folder.clock.hold(3600.0)
    status = folder.clock.status()
    assert status is not None
    assert (status.active_signals, status.last_signal) == (("hold",), "hold")
    assert status.last_signal_ago_s == 0.0
    assert status.idle_stop_in_s == pytest.approx(3600 + 600, abs=1)
    write_status(folder, sampled=now, idle_at=now + 4200, active="kernel hold")
    folder.clock.hold(0.0)
    status = folder.clock.status()
    assert status is not None
    assert (status.active_signals, status.held_for_s) == (("kernel",), 0.0)
    assert status.idle_stop_in_s == pytest.approx(600, abs=1)
    write_status(folder, sampled=now, idle_at="never", active="")
    folder.clock.hold(60.0)
    status = folder.clock.status()
    assert status is not None
    assert status.idle_stop_in_s is None


def test_an_exec_counts_before_the_clock_has_seen_it(folder: SessionFolder) -> None:
    """Begun since the last sample it starts the window anew; any other text is passed over."""
    now = uptime()
    folder.clock.write_settings(idle_timeout_s=600.0)
    write_status(
        folder, sampled=now - 3, idle_at=now + 10, active="", last_signal=f"{now - 590:.2f} start"
    )
    for odd in ("garbage", "nan", f"{now - 4:.2f}", f"{now + 1000:.2f}"):
        (folder.run / "exec").write_text(odd)
        status = folder.clock.status()
        assert status is not None
        assert (status.active_signals, status.last_signal) == ((), "start")
        assert status.idle_stop_in_s == pytest.approx(10, abs=1)
    folder.clock.mark_exec()
    status = folder.clock.status()
    assert status is not None
    assert (status.active_signals, status.last_signal) == (("exec",), "exec")
    assert status.idle_stop_in_s == pytest.approx(600, abs=1)
    assert status.last_signal_ago_s == pytest.approx(0, abs=1)


def test_a_name_in_the_way_stops_no_exec(folder: SessionFolder) -> None:
    """A folder that a session made of the mark's name gives way to it, and nothing else is left."""
    (folder.run / "exec" / "below").mkdir(parents=True)
    folder.clock.mark_exec()
    assert [path.name for path in folder.run.iterdir() if path.is_file()] == ["exec"]


def test_a_hold_that_has_passed_is_none(folder: SessionFolder) -> None:
    """A hold of the past holds for no time, not for a negative one."""
    write_status(folder, sampled=uptime())
    folder.clock.hold(-5.0)
    status = folder.clock.status()
    assert status is not None
    assert status.held_for_s == 0.0


@pytest.mark.parametrize(
    "text", ["", "sampled", "sampled soon\n", "sampled 1.0\nidle_at whenever\n", "\xff\0\n"]
)
def test_a_torn_status_is_none(folder: SessionFolder, text: str) -> None:
    """A status that makes no sense yet is none, never an error."""
    (folder.run / "status").write_text(text)
    assert folder.clock.status() is None


def test_the_clocks_end(folder: SessionFolder) -> None:
    """Why a session ended is told as the clock wrote it; half of it is no end yet."""
    assert folder.clock.end() is None
    (folder.run / "end").write_text("time 5\n")
    assert folder.clock.end() is None
    (folder.run / "end").write_text("reason idle\ntime 5\ndetail no activity\nsignals cpu 0%\n")
    end = folder.clock.end()
    assert end is not None
    assert (end.reason, end.time, end.detail, end.signals) == ("idle", 5.0, "no activity", "cpu 0%")


@pytest.mark.parametrize("stamp", ["", "time later\n", "time 0\n"])
def test_an_end_without_a_time_has_its_files(folder: SessionFolder, stamp: str) -> None:
    """An image without a clock to ask is no reason to date an end to 1970."""
    (folder.run / "end").write_text(f"reason idle\n{stamp}")
    end = folder.clock.end()
    assert end is not None
    assert end.time == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e300", "x", "1_", ""])
def test_a_setting_that_is_no_time_is_none(folder: SessionFolder, value: str) -> None:
    """Whatever an earlier version or a hand wrote there, what comes of it is JSON."""
    settings = folder.path / "programs" / "settings"
    settings.write_text(f"idle_timeout_s {value}\nmax_duration_s -5\n")
    assert folder.clock.setting_s("idle_timeout_s") is None
    assert folder.clock.setting_s("max_duration_s") == 0
    assert folder.clock.setting_s("other") is None


def test_figures_of_a_status_are_within_bounds(folder: SessionFolder) -> None:
    """A status with a figure that cannot be is none; less than nothing is nothing."""
    write_status(folder, sampled=1, idle_at="never", cpu_percent=-3, memory_bytes=-1)
    status = folder.clock.status()
    assert status is not None
    assert (status.cpu_percent, status.memory_bytes) == (0.0, None)
    write_status(folder, sampled=1, cpu_percent="1e308")
    assert folder.clock.status() is None


def test_the_reason_of_an_end_is_bounded(folder: SessionFolder) -> None:
    """The session can write the file too."""
    assert folder.clock.end() is None
    (folder.run / "end").write_text("time 5\nreason " + "x" * 5000 + "\n")
    end = folder.clock.end()
    assert end is not None
    assert end.reason == "x" * 1000


def test_an_end_is_short_and_not_to_come(folder: SessionFolder) -> None:
    """No date that a calendar does not know, and no more text than a line."""
    (folder.run / "end").write_text(f"reason idle\ntime 1e14\ndetail {'x' * 60_000}\n")
    end = folder.clock.end()
    assert end is not None
    assert end.time <= time.time()
    assert len(end.detail) <= 1000
