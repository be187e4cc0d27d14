"""Parse ports of specs, flags and forwards.

The syntax is Docker's, `HERE:THERE`: a port of this machine, and a port of the session.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mooring.host.ports import LOOPBACK

FORM = "must be a port such as 8080, at most 65535, or HERE:THERE such as 6006:6006"
_ADDRESS = re.compile(r"(?:\[([^\]]*)\]|(.*)):([^:]*)")


def parse(value: Any) -> tuple[int | None, int]:
    """Parse a port.

    Args:
        value: `8080` as a number or as text, `6006:6006`, `:8080`, or `127.0.0.1:6006:6006`; text
            may end in `/tcp`.

    Returns:
        This machine's port and the session's. The first is 0 for any free port, as in `0:8080`
        and `:8080`, and None if only the session's was given.

    Raises:
        ValueError: it is not a port, or has an address other than 127.0.0.1; the message is a
            predicate for the key's name.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(FORM)
    before, colon, there = str(value).strip().rpartition(":")
    here = _without_address(before)
    number = _number(here or "0", lowest=0)
    return (number if colon else None), _number(there, lowest=1)


def canonical(value: Any) -> str:
    """Convert a port of a spec to `HERE:THERE`; HERE is 0 for any free port, or if omitted.

    Args:
        value: as for `parse`.

    Raises:
        ValueError: as for `parse`.
    """
    here, there = parse(value)
    return f"{here or 0}:{there}"


def pairs(ports: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Convert canonical ports to pairs of this machine's port, 0 for any, and the session's."""
    return tuple((int(here), int(there)) for here, _, there in (p.partition(":") for p in ports))


def _without_address(text: str) -> str:
    """The port, which may be empty, of `PORT` or `ADDRESS:PORT`."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return text
    bracketed, plain, port = match.groups()
    address = bracketed if bracketed is not None else plain
    if re.fullmatch("[0-9]+", address):  # a third number
        raise ValueError(FORM)
    if address != LOOPBACK:
        raise ValueError(f"must be on {LOOPBACK}, not on {address}; omit the address")
    return str(port)


def _number(text: str, lowest: int) -> int:
    if text.lower().endswith(("/udp", "/sctp")):
        raise ValueError("must be a TCP port; others cannot be published")
    text = text.lower().removesuffix("/tcp")
    if not re.fullmatch("[0-9]{1,5}", text) or not lowest <= int(text) <= 65535:
        raise ValueError(FORM)
    return int(text)
