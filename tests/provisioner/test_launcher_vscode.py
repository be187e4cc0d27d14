"""A local kernelspec in VS Code: a process with five ports, and a session behind it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from mooring.client import Mooring
from mooring.kernels.listing import kernels_of
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import Session, State
from mooring_provisioner.watchdog import RESTART_S
from tests.conftest import Cli
from tests.support import vscode
from tests.support.kernel_clients import (
    alive,
    finish,
    install,
    jupyter,
    kernel_processes,
    only_session,
    run,
)
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

Open = Callable[..., vscode.Notebook]
NAMED = {"JPY_SESSION_NAME": "/home/ada/one.ipynb"}


@pytest.fixture
def notebook(mooring: Mooring, jupyter: Path, project: Path) -> Iterator[Open]:
    """Opens notebooks on kernelspecs; at the end nothing of any may be left."""
    opened: list[vscode.Notebook] = []

    def make(env: dict[str, str] | None = None, **config: object) -> vscode.Notebook:
        folder = jupyter / "data" / "kernels" / install(**config)  # type: ignore[arg-type]
        opened.append(vscode.Notebook(folder, project, env))
        return opened[-1]

    yield make
    for each in opened:
        each.close()
    for session in mooring.sessions.list():  # by name, or by rm: nobody waits for a restart then
        mooring.sessions.remove(session, force=True)
    for each in opened:
        vscode.nothing_left(each.kernelspec, 8)


def test_three_restarts_in_place(notebook: Open, mooring: Mooring) -> None:
    """A restart is a new process with other ports and another key, in the same container.

    Files that it wrote stay, variables go; and after the last process ends, nothing is left.
    """
    book = notebook()
    book.start()
    book.run("x = 1; open('/tmp/kept', 'a').write('0')")
    before = only_session(mooring)
    assert vscode.children(book.process.process.pid) == []  # they would get a SIGTERM first
    seen = [(book.process.ports, book.process.connection["key"])]
    for number in (1, 2, 3):
        book.restart()
        assert book.run("'x' in dir()").text == "False"
        assert book.run(
            f"open('/tmp/kept', 'a').write('{number}'); print(open('/tmp/kept').read())"
        )
        seen.append((book.process.ports, book.process.connection["key"]))
        session = only_session(mooring)
        assert (session.id, session.container) == (before.id, before.container)
        eventually(lambda: len(only_session(mooring).live_kernels) == 1)
    assert book.run("print(open('/tmp/kept').read())").text == "0123"
    assert len({port for ports, _ in seen for port in ports}) == 20
    assert len({key for _, key in seen}) == 4
    for launch in book.launches[:-1]:
        code, errors = launch.end()
        assert (code, errors) == (128 + signal.SIGTERM, "")
    book.dispose()
    assert book.process.end() == (128 + signal.SIGTERM, "")
    eventually(lambda: not mooring.sessions.list(), 30, "the session is left")
    eventually(lambda: not session_folder(before.id).path.exists())
    eventually(
        lambda: [one.kind for one in mooring.sessions.events(before.id)].count("removed") == 1, 5
    )


@pytest.mark.parametrize("slow_s", [0.4, 1.0])
def test_a_restart_that_overtakes_the_end(notebook: Open, mooring: Mooring, slow_s: float) -> None:
    """VS Code starts the new process while it still looks for the children of the old one."""
    book = notebook()
    book.start()
    book.run("open('/tmp/kept', 'w').write('yes')")
    book.restart(slow_s)
    assert book.run("print(open('/tmp/kept').read())").text == "yes"
    only_session(mooring)


def test_two_notebooks_in_a_folder(notebook: Open, mooring: Mooring) -> None:
    """Each notebook has a session of its own, and its restart comes back to that one."""
    one, two = notebook(), notebook()
    for name, book in (("one", one), ("two", two)):
        book.start()
        book.run(f"open('/tmp/name', 'w').write('{name}')")
    assert len(mooring.sessions.list()) == 2
    one.restart()
    two.restart()
    assert one.run("print(open('/tmp/name').read())").text == "one"
    assert two.run("print(open('/tmp/name').read())").text == "two"
    assert len(mooring.sessions.list()) == 2


def test_cells(notebook: Open, mooring: Mooring, project: Path) -> None:
    """Results, streams, errors, display updates, input() and 10 MB of output: all as they were."""
    book = notebook(env={"PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1"})
    client = book.start()
    client.hb_channel.start()
    client.hb_channel.unpause()
    eventually(client.hb_channel.is_beating, 10)
    assert book.run("6 * 7").text == "42"
    assert book.run("import os; print(os.getcwd())").text == str(project)
    assert book.run("print(os.environ['PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING'])").text == "1"
    assert book.run("1 / 0").error == "ZeroDivisionError"
    updated = book.run("h = display('a', display_id=True); h.update('b')")
    assert [m["data"]["text/plain"] for m in updated.of("update_display_data")] == ["'b'"]

    asked = book.run("name = input('who? ')", stdin_hook=lambda message: client.input("ada"))
    assert asked.status == "ok"
    assert book.run("name").text == "'ada'"

    code = """
