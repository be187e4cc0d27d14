"""Kernels outlive their Jupyter server, however it ends, and the next one takes them up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mooring.client import Mooring
from mooring.host.paths import Installation
from mooring.sessions import kernel_owners
from mooring.sessions.model import State
from tests.support.kernel_clients import Server, install, jupyter, only_session
from tests.support.pace import in_time
from tests.support.registry import SlowRegistry, slow_registry
from tests.support.waiting import eventually

__all__ = ["jupyter", "slow_registry"]
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
    status, reply = server.ask("POST", "sessions", NOTEBOOK | {"path": path})
    assert status == 201, reply
    return dict(reply)


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
    (adopted,) = sessions_of(second)
    assert (adopted["id"], adopted["path"], adopted["type"]) == (
        opened["id"],
        "a.ipynb",
        "notebook",
    )
    assert adopted["kernel"]["id"] == kernel_id
    with second.socket(kernel_id) as socket:
        assert socket.execute("print(os.getpid(), x, y)").text == f"{before} 42 43"
        assert second.ask("POST", f"kernels/{kernel_id}/restart")[0] == 200
    with second.socket(kernel_id) as socket:
        assert socket.execute("print('x' in globals())").text == "False"
    assert only_session(mooring).container == session.container
    assert second.ask("DELETE", f"sessions/{opened['id']}")[0] == 204
    assert mooring.sessions.list() == []


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
        assert in_time(time.monotonic() - began, 2)
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
    assert mooring.sessions.list() == []


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
    assert f"to adopt them, start a server in {project}" in "".join(elsewhere.log)
    back = another(servers)
    assert [kernel["id"] for kernel in back.ask("GET", "kernels")[1]] == [kernel_id]
    third = another(servers)
    assert third.ask("GET", "kernels")[1] == []


def test_a_notebook_goes_on_under_a_server_of_another_folder(
    servers: list[Server], mooring: Mooring, project: Path
) -> None:
    """``jupyter lab sub/a.ipynb`` has the root ``sub``, and ``jupyter lab`` the folder above."""
    install()
    (project / "sub").mkdir()
    (project / "sub" / "a.ipynb").write_text("{}")
    first = another(servers, "sub/a.ipynb")
    opened = open_notebook(first)
    with first.socket(opened["kernel"]["id"]) as socket:
        socket.execute("x = 42")
    first.kill()
    for arguments, path in (([], "sub/a.ipynb"), (["sub/a.ipynb"], "a.ipynb")):
        server = another(servers, *arguments)
        (adopted,) = sessions_of(server)
        assert (adopted["id"], adopted["path"]) == (opened["id"], path)
        with server.socket(adopted["kernel"]["id"]) as socket:
            assert socket.execute("print(x)").text == "42"
        server.stop()


def test_jupyters_culler_leaves_sessions_to_their_own_limits(
    servers: list[Server], mooring: Mooring
) -> None:
    """It ends a kernel, that of a stopped session too, and their files stay (nebari#2508)."""
    install()
    server = another(
        servers,
        "--MappingKernelManager.cull_idle_timeout=2",
        "--MappingKernelManager.cull_interval=1",
    )
    first = server.start("mk")
    session = only_session(mooring)
    second = server.start("mk")
    (stopped,) = (one for one in mooring.sessions.list() if one.id != session.id)
    mooring.sessions.stop(stopped)
    for kernel_id in (first, second):
        eventually(lambda name=kernel_id: server.ask("GET", f"kernels/{name}")[0] == 404)
    session = mooring.sessions.get(session.name)
    assert (session.state, session.live_kernels) == (State.RUNNING, ())
    assert mooring.kernels.owners.find(first) is None
    assert mooring.sessions.events(session.id)[-1].detail == "Jupyter culled its kernel"
    assert mooring.sessions.get(stopped.name).state is State.STOPPED


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
    (adopted,) = sessions_of(another(servers))
    assert (adopted["path"], adopted["name"]) == ("b.ipynb", "b")


def test_an_adopted_kernel_that_dies_is_started_again_in_place(
    servers: list[Server], mooring: Mooring
) -> None:
    """After adoption the restarter watches as ever: told within ten seconds, and why in the cell
    that ran; same container."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    with first.socket(kernel_id) as socket:
        socket.execute("open('/tmp/kept', 'w').write('kept')")
    first.kill()
    second = another(servers)
    with second.socket(kernel_id) as socket:
        container = only_session(mooring).container
        cell = {"code": "import os; os.kill(os.getpid(), 9)"}
        asked = socket.send("shell", "execute_request", cell)
        found = (one for one in socket.messages(10) if one["msg_type"] == "stream")
        told = next(found)
        assert told["parent_header"]["msg_id"] == asked
        assert told["content"]["text"].endswith(" ended: killed by SIGKILL\n")
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
    assert mooring.kernels.owners.find(opened["kernel"]["id"]) is None
    second.stop()
    assert another(servers).ask("GET", "kernels")[1] == []


def test_a_stopped_session_outlives_its_server_too(servers: list[Server], mooring: Mooring) -> None:
    """Its kernel is dead, its files are not: a clean shutdown of the server leaves them."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    with first.socket(kernel_id) as socket:
        socket.execute("open('/tmp/kept', 'w').write('kept')")
        mooring.sessions.stop(only_session(mooring))
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
    for session in mooring.sessions.list()[:1]:
        mooring.sessions.remove(session, force=True)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 15
    (left,) = mooring.sessions.list()
    assert left.live_kernels != ()
    assert [k["id"] for k in another(servers).ask("GET", "kernels")[1]] == kernel_ids[:1]


def test_a_kernel_that_died_without_a_server_is_started_again_by_the_next(
    servers: list[Server], mooring: Mooring
) -> None:
    """As if it had died now: in place, under its own id, and its notebook is told."""
    install()
    first = another(servers)
    kernel_id = open_notebook(first)["kernel"]["id"]
    first.kill()
    session = only_session(mooring)
    handle = mooring.kernels.handle(session.id, kernel_owners.short_id(kernel_id))
    handle.send_signal(9)
    handle.close()
    eventually(lambda: only_session(mooring).live_kernels == ())
    second = another(servers)
    assert [kernel["id"] for kernel in second.ask("GET", "kernels")[1]] == [kernel_id]
    eventually(lambda: len(only_session(mooring).live_kernels) == 1, timeout=15)
    with second.socket(kernel_id) as socket:
        socket.wait_for_ready()
        assert socket.execute("6 * 7").text == "42"
    assert only_session(mooring).container == session.container


def test_a_launch_that_its_servers_death_cut_off_is_taken_back(
    servers: list[Server], mooring: Mooring
) -> None:
    """Killed between the session's start and its kernel's: the next server leaves nothing."""
    install()
    first = another(servers)
    asking = threading.Thread(target=lambda: _ask_in_vain(first))
    asking.start()
    eventually(lambda: list(Installation.here().sessions.glob("*/kernels/*.json")))
    first.kill()
    asking.join()
    second = another(servers)
    eventually(lambda: mooring.sessions.list() == [] or len(second.ask("GET", "kernels")[1]) == 1)
    for kernel in second.ask("GET", "kernels")[1]:  # it came so far after all
        assert second.ask("DELETE", f"kernels/{kernel['id']}")[0] == 204
    assert mooring.sessions.list() == []


def test_a_server_ends_while_a_kernel_waits_for_its_image(
    servers: list[Server], mooring: Mooring, slow_registry: SlowRegistry
) -> None:
    """A pull holds up nobody's end, and the session that waited is gone."""
    install(flags={"image": slow_registry.image, "kernel": "python3"})
    server = another(servers)
    asking = threading.Thread(target=lambda: _ask_in_vain(server))
    asking.start()
    eventually(lambda: any("% of" in session.waiting for session in mooring.sessions.list()))
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10
    asking.join()
    assert mooring.sessions.list() == []


def test_a_session_ends_with_the_last_of_its_kernels(
    servers: list[Server], mooring: Mooring
) -> None:
    """A second notebook in a session that was made for the first one keeps it."""
    install()
    server = another(servers)
    opened = open_notebook(server)
    session = only_session(mooring)
    status, second = server.ask(
        "POST", f"../mooring/api/sessions/{session.name}/kernels", {"path": "b.ipynb"}
    )
    assert status == 201, second
    assert server.ask("DELETE", f"sessions/{opened['id']}")[0] == 204
    with server.socket(second["id"]) as socket:
        assert socket.execute("1 + 1").text == "2"
    assert only_session(mooring).id == session.id
    assert server.ask("DELETE", f"kernels/{second['id']}")[0] == 204
    assert mooring.sessions.list() == []


def _ask_in_vain(server: Server) -> None:
    """Start a kernel on a server that is about to end."""
    with contextlib.suppress(requests.RequestException, AssertionError):
        open_notebook(server)
