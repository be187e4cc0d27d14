"""Writes docs/reference/ and docs/man/ from the code, so that they say what the code does.

python docs/generate.py            write the pages
python docs/generate.py --check    tell which are not current; the exit code is then 1
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import man
import typer

import mooring
from mooring import errors
from mooring.engines import labels
from mooring.errors import MooringError, NotSupported
from mooring.images.images import HOST
from mooring.kernels import kernelspecs
from mooring.sessions import folder
from mooring.sessions import model as session
from mooring.spec import model as spec
from mooring.spec import resolve as config
from mooring.spec.schema import json_schema
from mooring_cli.examples import EXAMPLES
from mooring_cli.help import argument_text, example_text, other_names, value_text
from mooring_cli.main import app
from mooring_provisioner.provisioner import MooringProvisioner
from mooring_server_extension.app import MooringExtension

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
MANUAL = ROOT / "docs" / "man"
NOTE = "<!-- Written by docs/generate.py from the code: change that, then run `make docs`. -->"


def main(arguments: list[str]) -> int:
    stale = 0
    pages = {REFERENCE / name: make() for name, make in PAGES.items()}
    pages |= {MANUAL / name: text for name, text in man.pages(typer.main.get_command(app)).items()}
    for path in {*MANUAL.glob("*.1")} - {*pages}:
        pages[path] = ""  # of a command that is gone
    for path, text in pages.items():
        path.parent.mkdir(exist_ok=True)
        new = text.rstrip() + "\n" if text else ""
        old = path.read_text() if path.exists() else ""
        if new == old:
            continue
        if "--check" in arguments:
            stale += 1
            lines = old.splitlines(), new.splitlines()
            changes = difflib.unified_diff(*lines, path.name, "now", n=0)
            print("\n".join(list(changes)[:20]))
        elif new:
            path.write_text(new)
            print(f"written: {path.name}")
        else:
            path.unlink()
            print(f"removed: {path.name}")
    if stale:
        print(f"error: {stale} page(s) of docs are not current", file=sys.stderr)
        print("hint: run make docs, and commit what it wrote", file=sys.stderr)
    return 1 if stale else 0


# The command line


def cli_page() -> str:
    group: Any = typer.main.get_command(app)
    commands = list(_commands(group, ("mooring",)))
    lines = [NOTE, "# The command line", "", group.help, ""]
    lines += [f"- [`{' '.join(path)}`](#{_anchor(path)}): {_first(c)}" for path, c in commands]
    lines += ["", "Options of `mooring` itself come before the command:", ""]
    lines += _table(["option", "meaning"], _options(group))
    for path, found in commands:
        lines += ["", f"## {' '.join(path)}", "", _usage(path, found), ""]
        lines += [_text(found.help), ""]
        if found_examples := EXAMPLES.get(" ".join(path[1:])):
            shown = [f"$ {example_text(*example)}" for example in found_examples]
            lines += ["```console", *shown, "```", ""]
        if names := other_names(" ".join(path[1:])):
            lines += [f"Also: {', '.join(f'`{name}`' for name in names)}.", ""]
        arguments = [p for p in found.params if p.param_type_name == "argument"]
        if any(p.help for p in arguments):
            rows = [[f"`{argument_text(p)}`", p.help or ""] for p in arguments]
            lines += [*_table(["argument", "meaning"], rows), ""]
        options = _options(found)
        if options:
            lines += _table(["option", "meaning"], options)
    lines += ["", "## Exit codes", "", _text(group.epilog)]
    return "\n".join(lines)


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, found in group.commands.items():
        if found.hidden:
            continue
        if hasattr(found, "commands"):
            yield from _commands(found, (*path, name))
        else:
            yield (*path, name), found


def _usage(path: tuple[str, ...], found: Any) -> str:
    parts = [*path, "[OPTIONS]" if _options(found) else ""]
    parts += [argument_text(p) for p in found.params if p.param_type_name == "argument"]
    return f"```text\n{' '.join(filter(None, parts))}\n```"


def _options(found: Any) -> list[list[str]]:
    rows = []
    for option in found.params:
        if option.param_type_name != "option" or option.hidden or option.name == "help":
            continue
        names = [*option.opts, *option.secondary_opts]
        value = f" {value_text(option)}".rstrip()
        meaning = option.help or ""
        if isinstance(option.default, str) and option.default:
            meaning += f" Default: `{option.default}`."
        rows.append([", ".join(f"`{name}{value}`" for name in names), meaning])
    return rows


def _anchor(path: tuple[str, ...]) -> str:
    return "-".join(path)


def _first(command: Any) -> str:
    return str(command.help).split("\n\n")[0].replace("\n", " ")


# The spec


def spec_page() -> str:
    schema = json_schema()
    lines = [
        NOTE,
        "# The spec",
        "",
        (
            "A session is declared in a YAML file, usually `session.yml`. Every key is "
            "optional; an unknown key is an error that names the nearest valid one. "
            "`mooring config schema` prints the JSON Schema; in the repository it is "
            "[`core/mooring/spec/session.schema.json`](../../core/mooring/spec/session.schema.json)."
        ),
        "",
        (
            "`mooring init` writes a file to start from, and `mooring validate` lists the mistakes "
            "of one; `mooring create --dry-run` prints what would be created. With this first "
            "line, which `mooring init` writes with the correct path, editors with YAML support "
            "complete and check as you type:"
        ),
        "",
        "```yaml",
        "# yaml-language-server: $schema=../core/mooring/spec/session.schema.json",
        "```",
        "",
        "## Keys",
        "",
    ]
    rows = []
    for key, said in schema["properties"].items():
        if key in ("environment", spec.EXTENDS):
            continue
        default = spec.SessionSpec.model_fields[key].get_default(call_default_factory=True)
        rows.append([f"`{key}`", _kind(said), _default(key, default), said["description"]])
    lines += _table(["key", "value", "default", "meaning"], rows)
    lines += ["", f"`environment` is an alias of `image`, as in Azure ML: {_aliases()}"]
    for title, key in (
        ("A mount", "Mount"),
        ("A secret", "SecretSource"),
        ("A request for GPUs", "GpuRequest"),
        ("A build", "BuildSpec"),
    ):
        part = schema["$defs"][key]
        about = _ONE_OF.get(key, part["description"])
        lines += ["", f"## {title}", "", about, ""]
        rows = [
            [f"`{name}`", _kind(said), said["description"]]
            for name, said in part["properties"].items()
        ]
        lines += _table(["key", "value", "meaning"], rows)
    lines += [
        "",
        (
            "A mount may be written as a path only, several mounts as `a,b`. On the command line, "
            "the form is `name=path`."
        ),
        "",
        "## What is not supported yet",
        "",
        "These are checked, and rejected with an error; they are never ignored:",
        "",
    ]
    lines += _table(["in the spec", "error"], list(_refusals()))
    lines += [
        "",
        "## Where values come from",
        "",
        (
            "`flags > environment > file > profile > user config > policy > default`. A higher one "
            "overrides a lower one; `env` and `secrets` merge by name; `image` and `build` "
            "replace each other; in a file, a key without a value (`memory:` or "
            "`memory: null`) is reset to its default. `mooring config show` prints each value "
            "and its origin."
        ),
        "",
        (
            f"`{spec.EXTENDS}` is a key of files only. "
            f"{schema['properties'][spec.EXTENDS]['description']} "
            "For the rules, see [profiles and extended files](../how-to/profiles.md). An "
            "administrator may set limits and defaults in a [policy](../how-to/policy.md)."
        ),
        "",
        "No spec file is read unless `-f` names it. The user's own configuration is "
        "`~/.config/mooring/config.yml` (the XDG config folder), a spec without "
        + _list([f"`{key}`" for key in sorted(config.NOT_IN_USER_CONFIG)])
        + ", which are specific to one session.",
        "",
        "Variables, read as an unquoted YAML value; an empty one counts as absent:",
        "",
    ]
    lines += _table(
        ["variable", "key"], [[f"`{name}`", f"`{key}`"] for name, key in config.ENVIRONMENT.items()]
    )
    lines += ["", f"`{config.PROFILE_VARIABLE}` is the name of a profile, as for `--profile`."]
    return "\n".join(lines)


def _aliases() -> str:
    return "only one of them may be given. `image: {build: …}` is `build: …`."


def _kind(said: dict[str, Any]) -> str:
    """The type of a property, in words a person uses."""
    if "enum" in said:
        return _list([f"`{value}`" for value in said["enum"]], "or")
    if "const" in said:
        return f"`{json.dumps(said['const'])}`"
    if "$ref" in said:
        name = said["$ref"].rpartition("/")[2]
        return {"build": "a build"}.get(name, _PARTS.get(name, name))
    options = said.get("anyOf") or said.get("oneOf")
    if options:
        kinds = [_kind(option) for option in options if option.get("type") != "null"]
        return _list(list(dict.fromkeys(kinds)), "or")
    kind = said.get("type")
    if isinstance(kind, list):
        return _list([_TYPES[name] for name in kind], "or")
    if kind == "array":
        return f"a list (of {_kind(said.get('items', {}))})"
    if kind == "object" and "properties" in said:
        return "`{" + ", ".join(said["properties"]) + "}`"
    return _TYPES.get(str(kind), "anything")


_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping",
}
_ONE_OF = {"SecretSource": "Where a secret comes from: exactly one of these."}
_PARTS = {
    "Mount": "a [mount](#a-mount)",
    "GpuRequest": "a [request](#a-request-for-gpus)",
    "BuildSpec": "a [build](#a-build)",
    "SecretSource": "a [secret](#a-secret)",
}


def _default(key: str, value: Any) -> str:
    from mooring.spec.units import format_duration

    if value in (None, (), {}, 0) and not isinstance(value, bool) and key != "max_duration":
        return "none"
    if key in ("idle_timeout", "max_duration"):
        return format_duration(value) if value else "never"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


def _refusals() -> Iterator[list[str]]:
    """Declarations of which each is refused, and the words it is refused with."""
    samples: tuple[dict[str, Any], ...] = (
        {"gpus": 1},
        {"build": "Dockerfile"},
        {"target": "ssh://gpu-box"},
        {"distribution": {"type": "dask", "nodes": 10}},
        {"image": "beaker://me/it"},
        {"inputs": ["s3://bucket/weights"]},
    )
    for sample in samples:
        try:
            spec.refuse_unsupported(spec.SessionSpec.model_validate(sample))
        except NotSupported as error:
            ((key, value),) = sample.items()
            yield [f"`{key}: {_flow(value)}`", f"{error.message}; {error.hint}"]


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value)


# Settings, files and codes


def settings_page() -> str:
    lines = [NOTE, "# Settings, files, codes", "", "## Environment variables", ""]
    rows = [
        [
            "`MOORING_STATE_DIR`",
            (
                "Where sessions' folders and the history are; default: `mooring` in the XDG state "
                "folder, `~/.local/state/mooring`. Kernels' sockets lie below it, so keep it short."
            ),
        ],
        ["`DOCKER_HOST`", "The engine's address, `unix:///…`; default: the usual socket."],
        ["`NO_COLOR`", "Set to anything: no colours."],
        ["`MOORING_…`", "A key of the spec: [the list](spec.md#where-values-come-from)."],
    ]
    lines += _table(["variable", "meaning"], rows)
    lines += [
        "",
        (
            "In a session, `MOORING_SESSION` is its name, and `HOME`, `USER` and `LOGNAME` are the "
            "caller's. Nothing else of the caller's environment is passed on, except what "
            f"`image: {HOST}` needs to work (`PATH`, the locale, the time zone, the Python "
            "environment, the variables for proxies, package indexes and certificates)."
        ),
        "",
        "## The kernel provisioner",
        "",
        (
            "A kernelspec that `mooring kernel install` writes looks like this, for "
            "`-f session.yml --session lab`:"
        ),
        "",
        "```json",
        json.dumps(_kernelspec(), indent=1),
        "```",
        "",
        "The keys under `config`:",
        "",
    ]
    heads = ["trait", "value", "default", "meaning"]
    lines += _table(heads, list(_traits(MooringProvisioner)))
    lines += [
        "",
        (
            "In `jupyter_server_config.py` they are `c.MooringProvisioner.start_timeout_s = 120`, "
            "on the command line `--MooringProvisioner.start_timeout_s=120`; the kernelspec wins."
        ),
        "",
        "## The server extension",
        "",
        (
            'In `jupyter_server_config.py` as `c.MooringExtension.on_shutdown = "stop"`, on the '
            "command line of `jupyter lab` as `--MooringExtension.on_shutdown=stop`."
        ),
        "",
    ]
    lines += _table(heads, list(_traits(MooringExtension)))
    lines += ["", "## Exit codes", ""]
    lines += _table(["code", "when"], list(_exit_codes()))
    lines += ["", "## Errors", "", "For programs, `code` has the name, which is stable.", ""]
    rows = [[f"`{kind.__name__}`", _first_line(kind), str(kind.exit_code)] for kind in _errors()]
    lines += _table(["error", "meaning", "exit code"], rows)
    lines += ["", "## States of a session", ""]
    lines += _table(
        ["state", "meaning"], [[f"`{state}`", STATES[state]] for state in session.State]
    )
    lines += [
        "",
        "## Fields of `ps --json`",
        "",
        (
            "`describe --json` and `why --json` have these and more. Remaining times are in "
            "seconds; `null` means never."
        ),
        "",
        ", ".join(f"`{field}`" for field in session.FIELDS) + ".",
        "",
        "## Labels of a container",
        "",
        "A session's container has all that mooring must know of it:",
        "",
    ]
    lines += _table(
        ["label", "value"], [[f"`{getattr(labels, key)}`", text] for key, text in LABELS.items()]
    )
    lines += ["", "## Files of a session", "", *_block(inspect.getdoc(folder) or "")]
    guest = Path(mooring.__file__).parent / "guest"
    lines += ["", "`run/` is `/run/mooring` in the container, and `programs/` is `/.mooring-ID`."]
    for script, title in GUEST_SCRIPTS.items():
        text = (guest / script).read_text()
        start = "# Read from" if "# Read from" in text else "# Written to"
        lines += ["", f"{title}:", "", "```text", *_between(text, start, "#\n"), "```"]
    lines += [
        "",
        "The parent of the kernels (`kernelhost.py`):",
        "",
        *_block((guest / "kernelhost.py").read_text().split('"""')[1].split("Requests:")[0]),
    ]
    return "\n".join(lines)


