"""Connect to services of the session, for `mooring port-forward` and ssh; started by forward.sh.

Each request is a connection to the Unix socket that the argument names, with a port, or the path of
a Unix socket, and a newline. The answer is the line ``open`` with the connected socket attached, or
the line ``refused``. So no byte of a forwarded connection passes through here. It ends when its
standard input does.
"""

import array
import contextlib
import os
import socket
import struct
import sys
import threading
import time

TIMEOUT_S = 10.0
SPARES = 4  # threads that wait for a request, so that none waits for a thread to start
lock = threading.Lock()
waiting = 0


def own_addresses(port):
    """Other addresses than loopback's on which a process listens on a port: proc_net(5)."""
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        with contextlib.suppress(OSError), open("/proc/net/" + table) as lines:
            for line in lines:
                fields = line.split(None, 4)
                host, _, number = fields[1].rpartition(":")
                if fields[3] == "0A" and int(number, 16) == port and host.strip("0"):
                    words = [int(host[i : i + 8], 16) for i in range(0, len(host), 8)]
                    yield family, socket.inet_ntop(family, struct.pack("=%dI" % len(words), *words))


def connected(port):
    loopback = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
    for addresses in (loopback, own_addresses(port)):
        for family, host in addresses:
            far = None
            try:
                far = socket.socket(family)
                far.settimeout(TIMEOUT_S)
                far.connect((host, port))
                # where nothing listens, a socket can connect to itself
                if far.getsockname() != far.getpeername():
                    return far
            except OSError:
                pass
            if far is not None:
                far.close()
    return None


def connected_to_path(path):
    far = socket.socket(socket.AF_UNIX)
    try:
        far.connect(os.path.join(os.path.expanduser("~"), path))
    except OSError:
        far.close()
        return None
    return far


def answer(client):
    with contextlib.suppress(OSError, ValueError), client:
        client.settimeout(TIMEOUT_S)
        asked = os.fsdecode(client.recv(4096)).rstrip("\n")
        far = connected(int(asked)) if asked.isdigit() else connected_to_path(asked)
        if far is None:
            client.sendall(b"refused\n")
            return
        with far:
            passed = array.array("i", [far.fileno()])
            client.sendmsg([b"open\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])


def accept(listening):
    """Answer requests, while another thread waits for the next one."""
    global waiting
    while True:
        try:
            client, _ = listening.accept()
        except OSError:  # too many open files
            time.sleep(0.05)
            continue
        with lock:
            waiting -= 1
            alone = not waiting
        if alone:
            begin(listening)
        answer(client)
        with lock:
            if waiting >= SPARES:
                return
            waiting += 1


def begin(listening):
    global waiting
    with lock:
        waiting += 1
    try:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
    except RuntimeError:  # too many processes: this thread goes on alone
        with lock:
            waiting -= 1


def main():
    path = sys.argv[1]
    listening = socket.socket(socket.AF_UNIX)
    os.umask(0o177)
    listening.bind(path)
    listening.listen(1024)
    for _ in range(SPARES):
        begin(listening)
    os.write(2, b"relay\n")
    while os.read(0, 4096):
        pass
    with contextlib.suppress(OSError):
        os.unlink(path)
    os._exit(0)


main()
