"""Show why a kernel died in the cell that it was running, in every client that is connected to it.

A dead kernel's clients keep connecting to its sockets. For a moment this process listens there in
its place, and publishes one message.
"""

from __future__ import annotations

import re
import time

from mooring.guest.channel import Guest
from mooring.kernels.connection import CHANNELS, Connection

# Clients' sockets connect again every 0.1 to 0.2 s (ZMQ_RECONNECT_IVL)
FIRST_CLIENT_MS = 3000
OTHER_CLIENTS_S = 0.2
# How long clients, which act as soon as they know of the death, have for reading it
READING_S = 0.5
LINGER_MS = 1000
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def running_request(guest: Guest, kernel_id: str) -> str:
    """Return the message id of the execute_request that a kernel was running when it died.

    Args:
        guest: the session's run folder.
        kernel_id: the name of the kernel's own folder.

    Returns:
        The id, which the session may have invented; empty if no cell was running.
    """
    words = guest.text(f"k/{kernel_id}/busy").split()
    running = len(words) == 3 and words[0] == "busy" and _MESSAGE_ID.fullmatch(words[2])
    return words[2] if running else ""


def publish(connection: Connection, request: str, text: str) -> None:
    """Publish a text on a dead kernel's iopub socket, as error output of a request.

    It is not published if no client connects within ``FIRST_CLIENT_MS``.

    Args:
        connection: the kernel's.
        request: the message id of an execute_request.
        text: plain text; what is no Unicode is shown as question marks.

    Raises:
        OSError: its socket cannot be replaced.
    """
    import zmq
    from jupyter_client.session import Session

    context = zmq.Context()
    publisher = context.socket(zmq.XPUB)
    try:
        publisher.setsockopt(zmq.LINGER, LINGER_MS)
        if connection.curve_secret_key:
            publisher.curve_server = True
            publisher.curve_publickey = connection.curve_public_key.encode()
            publisher.curve_secretkey = connection.curve_secret_key.encode()
        publisher.bind(f"ipc://{connection.ip}-{CHANNELS.index('iopub_port') + 1}")
        if publisher.poll(FIRST_CLIENT_MS):
            time.sleep(OTHER_CLIENTS_S)
            parent = {"msg_id": request, "msg_type": "execute_request"}
            shown = text.encode(errors="replace").decode()
            content = {"name": "stderr", "text": shown}
            Session(key=connection.key).send(publisher, "stream", content, parent, b"stream")
            time.sleep(READING_S)
    except zmq.ZMQError as error:
        raise OSError(error.errno, error.strerror) from error
    finally:
        publisher.close()
        context.term()
