"""Command lines, specs and surroundings that nobody foresaw, and what becomes of them.

    python -m tests.cli.odd --examples 5000

draws as many, runs each, and exits with 1 at the first that ends in an internal error or a
traceback, in its smallest form. It needs no engine: a process that has imported the command line
is forked for each, with a fake engine that has a session of every kind. Where root runs it, the
command lines run as an ordinary user, who can harm nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

ORDINARY_UID = 54_321
LIMIT_S = 3  # a command that attaches or follows is ended by then, which is no fault
ENCODINGS = ("utf-8", "ascii", "latin-1", "cp1252", "utf-16", "shift_jis")
FOLDERS = ("plain", "deleted", "unreadable", "not-utf8", "newline", "deep", "root", "proc")
HOMES = ("own", "unset", "empty", "relative", "missing", "file", "unreadable", "not-utf8")
STREAMS = ("file", "closed", "full", "null", "unread", "read-only")


@dataclass(frozen=True)
class Line:
    """A command line and its surroundings.

    Attributes:
        argv: the arguments; bytes that are not UTF-8 are surrogates, as in ``sys.argv``.
        spec: the content of ``session.yml`` in the current folder, one character a byte.
        docker: the content of Docker's ``config.json``, one character a byte.
        environ: variables, beside those of an ordinary login.
        folder, home: kinds of the current folder and of the home, of ``FOLDERS`` and ``HOMES``.
        streams: kinds of the standard streams, of ``STREAMS``.
        encoding: of the standard streams.
    """

    argv: tuple[str, ...]
    spec: str = "image: host\n"
    docker: str = ""
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

    @property
    def faults(self) -> list[str]:
        """What no input may cause."""
        found = [
            line
            for line in self.text.splitlines()
            if "internal error" in line or "Traceback" in line or "Fatal Python" in line
        ]
        if os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) != signal.SIGALRM:
            found.append(f"killed by signal {os.WTERMSIG(self.status)}")
        return found


# what is drawn

_TEXTS = st.one_of(
    st.text(max_size=12),
    st.binary(max_size=12).map(os.fsdecode),
    st.sampled_from(["x" * 300, "ü" * 5000, "9" * 400, "a/" * 3000, "-1", "1e999", "nan", "\n"]),
).map(lambda text: text.replace("\0", "").replace("/", "", text.startswith("/")))
_VALUES = st.one_of(
    st.sampled_from(
        (
            "train", "done", "t*", "nosuch", "host", "python:3.12", "Python:3.12",
            "session.yml", ".", "1", "0.5", "-1", "8h", "16GiB", "A=b", "A", "a=.", "6006:6006",
            "auto", "off", "python3", "train:x", "done:/etc", "/nosuch/file", "/dev/null", "sh",
            "ps", "name,state", "true", "ctrl-p", "",
        )
    ),
    _TEXTS,
)  # fmt: skip
_VARIABLES = st.dictionaries(
    st.sampled_from(
        (
            "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "XDG_CONFIG_HOME", "XDG_STATE_HOME",
            "XDG_RUNTIME_DIR", "TERM", "COLUMNS", "LINES", "LANG", "LC_ALL", "TZ", "PAGER", "PATH",
            "TMPDIR", "SHELL", "USER", "MOORING_STATE_DIR", "MOORING_PROFILE", "MOORING_NAME",
            "MOORING_IMAGE", "MOORING_COMMAND", "MOORING_GPUS", "MOORING_CPUS", "MOORING_MEMORY",
            "MOORING_PIDS_LIMIT", "MOORING_HOME", "MOORING_IDLE_TIMEOUT", "MOORING_PRIORITY",
            "MOORING_RECORD", "JUPYTER_DATA_DIR", "JUPYTER_PATH", "NO_COLOR", "A", "http_proxy",
        )
    ),
    st.one_of(_VALUES, st.sampled_from(("unix:///nosuch", "unix://", "unix://" + "x" * 200))),
    max_size=3,
)  # fmt: skip
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from(("host", "1", "8h", "16 gigs", "./data", "A", "s3://b/k", "x" * 5000, "~")),
)  # fmt: skip
_NODES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


# What each key of a spec, and the flag of its name, usually has
_USUAL: dict[str, tuple[Any, ...]] = {
    "name": ("new", "train"),
    "image": ("host", "python:3.12"),
    "pull": ("never", "missing"),
    "kernel": ("python3",),
    "command": ("true", ["echo", "x"]),
    "cpus": (1, 0.5),
    "memory": ("1GiB",),
    "pids_limit": (500, "off"),
    "shm": ("64m",),
    "inputs": (["."], ["session.yml"]),
    "outputs": (["out"], [{"name": "o", "source": "x/y"}]),
    "ports": ([8080], ["0:6006"]),
    "home": (False,),
    "groups": ([],),
    "env": ({"A": "b"}, {"A": 1}),
    "secrets": ({"S": {"file": "session.yml"}}, {"S": {"env": "PATH"}}),
    "idle_timeout": ("30m", "off"),
    "max_duration": ("8h",),
    "record": ("1MiB", "off"),
    "encrypt": ("auto", "always"),
    "extends": ("session.yml", "./other.yml"),
    "tail": ("5",),
    "format": ("name,state", "json"),
    "max_wait": ("1s",),
    "detach_keys": ("ctrl-a", "ctrl-p,ctrl-q"),
    "session": ("train",),
    "exec": ("true",),
    "file": ("session.yml",),
    "interval": ("1",),
}


@st.composite
def _specs(draw: st.DrawFn) -> str:
    from mooring import SessionSpec

    keys = (*SessionSpec.model_fields, "extends", "environment", "volumes", "$schema", "resources")
    data = {}
    odd = draw(st.integers(0, 2))  # of three specs one has nothing odd
    for key in draw(st.lists(st.sampled_from(keys), max_size=4, unique=True)):
        usual = st.sampled_from(_USUAL.get(key, (None,)))
        data[key] = draw(st.one_of(usual, _NODES)) if odd else draw(usual)
    text = json.dumps(data, ensure_ascii=draw(st.booleans()))
    content = text.encode("utf-8", "surrogatepass")
    if odd == 2:
        content = draw(st.one_of(st.binary(max_size=40), st.just(content[:-1])))
    return content.decode("latin-1")


_DOCKER = st.one_of(
    st.binary(max_size=30).map(lambda content: content.decode("latin-1")),
    st.dictionaries(
        st.sampled_from(("proxies", "detachKeys", "credsStore", "credHelpers", "auths")),
        st.one_of(_NODES, st.fixed_dictionaries({"default": _NODES})),
        max_size=3,
    ).map(json.dumps),
    st.just("[" * 100_000),
)


@st.composite
def _arguments(draw: st.DrawFn) -> tuple[str, ...]:
    names = [name for name in _commands() if name != "push"]
    often = ("create", "run", "exec", "cp", "kernel install", "config show")
    words = draw(st.sampled_from([*names, *often, *often, *often, ""])).split()
    parameters = _commands().get(" ".join(words), ())
    arguments: list[str] = []
    for option in draw(st.lists(st.sampled_from(parameters), max_size=4)) if parameters else ():
        arguments.append(draw(st.sampled_from(option.names)))
        if option.has_value:
            usual = _USUAL.get(option.names[0].strip("-").replace("-", "_"), ("train", "1"))
            arguments.append(draw(st.one_of(st.sampled_from(usual).map(str), _VALUES)))
    arguments += draw(
        st.one_of(
            st.sampled_from(
                ([], ["train"], ["train", "--", "true"], ["done"], ["--", "true"], ["host"])
            ),
            st.lists(_VALUES, max_size=3),
        )
    )
    before = draw(st.sampled_from(([], [], [], ["-v"], ["--help"])))
    return (*before, *words, *arguments)


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """Draws command lines, and surroundings of which most are ordinary."""
    mostly = st.integers(0, 3).map(lambda number: number > 0)

    def one_of(kinds: tuple[str, ...], usual: str) -> str:
        return usual if draw(mostly) else draw(st.sampled_from(kinds))

    return Line(
        argv=draw(_arguments()),
        spec=draw(_specs()),
        docker="" if draw(mostly) else draw(_DOCKER),
        environ=draw(_VARIABLES),
        folder=one_of(FOLDERS, "plain"),
        home=one_of(HOMES, "own"),
        streams=(
            one_of(STREAMS, "null"),
            one_of(STREAMS, "file"),
            one_of(STREAMS, "file"),
        ),
        encoding=one_of(ENCODINGS, "utf-8"),
    )


@dataclass(frozen=True)
class _Option:
    names: tuple[str, ...]
    has_value: bool


_options: dict[str, tuple[_Option, ...]] = {}


def _commands() -> dict[str, tuple[_Option, ...]]:
    """The options of each command by its words, such as ``kernel install``."""
    if not _options:
        import typer

        from mooring_cli.main import app

        _walk(typer.main.get_command(app), ())
    return _options


def _walk(command: Any, words: tuple[str, ...]) -> None:
    _options[" ".join(words)] = tuple(
        _Option((*one.opts, *one.secondary_opts), not one.is_flag)
        for one in command.params
        if one.param_type_name == "option"
    )
    for name, inner in getattr(command, "commands", {}).items():
        _walk(inner, (*words, name))


# what runs it


class Runner:
    """Context manager: the process that is forked for each line."""

    def __enter__(self) -> Runner:
        self._folder = tempfile.mkdtemp(prefix="mt-", dir="/var/tmp")
        if os.getuid() == 0:
            os.chown(self._folder, ORDINARY_UID, ORDINARY_UID)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.odd", "--serve", self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        subprocess.run(["chmod", "-R", "u+rwx", self._folder], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

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
    assert not outcome.faults, f"{outcome.faults}\n{line}\n{outcome.text[-3000:]}"


class _Yard:
    """The forked side: a folder with all that the lines use, put back before each one."""

    def __init__(self, top: Path) -> None:
        from mooring import FakeEngine, Mooring
        from mooring.engines import docker, podman
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
        _commands(), podman  # imported before the first fork
        self._people(Mooring(engine))
        engine.main = lambda process: 0

    def _people(self, mooring: Any) -> None:
        """Make a session that runs, and one that has ended."""
        from mooring import LaunchOptions, resolve

        (self.top / "project").mkdir()
        os.chdir(self.top / "project")
        for name in ("train", "done"):
            spec = resolve(flags={"command": "x", "image": "python:3.12"}, environ={})
            session = mooring.sessions.create(spec, LaunchOptions(name=name)).session
            if name == "done":
                mooring.sessions.stop(session)
        self._copy("state", "template")

    def _copy(self, name: str, to: str) -> None:
        fifos = shutil.ignore_patterns("*.fifo")  # which the sessions have no use for any more
        shutil.copytree(self.top / name, self.top / to, symlinks=True, ignore=fifos)

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
                subprocess.run(["chmod", "-R", "u+rwx", self.top / name], check=False)
                shutil.rmtree(self.top / name)
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
        (own / ".docker").mkdir(parents=True)
        if line.docker:
            (own / ".docker" / "config.json").write_bytes(line.docker.encode("latin-1"))
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


def search(examples: int) -> None:
    """Draw and run so many lines.

    Raises:
        AssertionError: one ended in an internal error; the message has its smallest form.
    """
    with Runner() as runner:

        @settings(max_examples=examples, deadline=None, database=None)
        @given(lines())
        def every_line(line: Line) -> None:
            check(runner, line)

        every_line()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        _Yard(Path(options.serve)).serve()
        return 0
    began = time.monotonic()
    search(options.examples)
    print(f"{options.examples} command lines, none an internal error: "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
