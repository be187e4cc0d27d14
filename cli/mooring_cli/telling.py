"""describe, events, why: what one session is, what happened to it, and what was the reason."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mooring.errors import EngineUnavailable, MooringError, SessionNotFound
from mooring.quantities import format_duration
from mooring.session import Session, State
from mooring_cli import cells
from mooring_cli import options as opt
from mooring_cli.output import (
    clean,
    columns,
    explain,
    one_line,
    paint,
    print_json,
    size_text,
    value_text,
    width_of,
)

if TYPE_CHECKING:
    from mooring.gpus import Claim, Gpu
    from mooring.history import Event
    from mooring.service import Mooring

FOLLOW_S = 0.5
RECENT = 10
# Of an event the kind and the actor stand in columns of so many characters
_KIND, _ACTOR = 9, 10
_HERE = (State.STARTING, State.PENDING)


def describe(names: opt.Names, json_: opt.Json = False) -> None:
    """Tell all about sessions.

    What was declared, what they hold, when they end, their kernels and their recent events.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    documents: list[Any] = []
    failed = False
    first = True
    for session, name, error in _each(mooring, names):
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


def events(
    names: opt.Names,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they happen.")] = False,
    json_: opt.Json = False,
) -> None:
    """Print what happened to sessions, from their request to their end.

    When, by whom and why; also of those that wait, and of those that are gone.
    """
    from mooring.service import Mooring

    mooring = Mooring()
    names_of = {}
    for name in names:
        names_of.update(_ids_of(mooring, name))
    several = len(names_of) > 1
    last = dict.fromkeys(names_of, 0)
    while True:
        found = [
            event
            for session_id, after in last.items()
            for event in mooring.events(session_id, after=after)
        ]
        for event in sorted(found, key=lambda event: (event.time, event.number)):
            last[event.session] = event.number
            if not json_:
                of = f"{names_of[event.session]:<{max(map(len, names_of.values()))}}  "
                _print_event(event, of if several else "")
            elif follow:
                print(json.dumps(vars(event)), flush=True)
        if json_ and not follow:
            print_json([vars(event) for event in found])
        for event in found:
            if event.kind == "removed":
                last.pop(event.session, None)
        if not follow or not last:
            return
        time.sleep(FOLLOW_S)
        mooring.sessions()  # an end that no door brought about is written down by looking
        if not _live(mooring, last):
            return


def why(names: opt.Names, json_: opt.Json = False) -> None:
    """Tell why a session ended, why it does not, or what it waits for."""
    from mooring.service import Mooring

    mooring = Mooring()
    documents: list[Any] = []
    failed = False
    for session, name, error in _each(mooring, names):
        past = mooring.past(name) if session is None else None
        if session is not None and json_:
            end = session.end
            documents.append(
                session.to_dict()
                | {"detail": end.detail if end else "", "signals": end.signals if end else ""}
            )
        elif session is not None:
            _why(session)
        elif past is None:
            explain(error or SessionNotFound(f"no session named {name}"))
            failed = True
        elif json_:
            documents.append({"state": "gone", "reason": past.reason, "signals": ""})
        else:
            print(f"{past.name} is gone: {clean(past.reason) or 'removed'}")
    if json_ and documents:
        print_json(documents[0] if len(names) == 1 and len(documents) == 1 else documents)
    if failed:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Put these commands on the command line."""
    for command in (describe, events, why):
        app.command()(command)


def _each(
    mooring: Mooring, names: Sequence[str]
) -> Iterator[tuple[Session | None, str, MooringError | None]]:
    """The sessions that names stand for, each once; None, and why, for one that is not there."""
    seen = set()
    for name in names:
        try:
            found = mooring.find([name])
        except SessionNotFound as error:
            yield None, name, error
            continue
        for session in found:
            if session.id not in seen:
                seen.add(session.id)
                yield session, session.name, None


def _ids_of(mooring: Mooring, name: str) -> dict[str, str]:
    """Names by id, of sessions that are here, or of the last one of that name that was."""
    try:
        return {session.id: session.name for session in mooring.find([name])}
    except (SessionNotFound, EngineUnavailable):
        past = mooring.past(name)
        if past is None:
            raise
        return {past.id: past.name}


def _live(mooring: Mooring, ids: dict[str, int]) -> bool:
    """Whether anything can still happen to one of them: it is here, or has news to be printed."""
    from mooring.folder import Folder

    return any(
        Folder.open(session_id).exists or mooring.events(session_id, after=after)
        for session_id, after in ids.items()
    )


# describe

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
        ("created", _moment(session.created_at)),
        ("changed", _moment(cells.changed_at(session))),
        ("container", session.container[:12] or "-"),
    ]
    if session.waiting:
        first.append(("waits for", session.waiting))
    if session.exit_code is not None:
        first.append(("exit code", str(session.exit_code)))
    if session.priority:
        first.append(("priority", str(session.priority)))
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
    parts.append(("kernels", [(kernel.id, _kernel(session, kernel)) for kernel in session.kernels]))
    parts.append(("terminals", _terminals(mooring, session)))
    return [part for part in parts if part[1]]


def _state(session: Session) -> str:
    because = session.reason or session.degraded
    return f"{session.state} ({because})" if because else str(session.state)


def _declared(session: Session) -> Facts:
    """The spec without what stands above, and without what was left as it is by default."""
    known = ("name", "image", "idle_timeout", "max_duration", "priority", "ports")
    return [
        (key.replace("_", " "), _value(key, value))
        for key, value in session.spec.items()
        if key not in known and value not in (None, [], {}, "")
    ]


def _value(key: str, value: object) -> str:
    """A value of a spec; one with parts in the form in which it may be written in YAML."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value_text(key, value)


