"""describe: show details of sessions."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Any

import typer

from mooring import MooringError, Session, SessionNotFound, State
from mooring_cli import columns
from mooring_cli import options as opt
from mooring_cli.events import print_event
from mooring_cli.output import (
    clean,
    one_line,
    paint,
    print_error,
    print_json,
    print_value,
    size_text,
    value_text,
)
from mooring_cli.selection import find_each

if TYPE_CHECKING:
    from mooring import Claim, Event, Gpu, KernelEntry, Mooring, PastSession, TerminalEntry

MOST_EVENTS = 10
# Keys of the spec that have their own line
SHOWN_ABOVE = ("name", "image", "idle_timeout", "max_duration", "priority", "ports")

Facts = list[tuple[str, str]]


def describe(names: opt.Names, json_: opt.Json = False) -> None:
    """Show details of sessions.

    What was declared, what the session holds, when it stops, its kernels and its recent events.
    """
    from mooring import Mooring

    mooring = Mooring()
    documents: list[Any] = []
    failed = False
    first = True
    for session, name, error in find_each(mooring, names):
        past = mooring.sessions.past(name) if session is None else None
        if session is None and past is None:
            print_error(error or SessionNotFound(f"no session named {name}"))
            failed = True
            continue
        if json_:
            documents.append(_document(mooring, session, past))
            continue
        if not first:
            print()
        first = False
        if session is not None:
            styles = {"name": "bold", "state": columns.style(session, "state")}
            _print(_parts(mooring, session), _events(mooring, session), styles)
        elif past is not None:
            _print([("", _facts_of_past(past))], mooring.sessions.events(past.id))
    if json_ and documents:
        print_json(documents[0] if len(names) == 1 and len(documents) == 1 else documents)
    if failed:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(describe)


def _parts(mooring: Mooring, session: Session) -> list[tuple[str, Facts]]:
    """Return the details in parts, each with a header; the first header is empty."""
    parts: list[tuple[str, Facts]] = [("", _facts(mooring, session))]
    if session.clock is not None and session.state is State.RUNNING:
        use = [("cpu", columns.cpu(session)), ("memory", columns.memory(session))]
        if session.claims:
            use.append(("gpu", columns.gpu_use(session)))
        parts.append(("use", use))
    if session.claims:
        parts.append(
            ("gpus" if session.held_claims else "gpus, until it ended", _gpus(mooring, session))
        )
    kernels = [(kernel.id, _kernel(mooring, session, kernel)) for kernel in session.kernels]
    terminals = [(entry.id, _terminal(entry)) for entry in _terminals(mooring, session)]
    parts += [
        ("ports", [(str(inside), f"127.0.0.1:{here}") for here, inside in session.ports]),
        ("spec", _declared(session)),
        ("kernels", kernels),
        ("terminals", terminals),
    ]
    return [part for part in parts if part[1]]


def _facts(mooring: Mooring, session: Session) -> Facts:
    """Return the first part: the facts of every session."""
    reason = session.reason or session.degraded
    facts = [
        ("name", session.name),
        ("id", session.id),
        ("state", f"{session.state} ({reason})" if reason else str(session.state)),
        ("owner", session.owner + (" (another installation)" if session.foreign else "")),
        ("image", session.image),
        ("created", columns.moment(session.created_at)),
        ("changed", columns.moment(columns.changed_at(session))),
        ("container", session.container[:12] or "-"),
    ]
    if session.waiting:
        facts.append(("waiting", session.waiting))
    if session.exit_code is not None:
        facts.append(("exit code", str(session.exit_code)))
    if session.priority:
        facts.append(("priority", str(session.priority)))
    if about := mooring.records.note(session):
        facts.append(("folder", about))
    if files := mooring.records.home_files(session):
        facts.append(("private home", str(files)))
    facts += [
        ("replaced", f"{source} was replaced on this machine: stop and start the session to see it")
        for source in mooring.records.replaced_sources(session)
    ]
    if session.notebook:
        facts.append(("opened by", session.notebook))
    if session.clock is not None and session.state is State.RUNNING:
        facts.append(("activity", columns.activity(session)))
        facts.append(("stops in", columns.stops_in(session)))
    deadlines = {} if session.foreign else mooring.sessions.deadlines(session)
    for key in ("idle_timeout", "max_duration"):
        value = deadlines.get(key, session.declared.get(key))
        facts.append((key.replace("_", " "), value_text(key, value)))
    return facts


def _facts_of_past(past: PastSession) -> Facts:
    """Return the facts of a removed session from the history."""
    facts = [
        ("name", past.name),
        ("id", past.id),
        ("state", f"gone ({past.reason or 'removed'})"),
        ("owner", past.owner),
        ("image", past.image),
        ("created", columns.moment(past.created_at)),
        ("ended", columns.moment(past.ended_at or 0.0)),
    ]
    if past.exit_code is not None:
        facts.append(("exit code", str(past.exit_code)))
    return facts


def _declared(session: Session) -> Facts:
    """Return the rest of the spec, without empty values."""
    return [
        (key.replace("_", " "), value_text(key, value))
        for key, value in session.declared.items()
        if key not in SHOWN_ABOVE and value not in (None, [], {}, "")
    ]


def _gpus(mooring: Mooring, session: Session) -> Facts:
    """Return each GPU's number, with its model, the share, and how the share is enforced."""
    from mooring_cli.gpus import number_of

    gpus = _gpus_by_uuid(mooring)
    sharing = mooring.records.gpu_sharing(session)
    facts = []
    for claim in session.claims:
        gpu = gpus.get(claim.gpu)
        number = number_of(gpu, list(gpus.values())) if gpu else "?"
        facts.append((number, "; ".join(filter(None, (_gpu(gpu, claim), sharing.get(claim.gpu))))))
    return facts


