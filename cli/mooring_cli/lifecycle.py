"""create, start, stop, rm, hold, update, trust: what changes a session."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mooring.errors import SessionNotFound
from mooring_cli import options as opt
from mooring_cli.choosing import choose, each
from mooring_cli.joining import interruptible
from mooring_cli.later import SaveImage
from mooring_cli.launching import Launch, launch
from mooring_cli.output import note
from mooring_cli.waiting import longest_wait, steps

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.sessions.model import Session

HELD_S = 2 * 3600.0
AT_ONCE = 8  # ending a session is mostly waiting


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
    tmux: Annotated[
        bool,
        typer.Option("--tmux", help="Be in the image's tmux, or in a terminal that mooring keeps."),
    ] = False,
    max_wait: opt.MaxWait = None,
    enqueue: opt.Enqueue = False,
    values: opt.Values = opt.NO_VALUES,
    detach_keys: opt.DetachKeys = opt.DETACH_KEYS,
    save_image: SaveImage = None,
) -> None:
    """Create a session from a spec and attach to it.

    Without a command it is a shell. The exit code is the command's. It waits for GPUs, in turn.
    Ctrl-C until it runs takes everything back; afterwards it belongs to the program inside.
    """
    opt.check_keys(detach_keys)
    longest = longest_wait(max_wait)
    cwd = Path.cwd()
    resolved = opt.ask_for_consent(
        opt.resolve_spec(file, {**values, "name": name}, opt.after_dashes(command)), cwd
    )
    # without a command of its own a kernel's session is its clock: nothing to attach to
    only_kernels = bool(resolved.spec.kernel and not resolved.spec.argv)
    how = Launch(
        detach=detach or only_kernels,
        remove=remove,
        max_wait_s=longest,
        enqueue=enqueue,
        tmux=tmux,
        detach_keys=detach_keys,
    )
    raise typer.Exit(launch(resolved, cwd, how))


def start(
    names: opt.SomeNames = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
    max_wait: opt.MaxWait = None,
) -> None:
    """Start stopped sessions again.

    Their files and the packages installed in them are there; their clock is new. They wait for
    GPUs again, in turn; Ctrl-C meanwhile leaves them stopped.
    """
    from mooring.service import Mooring
    from mooring.sessions.model import State

    longest = longest_wait(max_wait)
    mooring = Mooring()
    began = 0.0

    def act(session: Session) -> None:
        nonlocal began
        began = began or time.monotonic()  # the first one has all of it
        passed = 0.0 if longest is None else time.monotonic() - began
        left = None if longest is None else max(0.0, longest - passed)
        with interruptible(), steps() as progress:
            mooring.start(session.id, progress=progress, max_wait_s=left)

    each(
        choose(
            mooring, names, everything, yes=yes, verb="start",
            fits=lambda session: session.state in (State.STOPPED, State.LOST),
        ),
        act,
    )  # fmt: skip


def stop(
    names: opt.SomeNames = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Another user's too.")] = False,
) -> None:
    """Stop sessions and keep their files.

    Everything in them ends and their GPUs are free; `mooring start` takes them up again. One that
    waits or starts is cancelled, and nothing of it is left.
    """
    from mooring.service import Mooring

    mooring = Mooring()

    def act(session: Session) -> None:
        if session.foreign and force:
            note(f"{session.name} belongs to {session.owner}: what runs in it is lost to them")
        mooring.stop(session, force=force)

    each(
        choose(mooring, names, everything, yes=yes, verb="stop", fits=_is_alive, others=True),
        act,
        at_once=AT_ONCE,
    )


def rm(
    names: opt.SomeNames = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Running ones too.")] = False,
) -> None:
    """Remove sessions: all but outputs and history.

    Containers, private homes and keys go. With --all those that have ended; with --all --force
    every one.
    """
    from mooring.errors import PolicyError
    from mooring.service import Mooring

    mooring = Mooring()

    def act(session: Session) -> None:
        if session.foreign:
            raise PolicyError(
                f"session {session.name} belongs to {session.owner}, who alone can remove it",
                f"to end what runs in it: mooring stop --force {session.name}",
            )
        mooring.remove(session, force=force)

    each(
        choose(
            mooring, names, everything, yes=yes, verb="remove",
            fits=lambda session: force or not _is_alive(session), others=True,
        ),
        act,
        at_once=AT_ONCE,
    )  # fmt: skip


def hold(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES... [DURATION]",
            help="Names or patterns, then how long: 2h (the default), 45m; off gives it up.",
            autocompletion=opt.complete_names,
        ),
    ] = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
) -> None:
    """Keep sessions from idling out for a while.

    The maximum duration stands; where it ends one before the hold is over, that is said.
    """
    from mooring.service import Mooring
    from mooring.sessions.model import State
    from mooring.spec.units import format_duration

    mooring = Mooring()
    names, seconds = _held_for(mooring, list(arguments or []), everything)

    def act(session: Session) -> str:
        mooring.hold(session, seconds)
        ends_in_s = mooring.ends_in_s(session)
        if ends_in_s is not None and ends_in_s < seconds:
            note(
                f"{session.name}: its maximum duration ends it in {format_duration(ends_in_s)} "
                f"all the same; mooring update {session.name} --max-duration changes that"
            )
        until = f"held for {format_duration(seconds)}" if seconds else "no longer held"
        return f"{session.name} {until}"

    each(
        choose(
            mooring, names, everything, yes=yes, verb="hold",
            fits=lambda session: session.state is State.RUNNING,
        ),
        act,
    )  # fmt: skip


def update(
    names: opt.SomeNames = None,
    idle_timeout: opt.IdleTimeout = None,
    max_duration: opt.MaxDuration = None,
    everything: opt.Everything = False,
    yes: opt.Yes = False,
) -> None:
    """Change running sessions' deadlines, at once.

    One that has passed already is refused.
    """
    from mooring.errors import SpecError
    from mooring.service import Mooring
    from mooring.sessions.model import State

    if idle_timeout is None and max_duration is None:
        raise SpecError("nothing to update", "say --idle-timeout 1h or --max-duration 12h")
    opt.with_unit("--max-duration", max_duration)
    idle_s = None if idle_timeout is None else _duration("--idle-timeout", idle_timeout)
    max_s = None if max_duration is None else _duration("--max-duration", max_duration)
    mooring = Mooring()
    each(
        choose(
            mooring, names, everything, yes=yes, verb="update",
            fits=lambda session: session.state is State.RUNNING,
        ),
        lambda session: mooring.update(session, idle_timeout_s=idle_s, max_duration_s=max_s),
    )  # fmt: skip


def trust(file: Annotated[Path, typer.Argument(help="The spec file.")]) -> None:
    """Allow a spec file what lies outside its folder.

    As it stands now: a changed file asks again.
    """
    from mooring.service import Mooring
    from mooring.spec.resolve import resolve

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


def _is_alive(session: Session) -> bool:
    from mooring.sessions.model import State

    return session.state in (State.RUNNING, State.PAUSED, State.STARTING, State.PENDING)


def _held_for(mooring: Mooring, names: list[str], everything: bool) -> tuple[list[str], float]:
    """Tell the duration from the names before it; it may be left out.

    Raises:
        SpecError: what stands last is neither a duration nor a session.
    """
    from mooring.errors import SpecError
    from mooring.spec.units import parse_duration

    if not names:
        return names, HELD_S
    *before, last = names
    alone = not before and not everything  # then it is a name, and may look like a duration
    try:
        seconds = parse_duration(last)
        if alone and not _is_there(mooring, last):
            raise SpecError(f"hold which session for {last}?", f"as in: mooring hold bert {last}")
        return (names, HELD_S) if alone else (before, seconds)
    except ValueError as error:
        if alone:
            return names, HELD_S
        if not _is_there(mooring, last):
            raise SpecError(
                f"duration: {last!r} {error}", "names come first, as in: mooring hold bert 2h"
            ) from None
    return names, HELD_S


def _is_there(mooring: Mooring, name: str) -> bool:
    try:
        return bool(mooring.find([name]))
    except SessionNotFound:
        return False


def _duration(what: str, text: str) -> float:
    from mooring.errors import SpecError
    from mooring.spec.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(f"{what}: {text!r} {error}") from None
