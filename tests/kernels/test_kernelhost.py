"""Whether a session's kernel host lives: it answers, it is silent, or nobody listens."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import KernelError
from mooring.guest.shared import SharedGuest
from mooring.kernels import kernelhost
from mooring.kernels.kernelhost import HostLink, HostState, host_lives, host_state

StartHost = Callable[..., Any]
LONG_S = 30.0


def test_one_that_answers_lives(run: Path, start_host: StartHost) -> None:
    """An answer to a ping is what tells that it lives."""
    host = start_host()
    assert host_state(SharedGuest(run), LONG_S) is HostState.ANSWERS
    assert host.requests == [{"op": "ping"}]


def test_one_of_an_older_version_lives(run: Path, start_host: StartHost) -> None:
    """A session that was started by an older version may not know the request: it says so."""
    start_host(answer=b'{"error": "unknown request"}\n')
    assert host_state(SharedGuest(run), LONG_S) is HostState.ANSWERS


def test_nobody_listens(run: Path, start_host: StartHost) -> None:
    """Before its start and after its death it is gone, though the socket's file stays."""
    assert host_state(SharedGuest(run), LONG_S) is HostState.GONE
    start_host().close()
    assert (run / "kernelhost.sock").exists()
    assert host_state(SharedGuest(run), LONG_S) is HostState.GONE
    assert not host_lives(SharedGuest(run))


def test_one_that_does_not_answer_in_time_is_not_gone(run: Path, start_host: StartHost) -> None:
    """A paused container's kernel host lives, and asking does not wait for it."""
    start_host(answer=None)
    assert host_state(SharedGuest(run), 0.01) is HostState.SILENT
    assert host_lives(SharedGuest(run))


def test_one_that_accepts_nothing_is_not_gone(run: Path) -> None:
    """However often it was asked before: a listener whose queue is full is silent."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(run / "kernelhost.sock"))
        listener.listen(0)
        for _ in range(4):
            assert host_state(SharedGuest(run), 0.01) is HostState.SILENT


@pytest.mark.parametrize(
    "answer", [b"", b"hello\n", b"[]\n", b'"x"\n', b"[" * 100_000 + b"\n", b"\0\n"]
)
def test_what_is_no_kernel_host_is_none(run: Path, start_host: StartHost, answer: bytes) -> None:
    """Whatever listens in its place and answers something else is taken for nothing."""
    start_host(answer=answer)
    assert host_state(SharedGuest(run), LONG_S) is HostState.GONE


@pytest.mark.parametrize("answer", [b"x" * 10_000, b"x"])
def test_no_answer_takes_longer_than_it_may(
    run: Path, start_host: StartHost, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line without an end is read neither for ever nor without bounds."""
    monkeypatch.setattr(kernelhost, "MAX_ANSWER_BYTES", 5_000)
    start_host(answer=answer)
    began = time.monotonic()
    expected = HostState.GONE if len(answer) > 5_000 else HostState.SILENT
    assert host_state(SharedGuest(run), LONG_S if len(answer) > 5_000 else 0.05) is expected
    assert time.monotonic() - began < LONG_S / 2


@pytest.mark.parametrize("kind", ["link", "file", "folder", "pipe"])
def test_no_link_leads_to_a_socket_of_this_machine(run: Path, state: Path, kind: str) -> None:
    """What runs in the session can have no other program's socket asked."""
    path = run / "kernelhost.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(state / "other.sock"))
        other.listen(1)
        other.setblocking(False)
        {
            "link": lambda: path.symlink_to(state / "other.sock"),
            "file": path.touch,
            "folder": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
        }[kind]()
        assert host_state(SharedGuest(run), LONG_S) is HostState.GONE
        with pytest.raises(BlockingIOError):
            other.accept()


def test_a_long_path_is_no_obstacle(run: Path, start_host: StartHost) -> None:
    """A socket's path has a limit; the folder's has none."""
    start_host()
    deep = run.parent / ("x" * 100)
    run.rename(deep)
    assert host_state(SharedGuest(deep), LONG_S) is HostState.ANSWERS


def test_waiting_ends_with_the_session(run: Path) -> None:
    """A session that was ended has no kernel host to wait for; the error has its last words."""
    (run / "kernelhost.log").write_text("the image is broken\n")
    (run / "end").write_text("reason idle\n")
    with pytest.raises(KernelError, match="the image is broken"):
        HostLink.wait_for(SharedGuest(run), time.monotonic() + LONG_S)


def test_one_that_is_busy_is_waited_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log does not make one broken that listens and cannot accept: it is paused, say."""
    monkeypatch.setattr(kernelhost, "BROKEN_HOST_S", 0.0)
    (run / "kernelhost.log").write_text("a warning\n")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(run / "kernelhost.sock"))
        listener.listen(0)
        near = stack.enter_context(socket.socket(socket.AF_UNIX))
        near.connect(str(run / "kernelhost.sock"))
        attempts = iter(range(3))
        real = HostLink.connect

        def connect(guest: SharedGuest) -> HostLink:
            if next(attempts, None) is None:
                accepted, _ = listener.accept()
                stack.callback(accepted.close)
            return real(guest, 0.01)

        monkeypatch.setattr(HostLink, "connect", connect)
        HostLink.wait_for(SharedGuest(run), time.monotonic() + LONG_S).close()
        assert next(attempts, None) is None


def test_a_connection_tells_the_death_of_the_other_end(run: Path, start_host: StartHost) -> None:
    """Without a request, and without waiting."""
    host = start_host()
    with contextlib.closing(HostLink.connect(SharedGuest(run))) as link:
        assert link.ask({"op": "ping"}) == {"kernels": {}, "problem": ""}
        assert not link.hung_up()
        host.close()
        assert link.hung_up()
    assert link.hung_up()
