"""What a session's keeper of terminals and its clients say to each other, over a Unix socket.

Frames: a byte for the kind, four for the length, the payload. ``DATA`` carries a terminal's bytes,
one way what was printed and the other what was typed. ``SAID`` is a JSON object with an ``op``.

==========  ==============  ===================================================================
from        op              means
==========  ==============  ===================================================================
client      ``open``        hold the stream whose descriptor comes with it, as a new terminal
client      ``attach``      send what a terminal prints, from an offset on; take what is typed
client      ``size``        rows and columns of the client's own terminal
client      ``ended``       how the process of a terminal ended
client      ``list``        tell what terminals there are
keeper      ``opened``      the id of a new terminal
keeper      ``hello``       the offset that the next data has, and how a terminal stands
keeper      ``lost``        so many bytes are gone: the next data comes after them
keeper      ``ack``         so many bytes of what was typed have been taken, in all
keeper      ``apply``       give the terminal that size, through the engine
keeper      ``exit``        the output is over; ``code`` is null until somebody says ``ended``
keeper      ``terminals``   the list
keeper      ``refused``     why not
==========  ==============  ===================================================================

The keeper imports little, so that it is small: no dataclasses here and no typing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEAD = struct.Struct(">BI")
DATA, SAID = 1, 2
MOST_BYTES = 1 << 20
CHUNK = 65536
SOCKET = "sock"
MAIN = "main"


def data(payload: bytes) -> bytes:
    """A frame of a terminal's bytes."""
    return HEAD.pack(DATA, len(payload)) + payload


def said(op: str, **fields: Any) -> bytes:
    """A frame that says something."""
    text = json.dumps({"op": op, **fields}).encode()
    return HEAD.pack(SAID, len(text)) + text


class Frames:
    """Takes bytes as they come; gives back whole frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[tuple[int, bytes]]:
        """Pairs of kind and payload.

        Raises:
            ValueError: no keeper and no client speaks like this.
        """
        whole = self._rest + received
        at = 0
        while len(whole) - at >= HEAD.size:
            kind, length = HEAD.unpack_from(whole, at)
            if length > MOST_BYTES or kind not in (DATA, SAID):
                raise ValueError("no frame of a terminal's")
            if len(whole) - at - HEAD.size < length:
                break
            at += HEAD.size
            yield kind, whole[at : at + length]
            at += length
        self._rest = whole[at:]


def understood(payload: bytes) -> dict[str, Any]:
    """What a ``SAID`` frame says. Raises ValueError."""
    found = json.loads(payload)
    if not isinstance(found, dict):
        raise ValueError("nothing is said")
    return found
