"""Twenty kernels at once from one server."""

from __future__ import annotations

import concurrent.futures
import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mooring.client import Mooring
from tests.support.kernel_clients import Server, install, jupyter
from tests.support.pace import in_time

__all__ = ["jupyter"]
pytestmark = [
    pytest.mark.engine,
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]

KERNELS = 20
ASK_EVERY_S = 0.1
ANSWER_WITHIN_S = 1.0
READY_WITHIN_S = 120.0


class Watch:
    """Asks a server how it is, ten times a second, and keeps how long each answer took."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.took_s: list[float] = []
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with requests.Session() as http:
            http.headers["Authorization"] = f"token {self.server.token}"
            while not self._over.wait(ASK_EVERY_S):
                began = time.monotonic()
                answer = http.get(f"{self.server.url}/api/status", timeout=60)
                self.took_s.append(time.monotonic() - began)
                if answer.status_code != 200:
                    self.wrong.append(f"{answer.status_code} {answer.text}")

    def said(self) -> str:
        ordered = sorted(self.took_s)
        return (
            f"/api/status: {len(ordered)} answers, median {statistics.median(ordered):.3f} s, "
            f"longest {', '.join(f'{s:.2f}' for s in ordered[-5:])} s"
        )


@pytest.fixture
def server(mooring: Mooring, jupyter: Path) -> Iterator[Server]:
    running = Server("--ServerApp.jpserver_extensions=mooring_server_extension=True")
    yield running
    running.stop()


@pytest.mark.parametrize("shared", [True, False], ids=["one session", "a session each"])
def test_twenty_kernels_start_at_once_and_the_server_goes_on_answering(
    server: Server, mooring: Mooring, shared: bool
) -> None:
    """All become ready, and meanwhile the server answers /api/status within a second."""
    install(session="shared" if shared else "")
    ready_s: list[float] = []
    ids: list[str] = []
    began = time.monotonic()

    def use(number: int) -> str:
        kernel_id = server.start("mk")
        ids.append(kernel_id)
        with server.socket(kernel_id) as socket:
            text = socket.execute(f"print(6 * {number})", timeout=READY_WITHIN_S).text
        ready_s.append(time.monotonic() - began)
        return text

    try:
        with Watch(server) as watch, concurrent.futures.ThreadPoolExecutor(KERNELS) as pool:
            texts = list(pool.map(use, range(KERNELS)))
        print(f"ready after {min(ready_s):.1f} to {max(ready_s):.1f} s; {watch.said()}")
        assert texts == [str(6 * number) for number in range(KERNELS)]
        assert in_time(max(watch.took_s), ANSWER_WITHIN_S), watch.said()
        assert not watch.wrong, "".join(server.log)
    except BaseException:
        print("".join(server.log))
        raise
    finally:
        with contextlib.suppress(requests.ConnectionError), Watch(server) as watch:
            for kernel_id in ids:
                server.ask("DELETE", f"kernels/{kernel_id}")
        print(f"deleted; {watch.said()}")
