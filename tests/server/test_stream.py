"""The stream: everything that happens, to everyone who listens, and no work for nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from mooring import FakeEngine
from mooring.errors import EngineUnavailable
from mooring.sessions.history import History
from mooring_server_extension import engine_probe, stream, watcher
from mooring_server_extension.pools import SIZES
from tests.server.conftest import Serve
from tests.server.inprocess import API, InProcess
from tests.support.pace import in_time
from tests.support.waiting import eventually

ANOTHER = "another"
FAST = {"MooringExtension": {"refresh_s": 0.1}}


class Stream:
    """A client of the stream, as ``fetch`` in a browser is one."""

    def __init__(self, server: InProcess, **options: Any) -> None:
        options = options or {"headers": {"Authorization": f"token {server.token}"}}
        self.answer = requests.get(
            server.url + API + "/stream", stream=True, timeout=(10, 30), **options
        )
        self.messages: dict[str, queue.Queue[Any]] = {
            "sessions": queue.Queue(),
            "history": queue.Queue(),
        }
        self.comments = 0
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, kind: str, timeout: float = 10) -> Any:
        return self.messages[kind].get(timeout=timeout)

    def states(self, timeout: float = 10) -> list[str]:
        return [session["state"] for session in self.next("sessions", timeout)["sessions"]]

    def leave(self) -> None:
        """As a browser's tab that is closed; ``close`` would wait for the reading thread."""
        with contextlib.suppress(OSError, AttributeError):
            self.answer.raw.connection.sock.shutdown(socket.SHUT_RDWR)
        assert self.ended.wait(10)
        self.answer.close()

    def _read(self) -> None:
        kind = ""
        with contextlib.suppress(requests.RequestException, AttributeError, ValueError):
            for line in self.answer.iter_lines(chunk_size=1, decode_unicode=True):
                field, _, value = line.partition(": ")
                if line.startswith(":"):
                    self.comments += 1
                elif field == "event":
                    kind = value
                elif field == "data":
                    self.messages[kind].put(json.loads(value))
        self.ended.set()


@contextlib.contextmanager
def listening(server: InProcess, **options: Any) -> Iterator[Stream]:
    client = Stream(server, **options)
    try:
        yield client
    finally:
        client.leave()


class Turns:
    """The watcher's pauses between two looks, each of which ends when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        self._turns = asyncio.Semaphore(0)
        paced = SimpleNamespace(**vars(asyncio) | {"sleep": self._pause})
        monkeypatch.setattr(watcher, "asyncio", paced)

    def give(self, server: InProcess) -> None:
        """Let the watcher look once more, and wait until it has."""
        eventually(lambda: self.waiting == 1)
        server.on_loop(self._give)
        eventually(lambda: self.waiting == 1)

    def _give(self) -> None:
        self._turns.release()
        self.waiting = 0

    async def _pause(self, seconds: float) -> None:
        self.waiting += 1
        try:
            await self._turns.acquire()
        except asyncio.CancelledError:
            self.waiting -= 1
            raise


def test_a_listener_is_told_at_once_and_of_every_change(serve: Serve) -> None:
    """First the sessions as they are, then each change, with its line of the history."""
    server = serve(**FAST)
    with listening(server) as client:
        assert client.answer.headers["Content-Type"] == "text/event-stream"
        first = client.next("sessions")
        assert first == {"sessions": [], "engine": {"ok": True, "message": "", "hint": ""}}
        server.ask("POST", "/sessions", {"name": "aa"})
        event = client.next("history")
        assert (event["name"], event["kind"]) == ("aa", "requested")
        assert client.next("history")["kind"] == "started"
        server.ask("POST", "/sessions/aa/stop")
        assert client.next("history")["kind"] == "stopped"
        eventually(lambda: client.states() == ["stopped"], timeout=10)
        server.ask("DELETE", "/sessions/aa")
        removed = client.next("history")
        assert (removed["name"], removed["kind"]) == ("aa", "removed")


def test_a_quiet_stream_stays_quiet(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing changes nothing is sent but comments, which keep the connection up."""
    monkeypatch.setattr(stream, "KEEPALIVE_S", 0.2)
    server = serve(**FAST)
    with listening(server) as client:
        client.next("sessions")
        eventually(lambda: client.comments >= 3, timeout=10)
        assert all(waiting.empty() for waiting in client.messages.values())


