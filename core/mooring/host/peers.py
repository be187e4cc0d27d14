"""Who is at the other end of a TCP connection on this machine.

A port of 127.0.0.1 or ::1 is open to every user, and ZeroMQ asks no subscriber for the key. The
operating system knows whose socket it is: proc_net(5), the column ``uid`` of ``/proc/net/tcp``.
"""

from __future__ import annotations

import os
import socket
import struct


def owner(connected: socket.socket) -> int | None:
    """The user id of the process that connected; None where the system does not tell.

    Nor does it of a connection that the other side has closed: the socket is then nobody's, and
    the system shows it as root's.

    Args:
        connected: accepted from a listening socket of this machine, an IPv6 one for IPv6 alone.
    """
    try:
        there, here = connected.getpeername()[:2], connected.getsockname()[:2]
    except OSError:
        return None
    mapped = "" if connected.family == socket.AF_INET6 else _MAPPED
    tables = (
        {"tcp6": mapped} if connected.family == socket.AF_INET6 else {"tcp": "", "tcp6": mapped}
    )
    for table, before in tables.items():
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
    """Whether this user, or root, is at the other end."""
    return owner(connected) in (os.getuid(), 0)


# A socket that no process holds any more
_NOBODYS = "0"
# An IPv4 address in a socket of IPv6
_MAPPED = "0000000000000000FFFF0000"


def _as_in_proc(address: tuple[str, int]) -> str:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    words = struct.iter_unpack("=I", socket.inet_pton(family, address[0]))
    return "".join(f"{word:08X}" for (word,) in words) + f":{address[1]:04X}"
