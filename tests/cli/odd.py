"""Command lines, specs and surroundings that nobody foresaw, and what becomes of them.

    python -m tests.cli.odd --examples 5000

draws as many, runs each, and exits with 1 at the first that ends in an internal error or a
traceback, in its smallest form. It needs no engine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.command_lines import (
    ENCODINGS,
    FILES,
    FOLDERS,
    HOMES,
    STATE,
    STREAMS,
    Line,
    Runner,
    check,
)

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
    "preload": (["json"], []),
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


def _json_of(keys: tuple[str, ...]) -> st.SearchStrategy[str]:
    values = st.one_of(_NODES, st.fixed_dictionaries({"default": _NODES}))
    return st.dictionaries(st.sampled_from(keys), values, max_size=3).map(json.dumps)


_PROVISIONER = {"provisioner_name": "mooring-provisioner"}
_CONTENTS = st.one_of(
    st.binary(max_size=30).map(lambda content: content.decode("latin-1")),
    _specs(),
    _json_of(("proxies", "detachKeys", "credsStore", "credHelpers", "auths")),
    _json_of(("argv", "display_name", "language", "metadata", "env")),
    _NODES.map(
        lambda config: json.dumps(
            {"metadata": {"kernel_provisioner": {**_PROVISIONER, "config": config}}}
        )
    ),
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
        files=draw(st.dictionaries(st.sampled_from((*FILES, *STATE)), _CONTENTS, max_size=2)),
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
    options = parser.parse_args(arguments)
    began = time.monotonic()
    search(options.examples)
    print(f"{options.examples} command lines, none an internal error: "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
