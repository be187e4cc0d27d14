"""The command line: parse arguments, call the core and print; commands are imported lazily."""

from __future__ import annotations

import codecs
import contextlib
import errno
import functools
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, MutableMapping
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

import mooring
from mooring import MooringError, SpecError, quoted
from mooring_cli.option_hints import ALIASES

USAGE, INTERRUPTED = 2, 130
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_OUTPUT = (errno.EBADF, errno.EIO, errno.EFBIG)
# What mooring prints, in ASCII
_ASCII = {
    "…": "...",
    "✓": "ok",
    "✗": "!!",
    "·": "-",
    "→": "->",
    "─": "-",
    "│": "|",
    "├": "+",
    "└": "+",
}
REMOTE = ("run", "exec", "attach")  # these return the exit code of the remote command

# As in --help. A command is in the module of its name, except those in ELSEWHERE.
GROUPS = {
    "Declare": ("init", "validate", "trust", "config", "kernel"),
    "Start and stop": ("create", "run", "start", "stop", "rm", "hold", "update"),
    "Work in a session": (
        *("exec", "attach", "terminals", "logs", "cp"),
        *("port-forward", "code", "ssh-config", "ssh-proxy"),
    ),
    "See what runs": ("ps", "describe", "top", "gpus", "events", "why", "doctor"),
    "Leave": ("purge",),
    "Images": ("save", "build", "push"),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
ELSEWHERE = dict.fromkeys(("save", "build", "push"), "unsupported")


class Commands(MutableMapping[str, Any]):
    """The commands by name, each built on first access.

    Building all commands, with their imports, takes 40 ms longer than building one.
    """

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._built:
            module = importlib.import_module(
                f"mooring_cli.{ELSEWHERE.get(name, name).replace('-', '_')}"
            )
            part = typer.Typer(add_completion=False, rich_markup_mode=None)
            module.register(part)
            built: Any = typer.main.get_command(part)  # a group, unless it has a single command
            commands = getattr(built, "commands", {name: built})
            for command in commands.values():
                for leaf in getattr(command, "commands", {name: command}).values():
                    leaf.format_help = functools.partial(_format_help, leaf)
            self._built.update(commands)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        del self._built[name]


def _format_help(command: Any, context: Any, formatter: Any) -> None:
    from mooring_cli.help import format_help

    format_help(command, context, formatter)


class LazyGroup(TyperGroup):
    """The ``mooring`` command: a group whose subcommands are ``Commands``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in order; unlike Typer's method, this builds no command."""
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in their groups."""
        for title, names in GROUPS.items():
            shown = {name: self.commands[name] for name in names if not self.commands[name].hidden}
            rows = [(name, command.get_short_help_str(70)) for name, command in shown.items()]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that arguments name; raise SpecError for another system's."""
        if args and args[0] in ALIASES:
            args = [*ALIASES[args[0]].split(), *args[1:]]
        if args and args[0] not in COMMANDS:
            from mooring_cli import option_hints

            if hint := option_hints.command(args[0]):
                raise SpecError(f"no such command '{args[0]}'", hint)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyGroup,
    name="mooring",
    help="Declare a GPU container once; open it as a notebook kernel or as a shell.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success, 1 failure, 2 wrong usage, 3 timed out, 130 interrupted by "
    "Ctrl-C. create, run, exec and attach return the exit code of the command they are attached "
    "to; run, exec and attach return 125 when mooring itself fails.",
)


def _version(requested: bool) -> None:
    if requested:
        print(f"mooring {mooring.__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log to standard error."),
) -> None:
    logging.basicConfig(
        format="%(levelname)s %(name)s: %(message)s",
        level=logging.DEBUG if verbose else logging.WARNING,
    )
    for noisy in ("docker", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.INFO)


def run() -> None:
    """Run the console script; an error is printed as an ``error:`` and optionally a ``hint:`` line.

    Raises:
        SystemExit: always, with the exit code.
    """
    _open_standard_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            # unwind the stack, to clean up and to restore a terminal in raw mode
            signal.signal(number, _exit)
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as error:
        # raised by the parser if the output's pipe is closed: `mooring ps | head -1`
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        code = 128 + signal.SIGPIPE
    except Exception as error:
        code = int(getattr(error, "exit_code", 1))
        with contextlib.suppress(OSError):  # standard error cannot be written
            code = _report(error)
    sys.exit(code)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _open_standard_streams() -> None:
    """Open closed standard streams (``<&-``), whose numbers a socket could otherwise get."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    codecs.register_error("mooring", _in_other_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mooring")


def _in_other_characters(error: UnicodeError) -> tuple[str, int]:
    """Replace what a stream's encoding does not have: an error handler, see ``codecs``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_ASCII.get(c) or ascii(c)[1:-1] for c in text), error.end


def _report(error: Exception) -> int:
    """Print an error to standard error and return the exit code."""
    from mooring_cli.output import FAILED, print_error

    if isinstance(error, MooringError):
        print_error(error)
        return error.exit_code
    if isinstance(error, typer.Abort):  # Ctrl-C or end of input at a prompt
        return INTERRUPTED
    if hasattr(error, "format_message"):  # a parser error; its module differs between versions
        return _report_usage(error)
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger(__name__).exception("unexpected")
    print_error(_of_machine(error) if isinstance(error, OSError) else _internal(error))
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return FAILED if ALIASES.get(command, command) in REMOTE else 1


def _of_machine(error: OSError) -> MooringError:
    """Describe what the operating system refused."""
    from mooring_cli.output import one_line

    if error.errno in _FULL:
        return MooringError(f"{error.filename or 'cannot write the output'}: {error.strerror}")
    if error.filename is None and error.errno in _NO_OUTPUT:
        return MooringError(f"cannot write the output: {error.strerror}")
    what = [one_line(name) for name in (error.filename, error.filename2) if name is not None]
    return MooringError(
        ": ".join([" → ".join(what), error.strerror or one_line(error)] if what else [str(error)]),
        f"for a traceback: {_again()}",
    )


def _internal(error: Exception) -> MooringError:
    what = " ".join(str(error).split())
    return MooringError(
        f"internal error: {type(error).__name__}: {what}",
        f"this is a bug in mooring; for a traceback: {_again()}",
    )


def _again() -> str:
    """The command line with ``-v``."""
    arguments = sys.argv[2:] if sys.argv[1:2] == ["-v"] else sys.argv[1:]
    return " ".join(("mooring -v", *map(quoted, arguments)))


def _report_usage(error: Exception) -> int:
    """Print a parser error, with a hint for options of other systems; return the exit code."""
    from mooring_cli import option_hints
    from mooring_cli.output import print_error

    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "mooring"
    hint = option_hints.pointer(command.rpartition(" ")[2], getattr(error, "option_name", ""))
    if hint:
        error.possibilities = None  # type: ignore[attr-defined]
    message = error.format_message()  # type: ignore[attr-defined]
    text = " ".join(message.split()).rstrip(".")
    print_error(MooringError(text[:1].lower() + text[1:], hint or f"see: {command} --help"))
    return int(getattr(error, "exit_code", USAGE))