import hashlib, random
data = ''.join(chr(33 + n % 90) for n in random.Random(1).randbytes(10_000_000))
for at in range(0, len(data), 100_000):
    print(data[at:at + 100_000], end='')
"""
    sent = book.run(code)
    wanted = book.run("print(hashlib.sha256(data.encode()).hexdigest())").text
    assert len(sent.text) == 10_000_000
    assert hashlib.sha256(sent.text.encode()).hexdigest() == wanted


def test_interrupt(notebook: Open) -> None:
    """interrupt_request ends the running cell and the program that it runs; the kernel goes on."""
    book = notebook()
    client = book.start()
    book.run("x = 42")
    for code in (
        "import time; time.sleep(600)",
        "import subprocess; subprocess.run(['sleep', '601'])",
    ):
        asked = client.execute(code)
        eventually(lambda: client.get_iopub_msg(timeout=10)["content"].get("code"), 10)
        time.sleep(0.3)
        book.interrupt()
        finish(client, asked)
        reply = client.get_shell_msg(timeout=10)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert book.run("x").text == "42"
    assert book.run("!pgrep -f 'sleep 60[1]'").text == ""


def test_only_this_machine_and_only_while_it_lives(notebook: Open, mooring: Mooring) -> None:
    """The five ports are 127.0.0.1's; the container publishes none; the end closes them."""
    book = notebook()
    book.start()
    ports = set(book.process.ports)
    assert _listening(ports) == {("0100007F", port) for port in ports}
    session = only_session(mooring)
    shown = subprocess.run(
        ["docker", "port", session.container], capture_output=True, text=True, check=True
    )
    assert shown.stdout == ""
    book.dispose()
    book.process.end()
    assert _listening(ports) == set()


def _listening(ports: set[int]) -> set[tuple[str, int]]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, port = local.partition(":")
            if state == "0A" and int(port, 16) in ports:
                found.add((address, int(port, 16)))
    return found


