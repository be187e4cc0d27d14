"""Creations that take their time: seen, cancelled, and in nobody's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.engines.base import PullProgress
from mooring_server_extension.pools import SIZES
from tests.server.conftest import Serve
from tests.server.inprocess import InProcess
from tests.support.pace import in_time
from tests.support.waiting import eventually

IMAGE = "slow:1"


@pytest.fixture
def pulling(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Pulls go on until this is set."""
    enough = threading.Event()

    def pull(reference: str) -> Iterator[PullProgress]:
        for number in range(2000):
            if enough.wait(0.02):
                break
            yield PullProgress("Downloading", min(number, 40) << 20, 100 << 20)
        fake.images[reference] = "sha256:1"

    monkeypatch.setattr(fake, "pull", pull)
    return enough


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def ask_to_create(
    pool: ThreadPoolExecutor, server: InProcess, name: str
) -> Future[tuple[int, Any]]:
    body = {"name": name, "values": {"image": IMAGE}}
    return pool.submit(server.ask, "POST", "/sessions", body)


def starting(server: InProcess) -> dict[str, str]:
    """What each session that starts waits for."""
    _, reply = server.ask("GET", "/sessions")
    return {s["name"]: s["waiting"] for s in reply["sessions"] if s["state"] == "starting"}


def nothing_left(server: InProcess, fake: FakeEngine, state: Path) -> bool:
    return (
        server.ask("GET", "/sessions")[1]["sessions"] == []
        and not fake.containers
        and not list((state / "sessions").iterdir())
    )


def test_a_creation_is_listed_with_what_it_waits_for(
    server: InProcess, pulling: threading.Event, background: ThreadPoolExecutor
) -> None:
    """While the request waits, the session is there as starting, with how far it is."""
    asked = ask_to_create(background, server, "aa")
    eventually(lambda: "%" in starting(server).get("aa", ""), timeout=10)
    assert IMAGE in starting(server)["aa"]
    assert not asked.done()
    pulling.set()
    status, made = asked.result(10)
    assert (status, made["state"], made["waiting"]) == (201, "running", "")


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/sessions/aa?force=1"), ("POST", "/sessions/aa/stop")]
)
def test_a_creation_is_cancelled(
    server: InProcess,
    fake: FakeEngine,
    state: Path,
    pulling: threading.Event,
    background: ThreadPoolExecutor,
    method: str,
    path: str,
) -> None:
    """Removing or stopping it answers at once, and nothing of it is left."""
    asked = ask_to_create(background, server, "aa")
    eventually(lambda: starting(server).get("aa"), timeout=10)
    before = time.monotonic()
    assert server.ask(method, path)[0] in (200, 204)
    status, reply = asked.result(10)
    assert in_time(time.monotonic() - before, 3)
    assert (status, reply["code"]) == (409, "cancelled")
    assert nothing_left(server, fake, state)


def test_creations_are_in_nobodys_way(
    server: InProcess,
    fake: FakeEngine,
    state: Path,
    pulling: threading.Event,
    background: ThreadPoolExecutor,
) -> None:
    """With more of them than there are threads, everything else is answered as ever."""
    assert server.ask("POST", "/sessions", {"name": "other"})[0] == 201
    many = SIZES["create"] + 3
    asked = [ask_to_create(background, server, f"s{number}") for number in range(many)]
    eventually(lambda: len(starting(server)) == SIZES["create"], timeout=20)
    for method, path in (("GET", "/status"), ("POST", "/sessions/other/stop"), ("GET", "/specs")):
        before = time.monotonic()
        assert server.ask(method, path)[0] == 200
        assert in_time(time.monotonic() - before, 2)
    while not all(one.done() for one in asked):
        for name in starting(server):
            server.ask("DELETE", f"/sessions/{name}?force=1")
    assert {one.result()[0] for one in asked} == {409}
    server.ask("DELETE", "/sessions/other")
    assert nothing_left(server, fake, state)


def test_a_client_that_leaves_does_not_end_its_creation(
    server: InProcess, pulling: threading.Event, background: ThreadPoolExecutor
) -> None:
    """A page that is reloaded finds its session starting, and then running."""
    import socket

    body = b'{"name": "aa", "values": {"image": "slow:1"}}'
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"POST /mooring/api/sessions HTTP/1.1\r\nHost: localhost\r\n"
            + f"Authorization: token {server.token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        eventually(lambda: starting(server).get("aa"), timeout=10)
    pulling.set()
    eventually(lambda: server.ask("GET", "/sessions/aa")[1].get("state") == "running", timeout=10)


def test_a_shutdown_takes_back_what_is_being_created(
    serve: Serve,
    fake: FakeEngine,
    state: Path,
    pulling: threading.Event,
    background: ThreadPoolExecutor,
) -> None:
    """A server that stops does not wait for a pull, and leaves no half session."""
    server = serve()
    asked = ask_to_create(background, server, "aa")
    eventually(lambda: starting(server).get("aa"), timeout=10)
    before = time.monotonic()
    server.close()
    assert in_time(time.monotonic() - before, 5)
    eventually(lambda: not list((state / "sessions").iterdir()), timeout=10)
    assert not fake.containers
    assert asked.exception(10) is not None or asked.result()[0] != 201
