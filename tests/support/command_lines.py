"""Runs command lines in odd surroundings, each in a process that is forked for it.

The process that is forked has imported the command line, and has a fake engine with one session
that runs and one that has ended. Where root starts it, the command lines run as an ordinary user,
who can harm nothing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mooring.host.trees import remove_path

ORDINARY_UID = 54_321
LIMIT_S = 1  # a command that attaches or follows is ended by then, which is no fault
ENCODINGS = ("utf-8", "ascii", "latin-1", "cp1252", "utf-16", "shift_jis")
FOLDERS = ("plain", "deleted", "unreadable", "not-utf8", "newline", "deep", "root", "proc")
HOMES = ("own", "unset", "empty", "relative", "missing", "file", "unreadable", "not-utf8")
# Of the home, and of the state folder; a star is the session that runs
FILES = (
    ".docker/config.json",
    ".config/mooring/config.yml",
    ".config/mooring/profiles/p.yml",
    ".local/share/jupyter/kernels/odd/kernel.json",
)
STATE = (
    "installation",
    "history.db",
    "sessions/*/record.json",
    "sessions/*/run/status",
    "sessions/*/run/end",
    "sessions/*/run/x",
    "sessions/*/programs/settings",
    "sessions/*/ready",
    "sessions/*/term",
    "sessions/*/kernels/0",
)
STREAMS = ("file", "closed", "full", "null", "unread", "read-only")


@dataclass(frozen=True)
class Line:
    """A command line and its surroundings.

    Attributes:
        argv: the arguments; bytes that are not UTF-8 are surrogates, as in ``sys.argv``.
        spec: the content of ``session.yml`` in the current folder, one character a byte.
        files: the content of files of the user's, of ``FILES`` and ``STATE``, likewise.
        environ: variables, beside those of an ordinary login.
        folder, home: kinds of the current folder and of the home, of ``FOLDERS`` and ``HOMES``.
        streams: kinds of the standard streams, of ``STREAMS``.
        encoding: of the standard streams.
    """

    argv: tuple[str, ...]
    spec: str = "image: host\n"
    files: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    folder: str = "plain"
    home: str = "own"
    streams: tuple[str, str, str] = ("null", "file", "file")
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Outcome:
    """What came of one: the wait status, and all that was printed or reported."""

    status: int
    text: str

    def faults(self, line: Line) -> list[str]:
        """What no input may cause; a traceback is what ``-v`` is for."""
        words = ["internal error", "Fatal Python"]
        if not {"-v", "--verbose"} & set(line.argv):
            words.append("Traceback")
        found = [text for text in self.text.splitlines() if any(word in text for word in words)]
        if os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) != signal.SIGALRM:
            found.append(f"killed by signal {os.WTERMSIG(self.status)}")
        return found


class Runner:
    """Context manager: the process that is forked for each line."""

    def __enter__(self) -> Runner:
        self._folder = tempfile.mkdtemp(prefix="mt-", dir="/var/tmp")
        if os.getuid() == 0:
            os.chown(self._folder, ORDINARY_UID, ORDINARY_UID)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.command_lines", self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        remove_path(Path(self._folder))

    def run(self, line: Line) -> Outcome:
        """Run a command line to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(line)) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


def check(runner: Runner, line: Line) -> None:
    """Run a line, and fail with what it printed if that is a fault."""
    outcome = runner.run(line)
    faults = outcome.faults(line)
    assert not faults, f"{faults}\n{line}\n{outcome.text[-3000:]}"


def _import_everything() -> None:
    """Import before the first fork what each of the processes would import for itself."""
    import jupyter_client.kernelspec  # noqa: F401
    import yaml  # noqa: F401

    import mooring
    from mooring_cli.main import COMMANDS, Commands

    for name in mooring.__all__:
        getattr(mooring, name)
    for module in pkgutil.walk_packages(mooring.__path__, "mooring."):
        if ".guest." not in module.name:
            importlib.import_module(module.name)
    for name in COMMANDS:
        Commands()[name]
    gc.collect()
    gc.freeze()


