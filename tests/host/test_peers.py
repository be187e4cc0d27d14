"""The user at the other end of a TCP connection on this machine."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from typing import IO

import pytest

from mooring.host import peers
from mooring.host.peers import is_our_own, owner

NOBODY = 65534


@pytest.fixture(params=["asked", "table"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Asked for one socket, or where that cannot be, by reading the table of all."""
    if request.param == "table":
        monkeypatch.setattr(peers, "_NETLINK_SOCK_DIAG", 99)
    else:

        def refuse(path: str) -> IO[str]:
            raise AssertionError("the table was read")

        monkeypatch.setattr(peers, "open", refuse, raising=False)
    return str(request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_owner_of_a_connection_is_known(family: socket.AddressFamily) -> None:
    """Also of one that came through an IPv6 socket; a connection that is gone has none."""
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(family) as client:
        address = "::ffff:127.0.0.1" if family == socket.AF_INET6 else "127.0.0.1"
        client.connect((address, port.getsockname()[1]))
        accepted, _ = port.accept()
        with accepted:
            assert owner(accepted) == os.getuid()
            assert is_our_own(accepted)
        assert owner(accepted) is None


def test_a_line_that_the_kernel_skipped_is_looked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A table is no snapshot: what is not in it once is in it the next time."""
    reads: list[str] = []

    def torn(path: str) -> IO[str]:
        reads.append(path)
        return io.StringIO("") if len(reads) < 5 else open(path)

    monkeypatch.setattr(peers, "open", torn, raising=False)
    monkeypatch.setattr(peers, "_asked", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket() as client:
        client.connect(port.getsockname())
        accepted, _ = port.accept()
        with accepted:
            assert owner(accepted) == os.getuid()
    assert reads == ["/proc/net/tcp", "/proc/net/tcp6"] * 2 + ["/proc/net/tcp"]


@pytest.mark.usefixtures("way")
@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="no IPv6")
def test_the_owner_over_ipv6_is_known() -> None:
    """A connection over IPv6 has an owner, too."""
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as port,
        socket.create_connection(port.getsockname()[:2]),
    ):
        accepted, _ = port.accept()
        with accepted:
            assert owner(accepted) == os.getuid()


OPEN = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.recv(1)
"""


@pytest.mark.usefixtures("way")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_is_told_apart() -> None:
    """Whose connection it is decides who gets in."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        other = subprocess.Popen(
            ["/usr/bin/python3", "-c", OPEN, str(port.getsockname()[1])],
            user=NOBODY,
            group=NOBODY,
            cwd="/",
        )
        accepted, _ = port.accept()
        with accepted:
            assert owner(accepted) == NOBODY
            assert not is_our_own(accepted)
        assert other.wait(20) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_who_writes_and_is_gone_at_once_is_nobody() -> None:
    """A socket that its user has closed is shown as root's: it is taken for nobody's."""
    hit = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
    hit += "s.sendall(b'let me in')"
    with socket.create_server(("127.0.0.1", 0)) as port:
        subprocess.run(
            ["/usr/bin/python3", "-c", hit, str(port.getsockname()[1])],
            user=NOBODY,
            group=NOBODY,
            cwd="/",
            check=True,
        )
        accepted, _ = port.accept()
        with accepted:
            assert accepted.recv(100) == b"let me in"
            assert owner(accepted) is None
            assert not is_our_own(accepted)