def test_an_earlier_history_is_not_told_as_news(serve: Serve) -> None:
    """What happened before somebody listened is in /events, not in the stream."""
    server = serve(**FAST)
    server.ask("POST", "/sessions", {"name": "aa"})
    with listening(server) as client:
        assert client.states() == ["running"]
        server.ask("POST", "/sessions/aa/hold", {"duration": "1h"})
        assert client.next("history")["kind"] == "held"


def test_many_listeners_cost_one_look_and_nobody_none(
    serve: Serve, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many listen, the sessions are looked at once; when all are gone, not at all."""
    turns = Turns(monkeypatch)
    server = serve()
    watching = server.context.watcher
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(listening(server)) for _ in range(8)]
        for client in clients:
            client.next("sessions")
        for _ in range(3):
            fake.calls.clear()
            turns.give(server)
            assert fake.calls.count("list") == 1
        server.ask("POST", "/sessions", {"name": "aa"})
        turns.give(server)
        for client in clients:
            assert client.next("history")["name"] == "aa"
    eventually(lambda: not watching.active, timeout=10)
    eventually(lambda: turns.waiting == 0, timeout=10, message="it would look again")
    fake.calls.clear()
    server.on_loop(lambda: None)  # after all that was to run on the loop
    assert turns.waiting == 0
    assert "list" not in fake.calls


def test_an_engine_that_is_down_makes_sessions_unknown(serve: Serve, fake: FakeEngine) -> None:
    """The stream says so, and says when it is back; it does not end."""
    server = serve(**FAST)
    server.ask("POST", "/sessions", {"name": "aa"})
    with listening(server) as client:
        assert client.states() == ["running"]
        works_again = fake.fail("*", EngineUnavailable("no engine answers"), times=-1)
        state = client.next("sessions")
        assert [one["state"] for one in state["sessions"]] == ["unknown"]
        assert state["engine"]["ok"] is False
        works_again()
        assert client.states() == ["running"]


def test_an_engine_that_is_frozen_holds_nobody_up(
    serve: Serve, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks end after their patience, in one stuck thread, and the server answers meanwhile."""
    monkeypatch.setattr(watcher, "PATIENCE_S", 0.5)
    monkeypatch.setattr(engine_probe, "PATIENCE_S", 0.5)
    server = serve(**FAST)
    server.ask("POST", "/sessions", {"name": "aa"})
    frozen = threading.Event()
    stuck = []
    real, info = fake.list, fake.info

    def freeze(labels: Any = None) -> Any:
        stuck.append(1)
        frozen.wait(30)
        return info() if labels is None else real(labels)

    with listening(server) as client:
        client.next("sessions")
        monkeypatch.setattr(fake, "list", freeze)
        monkeypatch.setattr(fake, "info", freeze)
        state = client.next("sessions")
        assert state["engine"]["ok"] is False
        for path in ["/status"] * SIZES["act"] + ["/sessions"]:
            before = time.monotonic()
            status, reply = server.ask("GET", path)
            assert (status, reply["engine"]["ok"]) == (200, False)
            assert in_time(time.monotonic() - before, 2)
        before = time.monotonic()
        metrics = server.send("GET", "/metrics", headers={"Authorization": f"token {server.token}"})
        assert 'mooring_sessions{state="unknown"} 1.0' in metrics.text
        assert in_time(time.monotonic() - before, 2)
        assert len(stuck) <= 3  # the watcher's, the status's, and the scrape's
        frozen.set()
        monkeypatch.setattr(fake, "list", real)
        eventually(lambda: client.states() == ["running"], timeout=10)


def test_a_look_that_fails_oddly_does_not_end_the_stream(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of mooring's own is logged, and the next look is made."""
    server = serve(**FAST)
    with listening(server) as client:
        client.next("sessions")
        failures: list[Any] = []

        def fail(*arguments: Any) -> None:
            failures.append(arguments)
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(History, "after", fail)
            eventually(lambda: len(failures) >= 2)
        server.ask("POST", "/sessions", {"name": "aa"})
        assert client.next("history")["name"] == "aa"


def test_a_shutdown_ends_streams_at_once(serve: Serve) -> None:
    """A server that stops does not wait for those who listen."""
    server = serve()
    with listening(server) as one, listening(server) as other:
        one.next("sessions")
        other.next("sessions")
        before = time.monotonic()
        server.close()
        assert one.ended.wait(5)
        assert other.ended.wait(5)
        assert in_time(time.monotonic() - before, 3)


def test_the_stream_works_with_a_cookie(serve: Serve) -> None:
    """A browser that is signed in needs no token."""
    server = serve(**FAST)
    jar = server.send("GET", f"/api/status?token={server.token}").cookies
    with listening(server, cookies=jar) as client:
        assert client.next("sessions")["engine"]["ok"] is True


def signed_in(server: InProcess) -> requests.Session:
    """A browser that has signed in."""
    browser = requests.Session()
    browser.get(f"{server.url}/login?token={server.token}", timeout=30)
    browser.get(f"{server.url}/login", timeout=30)
    return browser


@pytest.mark.parametrize("twice", [False, True])
def test_the_stream_ends_at_logout(server: InProcess, twice: bool) -> None:
    """All streams of a browser end as soon as it signs out; those of another browser, and of a
    program with a token, go on."""
    browser, other = signed_in(server), signed_in(server)
    with (
        listening(server, cookies=browser.cookies) as first,
        listening(server, cookies=browser.cookies) as second,
        listening(server, cookies=other.cookies) as others,
        listening(server) as program,
    ):
        for stream_ in (first, second, others, program):
            stream_.states()
        if twice:
            browser.get(f"{server.url}/logout", timeout=30)
            assert first.ended.wait(5)
        browser.get(f"{server.url}/logout", timeout=30)
        assert first.ended.wait(5)
        assert second.ended.wait(5)
        assert server.ask("POST", "/sessions", {"name": "aa"})[0] == 201
        for stream_ in (others, program):
            eventually(lambda stream_=stream_: stream_.states() == ["running"])
            assert not stream_.ended.is_set()


@pytest.mark.parametrize("how", ["token", "cookie"])
def test_the_stream_ends_when_its_credentials_do(
    server: InProcess, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A stream whose token was revoked, or whose cookie is no longer valid, ends by the next
    keepalive."""
    monkeypatch.setattr(stream, "KEEPALIVE_S", 0.2)
    browser = signed_in(server)
    options = {"cookies": browser.cookies} if how == "cookie" else {}
    with listening(server, **options) as client:
        client.states()
        eventually(lambda: client.comments > 3)  # it is asked, and goes on
        assert not client.ended.is_set()
        if how == "token":
            server.app.identity_provider.token = ANOTHER
        else:
            server.app.web_app.settings["cookie_secret"] = b"another"
        assert client.ended.wait(5)


def test_a_stream_without_news_costs_no_question(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity is asked for once a keepalive at most, however much is sent."""
    asked: list[bool] = []
    real = stream.is_still_signed_in

    async def counted(handler: Any) -> bool:
        asked.append(True)
        return await real(handler)

    monkeypatch.setattr(stream, "is_still_signed_in", counted)
    with listening(server) as client:
        client.states()
        for name in ("aa", "bb", "cc"):
            assert server.ask("POST", "/sessions", {"name": name})[0] == 201
        eventually(lambda: len(client.states()) == 3)
    assert asked == []
