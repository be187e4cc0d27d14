"""Frames between a keeper of terminals and its clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.terminals.keeper import protocol as wire

FRAMES = st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=50)), max_size=10)


@given(FRAMES, st.data())
def test_frames_come_whole_from_any_pieces(frames: list[bytes | str], data: st.DataObject) -> None:
    """Wherever the connection cuts it, what was sent is what is heard."""
    sent = b"".join(
        wire.data(one) if isinstance(one, bytes) else wire.said("list", text=one) for one in frames
    )
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=20).map(sorted))
    heard: list[bytes | str] = []
    reader = wire.Frames()
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        for kind, payload in reader.feed(sent[start:end]):
            heard.append(payload if kind == wire.DATA else wire.understood(payload)["text"])
    assert heard == frames


@pytest.mark.parametrize("nonsense", [b"GET / HTTP/1.1\r\n", b"\x01\xff\xff\xff\xff"])
def test_nonsense_is_refused(nonsense: bytes) -> None:
    """What no client says is an error at once, and nothing waits for the rest of it."""
    with pytest.raises(ValueError, match="no frame"):
        list(wire.Frames().feed(nonsense))


def test_the_keeper_imports_little() -> None:
    """It stays small: neither mooring's models nor any package is in it."""
    import subprocess
    import sys
    from pathlib import Path

    script = (
        "import sys; sys.path[:0] = [sys.argv.pop()]; import mooring.terminals.keeper.server; "
        "print(*sorted(name for name in sys.modules if '.' not in name))"
    )
    root = str(Path(wire.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, root], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"typing", "dataclasses", "inspect", "pydantic", "docker", "subprocess"}