class _Yard:
    """The forked side: a folder with all that the lines use, put back before each one."""

    def __init__(self, top: Path) -> None:
        from mooring import FakeEngine, Mooring
        from mooring.engines import docker
        from mooring_cli import output

        self.top = top
        self.socket = f"unix://{top}/no.sock"
        self.environ = {
            "PATH": os.environ["PATH"],
            "MOORING_STATE_DIR": str(top / "state"),
            "DOCKER_HOST": self.socket,
        }
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(ORDINARY_UID)
            os.setuid(ORDINARY_UID)
        self._set_environ({"HOME": str(top / "home")})
        _import_everything()
        engine = FakeEngine(images=["python:3.12"])
        real, own = docker.DockerEngine, self.socket

        def opened(address: str, **options: Any) -> Any:
            return engine if address == own else real(address, **options)

        docker.DockerEngine = opened  # type: ignore[misc, assignment]
        self.reports = -1
        print_error = output.print_error

        def report(error: Any) -> None:
            with contextlib.suppress(OSError):
                os.write(self.reports, f"{error.message}\n".encode("utf-8", "backslashreplace"))
            print_error(error)

        output.print_error = report
        self._people(Mooring(engine))
        engine.main = lambda process: 0

    def _people(self, mooring: Any) -> None:
        """Make a session that runs, and one that has ended."""
        from mooring import LaunchOptions, resolve

        (self.top / "project").mkdir()
        os.chdir(self.top / "project")
        for name in ("done", "train"):
            spec = resolve(flags={"command": "x", "image": "python:3.12"}, environ={})
            session = mooring.sessions.create(spec, LaunchOptions(name=name)).session
            self.session = session.id
            if name == "done":
                mooring.sessions.stop(session)
        self._copy("state", "template")

    def _copy(self, name: str, to: str) -> None:
        def copy(source: str, target: str) -> None:
            is_program = source.endswith((".sh", ".py"))  # which nothing writes to
            (os.link if is_program else shutil.copy2)(source, target)

        fifos = shutil.ignore_patterns("*.fifo")  # which the sessions have no use for any more
        shutil.copytree(
            self.top / name, self.top / to, symlinks=True, ignore=fifos, copy_function=copy
        )

    def _set_environ(self, environ: dict[str, str]) -> None:
        os.environ.clear()
        os.environ.update({**self.environ, **environ})

    def serve(self) -> None:
        """Run what standard input says, line by line."""
        for text in sys.stdin:
            document = json.loads(text)
            line = Line(**{**document, "streams": tuple(document["streams"])})
            self._put_back()
            status = self._fork(line)
            texts = [
                (self.top / name).read_bytes().decode("utf-8", "backslashreplace")
                for name in ("printed", "reported")
            ]
            print(json.dumps({"status": status, "text": "\n".join(texts)}), flush=True)

    def _put_back(self) -> None:
        os.chdir(self.top)
        for name in ("state", "places"):
            if (self.top / name).exists():
                remove_path(self.top / name)
        self._copy("template", "state")
        for name in ("printed", "reported"):
            (self.top / name).write_bytes(b"")

    def _fork(self, line: Line) -> int:
        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1]
        try:
            os.setpgid(0, 0)
            self._surround(line)
            from mooring_cli.__main__ import main

            main()
        except SystemExit as error:
            os._exit(0 if error.code is None else 1)
        except BaseException as error:
            import traceback

            text = "".join(traceback.format_exception(error))
            os.write(self.reports, text.encode("utf-8", "backslashreplace"))
        finally:
            os._exit(99)

    def _surround(self, line: Line) -> None:
        places = self.top / "places"
        places.mkdir()
        home = self._home(line, places)
        environ = {**({} if home is None else {"HOME": home}), **line.environ}
        self._set_environ({name: value for name, value in environ.items() if "\0" not in value})
        time.tzset()
        here = self._folder(line, places)
        with contextlib.suppress(OSError):
            (here / "session.yml").write_bytes(line.spec.encode("latin-1"))
        os.chdir(here)
        if line.folder == "deleted":
            shutil.rmtree(here)
        elif line.folder == "unreadable":
            here.chmod(0)
        sys.argv = ["mooring", *line.argv]
        signal.alarm(LIMIT_S)
        self.reports = os.open(self.top / "reported", os.O_WRONLY | os.O_APPEND)
        self._streams(line)

    def _home(self, line: Line, places: Path) -> str | None:
        own = places / "home"
        own.mkdir()
        for name, content in line.files.items():
            path = own / name
            if name in STATE:
                path = self.top / "state" / name.replace("*", self.session)
            if not path.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode("latin-1", "replace"))
        odd = places / os.fsdecode(b"h\xff")
        odd.mkdir()
        locked = places / "locked"
        locked.mkdir(mode=0)
        (places / "file").touch()
        kinds = {
            "own": str(own), "unset": None, "empty": "", "relative": "home", "missing": "/nosuch/h",
            "file": str(places / "file"), "unreadable": str(locked), "not-utf8": str(odd),
        }  # fmt: skip
        return kinds[line.home]

    def _folder(self, line: Line, places: Path) -> Path:
        if line.folder in ("root", "proc"):
            return Path("/" if line.folder == "root" else "/proc/self")
        name = {"not-utf8": os.fsdecode(b"p\xff"), "newline": "a\nb 'c"}.get(line.folder, "project")
        here = places / name
        here.mkdir()
        if line.folder == "deep":
            os.chdir(here)
            for _ in range(20):
                os.mkdir("x" * 250)
                os.chdir("x" * 250)
            return Path()
        return here

    def _streams(self, line: Line) -> None:
        printed = os.open(self.top / "printed", os.O_WRONLY | os.O_APPEND)
        for number, kind in enumerate(line.streams):
            if kind == "file":
                os.dup2(printed, number)
            elif kind == "unread":
                reading, writing = os.pipe()
                os.dup2(reading if number == 0 else writing, number)
                os.close(writing if number == 0 else reading)
                os.close(reading if number == 0 else writing)
            elif kind == "closed":
                os.close(number)
            else:
                path = "/dev/full" if kind == "full" else os.devnull
                flags = os.O_RDONLY if kind == "read-only" or number == 0 else os.O_WRONLY
                opened = os.open(path, flags)
                if opened != number:
                    os.dup2(opened, number)
                    os.close(opened)
        os.close(printed)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            stream = None
            with contextlib.suppress(OSError):
                os.fstat(number)
                raw = open(number, "rb" if number == 0 else "wb", closefd=False)  # noqa: SIM115
                errors = "backslashreplace" if number == 2 else "strict"
                stream = io.TextIOWrapper(raw, encoding=line.encoding, errors=errors)
            setattr(sys, name, stream)


if __name__ == "__main__":
    _Yard(Path(sys.argv[1])).serve()