def _gpu(gpu: Gpu | None, claim: Claim) -> str:
    if gpu is None:
        return f"{claim.gpu}, which is not on this machine now"
    share = "" if claim.share >= 1 else f"{claim.share:g} of "
    return f"{share}{gpu.model}, {size_text(gpu.memory_bytes)}, {gpu.uuid}"


def _gpus_by_uuid(mooring: Mooring) -> dict[str, Gpu]:
    return {gpu.uuid: gpu for gpu in mooring.gpus.inventory()}


def _kernel(mooring: Mooring, session: Session, kernel: KernelEntry) -> str:
    """Describe a kernel: ``idle, 3 requests``; ``ended (killed by SIGSEGV), 2 requests``."""
    if kernel.exit is not None:
        with contextlib.closing(mooring.kernels.handle(session.id, kernel.id)) as handle:
            state = f"ended ({handle.describe_exit()})"
    elif session.state is not State.RUNNING:
        state = "ended"
    else:
        state = "busy" if kernel.busy else "idle"
    return f"{state}, {kernel.requests} request{'s' * (kernel.requests != 1)}"


def _terminals(mooring: Mooring, session: Session) -> list[TerminalEntry]:
    if session.foreign or session.state is not State.RUNNING:
        return []
    try:
        return mooring.terminals.list(session)
    except MooringError:  # the session has just ended
        return []


def _terminal(entry: TerminalEntry) -> str:
    state = "lost" if entry.lost else f"{entry.clients} attached"
    if entry.ended:
        state = "ended"
    return f"{shlex.join(entry.command) or 'a shell'}, opened {columns.ago(entry.since)}, {state}"


def _document(mooring: Mooring, session: Session | None, past: PastSession | None) -> Any:
    """Return the details for ``--json``; for a removed session, those in the history."""
    if session is None:
        from mooring import from_history

        assert past is not None  # noqa: S101 - one of the two is not None
        session = from_history(past)
    gpus = _gpus_by_uuid(mooring) if session.claims else {}
    return session.to_dict() | {
        "spec": session.declared,
        "deadlines": {} if session.foreign else mooring.sessions.deadlines(session),
        "gpu_list": [
            {
                "uuid": claim.gpu,
                "share": claim.share,
                "index": gpus[claim.gpu].index if claim.gpu in gpus else None,
                "model": gpus[claim.gpu].model if claim.gpu in gpus else None,
            }
            for claim in session.claims
        ],
        "terminals": [vars(entry) for entry in _terminals(mooring, session)],
        "kernel_list": [vars(kernel) for kernel in session.kernels],
        "events": [vars(event) for event in _events(mooring, session)],
    }


def _events(mooring: Mooring, session: Session) -> list[Event]:
    """Return its history; that of a foreign session is stored in another installation."""
    return [] if session.foreign else mooring.sessions.events(session.id)


def print_parts(parts: list[tuple[str, Facts]], styles: dict[str, str] | None = None) -> None:
    """Print keys and values in two columns.

    Args:
        parts: headers and facts; the first part has no header.
        styles: styles for ``paint`` of the first part's values, by key.
    """
    width = min(16, max(len(key) for _, facts in parts for key, _ in facts))
    for head, facts in parts:
        indent = "  " if head else ""
        if head:
            print(paint(head, "bold"))
        for key, value in facts:
            start = f"{indent}{one_line(key):<{width + 2 - len(indent)}}  "
            print_value(start, clean(value), (styles or {}).get(key, "") if not head else "")


def _print(
    parts: list[tuple[str, Facts]], history: list[Event], styles: dict[str, str] | None = None
) -> None:
    """Print a session's facts as ``print_parts`` does, then the newest of its events."""
    print_parts(parts, styles)
    print(paint("events", "bold") + ("" if history else "  none recorded"))
    for event in history[-MOST_EVENTS:]:
        print_event(event, "  ")
    if len(history) > MOST_EVENTS:
        session = dict(parts[0][1])["name"]
        print(f"  {len(history) - MOST_EVENTS} earlier: mooring events {session}")
