"""Reading what a session's processes print."""

from __future__ import annotations

from mooring import Mooring, Session
from mooring.engines.base import Stream


def read_all(stream: Stream) -> bytes:
    """Return a stream's output until its end, of both streams as they came."""
    output = b""
    while pieces := stream.recv():
        output += b"".join(bytes(piece) for _, piece in pieces)
    return output


def output_of(mooring: Mooring, session: Session, *argv: str) -> str:
    """Run a command in a session without a terminal, and return its output."""
    stream = mooring.sessions.exec(session, argv, stdin=False)
    try:
        return read_all(stream).decode()
    finally:
        stream.close()


def told(mooring: Mooring, session: Session, script: str) -> str:
    """Run a shell script in a session, and return what it prints; it must succeed."""
    stream = mooring.sessions.exec(session, ["sh", "-c", script], stdin=False)
    try:
        text, code = read_all(stream).decode(), stream.exit_code()
    finally:
        stream.close()
    assert code == 0, text
    return text
