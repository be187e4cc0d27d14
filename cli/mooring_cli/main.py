"""The command line: parses, calls the core, prints. Heavy imports stand where they are used."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from types import FrameType

import typer

import mooring
from mooring.errors import MooringError
from mooring_cli import (
    attaching,
    describing,
    editors,
    gpus,
    habits,
    inside,
    kernel,
    later,
    lifecycle,
    look,
    running,
    settings,
    telling,
    top,
    transfer,
)
from mooring_cli.joining import heeded
from mooring_cli.options import FAILED

USAGE, INTERRUPTED = 2, 130
REMOTE = ("run", "exec", "attach")  # whose other exit codes are the remote command's

app = typer.Typer(
    name="mooring",
    help="Declare a GPU container once; open it as a notebook kernel or as a shell.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 waited too long, 130 Ctrl-C. An attached "
    "create, run, exec and attach return the remote command's own; run, exec and attach 125 when "
    "mooring itself failed.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mooring {mooring.__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and leave."
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Tell what is done, on stderr."),
) -> None:
    logging.basicConfig(
        format="%(levelname)s %(name)s: %(message)s",
        level=logging.DEBUG if verbose else logging.WARNING,
    )
    for noisy in ("urllib3", "docker", "asyncio", "filelock"):
        logging.getLogger(noisy).setLevel(logging.INFO)


lifecycle.register(app)
running.register(app)
inside.register(app)
attaching.register(app)
transfer.register(app)
editors.register(app)
look.register(app)
describing.register(app)
telling.register(app)
gpus.register(app)
top.register(app)
settings.register(app)
later.register(app)
app.add_typer(kernel.app, name="kernel")
app.add_typer(settings.config, name="config")


def run() -> None:
    """The console script: one ``error:`` line and a ``hint:`` for whatever goes wrong."""
    _keep_standard_streams()
    for number in heeded(signal.SIGTERM, signal.SIGHUP):
        # so that what was begun is taken back, and a raw terminal is put right
        signal.signal(number, _leave)
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as leaving:
        # the parser leaves so when the reader of our output has gone: `mooring ps | head -1`
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        code = 128 + signal.SIGPIPE
    except Exception as error:
        code = _report(error)
    sys.exit(code)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _keep_standard_streams() -> None:
    """Open what the caller closed (``<&-``): a socket that took its number would be read as it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _report(error: Exception) -> int:
    """Tell what happened on standard error; returns the exit code."""
    from mooring_cli.output import explain

    if isinstance(error, MooringError):
        explain(error)
        return error.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = error.filename or "the output cannot be written"
        explain(MooringError(f"{what}: {error.strerror}"))
        return 1
    if isinstance(error, typer.Abort):  # Ctrl-C or the end of input at a question
        return INTERRUPTED
    if hasattr(error, "format_message"):  # the parser's; its module differs between versions
        return _report_usage(error)
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger(__name__).exception("internal error")
    what = " ".join(str(error).split())
    explain(
        MooringError(
            f"internal error: {type(error).__name__}: {what}",
            f"this is a bug in mooring; its trace: mooring -v {' '.join(sys.argv[1:])}",
        )
    )
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return FAILED if command in REMOTE else 1


def _report_usage(error: Exception) -> int:
    from mooring_cli.output import explain

    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "mooring"
    hint = habits.pointer(command.rpartition(" ")[2], getattr(error, "option_name", ""))
    if hint:
        error.possibilities = None  # type: ignore[attr-defined]
    message = error.format_message()  # type: ignore[attr-defined]
    text = " ".join(message.split()).rstrip(".")
    explain(MooringError(text[:1].lower() + text[1:], hint or f"see: {command} --help"))
    return int(getattr(error, "exit_code", USAGE))