def _claims(session: Session) -> Facts:
    """A line for each GPU that it holds: its number, its model, how much of it, and by what."""
    from mooring.folder import Folder

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
    from mooring.gpus import inventory

    return {gpu.uuid: gpu for gpu in inventory()}


def _kernel(session: Session, kernel: Any) -> str:
    if kernel.exit is not None or session.state is not State.RUNNING:
        return f"ended{f' ({kernel.exit})' if kernel.exit else ''}, {kernel.requests} requests"
    return f"{'busy' if kernel.busy else 'idle'}, {kernel.requests} requests"


def _terminals(mooring: Mooring, session: Session) -> Facts:
    listed = getattr(mooring, "terminals", None)
    if listed is None or session.state is not State.RUNNING or session.foreign:
        return []
    try:
        return [(str(one.id), one_line(one.title)) for one in listed(session)]
    except (MooringError, AttributeError):  # it ends at this moment, or tells less
        return []


def _document(mooring: Mooring, session: Session | None, name: str) -> Any:
    """What ``describe --json`` says of one."""
    if session is None:
        from mooring.session import from_history

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
            _print_value(start, clean(value), (colours or {}).get(key, "") if not head else "")
    print(paint("events", "bold") + ("" if history else "  none recorded"))
    for event in history[-RECENT:]:
        _print_event(event, "  ")
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
        ("created", _moment(past.created_at)),
        ("ended", _moment(past.ended_at or 0.0)),
    ]
    if past.exit_code is not None:
        facts.append(("exit code", str(past.exit_code)))
    _print([("", facts)], mooring.events(past.id))


def _print_value(start: str, value: str, style: str = "") -> None:
    """A line; on a terminal as many as it takes, each below the first one's value."""
    room = columns() - width_of(start) if sys.stdout.isatty() else 0
    texts = value.splitlines() or ["-"]
    if 0 < room < max(map(width_of, texts)):
        texts = [part for text in texts for part in _wrapped(text, max(room, 20)) or [""]]
    for number, text in enumerate(texts):
        print(((start if number == 0 else " " * width_of(start)) + paint(text, style)).rstrip())


def _print_event(event: Event, start: str = "") -> None:
    stamp = paint(time.strftime("%F %T", time.localtime(event.time)), "quiet")
    kind = f"{one_line(event.kind):<{_KIND}}"
    head = f"{start}{stamp}  {kind}  {one_line(event.actor):<{_ACTOR}}  "
    bare = len(start) + 19 + 2 + len(kind) + 2 + max(_ACTOR, len(event.actor)) + 2
    detail = one_line(event.detail)
    if sys.stdout.isatty() and bare + width_of(detail) > columns() >= bare + 20:
        first, *others = textwrap.wrap(detail, columns() - bare)
        print(head + first, flush=True)
        for line in others:
            print(" " * bare + line, flush=True)
    else:
        print((head + detail).rstrip(), flush=True)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _moment(at: float) -> str:
    if not at:
        return "-"
    return f"{time.strftime('%F %T', time.localtime(at))} ({cells.ago(at)})"


# why


def _why(session: Session) -> None:
    end, clock = session.end, session.clock
    if session.state in _HERE:
        print(f"{session.name} is {session.state}, since {_moment(cells.changed_at(session))}")
        _print_value("  waits    ", clean(session.waiting or "for nothing that is known"))
        return
    if session.state is not State.RUNNING:
        print(f"{session.name} is {session.state}: {clean(session.reason)}")
        if end is not None:
            print(f"  when     {time.strftime('%F %T', time.localtime(end.time))}")
            _print_value("  because  ", clean(end.detail))
            if end.signals:
                _print_value("  signals  ", clean(end.signals))
        return
    degraded = f" ({session.degraded})" if session.degraded else ""
    print(f"{session.name} is running{degraded}")
    print(f"  activity  {clean(cells.activity(session))}")
    print(f"  stops in  {cells.stops_in(session)}")
    if clock is not None:
        last = format_duration(clock.last_signal_ago_s)
        print(f"  last      {clean(clock.last_signal)}, {last} ago")
        if clock.unknown:
            print(f"  unknown   {clean(', '.join(clock.unknown))}: the idle clock waits")
    unused = cells.unused_for(session)
    if unused is not None:
        print(f"  gpus      {cells.gpus(session).partition(',')[0]}, unused for", end=" ")
        print(format_duration(unused))
