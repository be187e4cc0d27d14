"""The keeper of a session's terminals: a small process that outlives every client.

It holds the engine's connections to the session's terminals, spools what they print, and passes
bytes between them and any number of clients over a Unix socket in the session's folder. It knows
no engine: clients open streams and hand them over, ask how a process ended, and resize; where
none is there to ask, it starts one for that (``mooring.terminals.keeper.exit_codes``).

::

    sessions/ID/term/       0700; the keeper's current folder
      lock                  held by the keeper for as long as it lives
      sock                  its socket; the protocol is mooring.terminals.keeper.protocol's
      log                   what went wrong
      main/ t1/ t2/ …       one terminal each: its spool, and `about` with what it is

One keeper a session. It ends when the session has ended and nobody is connected, and when the
session's folder goes. What the main process printed stays then, for one who comes late. Clients
that print as fast as they can hold a program back, as a terminal does; those that are slow,
stopped or gone do not.

It is started in an interpreter of its own, without site-packages: 10 MB instead of the 50 MB of a
process that has spoken to an engine, and safe where the caller has threads.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time

from mooring.terminals.keeper import protocol as wire
from mooring.terminals.keeper.state import ASKED, TOLD, UNTOLD, Client, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CHUNK = wire.CHUNK
# How far the fastest client may be behind before the program has to wait for it, and for how long
# it does so for one that takes nothing
AHEAD_BYTES = 256 << 10
PATIENCE_S = 3.0
TYPED_BYTES = 64 << 10
UNREAD_BYTES = 256 << 10
TICK_S = 1.0
# How long clients have to say how a process ended, before a helper is started
ASKED_S = 2.0
HELPER_AGAIN_S = 5.0
# How long it waits for somebody: when the session is over (a client that was cut off comes back
# sooner), and when there is nothing to keep
ENDING_S = 3.0
UNUSED_S = 20.0
KEPT_ENDED = 20
KEPT_SENDERS = 64


class Keeper:
    """The loop. Everything is looked at anew each time round: what can go on goes on."""

    def __init__(self) -> None:
        self.terminals: dict[str, Terminal] = {}
        self.clients: list[Client] = []
        self.stopped = False
        self.helper = 0
        self.helped_at = 0.0
        self.used_at = time.monotonic()
        self.number = 0
        for name in sorted(os.listdir()):
            with contextlib.suppress(OSError, ValueError):
                with open(f"{name}/about") as file:
                    about = json.load(file)
                terminal = self.terminals[name] = Terminal(name, about)
                self.number = max(self.number, int(name[1:]) if name != wire.MAIN else 0)
                if not terminal.ended and name != wire.MAIN:
                    about["lost"] = True  # held by an earlier keeper, which was killed
                terminal.save()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(wire.SOCKET)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(wire.SOCKET)
        self.listener.listen(64)
        self.listener.setblocking(False)

    # the loop

    def run(self) -> None:
        looked = time.monotonic()
        while not self.stopped:
            now = time.monotonic()
            self._round(now)
            if now - looked >= TICK_S:
                looked = now
                self._look_around(now)

    def _round(self, now: float) -> None:
        poll = select.poll()
        by_number: dict[int, Terminal | Client] = {}
        poll.register(self.listener, select.POLLIN)
        timeout_s = TICK_S
        for terminal in self.terminals.values():
            if terminal.stream is None:
                continue
            wanted = select.POLLOUT if terminal.typed else 0
            if self._wants_output(terminal, now):
                wanted |= select.POLLIN
            else:
                timeout_s = min(timeout_s, 0.2)
            if wanted:
                by_number[terminal.stream.fileno()] = terminal
                poll.register(terminal.stream, wanted)
        for client in self.clients:
            wanted = select.POLLOUT if client.out or client.behind > 0 else 0
            room = client.terminal is None or len(client.terminal.typed) < TYPED_BYTES
            if room and len(client.out) < UNREAD_BYTES:
                wanted |= select.POLLIN
            by_number[client.socket.fileno()] = client
            poll.register(client.socket, wanted)
        for number, events in poll.poll(timeout_s * 1000):
            found = by_number.get(number)
            if found is None:
                self._welcome()
            elif isinstance(found, Terminal):
                stream = found.stream
                if stream is not None and events & select.POLLOUT:
                    self._type(found, stream)
                if stream is not None and events & ~select.POLLOUT:
                    self._print(found, stream, now)
            elif found in self.clients:
                if events & ~select.POLLOUT:
                    self._hear(found, now)
                if events & select.POLLOUT and found in self.clients:
                    self._send(found, now)
        for client in self.clients:
            self._tell_end(client)

    def _wants_output(self, terminal: Terminal, now: float) -> bool:
        """Whether to read on: not while all who were abreast are behind, and take what comes."""
        waited_for = False
        for client in self.clients:
            if client.terminal is not terminal or not client.abreast:
                continue
            if client.behind <= AHEAD_BYTES:
                return True
            if now - client.moved_at > PATIENCE_S:
                client.abreast = False
            else:
                waited_for = True
        return not waited_for

    # terminals

    def _print(self, terminal: Terminal, stream: socket.socket, now: float) -> None:
        try:
            data = stream.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            terminal.close()
            terminal.cut_at = now
            terminal.save()
            return
        for client in self.clients:
            if client.terminal is terminal and client.behind == 0:
                client.moved_at = now  # what was sent it has taken; the patience begins here
        terminal.modes.feed(data)
        terminal.spool.append(data)

    def _type(self, terminal: Terminal, stream: socket.socket) -> None:
        try:
            del terminal.typed[: stream.send(terminal.typed)]
        except BlockingIOError:
            pass
        except OSError:
            terminal.typed.clear()  # its output tells the rest

    def _open(self, client: Client, said: dict[str, Any]) -> None:
        if not client.fds:
            client.say("refused", why="no stream came with it")
            return
        stream = socket.socket(fileno=client.fds.pop(0))
        stream.setblocking(False)
        name = str(said.get("terminal") or "")
        if name and name != wire.MAIN:
            stream.close()
            client.say("refused", why="only the main terminal has a name of its own")
            return
        number = self.number + (not name)
        name = name or f"t{number}"
        about = said.get("about")
        terminal = self.terminals.get(name)
        if terminal is None:
            about = about if isinstance(about, dict) else {}
            try:
                terminal = Terminal(name, about | {"since": time.time()})
            except OSError as error:  # a full disk: the other terminals go on
                stream.close()
                client.say("refused", why=str(error))
                return
            self.terminals[name], self.number = terminal, number
        elif terminal.stream is not None:
            stream.close()  # somebody was faster
            client.say("opened", terminal=name)
            return
        else:
            for key in ("code", "lost", "ended_at"):
                terminal.about.pop(key, None)
            terminal.fetched = False
            for other in self._joined(terminal):
                other.told = UNTOLD
        terminal.stream, terminal.cut_at = stream, 0.0
        terminal.save()
        client.say("opened", terminal=name)

    def _end(self, terminal: Terminal, said: dict[str, Any]) -> None:
        if terminal.stream is not None or terminal.ended:
            return
        code = said.get("code")
        terminal.about |= {"code": code} if isinstance(code, int) else {"lost": True}
        terminal.about["ended_at"] = time.time()
        terminal.cut_at = 0.0
        terminal.save()
        ended = [one for one in self.terminals.values() if one.ended and one.name != wire.MAIN]
        ended.sort(key=lambda one: float(one.about.get("ended_at", 0)))
        for old in ended[:-KEPT_ENDED]:
            if not self._joined(old):
                del self.terminals[old.name]
                old.remove()

    def _joined(self, terminal: Terminal) -> list[Client]:
        return [client for client in self.clients if client.terminal is terminal]

    # clients

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self.listener.accept()
            connection.setblocking(False)
            self.clients.append(Client(connection))
            self.used_at = time.monotonic()

    def _hear(self, client: Client, now: float) -> None:
        try:
            data = self._receive(client)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave(client)
            return
        typed = False
        try:
            for kind, payload in client.frames.feed(data):
                if kind == wire.DATA:
                    typed = True
                    self._take(client, payload)
                else:
                    self._understand(client, wire.understood(payload), now)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            client.say("refused", why=f"not understood: {error}")
        if typed and client.terminal is not None:
            client.say("ack", bytes=client.terminal.taken.get(client.name, 0))
            client.active_at = now
            self._fit(client)

    def _receive(self, client: Client) -> bytes:
        fds = array.array("i")
        room = socket.CMSG_SPACE(2 * fds.itemsize)
        data, extra, _, _ = client.socket.recvmsg(CHUNK, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        client.fds += fds
        return data

    def _take(self, client: Client, payload: bytes) -> None:
        terminal = client.terminal
        if terminal is None:
            return
        if not terminal.ended:  # one that the engine has let go of may come back
            terminal.typed += payload
        self._count(client, terminal, len(payload))

    def _count(self, client: Client, terminal: Terminal, more: int) -> None:
        """What a client has typed; of those that are gone the last ones are remembered."""
        taken = terminal.taken
        taken[client.name] = taken.pop(client.name, 0) + more
        if len(taken) > KEPT_SENDERS:
            here = {one.name for one in self._joined(terminal)}
            gone = [name for name in taken if name not in here]
            for name in gone[: len(taken) - KEPT_SENDERS]:
                del taken[name]

    def _understand(self, client: Client, said: dict[str, Any], now: float) -> None:
        op = said["op"]
        if op == "list":
            client.say("terminals", terminals=[self._row(one) for one in self.terminals.values()])
            return
        if op == "open":
            self._open(client, said)
            return
        terminal = client.terminal
        if "terminal" in said:
            terminal = self.terminals.get(str(said["terminal"]))
        if terminal is None:
            client.say("refused", why="there is no such terminal", unknown=True)
        elif op == "attach":
            self._attach(client, terminal, said, now)
        elif op == "size":
            client.size = [int(said["rows"]), int(said["columns"])]
            client.active_at = now
            self._fit(client)
        elif op == "ended":
            self._end(terminal, said)
            if client.terminal is terminal and not client.behind:
                terminal.fetched = True  # who asked the engine has heard it there

    def _attach(self, client: Client, terminal: Terminal, said: dict[str, Any], now: float) -> None:
        spool = terminal.spool
        at, replay = said.get("offset"), said.get("replay")
        if at is None:  # that many of the newest bytes; all without a number
            at = spool.start if replay is None else max(spool.start, spool.end - int(replay))
            if replay is not None and terminal.modes.full_screen:
                at = spool.end  # what stands there is drawn anew
        at = min(max(0, int(at)), spool.end)
        client.terminal, client.name, client.position = terminal, str(said["client"]), at
        client.told = UNTOLD
        client.active_at = client.moved_at = now
        client.abreast = client.behind <= AHEAD_BYTES
        client.say(
            "hello",
            terminal=terminal.name,
            offset=at,
            start=spool.start,
            end=spool.end,
            taken=terminal.taken.get(client.name),
            modes=terminal.modes.changed,
            about=terminal.about,
        )
        self._count(client, terminal, 0)  # it comes back to this keeper, whatever it typed
        if "rows" in said:
            client.size = [int(said["rows"]), int(said["columns"])]
            self._fit(client)

    def _fit(self, client: Client) -> None:
        """The terminal has the size of the client that was used last, as tmux has it."""
        terminal = client.terminal
        if terminal is None or client.size == terminal.size or 0 in client.size:
            return
        terminal.size = list(client.size)
        client.say("apply", rows=client.size[0], columns=client.size[1])

    def _send(self, client: Client, now: float) -> None:
        terminal = client.terminal
        if not client.out and terminal is not None and client.behind > 0:
            try:
                data = terminal.spool.read(client.position, CHUNK)
            except LookupError:
                start = terminal.spool.start
                client.say("lost", bytes=start - client.position)
                client.position = start
            except OSError:  # too many files are open, say: it comes back and asks again
                self._leave(client)
                return
            else:
                client.position += len(data)
                client.out += wire.data(data)
        try:
            sent = client.socket.send(client.out)
        except BlockingIOError:
            return
        except OSError:
            self._leave(client)
            return
        del client.out[:sent]
        client.moved_at = now
        if client.told == TOLD and not client.out and terminal is not None:
            terminal.fetched = True
        if client.behind == 0:
            client.abreast = True

    def _tell_end(self, client: Client) -> None:
        """Once it has all the output: that this was all."""
        terminal = client.terminal
        if terminal is None or terminal.stream is not None or client.behind or client.out:
            return
        if terminal.ended and client.told != TOLD:
            client.say("exit", code=terminal.code, lost=bool(terminal.about.get("lost")))
            client.told = TOLD
        elif not terminal.ended and client.told == UNTOLD:
            client.say("exit", code=None)
            client.told = ASKED

    def _leave(self, client: Client) -> None:
        self.clients.remove(client)
        client.socket.close()
        for number in client.fds:
            os.close(number)
        terminal = client.terminal
        if terminal is None:
            return
        others = self._joined(terminal)
        if others:
            self._fit(max(others, key=lambda one: one.active_at))
        elif terminal.fetched and terminal.name != wire.MAIN:
            self.terminals.pop(terminal.name, None)
            terminal.remove()

    def _row(self, terminal: Terminal) -> dict[str, Any]:
        return terminal.about | {
            "id": terminal.name,
            "clients": len(self._joined(terminal)),
            "size": terminal.size,
            "bytes": terminal.spool.end,
            "held": terminal.stream is not None,
        }

    # the end

    def _look_around(self, now: float) -> None:
        self._reap()
        if not os.path.exists("../record.json"):
            self.stopped = True
            return
        if self.clients:
            self.used_at = now
        unused_s = now - self.used_at
        held = [one for one in self.terminals.values() if one.stream is not None]
        unsure = [one for one in self.terminals.values() if one.cut_at]
        if not held and os.path.exists("../run/end"):
            self.stopped = unused_s > ENDING_S
            return
        for terminal in unsure:
            waited = now - terminal.cut_at > (ASKED_S if self._joined(terminal) else 0)
            if waited and not self.helper and now - self.helped_at > HELPER_AGAIN_S:
                self.helped_at = now
                with contextlib.suppress(OSError):  # no process can be started now: later
                    self.helper = _start_helper()
        if held or unsure:
            self.used_at = now
            return
        main = self.terminals.get(wire.MAIN)
        over = main is not None and main.ended
        self.stopped = unused_s > (ENDING_S if over else UNUSED_S)

    def _reap(self) -> None:
        if self.helper:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self.helper, os.WNOHANG) == (0, 0):
                    return
            self.helper = 0

    def close(self) -> None:
        """Leave nothing but what the main process printed, if nobody has seen its end."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            os.unlink(wire.SOCKET)
        self.listener.close()
        if self.helper:
            with contextlib.suppress(OSError):
                os.kill(self.helper, signal.SIGKILL)
                os.waitpid(self.helper, 0)
        for client in self.clients:
            client.socket.close()
        for terminal in self.terminals.values():
            if terminal.name == wire.MAIN and not terminal.fetched:
                terminal.save()
            else:
                terminal.remove()


