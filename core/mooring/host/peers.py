"""The user at the other end of a TCP connection on this machine.

Every user can connect to a port of 127.0.0.1 or ::1, and ZeroMQ does not authenticate subscribers.
The kernel is asked for one socket by sock_diag(7); where that cannot be, the column `uid` of
`/proc/net/tcp` has the owner of each socket, see proc_net(5). To read that table takes
milliseconds.
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
    found = _asked(connected.family, there, here)
    if found is not None:
        asked, number = found
        return asked if number != int(_NOBODYS) else None
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


# netlink(7): length, type, flags, sequence number, port
_HEADER = struct.Struct("=IHHII")
# linux/inet_diag.h: family, protocol, extensions, padding, states; ports, addresses, interface and
# cookie; and, after family, state and others, as in the request, of a reply the user and the inode
_REQUEST = struct.Struct("=BBBBI")
_SOCKET = struct.Struct("!HH16s16s12s")
_REPLY = struct.Struct("=BBBB48x12xII")
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST = 4, 20, 1
_ANY_INTERFACE_AND_COOKIE = bytes(4) + b"\xff" * 8
_LISTENING = 10
_ANSWER_S = 1.0


def _asked(family: int, here: tuple[str, int], there: tuple[str, int]) -> tuple[int, int] | None:
    """The user and the inode of a connected socket with these addresses, its own one first.

    Returns:
        None if there is none, or the kernel cannot be asked.
    """
    try:
        addresses = [socket.inet_pton(family, address) for address, _ in (here, there)]
        wanted = _SOCKET.pack(here[1], there[1], *addresses, _ANY_INTERFACE_AND_COOKIE)
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + wanted
        size = _HEADER.size + len(request)
        head = _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_ANSWER_S)
            kernel.sendto(head + request, (0, 0))
            reply = kernel.recv(4096)
        if _HEADER.unpack_from(reply)[1] != _SOCK_DIAG_BY_FAMILY:
            return None  # an error
        _, state, _, _, user, inode = _REPLY.unpack_from(reply, _HEADER.size)
        ports = struct.unpack_from("!HH", reply, _HEADER.size + 4)
    except (OSError, struct.error):
        return None
    if state == _LISTENING or ports != (here[1], there[1]):
        return None
    return user, inode


def _as_in_proc(address: tuple[str, int]) -> str:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    words = struct.iter_unpack("=I", socket.inet_pton(family, address[0]))
    return "".join(f"{word:08X}" for (word,) in words) + f":{address[1]:04X}"
