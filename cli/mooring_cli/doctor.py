"""doctor: check this machine."""

from __future__ import annotations

import sys

import typer

from mooring_cli import options as opt
from mooring_cli.output import clean, print_json

MARKS = {"ok": "✓", "warning": "!", "problem": "✗", "info": "·"}


def doctor(json_: opt.Json = False) -> None:
    """Check this machine, and suggest remedies.

    It checks the engine, known vulnerabilities of its version, GPUs and paths. The exit code is 1
    if there is a problem.
    """
    from mooring import examine

    findings = examine()
    if json_:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{MARKS[finding.level]} {finding.subject}: {clean(finding.text)}")
            if finding.hint:
                print(f"    {clean(finding.hint)}")
    if any(finding.level == "problem" for finding in findings):
        sys.exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(doctor)
