"""Ports of a session on this machine: how they are written, and who holds one that is taken.

A published port is one of 127.0.0.1, never of another address: it is open to every user of this
machine, and to nobody else.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mooring.engines.base import Engine
from mooring.errors import EngineError, PortTaken
from mooring.labels import LABEL_NAME

LOOPBACK = "127.0.0.1"
_LISTENING = "0A"
_FORM = "must be a port such as 8080, or HERE:THERE such as 6006:6006"


def canonical(value: Any) -> str:
    """A port as a spec has it, as ``HERE:THERE``; HERE is 0 where any free port will do.

    Args:
        value: ``8080`` or ``"8080"``, ``"6006:6006"``, ``"127.0.0.1:6006:6006"``.

    Raises:
        ValueError: it is none of that, or names another address.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(_FORM)
    address, here, there = _parts(str(value).strip())
    if address != LOOPBACK:
        raise ValueError(f"{address}: ports are published on {LOOPBACK} alone; leave it out")
    numbers = [_number(here or "0", lowest=0), _number(there, lowest=1)]
    return ":".join(map(str, numbers))


def pairs(ports: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Canonical ports as pairs: this machine's, 0 for a free one, and the session's."""
    return tuple((int(here), int(there)) for here, _, there in (p.partition(":") for p in ports))


def start(engine: Engine, container: str) -> None:
    """Start a container; a port that is taken is told with who holds it.

    Raises:
        PortTaken
        EngineError: as ``engine.start``.
    """
    try:
        engine.start(container)
    except PortTaken as error:
        raise taken(error.port, holder(engine, error.port)) from error


def taken(
    port: int,
    held_by: str,
    hint: str = "use another port, or leave the first number out for any free one",
) -> PortTaken:
    """The error for a port that somebody holds."""
    return PortTaken(f"port {port} of {LOOPBACK} is taken by {held_by}", hint, port=port)


def holder(engine: Engine | None, port: int) -> str:
    """Who listens on a port of this machine, in a few words: for an error."""
    if engine is not None:
        from mooring.sessions.model import is_own

        with contextlib.suppress(EngineError):
            for row in engine.list({}):
                if row.state == "running" and any(here == port for here, _ in row.ports):
                    name = row.labels.get(LABEL_NAME, "") if is_own(row) else ""
                    return f"session {name}" if name else f"container {row.name}"
    return _listener(port) or "somebody else"


def _parts(text: str) -> tuple[str, str, str]:
    bracketed = re.fullmatch(r"\[([^\]]*)\]:(.*)", text)
    address, rest = bracketed.groups() if bracketed else (None, text)
    *before, there = rest.split(":")
    if address is None and len(before) > 1:
        address, before = ":".join(before[:-1]), before[-1:]
        if re.fullmatch("[0-9]+", address):  # a third number
            raise ValueError(_FORM)
    if len(before) > 1:
        raise ValueError(_FORM)
    return (LOOPBACK if address is None else address), (before[0] if before else ""), there


def _number(text: str, lowest: int) -> int:
    if text.lower().endswith(("/udp", "/sctp")):
        raise ValueError(f"{text}: only TCP ports can be published")
    text = text.lower().removesuffix("/tcp")
    if not re.fullmatch("[0-9]{1,5}", text) or not lowest <= int(text) <= 65535:
        raise ValueError(_FORM)
    return int(text)


def _listener(port: int) -> str:
    """The process, or else the user, that listens on a port; empty where nobody does."""
    wanted = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}") as lines:
            for line in lines:
                fields = line.split()
                if fields[1].endswith(wanted) and fields[3] == _LISTENING:
                    return _process(fields[9]) or f"a process of {_user(int(fields[7]))}"
    return ""


def _process(inode: str) -> str:
    """The process that holds a socket, if this user may see it."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) == f"socket:[{inode}]":
                        name = (entry / "comm").read_text().strip()
                        return f"process {entry.name} ({name}) of {_user(entry.stat().st_uid)}"
    return ""


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
