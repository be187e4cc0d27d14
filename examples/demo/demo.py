"""The main job, step by step: declare a session, run a notebook in it, join it from the terminal.

`make demo` runs this. Each line that begins with $ is run as it stands, so it can be typed by hand.
Whatever goes wrong, the session and the kernelspec are removed and the exit code is not zero.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from mooring import Mooring, MooringError, installed_kernelspecs

HERE = Path(__file__).resolve().parent
SPEC = HERE / "session.yml"
NAME = "demo"
WIDTH = 80

out = Console(highlight=False, soft_wrap=True)


class StepFailed(Exception):
    """A step did not do what it should; the message is for the person who watches."""


def main() -> int:
    began = time.monotonic()
    os.chdir(HERE.parents[1])
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        with alone(), cleaned_up():
            run_steps(began)
    except MooringError as error:
        return fail(error.message, error.hint)
    except StepFailed as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def run_steps(began: float) -> None:
    spec, folder = shown(SPEC), shown(HERE)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    for old in results.iterdir():
        old.unlink()

    step("Declare a container, once")
    command("cat", spec, run=False)
    out.print(
        Syntax(SPEC.read_text().rstrip(), "yaml", theme="ansi_dark", background_color="default")
        if out.is_terminal
        else SPEC.read_text().rstrip()
    )

    step("Make it a kernel, for every Jupyter client")
    command("mooring", "kernel", "install", "-f", spec, "--session", NAME, "--sys-prefix")

    step("Execute a notebook in it, as JupyterLab would")
    execute(f"{folder}/analysis.ipynb", results / "analysis.ipynb")

    step("The kernel has ended, the container has not")
    command("mooring", "ps")

    step("Run a command in the same container: what did the notebook leave in /tmp?")
    command("mooring", "exec", NAME, "--", "head", "/tmp/best-run")

    step("Stop it and take everything back; results and history stay")
    command("mooring", "stop", NAME)
    command("mooring", "rm", NAME)
    command("mooring", "kernel", "remove", NAME)
    command("mooring", "why", NAME)

    step(f"Done in {time.monotonic() - began:.0f} s. Look at")
    for path in ("analysis.ipynb", "loss.png", "summary.json"):
        if not (results / path).stat().st_size:
            raise StepFailed(f"{shown(results / path)} is empty")
    out.print(f"{shown(results / 'analysis.ipynb')}   the notebook, executed")
    out.print(f"{shown(results / 'loss.png')}         the picture it drew")
    out.print(f"{shown(results / 'summary.json')}     what it computed")

    step("The same session in JupyterLab, with its panel: make lab. By hand:")
    activate = Path(sys.executable).parent / "activate"
    if activate.exists() and os.environ.get("VIRTUAL_ENV") != sys.prefix:
        command("source", shown(activate), run=False)
    command(
        "mooring", "kernel", "install", "-f", spec, "--session", NAME, "--sys-prefix", run=False
    )
    command("jupyter", "lab", f"{folder}/analysis.ipynb", run=False)


def execute(notebook: str, executed: Path) -> None:
    """Run it with nbclient, and show what its cells printed."""
    command(
        "jupyter", "execute", notebook, f"--kernel_name={NAME}", "--output=results/analysis",
        quiet=True,
    )  # fmt: skip
    for cell in json.loads(executed.read_text())["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                out.print("".join(output["text"]).rstrip())
            elif "image/png" in output.get("data", {}):
                out.print("[dim](a picture)[/dim]")


def step(title: str) -> None:
    out.print(f"\n[bold]{title}[/bold]")


def command(*argv: str, run: bool = True, quiet: bool = False) -> None:
    """Show a command as it is typed, and run it.

    Raises:
        StepFailed: it failed. What a quiet one said on standard error is shown only then.
    """
    out.print(f"[green]$[/green] {typed(argv)}")
    sys.stdout.flush()
    if not run:
        return
    done = subprocess.run(argv, stderr=subprocess.PIPE if quiet else None, text=True)
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()[-15:]
        raise StepFailed("\n".join([f"{argv[0]} exited with {done.returncode}", *said]))


def typed(argv: tuple[str, ...]) -> str:
    """A command for the shell, with a line break where it would not fit."""
    line = ""
    for word in map(shlex.quote, argv):
        if len(line) - line.rfind("\n") + len(word) > WIDTH - 4:
            line += " \\\n   "
        line += f" {word}"
    return line.strip()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One demonstration at a time; what an earlier one that was killed left is taken away.

    Raises:
        StepFailed: another one runs, or the name belongs to something else.
        EngineUnavailable: no engine answers, with a hint.
    """
    with SPEC.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StepFailed("another demonstration is running") from None
        mooring = Mooring()
        mooring.engine.info()
        ours = str(HERE)
        named = [session for session in mooring.sessions.list() if session.name == NAME]
        if any(mooring.records.project_folder(session) != ours for session in named):
            raise StepFailed(f"you have a session named {NAME}; this would use its name")
        if any(Path(file) != SPEC for file in spec_files()):
            raise StepFailed(f"you have a kernelspec named {NAME}; this would use its name")
        yield


@contextlib.contextmanager
def cleaned_up() -> Iterator[None]:
    """Nothing is left before and nothing after, whatever happens between."""
    clean_up()
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        clean_up()


def clean_up() -> None:
    if NAME in Mooring().records.names():
        # what was never finished goes by looking at it, and is then not there to be removed
        done = subprocess.run(["mooring", "rm", "-f", NAME], capture_output=True, text=True)
        if done.returncode and NAME in Mooring().records.names():
            raise StepFailed(done.stderr.strip())
    if spec_files():
        subprocess.run(["mooring", "kernel", "remove", NAME], stdout=subprocess.DEVNULL)


def spec_files() -> list[str]:
    """The spec file of each kernelspec of that name."""
    return [found.config.get("spec", "") for found in installed_kernelspecs() if found.name == NAME]


def shown(path: Path) -> str:
    return os.path.relpath(path)


def fail(problem: str, hint: str = "") -> int:
    sys.stdout.flush()
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    said.print("\n[red]error:[/red]", Text.from_ansi(problem))
    if hint:
        said.print("[dim]hint:[/dim]", Text(hint))
    return 1


if __name__ == "__main__":
    sys.exit(main())
