"""What a kernel has from its kernelspec and its client: variables and arguments."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from mooring.client import Mooring
from tests.support.kernel_clients import READY_S, install, jupyter, run

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

SHOW = "import json, os; print(json.dumps({name: os.environ.get(name) for name in %r}))"


class Started:
    """A kernel that was started with arguments of ``start_kernel``, and its client."""

    def __init__(self, name: str, **options: Any) -> None:
        self.manager = KernelManager(kernel_name=name)
        self.manager.start_kernel(**options)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=READY_S)

    def environ(self, *names: str) -> dict[str, str | None]:
        found: dict[str, str | None] = json.loads(run(self.client, SHOW % (names,)).text)
        return found

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)


def test_a_kernelspecs_path_is_added_to_the_kernels(mooring: Mooring, jupyter: Path) -> None:
    """`"PATH": "/x:${PATH}"` keeps the kernel's programs (jupyter_client#472,
    vscode-jupyter#15007); the client's own PATH is none of its."""
    name = install(env={"PATH": "/x:${PATH}", "WHO": "${MOORING_SESSION} of $NOBODY"})
    with Started(name) as kernel:
        found = kernel.environ("PATH", "WHO", "MOORING_SESSION")
        assert found["PATH"].startswith("/x:")  # type: ignore[union-attr]
        assert "/usr/bin" in found["PATH"]  # type: ignore[operator]
        assert found["WHO"] == f"{found['MOORING_SESSION']} of $NOBODY"
        assert run(kernel.client, "!echo found").text.strip() == "found"


def test_a_notebook_elsewhere_is_told_where_it_runs(
    mooring: Mooring, jupyter: Path, project: Path, tmp_path: Path
) -> None:
    """The second notebook of a shared session learns in its first cell that its own folder is not
    there (jupyterlab#10102, kernel_gateway#342), and where it runs; the history has it too."""
    other = tmp_path / "other"
    other.mkdir()
    name = install(session="lab")
    told = (
        f"{other} cannot be used in this session (No such file or directory): "
        f"the kernel runs in {project}"
    )
    with Started(name, cwd=str(project)) as first, Started(name, cwd=str(other)) as second:
        assert run(first.client, "import os; os.getcwd()").text == repr(str(project))
        outcome = run(second.client, "import os; os.getcwd()")
        assert [one["text"] for one in outcome.of("stream")] == [f"mooring: {told}\n"]
        assert run(second.client, "os.getcwd()").text == repr(str(project))
        events = mooring.sessions.events(mooring.sessions.get("lab").id)
        assert any(event.detail.endswith(f"started; {told}") for event in events)
        second.manager.restart_kernel(now=True)
        second.client.wait_for_ready(timeout=READY_S)
        assert told in run(second.client, "1").text


def test_a_client_gives_one_kernel_variables(
    mooring: Mooring, jupyter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the client sets for this kernel reaches it, also after a restart, and what the client
    itself has does not (kernel_gateway#128)."""
    monkeypatch.setenv("CLIENTS_OWN", "secret")
    monkeypatch.setenv("CHANGED", "before")
    given = {"KERNEL_USERNAME": "ann", "CHANGED": "after", "JPY_SESSION_NAME": "/a.ipynb"}
    expected = {**given, "CLIENTS_OWN": None, "OF_SPEC": "for ann"}
    name = install(env={"OF_SPEC": "for $KERNEL_USERNAME"})
    with Started(name, env={**os.environ, **given}) as kernel:
        assert kernel.environ(*expected) == expected
        kernel.manager.restart_kernel(now=True)
        kernel.client.wait_for_ready(timeout=READY_S)
        assert kernel.environ(*expected) == expected


def test_a_variable_that_is_read_at_the_start(mooring: Mooring, jupyter: Path) -> None:
    """One that the interpreter reads only when it starts counts as well."""
    with Started(
        install(), env={**os.environ, "PYTHONDONTWRITEBYTECODE": "of this kernel"}
    ) as kernel:
        assert run(kernel.client, "import sys; print(sys.dont_write_bytecode)").text == "True"


def test_arguments_of_a_kernelspec(mooring: Mooring, jupyter: Path) -> None:
    """What a kernelspec's argv has beside mooring's own is an argument of the kernel's."""
    name = install()
    path = jupyter / "data" / "kernels" / name / "kernel.json"
    content = json.loads(path.read_text())
    content["argv"].append("--IPKernelApp.exec_lines=home = '{prefix}'")
    path.write_text(json.dumps(content))
    with Started(name) as kernel:
        assert run(kernel.client, "import sys; print(home == sys.prefix)").text == "True"
