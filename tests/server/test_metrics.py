"""Prometheus: figures of the sessions on the server's own /metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.spec.resolve import resolve
from mooring_server_extension.gpu_usage import STATES
from mooring_server_extension.metrics import CACHE_S
from tests.server.conftest import Serve
from tests.server.inprocess import InProcess
from tests.support.sessions import session_folder


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CACHE_S < 10
    monkeypatch.setattr("mooring_server_extension.metrics.CACHE_S", 0.0)


def scrape(server: InProcess) -> dict[str, float]:
    """Every mooring sample, by its name and labels; Prometheus' own parser must take it all."""
    answer = server.send("GET", "/metrics", headers={"Authorization": f"token {server.token}"})
    assert answer.status_code == 200
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name.startswith("mooring_"):
                key = sample.name + "".join(f"{{{k}={v}}}" for k, v in sample.labels.items())
                assert key not in samples, f"{key} is there twice"
                samples[key] = sample.value
    return samples


def stops(figures: dict[str, float], reason: str) -> float:
    return figures.get(f"mooring_session_stops_total{{reason={reason}}}", 0.0)


def test_sessions_are_counted_by_state(server: InProcess) -> None:
    """Each state is there, also with no session in it."""
    server.ask("POST", "/sessions", {"name": "aa"})
    server.ask("POST", "/sessions", {"name": "bb"})
    server.ask("POST", "/sessions/bb/stop")
    figures = scrape(server)
    states = {k[23:-1]: v for k, v in figures.items() if k.startswith("mooring_sessions{state=")}
    assert states == {
        "pending": 0,
        "starting": 0,
        "running": 1,
        "paused": 0,
        "stopped": 1,
        "lost": 0,
        "unknown": 0,
    }
    assert figures["mooring_gpus_held"] == 0
    assert figures["mooring_kernels"] == 0
    machine = {key for key in figures if key.startswith("mooring_gpus{state=")}
    assert machine == {f"mooring_gpus{{state={state}}}" for state in STATES}


def test_starts_and_stops_of_every_door_are_counted(
    server: InProcess, fake: FakeEngine, project: Path
) -> None:
    """Also the command line's and the clock's; removing a stopped session is no second stop."""
    before = scrape(server)
    server.ask("POST", "/sessions", {"name": "aa"})
    other = Mooring(fake, actor="somebody")
    made = other.sessions.create(resolve(flags={"name": "bb"}), cwd=project).session
    other.sessions.create(resolve(flags={"name": "cc"}), cwd=project)
    server.ask("POST", "/sessions/aa/stop")
    server.ask("DELETE", "/sessions/aa")
    server.ask("DELETE", "/sessions/cc?force=1")
    (session_folder(made.id).run / "end").write_text("reason idle\ntime 1700000000\n")
    fake.finish(made.container)
    after = scrape(server)
    count = "mooring_session_start_seconds_count"
    assert after[count] - before[count] == 3
    total = "mooring_session_start_seconds_sum"
    assert 0 < after[total] - before[total] < 30
    for reason, times in (("stopped", 1), ("removed", 1), ("idle", 1), ("lost", 0)):
        assert stops(after, reason) - stops(before, reason) == times, reason


def test_a_second_server_of_the_process_brings_no_duplicates(serve: Serve) -> None:
    """Loading the extension twice leaves every metric there once, and /metrics in order."""
    serve()
    figures = scrape(serve())
    assert figures["mooring_kernels"] == 0


def test_reasons_are_few_words(server: InProcess) -> None:
    """No name, id or free text becomes a label: their number would have no bound."""
    server.ask("POST", "/sessions", {"name": "aa"})
    server.ask("DELETE", "/sessions/aa?force=1")
    allowed: Any = re.compile(
        r"stopped|removed|idle|max_duration|out_of_memory|exited|lost|le=.*|state=.*"
    )
    labels = [found for key in scrape(server) for found in re.findall(r"\{reason=(.*?)\}", key)]
    assert "removed" in labels
    assert [label for label in labels if not allowed.fullmatch(label)] == []
