"""The keeper of a session's terminals: a small process that outlives its clients.

It holds the engine's connections to the session's terminals, spools their output, and copies
bytes between them and any number of clients over a Unix socket in the session's folder. It does not
call the engine: clients open streams and pass them to it, get exit codes from the engine, and
resize terminals. If no client does so, it starts a process that gets the exit codes
(``mooring.terminals.exit_codes``).

::

    sessions/ID/term/       mode 0700; the keeper's working directory
      lock                  the keeper holds this lock until it exits
      sock                  its socket, see mooring.terminals.keeper.protocol
      log                   its standard error
      main/ t1/ t2/ …       one folder per terminal: its spool, and `about` with its description

There is one keeper per session. It exits when the session has ended and no client is connected,
when it has had no terminal to hold for some time, and when the session is removed. The output of
the main process is kept for a later client. Back-pressure: a program that writes faster than its
fastest client reads is blocked, as on a real terminal; a client that makes no progress does not
block it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time

from mooring.host.untrusted import parse_json
from mooring.terminals.keeper import protocol
from mooring.terminals.keeper.bounds import trim
from mooring.terminals.keeper.spool import SEGMENT_BYTES
from mooring.terminals.keeper.state import NOTIFIED, UNNOTIFIED, Client, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# How many bytes the fastest client may lag before the program's output is no longer read, and how
# long a client that makes no progress can cause this
MAX_LAG_BYTES = 256 << 10
PATIENCE_S = 3.0
MAX_INPUT_BYTES = 64 << 10
MAX_OUTGOING_BYTES = 256 << 10
TICK_S = 1.0
# How long connected clients have to get an exit code from the engine before the helper is started
ASK_TIMEOUT_S = 2.0
HELPER_INTERVAL_S = 5.0
# How long the keeper stays without clients: after the session or its main process has ended
# (clients reconnect sooner), and while there is no terminal to hold
ENDED_LINGER_S = 3.0
UNUSED_LINGER_S = 20.0


class Keeper:
    """The event loop; each iteration polls all streams and sockets and never blocks on one.

    Args:
        start_helper: starts a process that gets exit codes from the engine, and returns its
            process id; raises OSError if it cannot be started.
    """

    def __init__(self, start_helper: Callable[[], int]) -> None:
        self.terminals: dict[str, Terminal] = {}
        self.clients: list[Client] = []
        self.stopped = False
        self._start_helper = start_helper
        self.helper = 0
        self._helper_started_at = 0.0
        self._used_at = time.monotonic()
        self._last_number = 0
        self._load_terminals()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(protocol.SOCKET)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(protocol.SOCKET)
        self.listener.listen(64)
        self.listener.setblocking(False)

    def _load_terminals(self) -> None:
        """Load those of a keeper that was killed; all but the main one are marked as lost."""
        for name in sorted(os.listdir()):
            with contextlib.suppress(OSError, ValueError):
                with open(f"{name}/about") as file:
                    about = parse_json(file.read())
                terminal = self.terminals[name] = Terminal(name, about)
                number = int(name[1:]) if name != protocol.MAIN else 0
                self._last_number = max(self._last_number, number)
                if not terminal.ended and name != protocol.MAIN:
                    about["lost"] = True
                terminal.save()
        trim(self.terminals, self.clients)

    # the loop

    def run(self) -> None:
        maintained_at = time.monotonic()
        while not self.stopped:
            now = time.monotonic()
            self.step(now)
            if now - maintained_at >= TICK_S:
                maintained_at = now
                self.maintain(now)

    def step(self, now: float) -> None:
        """Wait for events, at most ``TICK_S``, and handle them."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        by_number: dict[int, Terminal | Client] = {}
        timeout_s = self._register(poll, by_number, now)
        for number, events in poll.poll(timeout_s * 1000):
            ready = by_number.get(number)
            if ready is None:
                self._accept()
            elif isinstance(ready, Terminal):
                if ready.stream is not None and events & select.POLLOUT:
                    ready.write()
                if ready.stream is not None and events & ~select.POLLOUT:
                    self._read_terminal(ready, now)
            elif ready in self.clients:
                if events & ~select.POLLOUT:
                    self._read_client(ready, now)
                if events & select.POLLOUT and ready in self.clients:
                    self._write_client(ready, now)
        for client in self.clients:
            client.notify_exit()

    def _register(
        self, poll: select.poll, by_number: dict[int, Terminal | Client], now: float
    ) -> float:
        """Register the events to wait for, and return the timeout in seconds."""
        timeout_s = TICK_S
        for terminal in self.terminals.values():
            if terminal.stream is None:
                continue
            events = select.POLLOUT if terminal.input else 0
            if self._wants_output(terminal, now):
                events |= select.POLLIN
            else:
                timeout_s = min(timeout_s, 0.2)
            if events:
                by_number[terminal.stream.fileno()] = terminal
                poll.register(terminal.stream, events)
        for client in self.clients:
            events = select.POLLOUT if client.outgoing or client.lag > 0 else 0
            room = client.terminal is None or len(client.terminal.input) < MAX_INPUT_BYTES
            if room and len(client.outgoing) < MAX_OUTGOING_BYTES:
                events |= select.POLLIN
            by_number[client.socket.fileno()] = client
            poll.register(client.socket, events)
        return timeout_s

    def _wants_output(self, terminal: Terminal, now: float) -> bool:
        """Return whether to read more output.

        This applies back-pressure: output is not read while all clients that had caught up lag but
        still make progress.
        """
        lagging = False
        for client in self._clients_of(terminal):
            if not client.caught_up:
                continue
            if client.lag <= MAX_LAG_BYTES:
                return True
            if now - client.progressed_at > PATIENCE_S:
                client.caught_up = False
            else:
                lagging = True
        return not lagging

    # terminals

    def _read_terminal(self, terminal: Terminal, now: float) -> None:
        data = terminal.read()
        if data is None:
            return
        if not data:
            terminal.close()
            terminal.disconnected_at = now
            terminal.save()
            return
        for client in self._clients_of(terminal):
            if client.lag == 0:
                client.progressed_at = now  # it had received everything; PATIENCE_S starts now
        terminal.modes.feed(data)
        before = terminal.spool.end // SEGMENT_BYTES
        terminal.spool.append(data)
        if terminal.spool.end // SEGMENT_BYTES != before:
            trim(self.terminals, self.clients)

    def _open(self, client: Client, message: dict[str, Any]) -> None:
        """Hold a stream as a new terminal, or as that of the main terminal if it has none."""
        stream = client.take_stream()
        if stream is None:
            client.queue("refused", why="no stream came with it")
            return
        name = str(message.get("terminal") or "")
        if name and name != protocol.MAIN:
            stream.close()
            client.queue("refused", why="only the main terminal has a name of its own")
            return
        number = self._last_number + (not name)
        name = name or f"t{number}"
        about = message.get("about")
        about = about if isinstance(about, dict) else {}
        terminal = self.terminals.get(name)
        if terminal is None:
            try:
                terminal = Terminal(name, about | {"since": time.time()})
            except OSError as error:  # such as a full disk; other terminals are not affected
                stream.close()
                client.queue("refused", why=str(error))
                return
            self.terminals[name], self._last_number = terminal, number
        elif terminal.stream is not None:
            stream.close()  # another client has already passed a stream
            client.queue("opened", terminal=name)
            return
        else:
            self._reopen(terminal, about)
        terminal.stream, terminal.disconnected_at = stream, 0.0
        terminal.save()
        client.queue("opened", terminal=name)

    def _reopen(self, terminal: Terminal, about: dict[str, Any]) -> None:
        for key in ("code", "lost", "ended_at"):
            terminal.about.pop(key, None)
        if "container" in about:
            terminal.about["container"] = about["container"]
        terminal.delivered = False
        for client in self._clients_of(terminal):
            client.exit_notice = UNNOTIFIED

    def _record_exit(self, terminal: Terminal, message: dict[str, Any]) -> None:
        if terminal.stream is not None or terminal.ended:
            return
        code = message.get("code")
        terminal.about |= {"code": code} if isinstance(code, int) else {"lost": True}
        terminal.about["ended_at"] = time.time()
        terminal.disconnected_at = 0.0
        terminal.save()
        trim(self.terminals, self.clients)

    def _clients_of(self, terminal: Terminal) -> list[Client]:
        return [client for client in self.clients if client.terminal is terminal]

    # clients

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            self.clients.append(Client(connection))
            self._used_at = time.monotonic()

    def _read_client(self, client: Client, now: float) -> None:
        data = client.receive()
        if data is None:
            return
        if not data:
            self._drop(client)
            return
        typed = False
        try:
            for kind, payload in client.frames.feed(data):
                if kind == protocol.DATA:
                    typed = True
                    self._accept_input(client, payload)
                else:
                    self._answer_or_refuse(client, payload, now)
        except ValueError as error:  # where the next frame begins is not known
            client.refuse(error)
            with contextlib.suppress(OSError):
                client.socket.send(client.outgoing)
            self._drop(client)
            return
        if typed and client.terminal is not None:
            client.queue("ack", bytes=client.terminal.accepted.get(client.name, 0))
            client.active_at = now
            self._fit(client)

    def _accept_input(self, client: Client, payload: bytes) -> None:
        if client.terminal is None:
            return
        if not client.terminal.ended:  # a disconnected terminal may be reconnected
            client.terminal.input += payload
        self._count_input(client, client.terminal, len(payload))

    def _count_input(self, client: Client, terminal: Terminal, count: int) -> None:
        connected = {one.name for one in self._clients_of(terminal)}
        terminal.accept(client.name, count, connected)

    def _answer_or_refuse(self, client: Client, payload: bytes, now: float) -> None:
        try:
            self._answer(client, protocol.decode(payload), now)
        except protocol.NOT_UNDERSTOOD as error:
            client.refuse(error)

    def _answer(self, client: Client, message: dict[str, Any], now: float) -> None:
        op = message["op"]
        if op == "list":
            rows = [one.row(len(self._clients_of(one))) for one in self.terminals.values()]
            client.queue("terminals", terminals=rows)
            return
        if op == "open":
            self._open(client, message)
            return
        terminal = client.terminal
        if "terminal" in message:
            terminal = self.terminals.get(str(message["terminal"]))
        if terminal is None:
            client.queue("refused", why="no such terminal", unknown=True)
        elif op == "attach":
            self._attach(client, terminal, message, now)
        elif op == "size":
            client.size = [int(message["rows"]), int(message["columns"])]
            client.active_at = now
            self._fit(client)
        elif op == "ended":
            self._record_exit(terminal, message)
            if client.terminal is terminal and not client.lag:
                terminal.delivered = True  # the client got the exit code from the engine

    def _attach(
        self, client: Client, terminal: Terminal, message: dict[str, Any], now: float
    ) -> None:
        spool = terminal.spool
        offset, replay = message.get("offset"), message.get("replay")
        if offset is None:  # the newest ``replay`` bytes, or all of them
            offset = spool.start if replay is None else max(spool.start, spool.end - int(replay))
            if replay is not None and terminal.modes.full_screen:
                offset = spool.end  # the program redraws its screen
        offset = min(max(0, int(offset)), spool.end)
        client.terminal, client.name, client.position = terminal, str(message["client"]), offset
        client.exit_notice = UNNOTIFIED
        client.active_at = client.progressed_at = now
        client.caught_up = client.lag <= MAX_LAG_BYTES
        client.queue(
            "hello",
            terminal=terminal.name,
            offset=offset,
            start=spool.start,
            end=spool.end,
            taken=terminal.accepted.get(client.name),
            modes=terminal.modes.saved,
            about=terminal.about,
        )
        self._count_input(client, terminal, 0)  # remember the client even if it sends no input
        if "rows" in message:
            client.size = [int(message["rows"]), int(message["columns"])]
            self._fit(client)

    def _fit(self, client: Client) -> None:
        """Resize the terminal to the size of its last active client, as tmux does by default."""
        terminal = client.terminal
        if terminal is None or client.size == terminal.size or 0 in client.size:
            return
        terminal.size = list(client.size)
        client.queue("apply", rows=client.size[0], columns=client.size[1])

    def _write_client(self, client: Client, now: float) -> None:
        try:
            client.fill()
            sent = client.socket.send(client.outgoing)
        except BlockingIOError:
            return
        except OSError:  # it may reconnect and continue at its offset
            self._drop(client)
            return
        del client.outgoing[:sent]
        client.progressed_at = now
        terminal = client.terminal
        if client.exit_notice == NOTIFIED and not client.outgoing and terminal is not None:
            terminal.delivered = True
        if client.lag == 0:
            client.caught_up = True

    def _drop(self, client: Client) -> None:
        self.clients.remove(client)
        client.close()
        terminal = client.terminal
        if terminal is None:
            return
        others = self._clients_of(terminal)
        if others:
            self._fit(max(others, key=lambda one: one.active_at))
        elif terminal.delivered and not terminal.lost and terminal.name != protocol.MAIN:
            self.terminals.pop(terminal.name, None)
            terminal.remove()

    # the end

    def maintain(self, now: float) -> None:
        """Start the helper if exit codes are missing, and stop if no terminal is left to hold."""
        self._reap()
        if not os.path.exists("../record.json"):
            self.stopped = True
            return
        if self.clients:
            self._used_at = now
        unused_s = now - self._used_at
        connected = [one for one in self.terminals.values() if one.stream is not None]
        unsettled = [one for one in self.terminals.values() if one.disconnected_at]
        if not connected and os.path.exists("../run/end"):
            self.stopped = unused_s > ENDED_LINGER_S
            return
        for terminal in unsettled:
            timeout_s = ASK_TIMEOUT_S if self._clients_of(terminal) else 0
            due = now - terminal.disconnected_at > timeout_s
            if due and not self.helper and now - self._helper_started_at > HELPER_INTERVAL_S:
                self._helper_started_at = now
                with contextlib.suppress(OSError):  # retried after HELPER_INTERVAL_S
                    self.helper = self._start_helper()
        if connected or unsettled:
            self._used_at = now
            return
        main = self.terminals.get(protocol.MAIN)
        ended = main is not None and main.ended
        self.stopped = unused_s > (ENDED_LINGER_S if ended else UNUSED_LINGER_S)

    def _reap(self) -> None:
        if self.helper:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self.helper, os.WNOHANG) == (0, 0):
                    return
            self.helper = 0

    def close(self) -> None:
        """Close all connections and delete all files but undelivered output of the main process."""
        with contextlib.suppress(OSError):
            os.unlink(protocol.SOCKET)
        self.listener.close()
        if self.helper:
            with contextlib.suppress(OSError):
                os.kill(self.helper, signal.SIGKILL)
                os.waitpid(self.helper, 0)
        for client in self.clients:
            client.close()
        self.clients.clear()
        for terminal in self.terminals.values():
            if terminal.name == protocol.MAIN and not terminal.delivered:
                terminal.save()
            else:
                terminal.remove()