GUEST_SCRIPTS = {
    "init.sh": "The first program after the gate, which becomes the session's command (`init.sh`)",
    "exec.sh": "What `mooring exec` runs (`exec.sh`)",
    "clock.sh": "The clock (`clock.sh`)",
}
STATES = {
    session.State.PENDING: "It waits for its GPUs, or for its turn in the queue.",
    session.State.STARTING: "Being created, or started and not checked yet.",
    session.State.RUNNING: "Its container runs.",
    session.State.PAUSED: "Its container was paused outside mooring (`docker pause`).",
    session.State.STOPPED: "Ended; its files are kept, and `mooring start` continues with them.",
    session.State.LOST: "Ended without a record by its clock: the machine was restarted, or the "
    "container was removed outside mooring. The contents of its folder are kept.",
    session.State.GONE: "Removed; it is in the history only.",
    session.State.UNKNOWN: "The engine does not answer. It is neither idle nor gone, and nothing "
    "is done to it.",
}
LABELS = {
    "LABEL_GPUS": "The GPUs that it holds: their ids, each with its share if that is less than 1.",
    "LABEL_ID": "The session's id, twelve hexadecimal digits.",
    "LABEL_NAME": "Its name.",
    "LABEL_OWNER": "The user who created it.",
    "LABEL_INSTALLATION": "The installation that created it; nothing without this id is touched.",
    "LABEL_VERSION": "The version of mooring that created it.",
    "LABEL_SPEC": "The values that differ from the defaults, as JSON; secrets as names only.",
    "LABEL_PROBE": "On the short-lived container that inspects an image: the user who created it.",
}


