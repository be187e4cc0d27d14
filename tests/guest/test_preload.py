"""What a kernel host imports for its kernels, and what it leaves out and says so."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from mooring.sessions.folder import SessionFolder
from tests.guest.test_kernelhost import Host, client_of, host
from tests.support.kernel_clients import run

__all__ = ["host"]
GUEST = resources.files("mooring") / "guest"
Preloading = Callable[..., Host]


@pytest.fixture
def preloading(host: Host) -> Preloading:
    """Starts the kernel host with modules to preload, some of them installed for the test."""

    def start(*modules: str, limit_s: float = 20.0, **content: str) -> Host:
        host.kill()
        packages = host.folder.path / "site-packages"
        packages.mkdir()
        for name, text in content.items():
            (packages / f"{name}.py").write_text(text)
        (host.folder.path / "custom").mkdir()
        custom = host.folder.path / "custom" / "sitecustomize.py"
        custom.write_text(f"import site; site.addsitedir({str(packages)!r})")
        programs = host.folder.path / "programs"
        text = (programs / "preload.py").read_text()
        assert "\nLIMIT_S = 20.0\n" in text
        text = text.replace("\nLIMIT_S = 20.0\n", f"\nLIMIT_S = {limit_s}\n")
        (programs / "preload.py").write_text(text)
        (programs / "preload").write_text("".join(f"{name}\n" for name in modules))
        host.start(PYTHONPATH=str(custom.parent))
        assert host.ask(op="ping") == {"kernels": {}, "problem": ""}
        return host

    return start


def problems(folder: SessionFolder) -> list[str]:
    file = folder.run / "preload"
    return file.read_text().splitlines() if file.exists() else []


def imported(host: Host, kernel_id: str, *names: str) -> list[bool]:
    """Which modules a new kernel has before its first import."""
    with host.kernel(kernel_id) as (handle, _), client_of(handle) as client:
        told = run(client, f"import sys; print([n in sys.modules for n in {names!r}])").text
    return [word == "True" for word in told.splitlines()[-1].strip("[]").split(", ")]


def test_each_kernel_has_what_was_imported_once(preloading: Preloading) -> None:
    """A module is imported by one process, and is there in each kernel that it forks."""
    host = preloading("planted", planted="import os; pid = os.getpid()")
    seen = []
    for name in ("a", "b"):
        with host.kernel(name) as (handle, pid), client_of(handle) as client:
            told = run(client, "import sys; print(sys.modules['planted'].pid)").text
            seen.append(int(told))
            assert pid != int(told)
    assert len(set(seen)) == 1
    assert problems(host.folder) == []


def test_numpy_is_preloaded(preloading: Preloading) -> None:
    """Threads that end before a fork, as OpenBLAS's do, are no reason to refuse a module."""
    host = preloading("numpy", "numpy.random")
    assert problems(host.folder) == []
    drawn = []
    for name in ("a", "b"):
        with host.kernel(name) as (handle, _), client_of(handle) as client:
            code = "import sys; print('numpy' in sys.modules); import numpy as n\n"
            code += "print(n.random.rand(), (n.ones((300, 300)) @ n.ones((300, 300)))[0, 0])"
            there, number, product = run(client, code).text.split()
            assert (there, product) == ("True", "300.0")
            drawn.append(number)
    assert drawn[0] != drawn[1]


def test_a_package_that_starts_processes_is_preloaded(preloading: Preloading) -> None:
    """multiprocessing, which joblib and others import, gives the kernel host's file a new name."""
    text = "import sys, multiprocessing; assert '__mp_main__' in sys.modules"
    host = preloading("planted", planted=text)
    assert problems(host.folder) == []
    assert imported(host, "a", "planted") == [True]


def test_plots_are_inline(preloading: Preloading) -> None:
    """matplotlib chooses its backend when it is imported: ipykernel's, as in a local kernel."""
    host = preloading("matplotlib.pyplot")
    with host.kernel("a") as (handle, _), client_of(handle) as client:
        code = "import matplotlib.pyplot as p; p.plot([1, 2]); print(p.get_backend())"
        told = run(client, code)
        assert "inline" in told.text
        (shown,) = told.of("display_data")
        assert "image/png" in shown["data"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "planted: it cannot be imported (ModuleNotFoundError: No module named 'planted')"),
        ("raise OSError('no\\ndriver')", "planted: it cannot be imported (OSError: no driver)"),
        ("import sys; sys.exit(3)", "planted: it cannot be imported (SystemExit: 3)"),
        ("import os; os._exit(3)", "planted: its import ended the process (3)"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "planted: its import ended the process (SIGSEGV)",
        ),
        (
            "from threading import Event, Thread; Thread(target=Event().wait, daemon=True).start()",
            "planted: its import left threads running, which a forked kernel does not have",
        ),
    ],
)
def test_what_cannot_be_preloaded_is_said(
    preloading: Preloading, content: str | None, problem: str
) -> None:
    """The kernel starts all the same, with the other modules, and its first cell says why."""
    planted = {} if content is None else {"planted": content}
    host = preloading("planted", "other", other="", **planted)
    assert problems(host.folder) == [f"preload: {problem}"]
    for name in ("a", "b"):
        with host.kernel(name) as (handle, _), client_of(handle) as client:
            code = "import sys; print('other' in sys.modules, 'planted' in sys.modules)"
            told = run(client, code).text.splitlines()
            assert told[0] == f"mooring: preload: {problem}"
            assert told[1] == "True False"
            assert run(client, "print(1)").text == "1"


