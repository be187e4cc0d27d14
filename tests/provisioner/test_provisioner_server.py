"""A live Jupyter server: kernels by REST and websocket, as a browser uses them."""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.host.processes import process_mark
from mooring.sessions.model import State
from mooring.sessions.record import Removal
from tests.support.kernel_clients import (
    Server,
    host_pids,
    install,
    jupyter,
    kernel_hosts,
    kernel_processes,
    only_session,
)
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

SENTINEL = "planted-in-the-servers-environment"


@pytest.fixture
def server(mooring: Mooring, jupyter: Path) -> Iterator[Server]:
    """A Jupyter server with something in its environment that must not get out."""
    running = Server(env={"PLANTED": SENTINEL})
    yield running
    running.stop()


def test_a_notebook_runs_restarts_and_ends_through_the_server(
    server: Server, mooring: Mooring, project: Path
) -> None:
    """By REST and websocket: start, execute, interrupt, restart in place, shut down."""
    install()
    (project / "sub").mkdir()
    body = {"path": "sub/a.ipynb", "name": "", "type": "notebook", "kernel": {"name": "mk"}}
    status, reply = server.ask("POST", "sessions", body)
    assert status == 201, reply
    kernel_id = reply["kernel"]["id"]
    with server.socket(kernel_id) as socket:
        first = socket.execute("import os; print(os.getpid(), os.getcwd())")
        assert first.text.split()[1] == str(project / "sub")
        socket.execute("open('/tmp/kept', 'w').write('kept')")
        container = only_session(mooring).container

        mark = str(3 * 10**8 + os.getpid())
        socket.send("shell", "execute_request", {"code": f"import os; os.system('sleep {mark}')"})
        eventually(lambda: host_pids(mark))
        assert server.ask("POST", f"kernels/{kernel_id}/interrupt")[0] == 204
        eventually(lambda: not host_pids(mark))

        assert server.ask("POST", f"kernels/{kernel_id}/restart")[0] == 200
    with server.socket(kernel_id) as socket:
        second = socket.execute("import os; print(os.getpid(), open('/tmp/kept').read())")
        assert second.text.split()[1] == "kept"
        assert second.text.split()[0] != first.text.split()[0]
        assert second.count == 1
        names = "sorted(k for k in os.environ if k.startswith(('JPY', 'PLANT')))"
        leaked = socket.execute(f"print({names})")
        assert leaked.text == "['JPY_PARENT_PID', 'JPY_SESSION_NAME']"
        assert only_session(mooring).container == container
    assert server.ask("DELETE", f"sessions/{reply['id']}")[0] == 204
    assert mooring.sessions.list() == []


def test_the_server_tells_a_death_and_starts_the_kernel_again(
    server: Server, mooring: Mooring
) -> None:
    """After kill -9 the client is told within ten seconds; container and files are the same."""
    install()
    kernel_id = server.start("mk")
    with server.socket(kernel_id) as socket:
        for _ in range(2):
            socket.execute("open('/tmp/kept', 'w').write('kept')")
            container = only_session(mooring).container
            socket.send("shell", "execute_request", {"code": "import os; os.kill(os.getpid(), 9)"})
            socket.wait_for_state("restarting", timeout=10)
            socket.wait_for_ready()
            assert socket.execute("print(open('/tmp/kept').read())").text == "kept"
            assert only_session(mooring).container == container
    assert server.ask("DELETE", f"kernels/{kernel_id}")[0] == 204
    assert mooring.sessions.list() == []


def test_the_restarter_does_not_resurrect_a_session_that_was_stopped(
    server: Server, mooring: Mooring
) -> None:
    """The client is told of the death, nothing starts by itself, a person's restart starts it."""
    install()
    kernel_id = server.start("mk")
    with server.socket(kernel_id) as socket:
        socket.execute("open('/tmp/kept', 'w').write('kept')")
        session = only_session(mooring)
        mooring.sessions.stop(session)
        socket.wait_for_state("dead", timeout=10)
        with pytest.raises(AssertionError, match="not within"):
            socket.wait_for_state("starting", timeout=4)
        assert only_session(mooring).state is State.STOPPED
        status, reply = server.ask("POST", f"kernels/{kernel_id}/restart")
        assert status == 200, (reply, server.log)
    with server.socket(kernel_id) as socket:
        assert socket.execute("print(open('/tmp/kept').read())").text == "kept"
    assert only_session(mooring).container == session.container
    assert server.ask("DELETE", f"kernels/{kernel_id}")[0] == 204
    assert mooring.sessions.list() == []


