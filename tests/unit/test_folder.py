"""A session's folder: made and removed whole, read without faith in what is in it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from mooring.errors import KernelError, MooringError
from mooring.host import paths
from mooring.kernels.kernel import KernelHandle
from mooring.sessions.history import History
from mooring.sessions.record import Folder, KernelEntry, boot_id, uptime

ID = "0123456789ab"


@pytest.fixture
def folder() -> Folder:
    made = Folder.create(ID, {"id": ID, "name": "train"})
    made.release()
    return made


def test_it_is_the_callers_alone(folder: Folder, state: Path) -> None:
    """Everything on the way to a session's files is closed to others."""
    for path in (state, folder.path, folder.run, folder.home, folder.secrets, folder.run / "k"):
        assert path.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_uid == os.getuid()


def test_a_folder_that_cannot_be_made_leaves_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a whole folder or none: no draft, no descriptor."""

    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        Folder.create(ID, {"id": ID})
    assert list((state / "sessions").iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before  # others may be collected


def test_remove_takes_everything(folder: Folder, state: Path) -> None:
    """A removed folder leaves nothing, and removing it again is no error."""
    (folder.home / "deep" / "er").mkdir(parents=True)
    (folder.home / "link").symlink_to("/")
    folder.remove()
    folder.remove()
    assert list((state / "sessions").iterdir()) == []
    assert Path("/").exists()


def test_what_cannot_be_deleted_is_told(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that stay are named, not passed over."""
    monkeypatch.setattr("shutil.rmtree", lambda path, ignore_errors: None)
    with pytest.raises(MooringError, match=r"cannot delete .*\.gone"):
        folder.remove()
    assert not folder.exists


def test_a_record_is_replaced_whole(folder: Folder) -> None:
    """A change of the record keeps the rest, and leaves no draft behind."""
    folder.update_record(container="c", end_recorded=True)
    assert folder.record() == {"id": ID, "name": "train", "container": "c", "end_recorded": True}
    assert [path.name for path in folder.path.glob(".*")] == []


@pytest.mark.parametrize("content", ["", '{"id": "01', "\0\0\0"])
def test_a_torn_record_is_empty(folder: Folder, content: str) -> None:
    """A record that cannot be read is an empty one."""
    (folder.path / "record.json").write_text(content)
    assert folder.record() == {}


def test_hidden_folders_are_no_sessions(folder: Folder, state: Path) -> None:
    """Drafts, files and links beside the sessions are not taken for one."""
    sessions = state / "sessions"
    (sessions / ".draft.new").mkdir()
    (sessions / "file").touch()
    (sessions / "link").symlink_to(folder.path)
    assert [found.id for found in Folder.all()] == [ID]


def test_settings_are_what_the_clock_reads(folder: Folder) -> None:
    """Settings are one a line, key and value, and come back as they were."""
    folder.write_settings(name="train", idle_timeout_s=30.0)
    assert (folder.run / "settings").read_text() == "name train\nidle_timeout_s 30.0\n"
    assert folder.settings() == {"name": "train", "idle_timeout_s": "30.0"}


def write_status(folder: Folder, **lines: object) -> None:
    text = "".join(f"{key} {value}\n" for key, value in lines.items())
    (folder.run / "status").write_text(text)


def test_the_clocks_status(folder: Folder) -> None:
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
    folder.hold(600.0)
    status = folder.status()
    assert status is not None
    assert status.age_s == pytest.approx(2, abs=1)
    assert status.idle_in_s == pytest.approx(60, abs=1)
    assert status.max_in_s is None
    assert (status.active, status.unknown) == (("kernel", "exec", "hold"), ("cpu",))
    assert status.cpu_percent == 1.5
    assert status.held_for_s == pytest.approx(600, abs=1)
    assert status.last_signal == "terminal input"
    assert status.last_signal_ago_s == pytest.approx(7, abs=1)


