"""create, start, stop, rm, hold, update, trust: what changes a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.errors import EngineUnavailable, MooringError, SessionNotFound
from mooring_cli import options as opt
from mooring_cli.joining import forwarding, interruptible, join
from mooring_cli.output import explain, note, steps

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.session import Session


@opt.with_spec_flags
def create(
    command: Annotated[
        list[str] | None, typer.Argument(help="The session's command, after --.")
    ] = None,
    file: opt.File = None,
    name: Annotated[str | None, typer.Option(help="A name; one is made up without.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave it in the background; print its name.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--rm", help="Remove it when its command has ended.")
    ] = False,
    values: opt.Values = opt.NO_VALUES,
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
) -> None:
    """Create a session from a spec and attach to it.

    Without a command it is a shell. The exit code is the command's. Ctrl-C while it is being
    created takes everything back; afterwards it belongs to the program inside.
    """
    from mooring.service import Mooring
    from mooring.terminals import is_interactive, terminal_size

    opt.check_keys(detach_keys)
    cwd = Path.cwd()
    resolved = opt.ask_for_consent(
        opt.resolve_spec(file, {**values, "name": name}, opt.after_dashes(command)), cwd
    )
    if resolved.spec.kernel and not resolved.spec.argv:
        detach = True  # its main process is its clock: there is nothing to attach to
    tty = detach or is_interactive()
    mooring = Mooring()
    with interruptible(), steps() as progress:
        created = mooring.create(
            resolved,
            cwd=cwd,
            attach=not detach,
            tty=tty,
            size=terminal_size(),
            remove=remove,
            progress=progress,
            detach_keys=detach_keys,
        )
    session = created.session
    if created.stream is None:
        print(session.name)
        note(f"running; open a shell in it: mooring exec {session.name}")
        return
    if tty:
        note(f"session {session.name}; leave it running with {detach_keys}")
    with forwarding(mooring, session, created.stream):
        code = join(created.stream, detach_keys=detach_keys)
    if code is None:
        note(f"left {session.name} running; come back with: mooring attach {session.name}")
        return
    mooring.sessions()  # writes down the end, and removes the session if that was asked for
    past = mooring.past(session.id) if remove else None
    if past is not None and past.exit_code is not None:
        code = past.exit_code  # another mooring may have removed the container before we asked it
    raise typer.Exit(code)


def start(names: opt.Names) -> None:
    """Start stopped sessions again.

    Their files and the packages installed in them are there; their clock is new.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    _each(mooring, names, lambda session: mooring.start(session.id))


def stop(names: opt.Names) -> None:
    """Stop sessions and keep their files.

    Everything in them ends; `mooring start` takes them up again.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    _each(mooring, names, mooring.stop)


def rm(
    names: opt.Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="Running ones too.")] = False,
) -> None:
    """Remove sessions: all but outputs and history.

    Containers, private homes and keys go.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    _each(mooring, names, lambda session: mooring.remove(session, force=force))


def hold(
    name: opt.Name,
    duration: Annotated[str, typer.Argument(help="How long: 2h, 45m; off gives it up.")] = "2h",
) -> None:
    """Keep a session from idling out for a while.

    The maximum duration stands.
    """
    from mooring.quantities import format_duration
    from mooring.service import Mooring

    seconds = _duration("duration", duration)
    mooring = Mooring()
    session = mooring.get(name)
    mooring.hold(session, seconds)
    until = f"held for {format_duration(seconds)}" if seconds else "no longer held"
    print(f"{session.name} {until}")


def update(
    name: opt.Name,
    idle_timeout: opt.IdleTimeout = None,
    max_duration: opt.MaxDuration = None,
) -> None:
    """Change a running session's deadlines, at once."""
    from mooring.errors import SpecError
    from mooring.service import Mooring

    if idle_timeout is None and max_duration is None:
        raise SpecError("nothing to update", "say --idle-timeout 1h or --max-duration 12h")
    mooring = Mooring()
    session = mooring.get(name)
    mooring.update(
        session,
        idle_timeout_s=None if idle_timeout is None else _duration("--idle-timeout", idle_timeout),
        max_duration_s=None if max_duration is None else _duration("--max-duration", max_duration),
    )
    print(session.name)


def trust(file: Annotated[Path, typer.Argument(help="The spec file.")]) -> None:
    """Allow a spec file what lies outside its folder.

    As it stands now: a changed file asks again.
    """
    from mooring.config import resolve
    from mooring.service import Mooring

    resolved = resolve(flags={}, file=file)
    allowed = Mooring().allow(resolved, resolved.project)
    for grant in allowed:
        print(f"allowed: {grant.key}: {grant.what}")
    if not allowed:
        print("it asks for nothing beyond its own folder")


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command(context_settings={"allow_interspersed_args": False})(create)
    for command in (start, stop, rm, hold, update, trust):
        app.command()(command)


def _each(mooring: Mooring, names: list[str], act: Callable[[Session], object]) -> None:
    """Do it to each of the sessions; one that fails does not keep the others from it."""
    done: set[str] = set()
    failed = False
    for name in names:
        try:
            found = mooring.find([name])
        except SessionNotFound as error:
            explain(error)
            failed = True
            continue
        for session in found:
            if session.id in done:
                continue
            done.add(session.id)
            try:
                act(session)
                print(session.name, flush=True)
            except EngineUnavailable:
                raise
            except MooringError as error:
                explain(error)
                failed = True
    if failed:
        raise typer.Exit(1)


def _duration(what: str, text: str) -> float:
    from mooring.errors import SpecError
    from mooring.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(f"{what}: {text!r} {error}") from None
