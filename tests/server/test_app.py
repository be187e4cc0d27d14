"""The extension in a Jupyter server of its own, on the real engine: what a browser would do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

from mooring.client import Mooring
from tests.server.inprocess import API, check
from tests.support.kernel_clients import Server, alive, host_pids, install, jupyter
from tests.support.pace import in_time
from tests.support.waiting import eventually

__all__ = ["jupyter"]

pytestmark = pytest.mark.engine


@pytest.fixture
def live(mooring: Mooring, jupyter: Path) -> Iterator[Server]:
    server = Server("--MooringExtension.refresh_s=0.2")
    yield server
    server.stop()


def ask(server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    answer = server.http.request(method, server.url + API + path, json=body, timeout=60)
    check(method, API + path, answer)
    return answer.status_code, (answer.json() if answer.content else None)


@contextlib.contextmanager
def terminal(server: Server, name: str) -> Iterator[websocket.WebSocket]:
    url = server.url.replace("http", "ws", 1) + f"/terminals/websocket/{name}"
    opened = websocket.create_connection(
        url, header=[f"Authorization: token {server.token}"], timeout=30
    )
    try:
        yield opened
    finally:
        opened.close()


def read_until(opened: websocket.WebSocket, wanted: str) -> str:
    """What a terminal has printed, up to and with ``wanted``."""
    text = ""
    deadline = time.monotonic() + 30
    while wanted not in text:
        assert time.monotonic() < deadline, text
        kind, *rest = json.loads(opened.recv())
        if kind == "stdout":
            text += rest[0]
        assert kind != "disconnect", text
    return text


def test_a_terminal_is_a_shell_in_the_session(live: Server, project: Path) -> None:
    """What is typed runs in the container, no shell of this machine is around it, and its end
    ends the terminal; a notebook's folder full of modules is in nobody's way. One that is shut
    down leaves its shell for the next.
    """
    for name in ("typing", "mooring_cli"):  # those that the server itself imports no more
        (project / f"{name}.py").write_text("raise SystemExit('imported from the folder')\n")
    status, made = ask(live, "POST", "/sessions", {"name": "aa"})
    assert status == 201
    status, opened = ask(live, "POST", "/sessions/aa/terminals")
    assert status == 201
    client = f"mooring_cli\0exec\0--again\0jupyter\0{made['id']}"
    (pid,) = eventually(lambda: host_pids(client))
    with terminal(live, opened["name"]) as shell:
        shell.send(json.dumps(["set_size", 24, 80]))
        shell.send(json.dumps(["stdin", "echo in-$((40 + 2)) $(ls -d /run/mooring)\r"]))
        read_until(shell, "in-42 /run/mooring")
        shell.send(json.dumps(["stdin", "KEPT=yes; echo set-$((40 + 3))\r"]))
        read_until(shell, "set-43")
    assert live.ask("DELETE", f"terminals/{opened['name']}")[0] == 204
    eventually(lambda: not alive(pid))
    status, opened = ask(live, "POST", "/sessions/aa/terminals")
    (pid,) = eventually(lambda: host_pids(client))
    with terminal(live, opened["name"]) as shell:
        shell.send(json.dumps(["stdin", "echo kept-$KEPT\r"]))
        read_until(shell, "kept-yes")
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        assert int(parent) == live.process.pid
        shell.send(json.dumps(["stdin", "exit\r"]))
        eventually(lambda: not alive(pid))
    eventually(lambda: live.ask("GET", "terminals")[1] == [])
    assert ask(live, "GET", "/sessions/aa")[1]["state"] == "running"


def test_a_command_that_cannot_be_run_is_a_conflict(live: Server) -> None:
    """It is known once the image has been looked into, and nothing of the session is left."""
    values = {"command": ["nosuchcommand", "x"]}
    status, reply = ask(live, "POST", "/sessions", {"name": "aa", "values": values})
    assert (status, reply["code"]) == (409, "command_error")
    assert reply["message"] == "command nosuchcommand: not found"
    assert ask(live, "GET", "/sessions")[1]["sessions"] == []


def test_a_kernel_starts_in_the_session(live: Server, project: Path) -> None:
    """It is a kernel of the server, in the folder that was asked for; the session lists it with
    its notebook, and what it printed is recorded.
    """
    (project / "sub").mkdir()
    assert ask(live, "POST", "/sessions", {"name": "aa"})[0] == 201
    status, made = ask(live, "POST", "/sessions/aa/kernels", {"path": "sub/nb.ipynb"})
    assert (status, made["name"]) == (201, "mooring-session-aa")
    model = {"path": "sub/nb.ipynb", "name": "nb", "type": "notebook", "kernel": {"id": made["id"]}}
    assert live.ask("POST", "sessions", model)[0] == 201
    with live.socket(made["id"]) as channels:
        content = {"code": "import os; print('in', os.getcwd())", "silent": False}
        content |= {"store_history": True, "user_expressions": {}, "allow_stdin": False}
        channels.send("shell", "execute_request", content)
        for message in channels.messages():
            if message["msg_type"] == "stream":
                assert message["content"]["text"] == f"in {project}/sub\n"
                break
    (session,) = ask(live, "GET", "/sessions")[1]["sessions"]
    assert session["notebooks"] == ["sub/nb.ipynb"]
    (kernel,) = session["kernel_list"]
    assert (kernel["kernel_id"], kernel["path"]) == (made["id"], "sub/nb.ipynb")
    assert (kernel["name"], kernel["id"]) == (
        "mooring-session-aa",
        made["id"].replace("-", "")[:12],
    )
    for kernel_id in (kernel["id"], made["id"]):

        def printed(kernel_id: str = kernel_id) -> bool:
            _, reply = ask(live, "GET", f"/kernels/{kernel_id}/recording")
            outputs = [out for one in reply["executions"] for out in one["outputs"]]
            return any("in " in str(out.get("text")) for out in outputs)

        eventually(printed)
    assert live.ask("DELETE", f"kernels/{made['id']}")[0] == 204
    (session,) = ask(live, "GET", "/sessions")[1]["sessions"]
    assert (session["state"], session["kernel_list"]) == ("running", [])


def test_a_sessions_own_kernelspec_is_taken(live: Server) -> None:
    """Where exactly one kernelspec was installed for a session, its kernels have that name."""
    install("for-aa", session="aa")
    assert ask(live, "POST", "/sessions", {"name": "aa"})[0] == 201
    status, made = ask(live, "POST", "/sessions/aa/kernels", {})
    assert (status, made["name"]) == (201, "for-aa")
    _, reply = ask(live, "GET", "/sessions")
    assert [one["name"] for one in reply["sessions"]] == ["aa"]
    live.ask("DELETE", f"kernels/{made['id']}")


def test_a_listener_does_not_hold_up_the_shutdown(live: Server) -> None:
    """SIGTERM ends a server at once although somebody listens to the stream."""
    with live.http.get(live.url + API + "/stream", stream=True, timeout=30) as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith(b"event: sessions"))
        before = time.monotonic()
        live.process.terminate()
        live.process.wait(timeout=30)
        assert in_time(time.monotonic() - before, 5)


def test_the_extension_needs_no_configuration(live: Server) -> None:
    """Installing mooring is enough: its API is there, and names the engine."""
    status, reply = ask(live, "GET", "/status")
    assert (status, reply["engine"]["ok"]) == (200, True)
    assert reply["engine"]["kind"] in ("docker", "podman")


def test_the_examples_of_the_reference_work(live: Server) -> None:
    """Each command of docs/reference/rest.md succeeds and prints what the page shows."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "rest.md"
    (block,) = re.findall(r"<!-- live -->\n```console\n(.*?)^```$", page.read_text(), re.S | re.M)
    lines = [line for line in block.splitlines() if not line.startswith("$ export")]
    script = "".join(f"{line[2:]}; echo\n" for line in lines if line.startswith("$ "))
    done = subprocess.run(
        ["/bin/bash", "-ec", script],
        env=os.environ | {"URL": live.url, "TOKEN": live.token},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if line]
    shown = [line for line in lines if not line.startswith("$ ")]
    assert len(printed) == len(shown) == 6
    for wanted, line in zip(shown, printed, strict=True):
        assert re.fullmatch(".*".join(map(re.escape, wanted.split("…"))), line), (wanted, line)


def test_an_engine_that_never_answers_holds_nothing_up(jupyter: Path, state: Path) -> None:
    """The server starts, answers and ends as ever; sessions are said to be unknown."""
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(state / "engine.sock"))
        engine.listen(64)
        server = Server(env={"DOCKER_HOST": f"unix://{state}/engine.sock"})
        try:
            status, reply = ask(server, "GET", "/sessions")
            assert (status, reply["engine"]["ok"]) == (200, False)
            for path in ("/api/status", "/metrics", f"{API}/sessions"):
                before = time.monotonic()
                assert server.http.get(server.url + path, timeout=30).status_code == 200
                assert in_time(time.monotonic() - before, 2)
            before = time.monotonic()
        finally:
            server.stop()
        assert in_time(time.monotonic() - before, 5)