def test_an_import_that_does_not_end_is_left_out(preloading: Preloading) -> None:
    """The time for all imports is limited, also for code that no exception reaches."""
    began = time.monotonic()
    text = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); signal.pause()"
    host = preloading("planted", "other", limit_s=1.0, planted=text, other="")
    assert time.monotonic() - began < 20
    assert problems(host.folder) == ["preload: planted: it was not imported within 1 s"]
    assert imported(host, "a", "other", "planted") == [False, False]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            "is_initialized = lambda: True",
            "torch.cuda: its import initialized CUDA, which a forked kernel cannot use",
        ),
        ("is_initialized = lambda: False", ""),
    ],
)
def test_cuda_is_not_preloaded_initialized(
    preloading: Preloading, content: str, problem: str
) -> None:
    """torch is preloaded as long as it has not initialized CUDA."""
    setup = "import sys, types; __path__ = []; cuda = types.ModuleType('torch.cuda')\n"
    setup += f"cuda.{content}\nsys.modules['torch.cuda'] = cuda"
    host = preloading("torch.cuda", torch=setup)
    assert problems(host.folder) == ([f"preload: {problem}"] if problem else [])
    assert imported(host, "a", "torch") == [not problem]


def test_an_open_gpu_is_seen(tmp_path: Path) -> None:
    """A device file that is open or mapped is found, whatever opened it."""
    device = tmp_path / "nvidia0"
    device.write_bytes(b"0" * 4096)
    code = (
        "import mmap, os, runpy, sys\n"
        f"found = runpy.run_path({str(GUEST / 'preload.py')!r})\n"
        f"found['open_device'].__globals__['DEVICES'] = ({str(tmp_path / 'nvidia')!r},)\n"
        "print(repr(found['open_device']()))\n"
        f"fd = os.open({str(device)!r}, os.O_RDONLY)\n"
        "print(found['open_device'](), '|', found['why_unsafe'](set(sys.modules)))\n"
        "kept = mmap.mmap(fd, 4096, access=mmap.ACCESS_READ)\n"
        "os.close(fd)\n"
        "print(found['open_device']())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    said = f"{device} | its import opened a GPU ({device}), which a forked kernel cannot use"
    assert done.stdout.splitlines() == ["''", said, str(device)], done.stderr


def test_what_a_restart_must_see_is_not_preloaded(preloading: Preloading, tmp_path: Path) -> None:
    """A module of a folder that one works in, as an editable install has, is imported anew."""
    (tmp_path / "mine.py").write_text("")
    text = f"import sys; sys.path.append({str(tmp_path)!r}); import mine"
    host = preloading("planted", planted=text)
    where = f"{tmp_path / 'mine.py'} is not in a folder of installed packages"
    assert problems(host.folder) == [f"preload: planted: {where}"]


def test_a_module_of_the_notebooks_folder_comes_first(
    preloading: Preloading, tmp_path: Path
) -> None:
    """A preloaded module does not hide one of that name beside the notebook, nor a package."""
    host = preloading("planted", planted="value = 'installed'")
    (tmp_path / "planted.txt").write_text("")
    (tmp_path / "other.py").write_text("")
    code = "import planted; print(planted.value)"
    cells = []
    for number, name in enumerate((None, "planted.py", "planted/__init__.py")):
        if name:
            shutil.rmtree(tmp_path / "planted", ignore_errors=True)
            (tmp_path / "planted.py").unlink(missing_ok=True)
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("value = 'beside'")
        handle = host.handle(f"k{number}")
        handle.start(cwd=str(tmp_path), env={})
        with client_of(handle) as client:
            cells.append(run(client, code).text)
        handle.send_signal(signal.SIGKILL)
        handle.close()
    assert cells == ["installed", "beside", "beside"]


def test_variables_of_a_kernel_reach_its_modules(preloading: Preloading) -> None:
    """A kernel with variables of its own imports anew: many are read when a module is imported."""
    host = preloading("planted", planted="import os; level = os.environ.get('LEVEL')")
    code = "import sys; there = 'planted' in sys.modules; import planted\n"
    code += "print(there, planted.level)"
    with host.kernel("a", LEVEL="3") as (handle, _), client_of(handle) as client:
        assert run(client, code).text == "False 3"
    with host.kernel("b", JPY_SESSION_NAME="x") as (handle, _), client_of(handle) as client:
        assert run(client, code).text == "True None"
