"""Kernels outlive their Jupyter server, however it ends, and the next one takes them up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring import kernelrecords
from mooring.service import Mooring
from mooring.session import State
from tests.kernel_clients import Server, eventually, install, jupyter, only_session

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

NOTEBOOK = {"path": "a.ipynb", "name": "a", "type": "notebook", "kernel": {"name": "mk"}}


@pytest.fixture
def servers(mooring: Mooring, jupyter: Path) -> Iterator[list[Server]]:
    """Jupyter servers of one folder; all are stopped in the end."""
    running: list[Server] = []
    yield running
    for server in running:
        if server.process.poll() is None:
            server.stop()


def another(servers: list[Server], *arguments: str, **options: Any) -> Server:
    servers.append(Server(*arguments, **options))
    return servers[-1]


def open_notebook(server: Server, path: str = "a.ipynb") -> dict[str, Any]:
    """Start a kernel for a notebook, as a browser does. Returns the Jupyter session."""
    status, said = server.ask("POST", "sessions", NOTEBOOK | {"path": path})
    assert status == 201, said
    return dict(said)


def sessions_of(server: Server) -> list[dict[str, Any]]:
    return list(server.ask("GET", "sessions")[1])


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_notebook_goes_on_under_the_next_server(
    servers: list[Server], mooring: Mooring, jupyter: Path, end: str
) -> None:
    """Killed or stopped: same kernel id, session and process; its cell finished meanwhile."""
    install()
    first = another(servers)
    opened = open_notebook(first)
    kernel_id = opened["kernel"]["id"]
    with first.socket(kernel_id) as socket:
        before = socket.execute("import os, time; x = 42; print(os.getpid())").text
        socket.send(
            "shell",
            "execute_request",
            {"code": "open('begun', 'w').close(); time.sleep(3); y = 43", "silent": False},
        )
        eventually(lambda: Path("begun").exists())
        session = only_session(mooring)
        getattr(first, end)()
    assert only_session(mooring).live_kernels != ()
    if end == "stop":
        assert list((jupyter / "runtime").glob("kernel-*.json")) == []
    second = another(servers)
    (found,) = sessions_of(second)
    assert (found["id"], found["path"], found["type"]) == (opened["id"], "a.ipynb", "notebook")
    assert found["kernel"]["id"] == kernel_id
    with second.socket(kernel_id) as socket:
        assert socket.execute("print(os.getpid(), x, y)").text == f"{before} 42 43"
        assert second.ask("POST", f"kernels/{kernel_id}/restart")[0] == 200
    with second.socket(kernel_id) as socket:
        assert socket.execute("print('x' in globals())").text == "False"
    assert only_session(mooring).container == session.container
    assert second.ask("DELETE", f"sessions/{opened['id']}")[0] == 204
    assert mooring.sessions() == []


def test_a_busy_kernel_is_open_to_its_notebook_at_once(
    servers: list[Server], mooring: Mooring
) -> None:
    """After adoption a websocket opens although the kernel works, and hears its cell's end."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    with first.socket(kernel_id) as socket:
        code = "import time; open('begun', 'w').close(); time.sleep(8); print('done')"
        socket.send("shell", "execute_request", {"code": code, "silent": False})
        eventually(lambda: Path("begun").exists())
        first.kill()
    second = another(servers)
    assert second.ask("GET", f"kernels/{kernel_id}")[1]["execution_state"] == "busy"
    began = time.monotonic()
    with second.socket(kernel_id) as socket:
        assert time.monotonic() - began < 2
        for message in socket.messages(timeout=20):
            if message["msg_type"] == "stream":
                assert message["content"]["text"] == "done\n"
                break
        assert socket.execute("1 + 1").text == "2"
    eventually(lambda: second.ask("GET", f"kernels/{kernel_id}")[1]["execution_state"] == "idle")


def test_a_clean_shutdown_ends_kernels_where_that_is_the_setting(
    servers: list[Server], mooring: Mooring
) -> None:
    """``on_shutdown = "stop"``: as without mooring, a server takes its kernels along."""
    install()
    server = another(servers, "--MooringExtension.on_shutdown=stop")
    open_notebook(server)
    server.stop()
    assert mooring.sessions() == []


