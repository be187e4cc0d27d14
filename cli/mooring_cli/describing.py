"""describe: all about a session."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import typer

from mooring.errors import MooringError, SessionNotFound
from mooring.sessions.model import Session, State
from mooring_cli import cells
from mooring_cli import options as opt
from mooring_cli.output import clean, explain, one_line, paint, print_json, size_text, value_text
from mooring_cli.telling import each, moment, print_event, print_value

if TYPE_CHECKING:
    from mooring.gpus.claims import Claim
    from mooring.gpus.inventory import Gpu
    from mooring.service import Mooring
    from mooring.sessions.history import Event
    from mooring.sessions.record import KernelEntry
    from mooring.terminals.listing import TerminalEntry

RECENT = 10


def describe(names: opt.Names, json_: opt.Json = False) -> None:
    """Tell all about sessions.

    What was declared, what they hold, when they end, their kernels and their recent events.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    documents: list[Any] = []
    failed = False
    first = True
    for session, name, error in each(mooring, names):
        if session is None and mooring.past(name) is None:
            explain(error or SessionNotFound(f"no session named {name}"))
            failed = True
            continue
        if json_:
            documents.append(_document(mooring, session, name))
            continue
        if not first:
            print()
        first = False
        if session is None:
            _print_past(mooring, name)
        else:
            colours = {"name": "bold", "state": cells.style(session, "state")}
            _print(_facts(mooring, session), _events_of(mooring, session), colours)
    if json_ and documents:
        print_json(documents[0] if len(names) == 1 and len(documents) == 1 else documents)
    if failed:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Put this command on the command line."""
    app.command()(describe)


Facts = list[tuple[str, str]]


def _facts(mooring: Mooring, session: Session) -> list[tuple[str, Facts]]:
    """What there is to tell, in parts with a head each; the first part has none."""
    clock = session.clock if session.state is State.RUNNING else None
    first = [
        ("name", session.name),
        ("id", session.id),
        ("state", _state(session)),
        ("owner", session.owner + (" (another installation)" if session.foreign else "")),
        ("image", session.image),
        ("created", moment(session.created_at)),
        ("changed", moment(cells.changed_at(session))),
        ("container", session.container[:12] or "-"),
    ]
    if session.waiting:
        first.append(("waits for", session.waiting))
    if session.exit_code is not None:
        first.append(("exit code", str(session.exit_code)))
    if session.priority:
        first.append(("priority", str(session.priority)))
    if about := cells.folder_note(session):
        first.append(("folder", about))
    if session.opened_by:
        first.append(("opened by", session.opened_by))
    if clock is not None:
        first += [("activity", cells.activity(session)), ("stops in", cells.stops_in(session))]
    deadlines = {} if session.foreign else mooring.deadlines(session)
    for key in ("idle_timeout", "max_duration"):
        stands = deadlines.get(key, session.spec.get(key))
        first.append((key.replace("_", " "), value_text(key, stands)))
    parts: list[tuple[str, Facts]] = [("", first)]
    if clock is not None:
        use = [("cpu", cells.cpu(session)), ("memory", cells.memory(session))]
        if session.claims:
            use.append(("gpu", cells.gpu_use(session)))
        parts.append(("use", use))
    if session.claims:
        held = cells.held_by(session)
        parts.append(("gpus" if held else "gpus, until it ended", _claims(session)))
    parts.append(("ports", [(str(inside), f"127.0.0.1:{here}") for here, inside in session.ports]))
    parts.append(("spec", _declared(session)))
    parts.append(
        ("kernels", [(kernel.id, _kernel(mooring, session, kernel)) for kernel in session.kernels])
    )
    parts.append(("terminals", [(one.id, _terminal(one)) for one in _terminals(mooring, session)]))
    return [part for part in parts if part[1]]


def _state(session: Session) -> str:
    because = session.reason or session.degraded
    return f"{session.state} ({because})" if because else str(session.state)


def _declared(session: Session) -> Facts:
    """The spec without what stands above, and without what was left as it is by default."""
    known = ("name", "image", "idle_timeout", "max_duration", "priority", "ports")
    return [
        (key.replace("_", " "), value_text(key, value))
        for key, value in session.spec.items()
        if key not in known and value not in (None, [], {}, "")
    ]


def _claims(session: Session) -> Facts:
    """A line for each GPU that it holds: its number, its model, how much of it, and by what."""
    from mooring.sessions.record import Folder

    known = _inventory()
    record = {} if session.foreign else Folder.open(session.id).record()
    sharing = record.get("gpu_sharing") or {}
    return [
        (
            _number(known, claim.gpu),
            "; ".join(filter(None, (_claim(known, claim), sharing.get(claim.gpu)))),
        )
        for claim in session.claims
    ]


def _claim(known: dict[str, Gpu], claim: Claim) -> str:
    gpu = known.get(claim.gpu)
    if gpu is None:
        return f"{claim.gpu}, which is not on this machine now"
    whole = "" if claim.share >= 1 else f"{claim.share:g} of "
    return f"{whole}{gpu.model}, {size_text(gpu.memory_bytes)}, {gpu.uuid}"


def _number(known: dict[str, Gpu], uuid: str) -> str:
    from mooring_cli.gpus import number_of

    return number_of(known[uuid], list(known.values())) if uuid in known else "?"


def _inventory() -> dict[str, Gpu]:
    from mooring.gpus.inventory import inventory

    return {gpu.uuid: gpu for gpu in inventory()}


def _kernel(mooring: Mooring, session: Session, kernel: KernelEntry) -> str:
    """``idle, 3 requests``; ``ended (killed by SIGSEGV), 2 requests``."""
    if kernel.exit is not None:
        now = f"ended ({mooring.kernel(session.id, kernel.id).how_it_ended()})"
    elif session.state is not State.RUNNING:
        now = "ended"
    else:
        now = "busy" if kernel.busy else "idle"
    return f"{now}, {kernel.requests} request{'s' * (kernel.requests != 1)}"


def _terminals(mooring: Mooring, session: Session) -> list[TerminalEntry]:
    if session.foreign or session.state is not State.RUNNING:
        return []
    try:
        return mooring.terminals(session)
    except MooringError:  # it ends at this moment
        return []


def _terminal(one: TerminalEntry) -> str:
    now = "ended" if one.ended else "lost" if one.lost else f"{one.clients} attached"
    return f"{shlex.join(one.command) or 'a shell'}, opened {cells.ago(one.since)}, {now}"


def _document(mooring: Mooring, session: Session | None, name: str) -> Any:
    """What ``describe --json`` says of one."""
    if session is None:
        from mooring.sessions.model import from_history

        past = mooring.past(name)
        if past is None:
            raise SessionNotFound(f"no session named {name}")
        session = from_history(past)
    known = _inventory() if session.claims else {}
    return session.to_dict() | {
        "spec": session.spec,
        "deadlines": {} if session.foreign else mooring.deadlines(session),
        "gpu_list": [
            {
                "uuid": claim.gpu,
                "share": claim.share,
                "index": known[claim.gpu].index if claim.gpu in known else None,
                "model": known[claim.gpu].model if claim.gpu in known else None,
            }
            for claim in session.claims
        ],
        "terminals": [vars(one) for one in _terminals(mooring, session)],
        "kernel_list": [vars(kernel) for kernel in session.kernels],
        "events": [vars(event) for event in _events_of(mooring, session)],
    }


def _events_of(mooring: Mooring, session: Session) -> list[Event]:
    """Its history, which is in the installation that it is of."""
    return [] if session.foreign else mooring.events(session.id)


def _print(
    parts: list[tuple[str, Facts]], history: list[Event], colours: dict[str, str] | None = None
) -> None:
    """Keys in one column, values in another; a long value goes on below itself.

    Args:
        colours: by keys of the first part.
    """
    width = min(16, max(len(key) for _, facts in parts for key, _ in facts))
    for head, facts in parts:
        indent = "  " if head else ""
        if head:
            print(paint(head, "bold"))
        for key, value in facts:
            start = f"{indent}{one_line(key):<{width + 2 - len(indent)}}  "
            print_value(start, clean(value), (colours or {}).get(key, "") if not head else "")
    print(paint("events", "bold") + ("" if history else "  none recorded"))
    for event in history[-RECENT:]:
        print_event(event, "  ")
    if len(history) > RECENT:
        session = dict(parts[0][1])["name"]
        print(f"  {len(history) - RECENT} earlier: mooring events {session}")


def _print_past(mooring: Mooring, name: str) -> None:
    past = mooring.past(name)
    if past is None:
        return
    facts = [
        ("name", past.name),
        ("id", past.id),
        ("state", f"gone ({past.reason or 'removed'})"),
        ("owner", past.owner),
        ("image", past.image),
        ("created", moment(past.created_at)),
        ("ended", moment(past.ended_at or 0.0)),
    ]
    if past.exit_code is not None:
        facts.append(("exit code", str(past.exit_code)))
    _print([("", facts)], mooring.events(past.id))
