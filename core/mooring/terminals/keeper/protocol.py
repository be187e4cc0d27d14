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
from collections.abc import Iterable, Iterator

from mooring.host.untrusted import parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = struct.Struct(">BI")
DATA, MESSAGE = 1, 2
MAX_PAYLOAD_BYTES = 1 << 20
# Of a terminal's command, which is only displayed
MAX_COMMAND_CHARACTERS = 1000
CHUNK = 65536
# What handling a message can raise, such as one with infinitely many rows, or with a descriptor of
# something else than a stream
NOT_UNDERSTOOD = (
    ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, OSError
)  # fmt: skip
SOCKET = "sock"
MAIN = "main"


def encode_data(payload: bytes) -> bytes:
    """Return a frame with a terminal's input or output."""
    return HEADER.pack(DATA, len(payload)) + payload


def encode(op: str, **fields: Any) -> bytes:
    """Return a frame with a message.

    Raises:
        ValueError: the message does not fit into a frame.
    """
    payload = json.dumps({"op": op, **fields}).encode()
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{op} is too long: {len(payload)} bytes")
    return HEADER.pack(MESSAGE, len(payload)) + payload


def decode(payload: bytes) -> dict[str, Any]:
    """Return the fields of a message, including ``op``.

    Raises:
        ValueError: the payload is not a JSON object with an ``op``.
    """
    message = parse_json(payload)
    if not isinstance(message, dict) or "op" not in message:
        raise ValueError("not a message of this protocol")
    return message


def shortened(command: Iterable[str]) -> list[str]:
    """Return the beginning of a command: all of it, or the part before ``…``."""
    short: list[str] = []
    left = MAX_COMMAND_CHARACTERS
    for argument in command:
        if len(argument) > left:
            return [*short, argument[: max(0, left)] + "…"]
        short.append(argument)
        left -= len(argument) + 1
    return short


class Frames:
    """Assembles frames from received bytes, which may be split anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the frames that are now complete, as pairs of kind and payload.

        Frames after the last one that the caller takes come with the next call.

        Raises:
            ValueError: the bytes are not of this protocol.
        """
        buffer = self._rest + received
        at = 0
        try:
            while len(buffer) - at >= HEADER.size:
                kind, length = HEADER.unpack_from(buffer, at)
                if length > MAX_PAYLOAD_BYTES or kind not in (DATA, MESSAGE):
                    raise ValueError("not a frame of this protocol")
                start, end = at + HEADER.size, at + HEADER.size + length
                if len(buffer) < end:
                    break
                at = end
                yield kind, buffer[start:end]
        finally:
            self._rest = buffer[at:]
