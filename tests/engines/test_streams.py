"""Docker's stream format: whole in any pieces, and received through a socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.engines.base import STDERR, STDOUT
from mooring.engines.streams import Demultiplexer, SocketStream


def frame(number: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", number, len(data)) + data


def joined(pieces: Iterable[tuple[int, bytes | memoryview]]) -> dict[int, bytes]:
    outputs: dict[int, bytes] = {}
    for number, piece in pieces:
        outputs[number] = outputs.get(number, b"") + piece
    return outputs


FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=12)


@given(FRAMES)
def test_byte_by_byte(frames: list[tuple[int, bytes]]) -> None:
    """A stream that comes one byte at a time carries the same as one that comes at once."""
    data = b"".join(frame(number, payload) for number, payload in frames)
    demultiplexer = Demultiplexer()
    pieces = [piece for byte in data for piece in demultiplexer.feed(bytes([byte]))]
    whole = joined(list(Demultiplexer().feed(data)))
    assert joined(pieces) == whole == joined([pair for pair in frames if pair[1]])


@given(FRAMES, st.data())
def test_random_pieces(frames: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """Wherever a stream is cut, no byte is lost, doubled, moved or given to the other stream."""
    stream = b"".join(frame(number, payload) for number, payload in frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    demultiplexer, pieces = Demultiplexer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        pieces += list(demultiplexer.feed(stream[start:end]))
    assert joined(pieces) == joined([pair for pair in frames if pair[1]])
    assert all(piece for _, piece in pieces)


def test_order_between_the_two_streams() -> None:
    """Pieces of standard output and standard error come in the order in which they were sent."""
    data = frame(1, b"one") + frame(2, b"two") + frame(1, b"") + frame(1, b"three")
    assert list(Demultiplexer().feed(data)) == [(1, b"one"), (2, b"two"), (1, b"three")]


def test_a_large_frame_is_not_collected() -> None:
    """A frame is passed on as it comes: memory is bounded by the pieces, not by the frame."""
    demultiplexer = Demultiplexer()
    assert list(demultiplexer.feed(struct.pack(">BxxxL", 1, 2**32 - 1))) == []
    assert list(demultiplexer.feed(b"x" * 1000)) == [(1, b"x" * 1000)]


def test_a_stream_is_received_in_whole_pieces() -> None:
    """What is received is at least one piece, also when a header comes by itself, and nothing at
    the end alone."""
    near, far = socket.socketpair()
    stream = SocketStream(near, tty=False)
    near.setblocking(False)
    far.sendall(frame(STDERR, b"oops")[:8])
    with pytest.raises(BlockingIOError):
        stream.recv()
    far.sendall(b"oops" + frame(STDOUT, b"") + frame(STDOUT, b"fine"))
    assert stream.recv() == [(STDERR, b"oops"), (STDOUT, b"fine")]
    far.close()
    assert stream.recv() == []
    stream.close()


def test_a_terminals_bytes_are_not_decoded() -> None:
    """The bytes of a terminal are received as they are, whatever they look like."""
    near, far = socket.socketpair()
    stream = SocketStream(near, tty=True)
    far.sendall(frame(STDERR, b"oops"))
    assert stream.recv() == [(STDOUT, frame(STDERR, b"oops"))]
    far.close()
    stream.close()


def test_a_connection_that_breaks_has_ended() -> None:
    """A reset by the engine is the end of the output, and closing twice is no error."""
    near, far = socket.socketpair()
    stream = SocketStream(near, tty=False)
    near.sendall(b"unread")
    far.close()  # with something unread: a reset, not an end of file
    assert stream.recv() == []
    stream.close()
    stream.close()