EXTENSION_HOST = """
import sys
from pathlib import Path
from tests.support import vscode
book = vscode.Notebook(Path(sys.argv[1]), Path(sys.argv[2]))
book.start()
print(book.process.process.pid, *book.process.ports, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_window_reload(
    notebook: Open, mooring: Mooring, project: Path, number: signal.Signals
) -> None:
    """A window that is reloaded, or killed, takes its kernels along: nothing waits for it."""
    folder = notebook().kernelspec
    window = subprocess.Popen(
        [sys.executable, "-c", EXTENSION_HOST, str(folder), str(project)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert window.stdin
    assert window.stdout
    with window.stdin, window.stdout:
        launcher, *ports = map(int, window.stdout.readline().split())
        session = only_session(mooring)
        assert session.state is State.RUNNING
        if number == signal.SIGTERM:
            os.kill(launcher, signal.SIGTERM)
        window.kill()
        window.wait()
    eventually(lambda: not alive(launcher), 5, "the launcher outlives its client")
    assert _listening(set(ports)) == set()
    began = time.monotonic()
    eventually(lambda: not session_folder(session.id).path.exists(), 20)
    assert time.monotonic() - began < 8, "nobody is left who could restart it"
    vscode.nothing_left(folder)


def test_the_launcher_is_killed(notebook: Open, mooring: Mooring) -> None:
    """kill -9 of the launcher: the kernel goes at once, the session when no restart comes."""
    book = notebook()
    book.start()
    book.run("open('/tmp/kept', 'w').write('yes')")
    session = only_session(mooring)
    folder = session_folder(session.id)
    book.process.process.kill()
    eventually(lambda: not kernels_of(folder.guest), 5, "the kernel outlives its launcher")
    eventually(lambda: len(kernel_processes(folder)) == 1, 5)  # the host alone
    book.restart()
    assert book.run("print(open('/tmp/kept').read())").text == "yes"
    book.process.process.kill()
    eventually(lambda: not folder.path.exists(), 30, "the session is left")


def test_all_that_watch_are_killed(notebook: Open, mooring: Mooring, cli: Cli) -> None:
    """kill -9 of the launcher and its keeper: the next command of mooring's cleans up."""
    book = notebook()
    book.start()
    session = only_session(mooring)
    pids = vscode.left_behind(book.kernelspec)
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(alive, pids)))
    assert cli("ps", "--json", check=0).stdout.strip() == "[]"
    assert not session_folder(session.id).path.exists()
    assert "launcher was killed" in cli("events", session.name, check=0).stdout


def test_a_kernel_that_dies(notebook: Open, mooring: Mooring) -> None:
    """The launcher ends with the kernel's code and says why; a restart finds the files again."""
    book = notebook()
    client = book.start()
    book.run("open('/tmp/kept', 'w').write('yes')")
    container = only_session(mooring).container
    log = "import os, sys; log = sys.stderr._original_stdstream_copy"
    client.execute(f"{log}; os.write(log, b'last words\\n'); os._exit(3)")
    assert book.process.end() == (3, "error: the kernel ended: exit code 3\n    last words\n")
    book.restart()
    assert book.run("print(open('/tmp/kept').read())").text == "yes"
    assert only_session(mooring).container == container


def test_a_session_that_was_stopped(notebook: Open, mooring: Mooring) -> None:
    """A stopped session ends the launcher, which says so; a restart starts that session again.

    So it is where the client names the notebook.
    """
    book = notebook(env=NAMED)
    book.start()
    book.run("open('/tmp/kept', 'w').write('yes')")
    session = only_session(mooring)
    mooring.sessions.stop(session)
    code, errors = book.process.end()
    assert code != 0
    assert "its session is stopped: by tester" in errors
    book.restart()
    assert book.run("print(open('/tmp/kept').read())").text == "yes"
    assert only_session(mooring).id == session.id


def test_another_notebook_never_has_a_stopped_session(notebook: Open, mooring: Mooring) -> None:
    """Nobody knows which notebook a process is for: a stopped session waits, and for none of them.

    Its user can start it and fetch the files; from then on it does not go with the window.
    """
    one, two = notebook(), notebook()
    one.start()
    one.run("open('/tmp/kept', 'w').write('of one')")
    first = only_session(mooring)
    mooring.sessions.stop(first)
    one.process.end()
    for book in (two, one):
        book.restart() if book.launches else book.start()
        assert book.run("import os; os.path.exists('/tmp/kept')").text == "False"
        assert session_folder(first.id).exists
    two.dispose()
    mooring.sessions.start(first)
    eventually(lambda: not lease_of(first), 20, "the keeper has not let go of it")
    assert mooring.sessions.get(first.id).state is State.RUNNING


