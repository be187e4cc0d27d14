"""The spool: the newest bytes of a terminal, by their offset, on a disk that may be full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.terminals.keeper import spool as module
from mooring.terminals.keeper.spool import Spool


def everything(spool: Spool) -> bytes:
    data, offset = b"", spool.start
    while piece := spool.read(offset, 7):
        data, offset = data + piece, offset + len(piece)
    return data


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_bytes_come_back_by_their_offset(tmp_path_factory, pieces: list[bytes]) -> None:
    """Whatever was appended, in any pieces, is read from any offset that is still there."""
    spool = Spool(str(tmp_path_factory.mktemp("s") / "spool"), limit=64, segment=16)
    whole = b""
    for piece in pieces:
        spool.append(piece)
        whole += piece
        assert spool.end == len(whole)
        assert len(whole) - spool.start >= min(64, len(whole))
        assert everything(spool) == whole[spool.start :]
    spool.remove()


def test_the_oldest_goes_first_and_the_disk_is_bounded(tmp_path: Path) -> None:
    """Much more than the limit leaves the limit and one segment at most."""
    spool = Spool(str(tmp_path / "spool"), limit=1000, segment=100)
    for number in range(1000):
        spool.append(b"%09d\n" % number)
    size = sum(file.stat().st_size for file in (tmp_path / "spool").iterdir())
    assert 1000 <= size <= 1100
    assert spool.end - spool.start == size
    with pytest.raises(LookupError):
        spool.read(spool.start - 1, 10)
    assert spool.read(spool.end, 10) == b""


def test_a_later_one_goes_on(tmp_path: Path) -> None:
    """What an earlier keeper left is taken over, and offsets go on."""
    first = Spool(str(tmp_path / "spool"), segment=4)
    first.append(b"abcdefghij")
    second = Spool(str(tmp_path / "spool"), segment=4)
    assert (second.start, second.end) == (0, 10)
    second.append(b"klm")
    assert everything(second) == b"abcdefghijklm"


def test_a_gap_is_never_bridged(tmp_path: Path) -> None:
    """A segment that is missing takes all that is older along."""
    first = Spool(str(tmp_path / "spool"), segment=4)
    for piece in (b"aaaa", b"bbbb", b"cccc"):
        first.append(piece)
    (tmp_path / "spool" / f"{4:015d}").unlink()
    second = Spool(str(tmp_path / "spool"))
    assert (second.start, second.end, everything(second)) == (8, 12, b"cccc")


def test_a_full_disk_costs_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written, the newest bytes stay in memory, and it goes on on the disk
    as soon as that takes some again.
    """
    monkeypatch.setattr(module, "MEMORY_BYTES", 6)
    spool = Spool(str(tmp_path / "spool"), segment=4)
    spool.append(b"abcd")
    written = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    spool.append(b"efgh")
    spool.append(b"ij")
    assert (spool.start, spool.end, everything(spool)) == (4, 10, b"efghij")
    spool.append(b"kl")
    assert (spool.start, everything(spool)) == (6, b"ghijkl")
    monkeypatch.setattr(os, "write", written)
    spool.append(b"mn")
    assert (spool.start, spool.end, everything(spool)) == (12, 14, b"mn")
    spool.remove()
    assert not (tmp_path / "spool").exists()
