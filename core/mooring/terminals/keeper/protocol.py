"""The protocol between a session's terminal keeper and its clients, over a Unix socket.

A frame consists of one byte for its kind, four bytes for the length (big-endian), and the payload.
The payload of ``DATA`` is a terminal's output from the keeper, or input from a client. ``MESSAGE``
is a JSON object with an ``op``. Keeper and client may be of different versions, so names in the
protocol do not change.

==========  ==============  ===================================================================
from        op              means
==========  ==============  ===================================================================
client      ``open``        hold the stream whose descriptor is attached, as a new terminal
client      ``attach``      send a terminal's output from an offset on; accept input for it
client      ``size``        rows and columns of the client's own terminal
client      ``ended``       how a terminal's process ended
client      ``list``        list the terminals
keeper      ``opened``      the id of a new terminal
keeper      ``hello``       the offset of the data that follows, and the terminal's state
keeper      ``lost``        ``bytes`` bytes were deleted and are skipped in the data that follows
keeper      ``ack``         the total of bytes of input accepted from this client
keeper      ``apply``       resize the terminal to ``rows`` and ``columns``, through the engine
keeper      ``exit``        the output has ended; ``code`` is null if the keeper does not know it
keeper      ``terminals``   the list of terminals
keeper      ``refused``     an error; ``why`` is its text
==========  ==============  ===================================================================

The keeper imports few modules to save memory, so this module uses neither dataclasses nor typing.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

from mooring.host.untrusted import parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = struct.Struct(">BI")
DATA, MESSAGE = 1, 2
MAX_PAYLOAD_BYTES = 1 << 20
CHUNK = 65536
SOCKET = "sock"
MAIN = "main"


def encode_data(payload: bytes) -> bytes:
    """Return a frame with a terminal's input or output."""
    return HEADER.pack(DATA, len(payload)) + payload


def encode(op: str, **fields: Any) -> bytes:
    """Return a frame with a message."""
    payload = json.dumps({"op": op, **fields}).encode()
    return HEADER.pack(MESSAGE, len(payload)) + payload


def decode(payload: bytes) -> dict[str, Any]:
    """Return the fields of a message, including ``op``.

    Raises:
        ValueError: the payload is not a JSON object.
    """
    message = parse_json(payload)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


class Frames:
    """Assembles frames from received bytes, which may be split anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the frames that are now complete, as pairs of kind and payload.

        Raises:
            ValueError: the bytes are not of this protocol.
        """
        buffer = self._rest + received
        at = 0
        while len(buffer) - at >= HEADER.size:
            kind, length = HEADER.unpack_from(buffer, at)
            if length > MAX_PAYLOAD_BYTES or kind not in (DATA, MESSAGE):
                raise ValueError("not a frame of this protocol")
            if len(buffer) - at - HEADER.size < length:
                break
            at += HEADER.size
            yield kind, buffer[at : at + length]
            at += length
        self._rest = buffer[at:]