def test_another_notebook_that_comes_later(notebook: Open, mooring: Mooring) -> None:
    """A name tells notebooks apart at once; the dead kernel's own one finds its files again."""
    one, two = notebook(env=NAMED), notebook(env={"JPY_SESSION_NAME": "/home/ada/two.ipynb"})
    client = one.start()
    one.run("open('/tmp/kept', 'w').write('of one')")
    client.execute("import os; os._exit(3)")
    one.process.end()
    two.start()
    assert two.run("import os; os.path.exists('/tmp/kept')").text == "False"
    time.sleep(RESTART_S + 1)
    one.restart()
    assert one.run("print(open('/tmp/kept').read())").text == "of one"


def test_the_container_of_the_last_that_ended(notebook: Open, mooring: Mooring) -> None:
    """A restart does not come back to a notebook's session that was closed a moment before."""
    one, two = notebook(), notebook()
    for name, book in (("one", one), ("two", two)):
        book.start()
        book.run(f"open('/tmp/name', 'w').write('{name}')")
    one.dispose()
    time.sleep(2)
    two.restart(slow_s=1.0)
    assert two.run("print(open('/tmp/name').read())").text == "two"


@pytest.mark.parametrize("use", ["hold", "exec", "terminal", "kernel"])
@pytest.mark.parametrize("killed", [False, True])
def test_what_is_in_use_stays(
    notebook: Open, mooring: Mooring, cli: Cli, use: str, killed: bool
) -> None:
    """What its user does in a session besides keeps it, when the notebook goes and for good.

    That holds as well where the reconciler finds it, after the launcher and its keeper.
    """
    book = notebook()
    book.start()
    session = only_session(mooring)
    other = mooring.kernels.handle(session.id, "0" * 12)
    with contextlib.ExitStack() as stack:
        if use == "hold":
            mooring.sessions.hold(session, 600)
        elif use == "kernel":
            other.write_connection(key=b"", encrypt=False, kernel_name="python3")
            stack.callback(other.close)
            other.start(cwd="/", env={})
            stack.callback(mooring.kernels.end, session.id, other.id)
        else:
            if use == "terminal":
                stream = mooring.terminals.open(session, [], size=(24, 80))
            else:
                stream = mooring.sessions.exec(session, ["sleep", "1000"], stdin=True)
            stack.callback(stream.close)
            time.sleep(1)
        if killed:
            for pid in vscode.left_behind(book.kernelspec):
                os.kill(pid, signal.SIGKILL)
            vscode.nothing_left(book.kernelspec)
        else:
            book.dispose()
            vscode.nothing_left(book.kernelspec, RESTART_S + 15)
        # the system lets go of a dead process's locks after its name
        eventually(lambda: mooring.sessions.list() and not lease_of(session), 5)
        assert only_session(mooring).state is State.RUNNING
        if use == "kernel":
            assert other.poll() is None
        assert [one.kind for one in mooring.sessions.events(session.id)].count("kept") == 1
    assert only_session(mooring).id == session.id


def test_a_restart_of_the_machine(notebook: Open, mooring: Mooring) -> None:
    """A session that was on when the machine went down is lost, as others are, with its files."""
    book = notebook()
    book.start()
    session = only_session(mooring)
    folder = session_folder(session.id)
    (folder.home / "work.txt").write_text("hours")
    for pid in vscode.left_behind(book.kernelspec):
        os.kill(pid, signal.SIGKILL)
    vscode.nothing_left(book.kernelspec)
    subprocess.run(["docker", "kill", session.container], check=True, capture_output=True)
    folder.update_state(boot_id="another")
    for _ in range(2):
        assert only_session(mooring).state is State.LOST
    assert (folder.home / "work.txt").read_text() == "hours"
    assert mooring.sessions.start(session).state is State.RUNNING
    assert only_session(mooring).id == session.id, "it is its user's from then on"
    mooring.sessions.remove(only_session(mooring), force=True)


