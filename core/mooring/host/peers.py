"""The user at the other end of a TCP connection on this machine.

Every user can connect to a port of 127.0.0.1 or ::1, and ZeroMQ does not authenticate subscribers.
The column `uid` of `/proc/net/tcp` has the owner of each socket, see proc_net(5).
"""

from __future__ import annotations

import os
import socket
import struct


def owner(connected: socket.socket) -> int | None:
    """The user id of the process that connected; None if it is unknown.

    It is unknown once the peer has closed the connection, because the system then reports root as
    the socket's owner.

    Args:
        connected: a socket accepted from a listening socket of this machine; with IPv6, the
            listening socket must have IPV6_V6ONLY set.
    """
    try:
        there, here = connected.getpeername()[:2], connected.getsockname()[:2]
    except OSError:
        return None
    mapped = "" if connected.family == socket.AF_INET6 else _MAPPED
    tables = (
        {"tcp6": mapped} if connected.family == socket.AF_INET6 else {"tcp": "", "tcp6": mapped}
    )
    for table, before in _READS * tuple(tables.items()):
        wanted = f"{before}{_as_in_proc(there)} {before}{_as_in_proc(here)}"
        try:
            with open(f"/proc/net/{table}") as lines:
                for line in lines:
                    if wanted in line:
                        _, _, _, _, _, _, _, user, _, inode, *_ = line.split()
                        return int(user) if inode != _NOBODYS else None
        except (OSError, ValueError, IndexError):
            continue
    return None


def is_our_own(connected: socket.socket) -> bool:
    """Whether the peer is this user or root."""
    return owner(connected) in (os.getuid(), 0)


# The kernel gives a table in pieces, and can skip a line when sockets close between two of them
_READS = 5
# The inode of a socket that no process has open
_NOBODYS = "0"
# The prefix of an IPv4-mapped IPv6 address
_MAPPED = "0000000000000000FFFF0000"


def _as_in_proc(address: tuple[str, int]) -> str:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    words = struct.iter_unpack("=I", socket.inet_pton(family, address[0]))
    return "".join(f"{word:08X}" for (word,) in words) + f":{address[1]:04X}"
