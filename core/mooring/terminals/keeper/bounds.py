"""What the terminals of a session may keep on disk together."""

from __future__ import annotations

from mooring.terminals.keeper.protocol import MAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from mooring.terminals.keeper.state import Client, Terminal

# After their ends
MAX_ENDED_TERMINALS = 64
MAX_BYTES = 1 << 30


def trim(terminals: dict[str, Terminal], clients: Iterable[Client]) -> None:
    """Remove ended terminals, the oldest ends first, and shorten the others.

    The main terminal is never removed, nor is one with a client. If the bytes of the others are too
    many all the same, the longest lose their oldest output; each keeps its newest segment.

    Args:
        terminals: the session's, by name.
        clients: those who are connected.
    """
    attached = {MAIN} | {client.terminal.name for client in clients if client.terminal}
    total = sum(one.spool.size for one in terminals.values())
    ended = [one for one in terminals.values() if one.ended and one.name not in attached]
    ended.sort(key=lambda one: float(one.about.get("ended_at") or one.about.get("since") or 0))
    while ended and (len(ended) > MAX_ENDED_TERMINALS or total > MAX_BYTES):
        oldest = ended.pop(0)
        total -= oldest.spool.size
        del terminals[oldest.name]
        oldest.remove()
    while total > MAX_BYTES:
        freed = max(terminals.values(), key=lambda one: one.spool.size).spool.shorten()
        if not freed:
            break
        total -= freed