@pytest.mark.timed
def test_a_session_that_is_removed_takes_its_kernel_along(server: Server, mooring: Mooring) -> None:
    """The client is told of its death and of no restart, and the server forgets it."""
    install(session="shared")
    kernel_id = server.start("mk")
    with server.socket(kernel_id) as socket:
        socket.execute("1")
        session = only_session(mooring)
        removal = Removal(process_mark(os.getpid()), "tester", "")
        session_folder(session.id).update_state(removing=removal)
        mooring.engine.remove(session.container)  # on a busy machine the rest comes later
        with pytest.raises(AssertionError, match="not within"):
            socket.wait_for_state("restarting", timeout=4)
        mooring.sessions.remove(session, force=True)
        socket.wait_for_state("dead", timeout=10)
    eventually(lambda: server.ask("GET", "kernels")[1] == [])
    assert mooring.sessions.list() == []


def test_a_kernel_whose_container_was_killed_is_told_dead(server: Server, mooring: Mooring) -> None:
    """Also when nothing says why: no restart is promised twice, and a person's restart works."""
    install()
    kernel_id = server.start("mk")
    with server.socket(kernel_id) as socket:
        socket.execute("open('/tmp/kept', 'w').write('kept')")
        mooring.engine.stop(only_session(mooring).container, grace_s=0.0)
        socket.wait_for_state("dead", timeout=20)
    assert server.ask("POST", f"kernels/{kernel_id}/restart")[0] == 200
    with server.socket(kernel_id) as socket:
        assert socket.execute("print(open('/tmp/kept').read())").text == "kept"


def test_a_kernel_of_a_session_that_was_started_again_can_be_restarted(
    server: Server, mooring: Mooring
) -> None:
    """The shutdown that a restart sends first does not end the kernel that it starts then."""
    install()
    kernel_id = server.start("mk")
    for _ in range(3):  # it was a race that was lost half the time
        with server.socket(kernel_id) as socket:
            socket.execute("1")
            mooring.sessions.stop(only_session(mooring))
            socket.wait_for_state("dead", timeout=10)
        mooring.sessions.start(mooring.sessions.get(only_session(mooring).name))
        eventually(lambda: kernel_hosts(session_folder(only_session(mooring).id)))
        time.sleep(1)  # until the host has loaded what a kernel needs: then a restart is quick
        assert server.ask("POST", f"kernels/{kernel_id}/restart")[0] == 200
        with server.socket(kernel_id) as socket, pytest.raises(AssertionError, match="not within"):
            socket.wait_for_state("restarting", timeout=4)


def test_two_servers_that_ask_at_once_get_one_session(mooring: Mooring, jupyter: Path) -> None:
    """Two servers that ask for the same shared session at the same moment get the same one."""
    install(session="shared")
    stop = "--MooringExtension.on_shutdown=stop"
    servers = [Server(stop), Server(stop)]
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(lambda server: server.start("mk"), servers * 2))
        assert len(set(ids)) == 4
        session = only_session(mooring)
        assert len(session.live_kernels) == 4
        pids = set()
        for server, kernel_id in zip(servers * 2, ids, strict=True):
            with server.socket(kernel_id) as socket:
                pids.add(socket.execute("import os; print(os.getpid())").text)
        assert len(pids) == 4
    finally:
        for server in servers:
            server.stop()
    after = only_session(mooring)
    assert (after.id, after.state) == (session.id, State.RUNNING)
    eventually(lambda: len(kernel_processes(session_folder(session.id))) == 1)
    assert only_session(mooring).live_kernels == ()