def _kernelspec() -> dict[str, Any]:
    shown = kernelspecs.document(
        display_name="lab (mooring)",
        kernel="python3",
        config={"flags": {}, "spec": "/home/ada/project/session.yml", "session": "lab"},
    )
    shown["argv"][0] = "/home/ada/.venv/bin/mooring-kernel"
    return shown


def _traits(configurable: Any) -> Iterator[list[str]]:
    inherited = configurable.__mro__[1].class_trait_names()
    kinds = {
        "Unicode": "text",
        "Float": "a number",
        "Dict": "a mapping",
        "Bool": "true or false",
    }
    for name, trait in sorted(configurable.class_traits(config=True).items()):
        if name in inherited:
            continue
        default = trait.default_value
        nothing = default in ("", None) or not isinstance(default, (int, float, str))
        kind = kinds.get(type(trait).__name__, "text")
        kind = " or ".join(trait.values) if hasattr(trait, "values") else kind
        yield [f"`{name}`", kind, "none" if nothing else f"{default}", trait.help]


def _exit_codes() -> Iterator[list[str]]:
    yield ["0", "Done."]
    by_code: dict[int, list[str]] = {}
    for kind in _errors():
        by_code.setdefault(kind.exit_code, []).append(f"`{kind.__name__}`")
    texts = {
        1: "Failed",
        2: "Usage: an invalid option or spec",
        3: "Waited too long",
        127: "The session's command does not exist; 126: it cannot be run",
    }
    for code in sorted(by_code):
        text = texts[code]
        yield [str(code), f"{text}: {', '.join(by_code[code])}."]
    yield ["the command's", "An attached `create`, `exec` and `attach`: 128 + N after signal N."]
    yield ["125", "`exec` and `attach`: mooring itself failed."]
    yield ["130", "Ctrl-C."]


