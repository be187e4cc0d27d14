"""Relay a TCP connection of the session over standard streams; see forward.sh.

End-of-file on standard input is forwarded; that of the service is reported on standard error as
``eof COUNT``, so that either may end first.
"""

import os
import socket
import sys
import threading


def connected(hosts, port):
    for number, host in enumerate(hosts, 1):
        try:
            return socket.create_connection((host, port))
        except OSError:
            if number == len(hosts):
                os.write(2, b"refused\n")
                sys.exit(1)


def send(far):
    try:
        while True:
            data = os.read(0, 65536)
            if not data:
                break
            far.sendall(data)
        far.shutdown(socket.SHUT_WR)
    except OSError:
        os._exit(1)  # the service closed it


def main():
    far = connected(sys.argv[2:], int(sys.argv[1]))
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sender = threading.Thread(target=send, args=(far,))
    sender.start()
    count = 0
    try:
        while True:
            data = far.recv(65536)
            if not data:
                break
            count += len(data)
            while data:
                data = data[os.write(1, data) :]
    except OSError:
        os._exit(1)
    os.write(2, b"eof %d\n" % count)
    sender.join()


main()