def test_the_clocks_word_on_gpus(folder: Folder) -> None:
    """How much they are used and since when not; unknown is not unused, and lost is told."""
    now = uptime()
    seen = "kernel=never gpu={}".format
    known = {"sampled": now, "started": now - 100, "gpu": "ok", "gpu_percent": 34}
    write_status(folder, **known, seen=seen("never"))
    status = folder.status()
    assert status is not None
    assert (status.gpu_percent, status.gpu_lost, status.gpu_absent) == (34.0, False, False)
    assert status.gpu_unused_s == pytest.approx(100, abs=1)
    write_status(folder, **known, seen=seen(now - 40))
    status = folder.status()
    assert status is not None
    assert status.gpu_unused_s == pytest.approx(40, abs=1)
    for state in ("lost", "failed", "absent"):
        write_status(folder, **known | {"gpu": state, "gpu_percent": "-"}, seen=seen("never"))
        status = folder.status()
        assert status is not None
        assert (status.gpu_percent, status.gpu_unused_s) == (None, None)
        assert (status.gpu_lost, status.gpu_absent) == (state == "lost", state == "absent")
    write_status(folder, sampled=now)
    status = folder.status()
    assert status is not None
    assert (status.gpu_percent, status.gpu_unused_s, status.gpu_lost) == (None, None, False)


def test_a_hold_counts_before_the_clock_has_seen_it(folder: Folder) -> None:
    """Held, or given up, between two samples: activity, end and last signal agree at once."""
    now = uptime()
    folder.write_settings(idle_timeout_s=600)
    write_status(folder, sampled=now, idle_at=now + 20, last_signal=f"{now - 580:.2f} start")
    folder.hold(3600.0)
    status = folder.status()
    assert status is not None
    assert (status.active, status.last_signal) == (("hold",), "hold")
    assert status.last_signal_ago_s == 0.0
    assert status.idle_in_s == pytest.approx(3600 + 600, abs=1)
    write_status(folder, sampled=now, idle_at=now + 4200, active="kernel hold")
    folder.hold(0.0)
    status = folder.status()
    assert status is not None
    assert (status.active, status.held_for_s) == (("kernel",), 0.0)
    assert status.idle_in_s == pytest.approx(600, abs=1)
    write_status(folder, sampled=now, idle_at="never", active="")
    folder.hold(60.0)
    status = folder.status()
    assert status is not None
    assert status.idle_in_s is None


def test_an_exec_counts_before_the_clock_has_seen_it(folder: Folder) -> None:
    """Begun since the last sample it starts the window anew; any other text is passed over."""
    now = uptime()
    folder.write_settings(idle_timeout_s=600.0)
    write_status(
        folder, sampled=now - 3, idle_at=now + 10, active="", last_signal=f"{now - 590:.2f} start"
    )
    for odd in ("garbage", "nan", f"{now - 4:.2f}", f"{now + 1000:.2f}"):
        (folder.run / "exec").write_text(odd)
        status = folder.status()
        assert status is not None
        assert (status.active, status.last_signal) == ((), "start")
        assert status.idle_in_s == pytest.approx(10, abs=1)
    folder.mark_exec()
    status = folder.status()
    assert status is not None
    assert (status.active, status.last_signal) == (("exec",), "exec")
    assert status.idle_in_s == pytest.approx(600, abs=1)
    assert status.last_signal_ago_s == pytest.approx(0, abs=1)


def test_a_name_in_the_way_stops_no_exec(folder: Folder) -> None:
    """A session that made a folder of the mark's name loses its own activity, nothing else."""
    (folder.run / "exec").mkdir()
    folder.mark_exec()
    assert [path.name for path in folder.run.iterdir() if path.is_file()] == []


def test_a_hold_that_has_passed_is_none(folder: Folder) -> None:
    """A hold of the past holds for no time, not for a negative one."""
    write_status(folder, sampled=uptime())
    folder.hold(-5.0)
    status = folder.status()
    assert status is not None
    assert status.held_for_s == 0.0


@pytest.mark.parametrize(
    "text", ["", "sampled", "sampled soon\n", "sampled 1.0\nidle_at whenever\n", "\xff\0\n"]
)
def test_a_torn_status_is_none(folder: Folder, text: str) -> None:
    """A status that makes no sense yet is none, never an error."""
    (folder.run / "status").write_text(text)
    assert folder.status() is None