def test_a_kernel_belongs_to_one_server_and_one_folder(
    servers: list[Server], mooring: Mooring, project: Path
) -> None:
    """A living server's kernels are its own; those of another folder mean nothing here."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    assert another(servers).ask("GET", "kernels")[1] == []
    servers[-1].stop()
    first.kill()
    (project / "other").mkdir()
    elsewhere = another(servers, f"--ServerApp.root_dir={project / 'other'}")
    assert elsewhere.ask("GET", "kernels")[1] == []
    back = another(servers)
    assert [kernel["id"] for kernel in back.ask("GET", "kernels")[1]] == [kernel_id]
    third = another(servers)
    assert third.ask("GET", "kernels")[1] == []


def test_adoption_needs_no_engine(servers: list[Server], mooring: Mooring) -> None:
    """A server that starts while the engine is down takes its kernels up all the same."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    with first.socket(kernel_id) as socket:
        socket.execute("x = 42")
    first.kill()
    second = another(servers, env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    with second.socket(kernel_id) as socket:
        assert socket.execute("print(x)").text == "42"


def test_a_renamed_notebook_is_found_under_its_new_name(
    servers: list[Server], mooring: Mooring
) -> None:
    """What a kernel is shown in is written down whenever it changes."""
    install()
    first = another(servers)
    opened = open_notebook(first)
    patched = first.ask("PATCH", f"sessions/{opened['id']}", {"path": "b.ipynb", "name": "b"})
    assert patched[0] == 200
    first.kill()
    (found,) = sessions_of(another(servers))
    assert (found["path"], found["name"]) == ("b.ipynb", "b")


def test_an_adopted_kernel_that_dies_is_started_again_in_place(
    servers: list[Server], mooring: Mooring
) -> None:
    """After adoption the restarter watches as ever: told within ten seconds, same container."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    with first.socket(kernel_id) as socket:
        socket.execute("open('/tmp/kept', 'w').write('kept')")
    first.kill()
    second = another(servers)
    with second.socket(kernel_id) as socket:
        container = only_session(mooring).container
        socket.send("shell", "execute_request", {"code": "import os; os.kill(os.getpid(), 9)"})
        socket.wait_for_state("restarting", timeout=10)
        socket.wait_for_ready()
        assert socket.execute("print(open('/tmp/kept').read())").text == "kept"
    assert only_session(mooring).container == container


def test_a_shared_session_stays_when_its_adopted_kernel_is_shut_down(
    servers: list[Server], mooring: Mooring
) -> None:
    """Shut Down Kernel ends the kernel always, and the session if the kernel made it."""
    install(session="shared")
    first = another(servers)
    opened = open_notebook(first)
    first.kill()
    second = another(servers)
    assert second.ask("DELETE", f"sessions/{opened['id']}")[0] == 204
    session = only_session(mooring)
    assert (session.name, session.state, session.live_kernels) == ("shared", State.RUNNING, ())
    assert kernelrecords.find(opened["kernel"]["id"]) is None
    second.stop()
    assert another(servers).ask("GET", "kernels")[1] == []


def test_a_stopped_session_outlives_its_server_too(servers: list[Server], mooring: Mooring) -> None:
    """Its kernel is dead, its files are not: a clean shutdown of the server leaves them."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    with first.socket(kernel_id) as socket:
        socket.execute("open('/tmp/kept', 'w').write('kept')")
        mooring.stop(only_session(mooring))
        socket.wait_for_state("dead", timeout=10)
    first.stop()
    assert only_session(mooring).state is State.STOPPED


def test_a_server_ends_although_a_session_was_removed_under_it(
    servers: list[Server], mooring: Mooring
) -> None:
    """A kernel that went a moment ago does not hold up the server's end."""
    install()
    server = another(servers)
    kernel_ids = [open_notebook(server, f"{n}.ipynb")["kernel"]["id"] for n in range(2)]
    for session in mooring.sessions()[:1]:
        mooring.remove(session, force=True)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 15
    (left,) = mooring.sessions()
    assert left.live_kernels != ()
    assert [k["id"] for k in another(servers).ask("GET", "kernels")[1]] == kernel_ids[:1]


def test_a_kernel_that_died_without_a_server_is_not_adopted(
    servers: list[Server], mooring: Mooring
) -> None:
    """What no longer lives is left alone; its session is still there to look into."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    first.kill()
    session = only_session(mooring)
    handle = mooring.kernel(session.id, kernelrecords.short_id(kernel_id))
    handle.send_signal(9)
    handle.close()
    eventually(lambda: only_session(mooring).live_kernels == ())
    assert another(servers).ask("GET", "kernels")[1] == []
    assert only_session(mooring).state is State.RUNNING
