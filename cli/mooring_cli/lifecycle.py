"""create, start, stop, rm, hold, update, trust: what changes a session."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mooring.errors import MooringError
from mooring_cli import options as opt
from mooring_cli.output import explain, note, steps

DETACH_KEYS = "ctrl-p,ctrl-q"
DetachKeys = Annotated[str, typer.Option(help="Keys that leave and let everything go on.")]


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
    image: opt.Image = None,
    environment: opt.Environment = None,
    pull: opt.Pull = None,
    kernel: opt.Kernel = None,
    gpus: opt.Gpus = None,
    cpus: opt.Cpus = None,
    memory: opt.Memory = None,
    shm: opt.Shm = None,
    inputs: opt.Inputs = None,
    outputs: opt.Outputs = None,
    home: opt.Home = None,
    env: opt.Env = None,
    secret: opt.Secret = None,
    idle_timeout: opt.IdleTimeout = None,
    max_duration: opt.MaxDuration = None,
    target: opt.Target = None,
    encrypt: opt.Encrypt = None,
    detach_keys: DetachKeys = DETACH_KEYS,
) -> None:
    """Create a session from a spec and attach to it.

    Without a command it is a shell. The exit code is the command's. Ctrl-C while it is being
    created takes everything back; afterwards it belongs to the program inside.
    """
    values = dict(locals())
    from mooring.service import Mooring
    from mooring.terminals import connect, exit_code, is_interactive, terminal_size

    cwd = Path.cwd()
    resolved = opt.ask_for_consent(opt.resolve_spec(file, values, opt.after_dashes(command)), cwd)
    if resolved.spec.kernel and not resolved.spec.argv:
        detach = True  # its main process is its clock: there is nothing to attach to
    tty = detach or is_interactive()
    mooring = Mooring()
    with steps() as progress:
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
    connect(created.stream, size=terminal_size if tty else None)
    code = exit_code(created.stream)
    if code is None:
        note(f"left {session.name} running; come back with: mooring attach {session.name}")
        return
    mooring.list()  # writes down the end, and removes the session if that was asked for
    raise typer.Exit(code)


def start(names: opt.Names) -> None:
    """Start stopped sessions again: same files, same installed packages, a new clock."""
    from mooring.service import Mooring

    mooring = Mooring()
    for session in mooring.find(names):
        print(mooring.start(session.id).name)


def stop(names: opt.Names) -> None:
    """Stop sessions: everything in them ends, their files stay for `mooring start`."""
    from mooring.service import Mooring

    mooring = Mooring()
    _each(mooring.find(names), mooring.stop)


def rm(
    names: opt.Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="Running ones too.")] = False,
) -> None:
    """Remove sessions: containers, private homes, keys. Outputs and history stay."""
    from mooring.errors import SessionStateError
    from mooring.service import Mooring
    from mooring.session import Session, State

    mooring = Mooring()

    def remove(session: Session) -> None:
        if session.state in (State.RUNNING, State.PAUSED) and not force:
            raise SessionStateError(
                f"session {session.name} is running",
                f"stop it first, or: mooring rm -f {session.name}",
            )
        mooring.remove(session)

    _each(mooring.find(names), remove)


def hold(
    name: opt.Name,
    duration: Annotated[str, typer.Argument(help="How long: 2h, 45m; off gives it up.")] = "2h",
) -> None:
    """Keep a session from idling out for a while. The maximum duration stands."""
    from mooring.quantities import format_duration
    from mooring.service import Mooring

    seconds = _duration(duration)
    mooring = Mooring()
    session = mooring.get(name)
    mooring.hold(session, seconds)
    print(
        f"{session.name} held for {format_duration(seconds)}"
        if seconds
        else f"{session.name} no longer held"
    )


def update(
    name: opt.Name,
    idle_timeout: opt.IdleTimeout = None,
    max_duration: opt.MaxDuration = None,
) -> None:
    """Change a running session's idle timeout and maximum duration, at once."""
    from mooring.errors import SpecError
    from mooring.service import Mooring

    if idle_timeout is None and max_duration is None:
        raise SpecError("nothing to update", "say --idle-timeout 1h or --max-duration 12h")
    mooring = Mooring()
    session = mooring.get(name)
    mooring.update(
        session,
        idle_timeout_s=None if idle_timeout is None else _duration(idle_timeout),
        max_duration_s=None if max_duration is None else _duration(max_duration),
    )
    print(session.name)


def trust(file: Annotated[Path, typer.Argument(help="The spec file.")]) -> None:
    """Allow a spec file, as it stands now, what it asks for beyond its own folder."""
    from mooring import consent, mounts
    from mooring.config import resolve
    from mooring.users import caller

    resolved = resolve(flags={}, file=file)
    plan = mounts.plan(resolved.spec, project=resolved.project, cwd=resolved.project, user=caller())
    consent.give(resolved, plan.grants)
    for grant in plan.grants:
        print(f"allowed: {grant.key}: {grant.what}")
    if not plan.grants:
        print("it asks for nothing beyond its own folder")


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    app.command(context_settings={"allow_interspersed_args": False})(create)
    for command in (start, stop, rm, hold, update, trust):
        app.command()(command)


def _each(sessions, act) -> None:  # type: ignore[no-untyped-def]
    """Do it to each; one that fails does not keep the others from it."""
    failed = 0
    for session in sessions:
        try:
            act(session)
            print(session.name)
        except MooringError as error:
            explain(error)
            failed = error.exit_code
    if failed:
        sys.exit(failed)


def _duration(text: str) -> float:
    from mooring.errors import SpecError
    from mooring.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(str(error)) from None
