"""The command line: parses, calls the core, prints. Heavy imports stand where they are used."""

from __future__ import annotations

import logging
import os
import sys

import typer

import mooring
from mooring.errors import MooringError
from mooring_cli import inside, kernel, lifecycle, look, settings

app = typer.Typer(
    name="mooring",
    help="Declare a GPU container once; open it as a notebook kernel or as a shell.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 waited too long; create, exec and attach "
    "return the remote command's own, and 125 when mooring itself failed.",
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
inside.register(app)
look.register(app)
settings.register(app)
app.add_typer(kernel.app, name="kernel")
app.add_typer(settings.config, name="config")


def run() -> None:
    """The console script: one ``error:`` line and a ``hint:`` for all that mooring can explain."""
    try:
        app()
    except MooringError as error:
        report(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output has gone, as `mooring ps | head -1` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)


def report(error: MooringError) -> None:
    """Print an error and its hint on standard error."""
    from mooring_cli.output import explain

    explain(error)