def _errors() -> list[type[MooringError]]:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    kinds = [kind for kind in found if issubclass(kind, MooringError)]
    return sorted(kinds, key=lambda kind: inspect.getsourcelines(kind)[1])


# The library


def api_page() -> str:
    lines = [
        NOTE,
        "# The library",
        "",
        (
            "All of `import mooring` is public, for programs as for the doors. It is synchronous "
            "and thread-safe."
        ),
        "",
        "```python",
        "import mooring",
        "",
        "client = mooring.Mooring()",
        'resolved = mooring.resolve(flags={"command": "sleep 60"})',
        'made = client.sessions.create(resolved, mooring.LaunchOptions(name="nap"))',
        "print(made.session.state, [session.name for session in client.sessions.list()])",
        "client.sessions.remove(made.session)",
        "```",
    ]
    names = [name for name in mooring.__all__ if not isinstance(getattr(mooring, name), str)]
    groups = _grouped(names)
    lines += ["", *(f"- [{title}](#{_slug(title)})" for title in groups)]
    for title, members in groups.items():
        lines += ["", f"## {title}"]
        for name in members:
            lines += ["", f"### {name}", "", *_described(getattr(mooring, name), name)]
    return "\n".join(lines)


def _grouped(names: list[str]) -> dict[str, list[str]]:
    """The public names by what they are, the client and its parts first."""
    groups: dict[str, list[str]] = {title: [] for title in _API_GROUPS}
    for name in names:
        groups[_group_of(getattr(mooring, name))].append(name)
    groups["The client"].sort(key=lambda name: name != "Mooring")
    return {title: members for title, members in groups.items() if members}


