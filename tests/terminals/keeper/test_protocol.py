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


def test_a_frame_that_would_be_refused_is_not_sent() -> None:
    """A message that is too long is an error where it is made, not where it is read."""
    fits = protocol.MAX_PAYLOAD_BYTES - len('{"op": "list", "text": ""}')
    assert len([*protocol.Frames().feed(protocol.encode("list", text="x" * fits))]) == 1
    with pytest.raises(ValueError, match="list is too long"):
        protocol.encode("list", text="x" * (fits + 1))


def test_who_takes_one_frame_of_several_finds_the_others_later() -> None:
    """A reader that stops at an answer which came in pieces reads the next one as it is."""
    frames, reader = (
        [protocol.encode("list", number=number) for number in range(3)],
        protocol.Frames(),
    )
    sent = b"".join(frames)
    assert [*reader.feed(sent[:7])] == []
    assert [protocol.decode(payload)["number"] for _, payload in reader.feed(sent[7:])] == [0, 1, 2]
    assert [*reader.feed(sent[:7])] == []
    assert protocol.decode(next(reader.feed(sent[7:]))[1])["number"] == 0
    assert [protocol.decode(payload)["number"] for _, payload in reader.feed(b"")] == [1, 2]


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_message_is_a_value_error(payload: bytes) -> None:
    """Readers handle one kind of error, whatever was sent."""
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's words differ
        protocol.decode(payload)


@given(st.lists(st.text(max_size=30) | st.sampled_from(["", "x" * 996, "é" * 5000]), max_size=20))
def test_a_command_is_shortened_once(command: list[str]) -> None:
    """A keeper has short commands as they are, and the beginning of long ones; handed over again,
    as after a restart, it stays the same."""
    short = protocol.shortened(command)
    assert protocol.shortened(short) == short
    assert sum(map(len, short)) <= protocol.MAX_COMMAND_CHARACTERS + 1
    assert short == command or short[-1].endswith("…")
    assert short == command or sum(map(len, command)) + len(command) > 1000
