"""What one session writes into its folder costs the others nothing, at any door."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine, LaunchOptions, Session, Sessions
from mooring.client import Mooring
from mooring.sessions import kernel_owners, model
from mooring.sessions.folder import SessionFolder
from mooring.sessions.kernel_owners import KernelRecord
from mooring.spec.resolve import resolve
from mooring_server_extension.responses import JupyterView, session_body
from tests.server.conftest import Serve, fake, serve, server
from tests.server.inprocess import API, InProcess
from tests.server.test_stream import FAST, listening
from tests.support.sessions import session_folder

__all__ = ["fake", "serve", "server"]

KERNEL = str(uuid.UUID(int=0x0123456789AB << 80))
SHORT = kernel_owners.short_id(KERNEL)


@pytest.fixture
def folders(server: InProcess) -> dict[str, SessionFolder]:
    """Two sessions that run, "good" and "bad"."""
    return {name: made(server, name) for name in ("good", "bad")}


def made(server: InProcess, name: str) -> SessionFolder:
    status, said = server.ask("POST", "/sessions", {"name": name})
    assert status == 201, said
    return session_folder(said["id"])


def plant(folder: SessionFolder, name: str | bytes, file: str = "exit", text: str = "") -> None:
    path = os.fsencode(folder.run) + b"/k/" + os.fsencode(name)
    os.makedirs(path, exist_ok=True)
    Path(os.fsdecode(path), file).write_text(text)


def strictly(text: str) -> Any:
    """JSON as browsers read it: it knows no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def sessions(server: InProcess, path: str = "/sessions") -> Any:
    headers = {"Authorization": f"token {server.token}"}
    answer = server.send("GET", API + path, headers=headers)
    assert answer.status_code == 200, answer.text
    return strictly(answer.text)


def test_odd_kernels_cost_no_list(folders: dict[str, SessionFolder], server: InProcess) -> None:
    """Names that are no text, and exits that are none, leave every door open."""
    plant(folders["bad"], b"\xffaaa", text='{"code":0,"oom":false}')
    for number, code in enumerate(("1e999", "9" * 400, "true", "[" * 9000, '{"a":1}')):
        plant(folders["bad"], f"{number:012}", text=f'{{"code":{code},"oom":false}}')
    plant(folders["bad"], "c" * 12, "c.json", '{"key":"k","kernel_name":"\\ud800"}')
    plant(folders["bad"], "c" * 12, text='{"code":1}')
    for _ in range(2):
        assert {one["name"] for one in sessions(server)["sessions"]} == {"good", "bad"}
    assert sessions(server, "/sessions/bad/events")["events"]
    server.ask("POST", "/sessions/bad/stop")
    assert {one["name"] for one in sessions(server)["sessions"]} == {"good", "bad"}


FIGURES = ("inf", "-inf", "nan", "1e300", "9" * 400, "-5")


@pytest.mark.parametrize("figure", FIGURES)
def test_odd_figures_cost_no_json(serve: Serve, figure: str) -> None:
    """Every number that a session can write is a number of JSON's when it is told, or null."""
    server = serve(**FAST)
    made(server, "good")
    run = made(server, "bad").run
    (run / "settings").write_text(f"idle_timeout_s {figure}\nmax_duration_s {figure}\n")
    (run / "hold").write_text(f"{figure}\n")
    for key in ("idle_at", "max_at", "cpu_percent", "memory_bytes", "started", "last_signal"):
        value = f"{figure} cpu" if key == "last_signal" else figure
        (run / "status").write_text(f"sampled 1\nidle_at never\nmax_at never\n{key} {value}\n")
        (run / "k" / "aaa").mkdir(exist_ok=True)
        (run / "k" / "aaa" / "busy").write_text(f"busy {figure}")
        said = sessions(server)
        assert {one["name"] for one in said["sessions"]} == {"good", "bad"}
        server.ask("GET", "/sessions/bad")  # held against the document
    with listening(server) as client:
        assert len(client.next("sessions")["sessions"]) == 2


