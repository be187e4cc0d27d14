"""A kernel's handle: what it reads of a folder that the session can write to, and its end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import KernelError, SessionTimeout
from mooring.guest.shared import SharedGuest
from mooring.host import paths
from mooring.kernels import listing
from mooring.kernels.kernel import KernelHandle
from mooring.kernels.listing import others_live
from mooring.sessions.history import History

StartHost = Callable[..., Any]


def test_a_path_too_long_for_sockets_fails_clearly(state: Path) -> None:
    """A state folder too deep for kernels' sockets is a KernelError that says what to do."""
    long = state / ("x" * 80)
    with pytest.raises(KernelError, match=r"too long for a socket \(\d+ of 107 bytes\)") as caught:
        KernelHandle(SharedGuest(long / "run"), "0" * 12)
    assert "MOORING_STATE_DIR" in caught.value.hint


def test_bytes_count_and_not_letters(state: Path) -> None:
    """The limit of a socket's path is in bytes."""
    tail = len(f"/k/{'0' * 12}/s-5")
    for letter, fits in (("x", True), ("é", False)):
        room = paths.SOCKET_PATH_MAX - tail - len(str(state)) - 1
        run = state / (letter * room) / "run"
        if fits:
            assert KernelHandle(SharedGuest(run), "0" * 12).path.parent.name == "k"
        else:
            with pytest.raises(KernelError):
                KernelHandle(SharedGuest(run), "0" * 12)


ODD_CODES = ["1e999", "9" * 400, "9" * 5000, "true", '{"code":1}', "[0]", '"0"', "1.5", "NaN"]
ODD_EXITS = [
    *(f'{{"code":{code}}}' for code in (*ODD_CODES, -1000, 256)),
    *("{}", "[0]", "x", "[" * 60_000, '{"code":' * 10_000),
]


@pytest.mark.parametrize("text", ODD_EXITS)
def test_an_exit_that_none_has_is_a_killed_kernels(run: Path, text: str) -> None:
    """Whatever is written as a kernel's exit code, asking for it raises nothing."""
    (run / "k" / "a").mkdir()
    (run / "k" / "a" / "exit").write_text(text)
    history = History(run.parent / "history.db")
    handle = KernelHandle(SharedGuest(run), "a", session_id="s")
    assert handle.poll() == -9
    assert handle.describe_exit() == "killed by SIGKILL"
    assert handle.record_exit(history) == text.startswith("{")


@pytest.mark.parametrize("name", ['"\\ud800"', '"a\\nb"', "7", '["x"]', f'"{"x" * 9999}"'])
def test_a_kernels_name_reaches_no_history_unless_it_is_one(run: Path, name: str) -> None:
    """An invalid name in a connection file, which the session can write, is not recorded."""
    (run / "k" / "a").mkdir()
    (run / "k" / "a" / "c.json").write_text(f'{{"key":"k","kernel_name":{name}}}')
    (run / "k" / "a" / "exit").write_text('{"code": 3}')
    history = History(run.parent / "history.db")
    assert KernelHandle(SharedGuest(run), "a", session_id="s").record_exit(history)
    assert [event.detail for event in history.events("s")] == ["kernel a ended: exit code 3"]


