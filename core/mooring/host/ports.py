"""TCP ports of this machine: listen on a port, and find the process that listens on one."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from mooring.errors import MooringError, PortTaken

log = logging.getLogger(__name__)

#: The address that ports are published on; reachable by every user of this machine, and only
#: from this machine.
LOOPBACK = "127.0.0.1"
_LISTENING = "0A"  # proc_net(5)


def listen(port: int, *, hint: str, warn: Callable[[str], None]) -> tuple[int, list[socket.socket]]:
    """Listen on a port of 127.0.0.1, and of ::1 if this machine has IPv6.

    `localhost` usually resolves to ::1 first, so another user listening there would receive
    connections meant for this process.

    Args:
        port: 0 for any free port.
        hint: the hint of PortTaken.
        warn: called with a message if the port is in use on ::1 only.

    Returns:
        The port number, and one or two non-blocking sockets.

    Raises:
        PortTaken: the port is in use on 127.0.0.1.
        MooringError: the port requires root.
        OSError
    """
    first = _bind(socket.AF_INET, LOOPBACK, port)
    if first is None:
        raise taken(port, listener(port), hint)
    number = int(first.getsockname()[1])
    sockets = [first]
    try:
        second = _bind(socket.AF_INET6, "::1", number)
        if second is not None:
            sockets.append(second)
        else:
            warn(f"port {number} of ::1 is taken: use 127.0.0.1, not localhost")
    except OSError:
        log.debug("this machine has no IPv6")
    return number, sockets


def listener(port: int) -> str:
    """The process that listens on a port, for an error message.

    Returns:
        `process 17 (python3) of ann`; `a process of ann` if the process is not visible to this
        user; `another program` if the system lists no listener.
    """
    suffix = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}") as lines:
            for line in lines:
                fields = line.split()
                if fields[1].endswith(suffix) and fields[3] == _LISTENING:
                    return _process(fields[9]) or f"a process of {_user(int(fields[7]))}"
    return "another program"


def taken(
    port: int,
    holder: str,
    hint: str = "use another port, or omit the first number for any free port",
) -> PortTaken:
    """The error for a port that is in use.

    Args:
        port: the port number on this machine.
        holder: the program, session or container that uses it.
        hint: the suggested remedy.
    """
    return PortTaken(f"port {port} of {LOOPBACK} is taken by {holder}", hint, port=port)


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket | None:
    """A listening socket; None if the port is in use."""
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(128)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            return None
        if error.errno == errno.EACCES:
            raise MooringError(
                f"port {port}: only root may listen below 1024", "use a higher port, as in 8080:80"
            ) from None
        raise
    return listening


def _process(inode: str) -> str:
    """The process that has a socket open, for an error message; empty if it is not visible."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) == f"socket:[{inode}]":
                        name = (entry / "comm").read_text(errors="replace").strip()
                        return f"process {entry.name} ({name}) of {_user(entry.stat().st_uid)}"
    return ""


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