def test_one_sessions_odd_number_costs_the_others_nothing(fake: FakeEngine, state: Path) -> None:
    """Even where a bound was forgotten, such a number is null, and the rest is told."""
    mooring = Mooring(fake)
    made = mooring.sessions.create(
        resolve(flags={"command": "x"}), LaunchOptions(name="one"), cwd=state
    ).session
    numbers = {"cpus": float("inf"), "gpus": {"count": float("nan")}}
    odd = dataclasses.replace(made, declared=numbers)
    said = session_body(odd, mooring, JupyterView(Path("/")))
    assert (said["cpus"], said["gpus"], said["name"]) == (None, {"count": None}, "one")
    strictly(json.dumps(said, allow_nan=False))
    assert set(model.FIELDS) <= set(said)


@pytest.mark.parametrize("error", [RecursionError, MemoryError, KeyError, OSError])
def test_one_session_that_cannot_be_told_costs_the_others_nothing(
    folders: dict[str, SessionFolder],
    server: InProcess,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    """Whatever is raised on the way from a session to its JSON, every other one is told."""

    def body(session: Session, mooring: Mooring, jupyter: JupyterView) -> Any:
        if session.name == "bad":
            raise error("odd")
        return session_body(session, mooring, jupyter)

    monkeypatch.setattr("mooring_server_extension.watcher.session_body", body)
    for _ in range(2):
        assert [one["name"] for one in sessions(server)["sessions"]] == ["good"]


def printed(folder: SessionFolder, text: str) -> None:
    """A kernel's folder as its session would make it, with one cell that printed that."""
    content = {"name": "stdout", "text": text}
    line = json.dumps({"kind": "stream", "parent": "m", "at": 1.0, "content": content})
    head = '{"kind":"begin","number":0,"lost":0,"size":%12d}\n'
    size = len(head % 0) + len(line) + 1
    plant(folder, SHORT, "out.0", f"{head % size}{line}\n")


def output(server: InProcess, kernel_id: str) -> Any:
    status, said = server.ask("GET", f"/kernels/{kernel_id}/recording")
    return said["executions"][0]["outputs"][0]["text"] if status == 200 else status


def test_no_session_speaks_for_anothers_kernel(
    folders: dict[str, SessionFolder], server: InProcess
) -> None:
    """What a kernel printed comes from the session that its record names, whoever claims it."""
    good, bad = sorted(folders.values(), key=lambda one: one.id, reverse=True)
    printed(bad, "forged")
    record = KernelRecord(session=good.id, kernel_id=KERNEL, kernel_name="x", root="/r", cwd="/")
    held = server.context.mooring.kernels.owners.own(record)
    assert held is not None
    for asked in (KERNEL, SHORT):
        assert output(server, asked) != "forged"
    printed(good, "true")
    for asked in (KERNEL, SHORT):
        assert output(server, asked) == "true"
    jupyter = JupyterView(Path("/"), {SHORT: (KERNEL, "x")}, {KERNEL: "nb.ipynb"})
    mooring = server.context.mooring
    bodies = {
        folder.id: session_body(mooring.sessions.get(folder.id), mooring, jupyter)
        for folder in (good, bad)
    }
    assert bodies[good.id]["notebooks"] == ["nb.ipynb"]
    assert bodies[good.id]["kernel_list"][0]["kernel_id"] == KERNEL
    assert bodies[bad.id]["notebooks"] == []
    assert bodies[bad.id]["kernel_list"][0]["kernel_id"] == ""
    other = KERNEL[:-1] + "1"  # of the same short id, and nobody's
    assert output(server, other) in ("forged", 404)
    held.forget()


def test_a_kernel_of_another_client_is_told_if_one_session_has_it(
    folders: dict[str, SessionFolder], server: InProcess
) -> None:
    """Without a record there is nothing to tell two apart, so neither is believed."""
    printed(folders["good"], "true")
    for asked in (KERNEL, SHORT):
        assert output(server, asked) == "true"
    printed(folders["bad"], "forged")
    for asked in (KERNEL, SHORT):
        assert output(server, asked) == 404


def test_a_look_that_fails_oddly_costs_no_other_figures(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own figures are told, whatever becomes of mooring's."""
    monkeypatch.setattr("mooring_server_extension.metrics.CACHE_S", 0.0)

    def fail(*_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(Sessions, "list", fail)
    monkeypatch.setattr(Sessions, "reconcile", fail)
    headers = {"Authorization": f"token {server.token}"}
    for _ in range(2):
        answer = server.send("GET", "/metrics", headers=headers)
        assert (answer.status_code, "mooring_sessions" in answer.text) == (200, True)
