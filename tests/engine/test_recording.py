"""Output that kernels publish while nobody listens, on the real engine: kept, and told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.kernels import recording
from mooring.kernels.listing import kernels_of
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import Session
from tests.conftest import Cli
from tests.engine.test_kernel_kinds import ECHO
from tests.support.kernel_clients import (
    install,
    jupyter,
    kernel,
    kernel_hosts,
    kernel_processes,
    only_session,
    own_kernelspec,
    run,
)
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine


# Characters that JSON escapes, and such as are several bytes
PRINT = """
import random, time
time.sleep(1)
source = random.Random(7)
for n in range(500):
    print(n, ''.join(source.choices('ab\\\\"\\té漢😀 ', k=6000)))
'done'
"""


def printed() -> str:
    """What ``PRINT`` prints."""
    source = random.Random(7)  # noqa: S311
    lines = (f"{n} {''.join(source.choices(LETTERS, k=6000))}" for n in range(500))
    return "".join(f"{line}\n" for line in lines)


LETTERS = 'ab\\"\té漢😀 '


def recorded(folder: SessionFolder) -> recording.Recording:
    """What is recorded of the only kernel of a session."""
    (entry,) = kernels_of(folder.guest)
    return recording.read(folder.guest, entry.id)


def finished(folder: SessionFolder, count: int) -> recording.Recording | None:
    """The recording, once that many executions are over."""
    found = recorded(folder)
    over = [execution for execution in found.executions if execution.status != "running"]
    return found if len(over) == count else None


def text_of(execution: recording.Execution) -> str:
    return "".join(output.get("text", "") for output in execution.outputs)


def test_a_cell_that_runs_while_no_client_is_connected_is_recorded(
    mooring: Mooring, jupyter: Path
) -> None:
    """Megabytes printed to nobody are there, byte for byte, and what was printed before them."""
    with kernel(install()) as (_, client):
        folder = session_folder(only_session(mooring).id)
        run(client, "print('first')")
        client.execute(PRINT)
        client.stop_channels()
        found = eventually(lambda: finished(folder, 2), timeout=60)
        assert [execution.status for execution in found.executions] == ["ok", "ok"]
    first, second = found.executions
    assert first.outputs == [{"output_type": "stream", "name": "stdout", "text": "first\n"}]
    assert second.outputs[0]["text"] == printed()
    assert len(printed().encode()) > 5_000_000
    assert second.outputs[1]["data"] == {"text/plain": "'done'"}
    assert (second.code, second.execution_count) == (PRINT, 2)
    assert (found.lost_bytes, second.truncated) == (0, False)


def test_only_the_newest_is_kept_beyond_the_limit(mooring: Mooring, jupyter: Path) -> None:
    """With a smaller limit the end of the same output is there, and the files are within it."""
    with kernel(install(flags={"record": "1m"})) as (_, client):
        folder = session_folder(only_session(mooring).id)
        run(client, PRINT)
        found = eventually(lambda: finished(folder, 1))
        (execution,) = found.executions
        text = text_of(execution)
        assert printed().endswith(text)
        assert 300_000 < len(text.encode()) < 1 << 20
        assert (execution.truncated, execution.code) == (True, PRINT)
        assert found.lost_bytes > 4_000_000
        sizes = [path.stat().st_size for path in folder.run.glob("k/*/out.*")]
        assert 1 << 19 < sum(sizes) <= 1 << 20


def test_nothing_is_recorded_where_it_is_off(mooring: Mooring, jupyter: Path) -> None:
    """``record: off`` leaves no file."""
    with kernel(install(flags={"record": False})) as (_, client):
        folder = session_folder(only_session(mooring).id)
        assert run(client, "print('said')").text == "said"
        assert list(folder.run.glob("k/*/out.*")) == []
        assert recorded(folder) == recording.Recording()


@pytest.mark.parametrize("variable", ["", "PYTHONHASHSEED"])
def test_a_kernel_that_is_killed_keeps_its_last_output(
    mooring: Mooring, jupyter: Path, variable: str
) -> None:
    """What it had said before kill -9 is kept over its restart, and the cell has failed.

    So it is for a kernel that the kernel host forked, and for one with an interpreter of its own.
    """
    name = install(env={variable: "1"} if variable else None)
    with kernel(name) as (manager, client):
        folder = session_folder(only_session(mooring).id)
        client.execute(
            "import os, time; print('last words'); time.sleep(0.5); os.kill(os.getpid(), 9)"
        )
        eventually(lambda: finished(folder, 1))
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        run(client, "print('again')")
        found = eventually(lambda: finished(folder, 2))
        assert [text_of(execution) for execution in found.executions] == [
            "last words\n",
            "again\n",
        ]
        assert [execution.status for execution in found.executions] == ["error", "ok"]


def test_what_a_forked_child_prints_is_recorded_once(mooring: Mooring, jupyter: Path) -> None:
    """A child's output comes through its parent, and only that writes it down."""
    code = (
        "import multiprocessing, time\n"
        "children = [multiprocessing.get_context('fork').Process(\n"
        "    target=lambda n=n: print(f'child {n}\\n', end='')) for n in range(3)]\n"
        "[child.start() for child in children]; [child.join() for child in children]\n"
        "time.sleep(0.5); print('parent')"
    )
    with kernel(install()) as (_, client):
        folder = session_folder(only_session(mooring).id)
        heard = run(client, code).text.split("\n")
        (execution,) = eventually(lambda: finished(folder, 1)).executions
        said = text_of(execution).strip().split("\n")
        assert sorted(said) == ["child 0", "child 1", "child 2", "parent"]
        assert said == heard