_API_GROUPS = ("The client", "The engine", "Errors", "Values", "Functions", "Constants")


def _group_of(thing: Any) -> str:
    thing = inspect.unwrap(thing)
    if not inspect.isclass(thing):
        return "Functions" if inspect.isfunction(thing) else "Constants"
    if thing.__module__.startswith("mooring.client"):
        return "The client"
    if thing.__module__.startswith("mooring.engines"):
        return "The engine"
    return "Errors" if issubclass(thing, Exception) else "Values"


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")


def _described(thing: Any, name: str) -> list[str]:
    """A public name of the library: what it says of itself, and its members."""
    thing = inspect.unwrap(thing)
    if inspect.isfunction(thing):
        return [*_code(f"{name}{_signature(thing)}"), *_block(inspect.getdoc(thing) or "")]
    if not inspect.isclass(thing):
        return [_constant(thing)]
    lines = [*_code(*_constructor(thing, name)), *_block(_own_doc(thing))]
    for member, found in _members(thing):
        lines += ["", f"#### {name}.{member}", "", *_member(member, found)]
    return lines


def _constant(thing: Any) -> str:
    if isinstance(thing, Path):
        return f"A path: `{thing if thing.parts[1] == 'etc' else thing.name}`."
    if isinstance(thing, (tuple, list, frozenset, set)):
        words = sorted(map(str, thing)) if isinstance(thing, (set, frozenset)) else map(str, thing)
        return ", ".join(f"`{word}`" for word in words) + "."
    return f"`{thing!r}`"