def test_the_clocks_end(folder: Folder) -> None:
    """Why a session ended is told as the clock wrote it; half of it is no end yet."""
    assert folder.end() is None
    (folder.run / "end").write_text("time 5\n")
    assert folder.end() is None
    (folder.run / "end").write_text("reason idle\ntime 5\ndetail no activity\nsignals cpu 0%\n")
    end = folder.end()
    assert end is not None
    assert (end.reason, end.time, end.detail, end.signals) == ("idle", 5.0, "no activity", "cpu 0%")


@pytest.mark.parametrize("stamp", ["", "time later\n", "time 0\n"])
def test_an_end_without_a_time_has_its_files(folder: Folder, stamp: str) -> None:
    """An image without a clock to ask is no reason to date an end to 1970."""
    (folder.run / "end").write_text(f"reason idle\n{stamp}")
    end = folder.end()
    assert end is not None
    assert end.time == pytest.approx(time.time(), abs=60)


def test_kernels_of_a_session(folder: Folder) -> None:
    """Every kernel's folder is told, the dead ones' too, in whatever state their files are."""
    files = {
        "a": {"busy": "busy 3"},
        "b": {"busy": "idle 7", "exit": '{"code": 1}'},
        "c": {},
        "d": {"busy": "busy many"},
    }
    for name, contents in files.items():
        (folder.run / "k" / name).mkdir()
        for file, text in contents.items():
            (folder.run / "k" / name / file).write_text(text)
    assert folder.kernels() == [
        KernelEntry("a", True, 3, None),
        KernelEntry("b", False, 7, '{"code": 1}'),
        KernelEntry("c", False, 0, None),
        KernelEntry("d", True, 0, None),
    ]


def test_a_session_that_is_gone_has_no_kernels() -> None:
    """A folder that does not exist is empty in every respect."""
    folder = Folder.open(ID)
    assert folder.kernels() == []
    assert folder.settings() == {}
    assert folder.status() is None
    assert not folder.exists
    assert not folder.being_created()


def test_this_boot_has_a_name() -> None:
    """One boot is told from another."""
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()


# The state folder


