"""Frames between a keeper of terminals and its clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.terminals.keeper import protocol

FRAMES = st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=50)), max_size=10)


@given(FRAMES, st.data())
def test_frames_come_whole_from_any_pieces(frames: list[bytes | str], data: st.DataObject) -> None:
    """Wherever the connection cuts them, the frames that were sent are received."""
    sent = b"".join(
        protocol.encode_data(one) if isinstance(one, bytes) else protocol.encode("list", text=one)
        for one in frames
    )
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=20).map(sorted))
    heard: list[bytes | str] = []
    reader = protocol.Frames()
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        for kind, payload in reader.feed(sent[start:end]):
            heard.append(payload if kind == protocol.DATA else protocol.decode(payload)["text"])
    assert heard == frames


@pytest.mark.parametrize("nonsense", [b"GET / HTTP/1.1\r\n", b"\x01\xff\xff\xff\xff"])
def test_nonsense_is_refused(nonsense: bytes) -> None:
    """Bytes of another protocol are an error at once; nothing waits for the rest of a frame."""
    with pytest.raises(ValueError, match="not a frame"):
        list(protocol.Frames().feed(nonsense))