def _start_helper() -> int:
    """A process that asks the engine what the keeper cannot; its number."""
    interpreter, folder = sys.argv[1:3]
    pid = os.fork()
    if pid:
        return pid
    try:
        os.chdir("/")
        command = [interpreter, "-m", "mooring.terminals.keeper.exit_codes", folder]
        os.execv(interpreter, command)  # noqa: S606 - no shell is wanted
    finally:
        os._exit(127)


@contextlib.contextmanager
def _only_one() -> Iterator[bool]:
    """Whether this is the session's keeper; waits a little for one that is about to end."""
    lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + 5.0
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            serves = os.path.exists(wire.SOCKET)
            if error.errno not in (errno.EACCES, errno.EAGAIN) or serves:
                yield False
                return
        if time.monotonic() > deadline or not os.path.exists("../record.json"):
            yield False
            return
        time.sleep(0.01)
    yield True


def main() -> None:
    """Be the keeper of the session whose folder is the second argument."""
    os.chdir(os.path.join(sys.argv[2], "term"))
    if os.fork():
        os._exit(0)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            with contextlib.suppress(OSError):
                os.close(number)
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    with _only_one() as alone:
        if not alone:
            return
        keeper = Keeper()

        def stop(number: int, frame: object) -> None:
            keeper.stopped = True
            raise InterruptedError

        signal.signal(signal.SIGTERM, stop)
        try:
            with contextlib.suppress(InterruptedError):
                keeper.run()
        finally:
            keeper.close()