def _constructor(thing: Any, name: str) -> list[str]:
    """How an object of a class is made, as it is written there; empty for those that are given."""
    if issubclass(thing, Enum):
        return [f"{member} = {json.dumps(member.value)}" for member in thing]
    if dataclasses.is_dataclass(thing) or hasattr(thing, "_field_defaults"):
        return [f"{name}({', '.join(_fields(thing))})"]
    made = vars(thing).get("__init__")
    if not inspect.isfunction(made) or getattr(thing, "_is_protocol", False):
        return []
    parameters = list(inspect.signature(made).parameters)
    return [] if parameters == ["self", "ctx"] else [f"{name}{_signature(made)}"]


def _fields(thing: Any) -> Iterator[str]:
    """The fields of a dataclass or a named tuple, as they are written."""
    if not dataclasses.is_dataclass(thing):
        for name, kind in thing.__annotations__.items():
            written = getattr(kind, "__forward_arg__", kind)
            yield f"{name}: {written}" + (" = ..." if name in thing._field_defaults else "")
        return
    for field in dataclasses.fields(thing):
        if field.init:
            optional = (
                field.default is not dataclasses.MISSING
                or field.default_factory is not dataclasses.MISSING
            )
            yield f"{field.name}: {field.type}" + (" = ..." if optional else "")


def _own_doc(thing: Any) -> str:
    """A class's docstring, unless it inherited it."""
    doc = vars(thing).get("__doc__") or ""
    written = "" if doc.startswith(f"{thing.__name__}(") else doc  # what dataclass writes
    return inspect.cleandoc(written)


def _members(thing: Any) -> list[tuple[str, Any]]:
    """The public methods and properties that mooring's own classes define, as they are written."""
    found: dict[str, Any] = {}
    for base in reversed(thing.__mro__):
        if base.__module__.startswith("mooring"):
            found |= {name: value for name, value in vars(base).items() if name[0] != "_"}
    kinds = (classmethod, staticmethod, property, cached_property)
    return [
        (name, value)
        for name, value in found.items()
        if (isinstance(value, kinds) or inspect.isfunction(value)) and inspect.getdoc(value)
    ]


def _member(name: str, found: Any) -> list[str]:
    if isinstance(found, (property, cached_property)):
        function = found.fget if isinstance(found, property) else found.func
        returns = _signature(function).partition(" -> ")[2]
        shown = f"{name}: {returns}"
    else:
        function = getattr(found, "__func__", found)
        shown = f"{name}{_signature(function)}"
    return [*_code(shown), *_block(inspect.getdoc(function) or "")]


def _code(*lines: str) -> list[str]:
    return ["```python", *lines, "```", ""] if lines else []


def _signature(function: Any) -> str:
    """As it is written, without ``self``; inspect would show addresses of defaults."""
    written = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if not isinstance(written, ast.FunctionDef):
        raise TypeError(f"{function} is not a plain function")
    if written.args.args and written.args.args[0].arg in ("self", "cls"):
        del written.args.args[0]
    returns = "" if function.__name__ == "__init__" else f" -> {ast.unparse(written.returns)}"  # type: ignore[arg-type]
    return f"({ast.unparse(written.args)}){returns}"


# Markdown


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    def line(cells: list[str]) -> str:
        cells = [_text(cell).replace("|", "\\|").replace("\n", " ") for cell in cells]
        return f"| {' | '.join(cells)} |"

    return [line(heads), "|" + "---|" * len(heads), *map(line, rows)]


def _text(said: str | None) -> str:
    return str(said or "").strip()


def _list(words: list[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def _block(doc: str) -> list[str]:
    """A docstring as Markdown: indented parts and lists of arguments stay as they are written."""
    lines, code = [], False
    for line in doc.strip().splitlines():
        if line.strip() == "::":  # the block after it shows as one
            continue
        opens = line.startswith("    ") or re.fullmatch(r"(Args|Returns|Raises|Attributes):", line)
        if bool(opens) != code and (opens or line.strip()):
            lines.append("```text" if opens else "```")
            if code:
                lines.append("")
            code = bool(opens)
        lines.append(line.replace("``", "`") if not code else line)
    return [*lines, "```"] if code else lines


def _between(text: str, start: str, end: str) -> list[str]:
    part = text[text.index(start) :]
    part = part[: part.index(f"\n{end}") + 1]
    return [line.removeprefix("#").removeprefix(" ") for line in part.splitlines()]


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "spec.md": spec_page,
    "settings.md": settings_page,
    "api.md": api_page,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