def test_a_removal_that_was_cut_off(notebook: Open, mooring: Mooring) -> None:
    """An abandoned session whose folder is left without a container goes at the next look."""
    book = notebook()
    book.start()
    session = only_session(mooring)
    for pid in vscode.left_behind(book.kernelspec):
        os.kill(pid, signal.SIGKILL)
    vscode.nothing_left(book.kernelspec)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SessionFolder, "remove", lambda folder: None)
        # the system lets go of a dead process's locks after its name
        eventually(lambda: not mooring.sessions.list(), 5)
    assert session_folder(session.id).exists
    assert mooring.sessions.list() == []
    assert not session_folder(session.id).path.exists()


def lease_of(session: Session) -> bool:
    return (session_folder(session.id).path / "lease").exists()


def test_exit_by_the_user(notebook: Open, mooring: Mooring) -> None:
    """exit() in a cell ends the launcher without a complaint, and the session after it."""
    book = notebook()
    client = book.start()
    client.execute("exit()")
    assert book.process.end() == (0, "")
    eventually(lambda: not mooring.sessions.list(), 30)


def test_a_shared_session_stays(notebook: Open, mooring: Mooring) -> None:
    """A session that others share loses the kernel alone, also by kill -9 of the launcher."""
    book = notebook(session="team")
    book.start()
    session = only_session(mooring)
    assert session.name == "team"
    book.restart()
    assert only_session(mooring).id == session.id
    folder = session_folder(session.id)
    eventually(lambda: len(kernels_of(folder.guest)) == 1)
    book.process.process.kill()
    eventually(lambda: not kernels_of(folder.guest), 10)
    vscode.nothing_left(book.kernelspec)
    assert only_session(mooring).state is State.RUNNING


def test_a_start_that_is_cancelled(notebook: Open, mooring: Mooring) -> None:
    """SIGTERM at any moment of the start leaves nothing."""
    book = notebook()
    for delay_s in (0.0, 0.1, 0.3, 0.6, 0.9):
        launch = book.launch()
        time.sleep(delay_s)
        launch.dispose()
        code, errors = launch.end()
        assert code in (-signal.SIGTERM, 128 + signal.SIGTERM), errors
        assert "Traceback" not in errors
    vscode.nothing_left(book.kernelspec)
    assert mooring.sessions.list() == []


def test_an_image_that_is_not_here(notebook: Open, mooring: Mooring) -> None:
    """Nothing is pulled behind a client's back: one line says what to type, and it ends."""
    image = f"mooring-test/none-{secrets.token_hex(4)}:1"
    book = notebook(flags={"image": image, "pull": "always"})
    began = time.monotonic()
    code, errors = book.launch().end()
    assert code == 1
    assert errors.splitlines() == [
        f"error: image {image} is not on this machine",
        f"hint: pull it in a terminal, then try again: docker pull {image}",
    ]
    assert time.monotonic() - began < 20
    assert mooring.sessions.list() == []