def test_an_exit_that_goes_while_it_is_recorded_is_not_told(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart uses the kernel's folder anew: what lives there has not ended."""
    folder = run / "k" / "a"
    folder.mkdir()
    (folder / "exit").write_text('{"code": 3}')
    history = History(run.parent / "history.db")
    handle = KernelHandle(SharedGuest(run), "a", session_id="s")
    describe = handle.describe_exit

    def restarted() -> str:
        (folder / "exit").unlink()
        return describe()

    monkeypatch.setattr(handle, "describe_exit", restarted)
    assert not handle.record_exit(history)
    assert history.events("s") == []
    assert not (folder / "told").exists()


def made(run: Path, kernel_id: str = "a", **options: Any) -> KernelHandle:
    """A kernel with a connection file."""
    handle = KernelHandle(SharedGuest(run), kernel_id, session_id="s", **options)
    handle.write_connection(key=b"k", encrypt=False, kernel_name="python3")
    return handle


def test_a_kernel_lives_as_long_as_its_host_is_connected(run: Path, start_host: StartHost) -> None:
    """Asking sends no request and waits for nothing, as an event loop needs it."""
    handle = made(run)
    assert handle.poll() == -9
    host = start_host(answer=None)
    for _ in range(5):
        assert handle.poll() is None
    assert host.requests == []
    host.close()
    assert handle.poll() == -9
    handle.close()


def test_a_session_that_is_over_takes_its_kernels_along(run: Path, start_host: StartHost) -> None:
    """The clock's end, and a removal, are a kernel's end too."""
    start_host()
    handle = made(run)
    assert handle.poll() is None
    (run / "end").write_text("reason idle\n")
    assert handle.poll() == -9
    assert handle.session_ended()
    assert not handle.session_removed()
    assert handle.describe_exit() == "its session is stopped: idle timeout"
    (run / "end").unlink()
    run.rename(run.parent / ".gone")
    assert handle.poll() == -9
    assert handle.session_removed()
    assert handle.describe_exit() == "its session was removed"
    handle.close()


@pytest.mark.parametrize("limit", ["", "2 GiB"])
def test_out_of_memory_is_told_with_the_limit(run: Path, limit: str) -> None:
    """A person learns how much the session had."""
    handle = made(run, memory_limit=limit)
    (handle.path / "exit").write_text('{"code": -9, "oom": true}')
    assert handle.describe_exit() == "out of memory" + (f" (limit {limit})" if limit else "")


def test_a_kernel_that_opens_no_sockets_is_told_in_time(run: Path, start_host: StartHost) -> None:
    """A start that takes too long is a SessionTimeout with the kernel's last words."""
    start_host(answer=b'{"pid": 1}\n')
    handle = made(run)
    (handle.path / "log").write_text("importing the world\n")
    with pytest.raises(
        SessionTimeout, match=r"is not ready after 0\.05 s\n    importing the world"
    ):
        handle.start(cwd="/", env={}, timeout_s=0.05)
    handle.close()


def test_a_refused_start_is_told(run: Path, start_host: StartHost) -> None:
    """The kernel host's own words are in the error."""
    start_host(answer=b'{"error": "no ipykernel"}\n')
    handle = made(run)
    with pytest.raises(KernelError, match="kernel python3 cannot start: no ipykernel"):
        handle.start(cwd="/", env={})
    handle.close()


def test_a_broken_connection_is_made_again_once(run: Path, start_host: StartHost) -> None:
    """A kernel host that hangs up on every request does not answer: no signal was sent."""
    host = start_host(answer=b"")
    handle = made(run)
    assert handle.send_signal(signal.SIGINT) is False
    assert len(host.requests) == 2
    handle.close()


def test_others_are_alive_or_about_to_be(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel counts from its connection file on; without a process not for ever."""
    made(run, "a")
    assert not others_live(SharedGuest(run), "a")
    other = made(run, "b")
    assert others_live(SharedGuest(run), "a")
    later = time.time() + listing.PROCESS_TIMEOUT_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert not others_live(SharedGuest(run), "a")
    (other.path / "pid").write_text("7 1\n")
    assert others_live(SharedGuest(run), "a")
    (other.path / "exit").write_text('{"code": 0}')
    assert not others_live(SharedGuest(run), "a")
    (run / "k" / "no kernel").mkdir()
    assert not others_live(SharedGuest(run), "a")


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"curve_publickey": "", "curve_secretkey": ""}, True),
        ({"curve_publickey": "\ud800", "curve_secretkey": "\ud800"}, False),
        ({"curve_publickey": "é" * 40}, False),
        ({"curve_publickey": "a" * 39}, False),
        ({"curve_publickey": "a" * 41}, False),
        ({"curve_publickey": "#" * 40}, False),  # more than 32 bits
        ({"curve_secretkey": ""}, False),
        ({"curve_publickey": ""}, False),
        ({"curve_publickey": ["a"] * 40}, False),
        ({"key": "\ud800"}, False),
        ({"kernel_name": "\ud800"}, False),
        ({"kernel_name": ""}, True),  # as ipykernel 6.15 writes it anew
    ],
)
def test_keys_that_are_none(run: Path, changes: dict[str, object], valid: bool) -> None:
    """The session can rewrite the file: what comes of it can be used, or there is no connection."""
    handle = KernelHandle(SharedGuest(run), "a")
    written = handle.write_connection(key=b"k", encrypt=True, kernel_name="python3")
    assert handle.connection() == written
    file = run / "k" / "a" / "c.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    connection = handle.connection()
    assert (connection is not None) is valid
