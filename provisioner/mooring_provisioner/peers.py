"""Who is at the other end of a TCP connection on this machine.

A port of 127.0.0.1 is open to every user, and ZeroMQ asks no subscriber for the key. The operating
system knows whose socket it is: proc_net(5), the column ``uid`` of ``/proc/net/tcp``.
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
        connected: accepted from a listening IPv4 socket of this machine.
    """
    try:
        there, here = connected.getpeername(), connected.getsockname()
    except OSError:
        return None
    ends = f"{_as_in_proc(there)} {_as_in_proc(here)}"
    mapped = f"{_MAPPED}{_as_in_proc(there)} {_MAPPED}{_as_in_proc(here)}"
    for table, wanted in (("tcp", ends), ("tcp6", mapped)):
        try:
            with open(f"/proc/net/{table}") as lines:
                for line in lines:
                    if wanted in line:
                        _, _, _, state, _, _, _, user, *_ = line.split()
                        return int(user) if state == _ESTABLISHED else None
        except (OSError, ValueError, IndexError):
            continue
    return None


def is_our_own(connected: socket.socket) -> bool:
    """Whether this user, or root, is at the other end."""
    return owner(connected) in (os.getuid(), 0)


_ESTABLISHED = "01"
# An IPv4 address in a socket of IPv6
_MAPPED = "0000000000000000FFFF0000"


def _as_in_proc(address: tuple[str, int]) -> str:
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"