def test_what_a_notebook_shows_is_told_with_its_cell(mooring: Mooring, jupyter: Path) -> None:
    """The cell's id that a client sends is there, displays are updated, cleared ones are gone."""
    code = (
        "from IPython.display import HTML, clear_output, display\n"
        "print('gone'); clear_output()\n"
        "shown = display(HTML('<b>1</b>'), display_id=True)\n"
        "shown.update(HTML('<b>2</b>'))\n"
        "1 / 0"
    )
    with kernel(install()) as (_, client):
        folder = session_folder(only_session(mooring).id)
        message = client.session.msg(
            "execute_request",
            {"code": code, "silent": False, "store_history": True, "user_expressions": {},
             "allow_stdin": False, "stop_on_error": True},
            metadata={"cellId": "cell-of-mine"},
        )  # fmt: skip
        client.shell_channel.send(message)
        (execution,) = eventually(lambda: finished(folder, 1)).executions
        assert execution.msg_id == message["header"]["msg_id"]
        assert (execution.cell_id, execution.status) == ("cell-of-mine", "error")
        display, error = execution.outputs
        assert display["data"]["text/html"] == "<b>2</b>"
        assert (error["output_type"], error["ename"]) == ("error", "ZeroDivisionError")


@pytest.mark.parametrize("encrypt", ["auto", "always"])
def test_kernels_of_other_kinds_are_recorded(
    mooring: Mooring, jupyter: Path, project: Path, encrypt: str
) -> None:
    """A kernel that is a program of its own is recorded by the one who watches it."""
    (project / "echo.py").write_text(ECHO)
    argv = [sys.executable, str(project / "echo.py"), "-f", "{connection_file}"]
    flags = own_kernelspec(project, "echo", argv) | {"encrypt": encrypt}
    with kernel(install("ek", kernel="echo", flags=flags)) as (_, client):
        folder = session_folder(only_session(mooring).id)
        for number in range(100):
            client.execute(f"cell {number}", reply=True, timeout=30)
        found = eventually(lambda: finished(folder, 100))
        assert [e.code for e in found.executions] == [f"cell {n}" for n in range(100)]
        assert [text_of(e) for e in found.executions] == [f"cell {n}" for n in range(100)]


def test_the_command_line_prints_it(mooring: Mooring, cli: Cli, jupyter: Path) -> None:
    """``logs --kernel`` prints what was printed, shown and raised, running or stopped."""
    with (
        kernel(install(session="shared")) as (m1, one),
        kernel("mk") as (m2, two),
    ):
        run(one, "print('first')\n'shown'")
        run(one, "1 / 0")
        run(two, "print('\\33]0;title\\7red', end='')")
        run(two, "for n in range(3): print(f'\\r{n} of 2', end='')")
        first, second = (m.kernel_id.replace("-", "")[:12] for m in (m1, m2))
        eventually(lambda: "2 of 2" in cli("logs", "shared", "--kernel", check=0).stdout)
        said = cli("logs", "shared", "--kernel", check=0)
        assert cli("logs", "shared", check=0).stdout == said.stdout  # it has no main process
        assert said.stdout.count("── ") == 4
        assert f"── {first} " in said.stdout
        assert "] print('first')\nfirst\n'shown'\n── " in said.stdout
        assert "ZeroDivisionError: division by zero\n" in said.stdout
        assert "\33" not in said.stdout
        assert "\n�]0;title�red\n" in said.stdout
        alone = cli("logs", "shared", "--kernel", second[:5], check=0).stdout
        assert alone.endswith("\n2 of 2")
        assert "first" not in alone
        assert f"── {second} " not in alone
    with kernel("mk") as (_, client):
        run(client, "print('kept')")
        mooring.sessions.stop(mooring.sessions.get("shared"))
        assert "\nkept\n" in cli("logs", "shared", "--kernel", check=0).stdout
    wrong = cli("logs", "shared", "--kernel", "zzz", check=1)
    assert wrong.stderr.startswith("error: the session has no kernel zzz")
    assert cli("logs", "shared", "zzz", check=2).stdout == ""


def test_the_command_line_follows(mooring: Mooring, jupyter: Path) -> None:
    """``logs --kernel -f`` prints as the kernel does, and ends when the kernel ends."""
    with kernel(install(session="shared")) as (_, client):
        run(client, "print('before')")
        command = [sys.executable, "-m", "mooring_cli", "logs", "shared", "--kernel", "-f"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout
            client.execute("import time\nfor n in range(3): print('tick', n); time.sleep(0.5)")
            lines = []
            for line in following.stdout:
                lines.append(line.rstrip("\n"))
                if line == "tick 2\n":
                    os.kill(kernel_pid(only_session(mooring)), signal.SIGKILL)
            assert following.wait(timeout=30) == 0
        assert [line for line in lines if "──" not in line] == ["before", *TICKS]


TICKS = ["tick 0", "tick 1", "tick 2"]


def kernel_pid(session: Session) -> int:
    """This machine's number of the only kernel of a session."""
    folder = session_folder(session.id)
    (pid,) = set(kernel_processes(folder)) - set(kernel_hosts(folder))
    return pid