def test_a_path_too_long_for_sockets_fails_clearly(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state folder too deep for kernels' sockets is a KernelError that says what to do."""
    long = state / ("x" * 60)
    monkeypatch.setenv("MOORING_STATE_DIR", str(long))
    with pytest.raises(KernelError, match=r"too long for a socket \(\d+ of 107 bytes\)") as caught:
        KernelHandle(Folder.open(ID), "0" * 12)
    assert "MOORING_STATE_DIR" in caught.value.hint


def test_bytes_count_and_not_letters(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a socket's path is in bytes."""
    tail = len(f"/sessions/{ID}/run/k/{'0' * 12}/s-5")
    for letter, fits in (("x", True), ("é", False)):
        room = paths.SOCKET_PATH_MAX - tail - len(str(state)) - 1
        monkeypatch.setenv("MOORING_STATE_DIR", str(state / (letter * room)))
        if fits:
            assert KernelHandle(Folder.open(ID), "0" * 12).path.parent.name == "k"
        else:
            with pytest.raises(KernelError):
                KernelHandle(Folder.open(ID), "0" * 12)


def test_a_kernel_session_is_refused_before_it_is_made(
    service, engine, declare, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With such a path, a session for kernels is not begun."""
    monkeypatch.setenv("MOORING_STATE_DIR", str(state / ("x" * 60)))
    with pytest.raises(KernelError, match="too long"):
        service.create(declare(kernel="python3"))
    assert engine.containers == {}
    assert service.create(declare(command="x")).session.name


def test_a_state_folder_of_somebody_else(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others own is not used, and what others can read is closed to them."""
    os.chmod(state, 0o755)
    assert paths.state_dir().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(MooringError, match="belongs to somebody else"):
        paths.state_dir()


def test_a_state_folder_that_cannot_be(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder that cannot be made is told with its path and what to set."""
    (state / "file").touch()
    monkeypatch.setenv("MOORING_STATE_DIR", str(state / "file" / "below"))
    with pytest.raises(MooringError, match="cannot make") as caught:
        paths.state_dir()
    assert "MOORING_STATE_DIR" in caught.value.hint


def test_an_installation_has_one_name(state: Path) -> None:
    """An installation's id is made once and kept; two installations have two."""
    first = paths.installation_id()
    assert paths.installation_id() == first
    assert len(first) == 16
    (state / "installation").unlink()
    assert paths.installation_id() != first
    assert [path.name for path in state.glob(".installation*")] == []


def test_a_name_that_no_kernel_has_is_none(folder: Folder) -> None:
    """What runs in a session may make any name there; only those that a kernel can have count."""
    for name in (b"\xffaaa", b"a b", b"a\n", b"a" * 41, "é".encode(), b"aaa-1"):
        os.mkdir(os.fsencode(folder.run) + b"/k/" + name)
    assert [kernel.id for kernel in folder.kernels()] == ["aaa-1"]


ODD_CODES = ["1e999", "9" * 400, "9" * 5000, "true", '{"code":1}', "[0]", '"0"', "1.5", "NaN"]
ODD_EXITS = [
    *(f'{{"code":{code}}}' for code in (*ODD_CODES, -1000, 256)),
    *("{}", "[0]", "x", "[" * 60_000, '{"code":' * 10_000),
]


@pytest.mark.parametrize("text", ODD_EXITS)
def test_an_exit_that_none_has_is_a_killed_kernels(folder: Folder, text: str) -> None:
    """Whatever is written as a kernel's exit code, asking for it raises nothing."""
    (folder.run / "k" / "a").mkdir()
    (folder.run / "k" / "a" / "exit").write_text(text)
    history = History(folder.path / "history.db")
    handle = KernelHandle(folder, "a")
    assert handle.poll() == -9
    assert handle.how_it_ended() == "killed by SIGKILL"
    assert handle.tell_end(history) == text.startswith("{")


@pytest.mark.parametrize("name", ['"\\ud800"', '"a\\nb"', "7", '["x"]', f'"{"x" * 9999}"'])
def test_a_kernels_name_reaches_no_history_unless_it_is_one(folder: Folder, name: str) -> None:
    """A connection file in the session says what it likes; its kernel is then just a kernel."""
    (folder.run / "k" / "a").mkdir()
    (folder.run / "k" / "a" / "c.json").write_text(f'{{"key":"k","kernel_name":{name}}}')
    (folder.run / "k" / "a" / "exit").write_text('{"code": 3}')
    history = History(folder.path / "history.db")
    assert KernelHandle(folder, "a").tell_end(history)
    assert [event.detail for event in history.events(ID)] == ["kernel a ended: exit code 3"]


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e300", "x", "1_", ""])
def test_a_setting_that_is_no_time_is_none(folder: Folder, value: str) -> None:
    """The session can write its settings too; what comes of them is JSON in any case."""
    (folder.run / "settings").write_text(f"idle_timeout_s {value}\nmax_duration_s -5\n")
    assert folder.setting_s("idle_timeout_s") is None
    assert folder.setting_s("max_duration_s") == 0
    assert folder.setting_s("other") is None


def test_figures_of_a_status_are_within_bounds(folder: Folder) -> None:
    """A status with a figure that cannot be is none; less than nothing is nothing."""
    write_status(folder, sampled=1, idle_at="never", cpu_percent=-3, memory_bytes=-1)
    status = folder.status()
    assert status is not None
    assert (status.cpu_percent, status.memory_bytes) == (0.0, None)
    write_status(folder, sampled=1, cpu_percent="1e308")
    assert folder.status() is None


def test_an_end_is_short_and_not_to_come(folder: Folder) -> None:
    """No date that a calendar does not know, and no more text than a line."""
    (folder.run / "end").write_text(f"reason idle\ntime 1e14\ndetail {'x' * 60_000}\n")
    end = folder.end()
    assert end is not None
    assert end.time <= time.time()
    assert len(end.detail) <= 1000


def test_a_record_keeps_what_others_write_at_the_same_time(folder: Folder) -> None:
    """A Jupyter server's threads and other commands change records of one session at once."""

    def change(key: str) -> None:
        for number in range(100):
            folder.update_record(**{key: number})

    threads = [threading.Thread(target=change, args=(key,)) for key in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {key: folder.record()[key] for key in "abcd"} == dict.fromkeys("abcd", 99)