def test_an_engine_that_is_down(notebook: Open) -> None:
    """Without an engine the client is told so at once, and what to do."""
    book = notebook(env={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    code, errors = book.launch().end()
    assert code == 1
    error, hint = errors.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    vscode.nothing_left(book.kernelspec)


def test_encryption_is_not_left_out_silently(notebook: Open, mooring: Mooring) -> None:
    """Where the spec requires encryption, a client that cannot encrypt is refused."""
    code, errors = notebook(flags={"encrypt": "always"}).launch().end()
    assert code == 2
    assert "encrypt: always" in errors
    assert "Jupyter server" in errors
    assert mooring.sessions.list() == []


def test_a_port_that_is_taken(notebook: Open, mooring: Mooring) -> None:
    """Two kernels never share a port: the second says which one it cannot have."""
    book = notebook()
    book.start()
    launch = subprocess.run(
        [*_argv(book), str(book.process.file)], capture_output=True, text=True, timeout=30
    )
    assert launch.returncode == 1
    assert launch.stderr.startswith("error: cannot listen on port ")
    only_session(mooring)
    assert book.run("1 + 1").text == "2"


def _argv(book: vscode.Notebook) -> list[str]:
    program = json.loads((book.kernelspec / "kernel.json").read_text())["argv"][0]
    return [program, str(book.kernelspec)]


GOOD = {
    "key": "k",
    "signature_scheme": "hmac-sha256",
    "transport": "tcp",
    "ip": "127.0.0.1",
    **{f"{name}_port": 1 for name in ("hb", "control", "shell", "stdin", "iopub")},
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a connection file"),
        ("", "is not a connection file"),
        ("[]", "is not a connection file"),
        (json.dumps(GOOD | {"shell_port": "x"}), "is not a connection file"),
        (json.dumps({**GOOD, "key": ""}), "unsigned"),
        (json.dumps({**GOOD, "signature_scheme": "hmac-md5"}), "unsigned or encrypted"),
        (json.dumps({**GOOD, "curve_publickey": "x"}), "encrypted"),
        (json.dumps({**GOOD, "ip": "0.0.0.0"}), "tcp://0.0.0.0"),  # noqa: S104
        (json.dumps({**GOOD, "transport": "ipc"}), "ipc://127.0.0.1"),
        (json.dumps({**GOOD, "iopub_port": 70000}), "is not a connection file"),
        (json.dumps({**GOOD, **dict.fromkeys(list(GOOD)[4:], 0)}), "is not a connection file"),
    ],
)
def test_connection_files_that_cannot_be_served(
    notebook: Open, tmp_path: Path, content: str | None, message: str
) -> None:
    """What cannot be served is refused in one line, before anything is started."""
    book = notebook()
    file = tmp_path / "c.json"
    if content is not None:
        file.write_text(content)
    done = subprocess.run([*_argv(book), str(file)], capture_output=True, text=True, timeout=30)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    "kernelspec",
    [None, "", "[]", "{}", '{"metadata": {"kernel_provisioner": {"provisioner_name": "other"}}}'],
)
def test_kernelspecs_that_are_not_ours(
    notebook: Open, tmp_path: Path, kernelspec: str | None
) -> None:
    """A folder without a kernelspec of mooring's is refused in one line."""
    book = notebook()
    if kernelspec is not None:
        (tmp_path / "kernel.json").write_text(kernelspec)
    file = tmp_path / "c.json"
    content = GOOD | dict(zip(list(GOOD)[4:], vscode.free_ports(), strict=True))
    file.write_text(json.dumps(content))
    done = subprocess.run(
        [_argv(book)[0], str(tmp_path), str(file)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "is not a mooring kernelspec" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kernelspec_of_an_older_mooring(notebook: Open) -> None:
    """Its argv has no folder: it is told to be installed again."""
    done = subprocess.run(
        [_argv(notebook())[0], "c.json"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "install it again" in done.stderr


def test_other_clients_that_ignore_provisioners(notebook: Open, mooring: Mooring) -> None:
    """Nothing of it is VS Code's alone: jupyter_client's own way to run a process works.

    It restarts with the same ports and the same key, and ends with a message.
    """
    book = notebook()
    manager = KernelManager(kernel_name=book.kernelspec.name)
    assert manager.kernel_spec
    manager.kernel_spec.metadata.pop("kernel_provisioner")
    manager.start_kernel(stderr=subprocess.DEVNULL)
    client = manager.client()
    try:
        assert type(manager.provisioner).__name__ == "LocalProvisioner"
        client.start_channels()
        client.wait_for_ready(timeout=60)
        run(client, "x = 42; open('/tmp/kept', 'w').write('yes')")
        session = only_session(mooring)
        for now in (False, True):
            manager.restart_kernel(now=now)
            client.wait_for_ready(timeout=60)
            assert run(client, "'x' in dir()").text == "False"
            assert run(client, "print(open('/tmp/kept').read())").text == "yes"
        assert only_session(mooring).id == session.id
        asked = client.execute("import time; time.sleep(600)")
        time.sleep(0.5)
        manager.interrupt_kernel()
        finish(client, asked)
        client.stop_channels()
        manager.shutdown_kernel()
    finally:
        with contextlib.suppress(Exception):
            manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)
    eventually(lambda: not mooring.sessions.list(), 30)
