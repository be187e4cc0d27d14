"""What a kernelspec's ``argv`` runs in clients that ignore kernel provisioners, VS Code above all.

The client sees a process that holds the kernel's five ports and is the kernel: its signals, its
exit code and its end count. Behind it stands a session, as with every other client.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from mooring.errors import ImageError, KernelError, MooringError, NotSupported
from mooring_provisioner.arguments import USAGE, Ports, notebook_of, read_kernelspec
from mooring_provisioner.keeper import CRASH_S, RESTART_S, Keeper, end_kernel
from mooring_provisioner.relay import Relay

if TYPE_CHECKING:
    from mooring.kernels.kernel import KernelHandle
    from mooring.service import Mooring
    from mooring.sessions.lease import Lease
    from mooring.sessions.model import Session
    from mooring_provisioner.opening import Wanted

START_TIMEOUT_S = 60.0
# For GPUs: the client gives a kernel a minute, and shows nothing but its last words
GPU_WAIT_S = 40.0
POLL_S = 0.25
# VS Code starts the process of a restart while it still ends the last one, for up to a second
PREDECESSOR_S = 1.5
# One that is known to be ending its kernel is waited for
LEAVING_S = 5.0
# One that ended longer before this process began may well be another notebook's
JUST_ENDED_S = 1.0
LEAVING = (signal.SIGTERM, signal.SIGHUP)


class _Leave(BaseException):
    """The client wants this process to end, or is gone itself."""

    def __init__(self, code: int) -> None:
        self.code = code


def main() -> int:
    """The console script. Returns the exit code: the kernel's own, 128 and more for a signal."""
    for number in LEAVING:
        signal.signal(number, _leave)
    signal.signal(signal.SIGINT, lambda number, frame: None)  # there is no cell yet
    try:
        if len(sys.argv) == 2:
            raise KernelError(
                "this kernelspec was made by an older mooring",
                "install it again: mooring kernel install",
            )
        if len(sys.argv) != 3:
            raise KernelError("two arguments are needed", USAGE)
        folder, file = sys.argv[1:]
        keeper = Keeper()
        ports = Ports.read(file)
        with ports.held() as listening:
            return Launcher(folder, ports.key, keeper).run(listening)
    except _Leave as leaving:
        return leaving.code
    except MooringError as error:
        _explain(error)
        return error.exit_code
    except OSError as error:
        _explain(KernelError(f"cannot start the kernel: {error}"))
        return 1


class Launcher:
    """One kernel in a session, for a client that knows only this process.

    Args:
        kernelspec: its folder.
        key: the client's; it signs the messages on both sides, so that none is signed again.
    """

    def __init__(self, kernelspec: str, key: bytes, keeper: Keeper) -> None:
        from mooring.host.processes import process_mark

        self._kernelspec, self._key, self._keeper = kernelspec, key, keeper
        self._cwd = os.getcwd()
        self._client = os.getppid()
        self._notebook = notebook_of(self._client)
        self._me = process_mark(os.getpid())
        self._short_id = os.urandom(6).hex()
        self._lease: Lease | None = None  # held as long as this process lives
        keeper.tell(holder=self._me, client=process_mark(self._client))

    def run(self, ports: list[socket.socket]) -> int:
        """Start the kernel, and serve it until it or the client has had enough.

        Raises:
            MooringError: it cannot be started, or has died; with its last words.
        """
        wanted, env = read_kernelspec(self._kernelspec)
        from mooring.service import Mooring

        mooring = Mooring()
        session, kernel_name = self._session(mooring, wanted)
        handle = mooring.kernel(session.id, self._short_id)
        self._keeper.tell(session=session.id, kernel=handle.id)
        try:
            connection = handle.write_connection(
                key=self._key, encrypt=False, kernel_name=kernel_name
            )
            mooring.ensure_kernel_host(session)
            handle.start(cwd=self._cwd, env=env, timeout_s=START_TIMEOUT_S)
            detail = f"{connection.kernel_name} {handle.id} started"
            mooring.history.add(session.id, "kernel", mooring.actor, detail)
            return self._serve(mooring, handle, ports)
        finally:
            for number in (*LEAVING, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            if self._lease is not None:
                self._lease.announce()
            end_kernel(mooring, session.id, handle.id)

    # the session

    def _session(self, mooring: Mooring, wanted: Wanted) -> tuple[Session, str]:
        """The session, and the kernel's name in it: the last one's on a restart."""
        resolved = wanted.resolve(self._cwd, pull="never")
        if resolved.spec.encrypt == "always":
            raise _no_encryption("its spec says encrypt: always")
        kernel_name = resolved.spec.kernel or "python3"
        session = None if wanted.session else self._of_predecessor(mooring, wanted)
        if session is None:
            from mooring_provisioner.opening import open_session, own_name

            if not wanted.session:
                self._keeper.tell(name=own_name(resolved, self._short_id))
            try:
                opened = open_session(
                    mooring,
                    wanted,
                    resolved,
                    cwd=self._cwd,
                    short_id=self._short_id,
                    cancelled=self._orphaned,
                    max_wait_s=GPU_WAIT_S,
                )
            except ImageError as error:
                raise _not_fetched(mooring, resolved.spec.image, error) from error
            session = opened.session
            if opened.created:
                from mooring.sessions.lease import Lease
                from mooring.sessions.record import Folder

                folder = Folder.open(session.id)
                self._lease = Lease.make(
                    folder, key=self._lease_key(wanted), holder=self._me, kernel=self._short_id
                )
                self._keeper.tell(session=session.id, own=True)
        if session.spec.get("encrypt") == "always":
            raise _no_encryption(f"session {session.name} was made with encrypt: always")
        return session, kernel_name

    def _of_predecessor(self, mooring: Mooring, wanted: Wanted) -> Session | None:
        """The session that the last launcher of a restart has let go of, running."""
        from mooring.errors import SessionNotFound
        from mooring.sessions.model import State

        lease = self._released(self._lease_key(wanted))
        if lease is None:
            return None
        try:
            session = mooring.get(lease.folder.id)
            if session.state is not State.RUNNING and not self._notebook:
                lease.release()
                return None
            if session.state is not State.RUNNING:
                session = self._started_again(mooring, session, lease)
            # not before: until it runs, the last launcher's keeper answers for its files
            lease.hand_to(self._me, self._short_id)
        except SessionNotFound:
            lease.release()
            return None
        except BaseException:
            lease.release()
            raise
        self._lease = lease
        self._keeper.tell(session=session.id, own=True)
        return session

    def _started_again(self, mooring: Mooring, session: Session, lease: Lease) -> Session:
        """A session that had ended, running; where it cannot be started its files stay."""
        try:
            return mooring.start(session.id, cancelled=self._orphaned, max_wait_s=GPU_WAIT_S)
        except BaseException:
            if lease.folder.exists and lease.folder.end() is None:
                # nothing tells any more that it had ended, for which that keeper keeps it
                lease.dissolve()
                mooring.history.add(session.id, "kept", mooring.actor, "it could not be started")
            raise

    def _released(self, key: dict[str, Any]) -> Lease | None:
        """A session of the same client, kernelspec and folder that has no launcher any more.

        Of the same notebook, if the client names it. If not, it is the one whose launcher ended
        last, a moment ago. While there are such with one, waits a moment: perhaps it is about to
        end.
        """
        from mooring.sessions.lease import Lease, key_of, left_at
        from mooring.sessions.record import Folder, uptime

        began = uptime() - _age_s()
        while True:
            now = uptime()
            rivals = {each: left_at(each) for each in Folder.all() if key_of(each) == key}
            if not self._notebook:
                rivals = {
                    each: left
                    for each, left in rivals.items()
                    if each.end() is None and (left is None or now - left < RESTART_S)
                }
            waiting = None in rivals.values() and now - began <= PREDECESSOR_S
            for folder, left in sorted(rivals.items(), key=lambda rival: -(rival[1] or 0.0)):
                if not self._notebook and (
                    left is None or (waiting and left < began - JUST_ENDED_S)
                ):
                    continue
                lease = Lease.take(folder, key=key)
                if lease is not None:
                    return lease
                if not self._notebook:
                    break  # it is still ending, and its own restart waits for it
            leaving = any(left is not None for left in rivals.values())
            if not rivals or now - began > (LEAVING_S if leaving else PREDECESSOR_S):
                return None
            time.sleep(0.02)

    def _lease_key(self, wanted: Wanted) -> dict[str, Any]:
        from mooring.host.processes import process_mark

        return {
            "client": process_mark(self._client),
            "cwd": self._cwd,
            "notebook": self._notebook,
            "kernelspec": os.path.abspath(self._kernelspec),
            "spec": wanted.spec,
            "flags": dict(wanted.flags),
        }

    # the kernel's life

    def _serve(self, mooring: Mooring, handle: KernelHandle, ports: list[socket.socket]) -> int:
        import asyncio

        with handle.pinned_sockets() as targets:
            code = asyncio.run(self._relay(handle, ports, targets))
        if code is None:
            return 128 + signal.SIGTERM
        if code == 0:
            return 0
        if self._notebook and handle.folder.end() is None:
            self._keeper.tell(patience_s=CRASH_S)
        words = "".join(f"\n    {line}" for line in _last_words(handle.log_tail()))
        _explain(KernelError(f"the kernel ended: {handle.how_it_ended()}{words}"))
        return code if code > 0 else 128 - code

    async def _relay(
        self, handle: KernelHandle, ports: list[socket.socket], targets: list[str]
    ) -> int | None:
        """Pass bytes on until the kernel has ended (its code) or is to be ended (None)."""
        import asyncio

        loop = asyncio.get_running_loop()
        leave = asyncio.Event()
        for number in LEAVING:
            loop.add_signal_handler(number, leave.set)
        interrupts = asyncio.Queue[int]()
        loop.add_signal_handler(signal.SIGINT, interrupts.put_nowait, signal.SIGINT)
        relay = Relay(ports, targets)
        await relay.start()
        try:
            while True:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(leave.wait(), POLL_S)
                if leave.is_set() or self._orphaned():
                    return None
                while not interrupts.empty():
                    handle.send_signal(interrupts.get_nowait())
                code = handle.poll()
                if code is not None:
                    return code
        finally:
            relay.close()

    def _orphaned(self) -> bool:
        """Whether the client is gone.

        Asked now and then. The signal that a parent's death can send (PR_SET_PDEATHSIG) is sent
        when the parent's *thread* ends, and clients start kernels in threads.
        """
        return os.getppid() != self._client


def _not_fetched(mooring: Mooring, image: str, error: ImageError) -> ImageError:
    """A client waits a minute and shows nothing meanwhile: no time and no place for a pull."""
    if image == "host" or mooring.engine.image_id(image) is not None:
        return error
    return ImageError(
        f"image {image} is not on this machine",
        f"fetch it in a terminal, then try again: docker pull {image}",
    )


def _no_encryption(why: str) -> NotSupported:
    return NotSupported(
        f"this client cannot encrypt what it says to a kernel, and {why}",
        "connect it to a Jupyter server (jupyter server), and pick the kernel there",
    )


def _last_words(log: list[str]) -> list[str]:
    """What a kernel printed after ipykernel's greeting."""
    greetings = [number for number, line in enumerate(log) if "--existing " in line]
    words = log[greetings[-1] + 1 :] if greetings else log
    return [line for line in words if line.strip()]


def _age_s() -> float:
    """Seconds since this process began."""
    with open("/proc/self/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _leave(number: int, frame: FrameType | None) -> None:
    for each in LEAVING:
        signal.signal(each, signal.SIG_IGN)
    raise _Leave(128 + number)


def _explain(error: MooringError) -> None:
    """On standard error, which clients show; nobody may be reading it any more."""
    lines = [f"error: {error.message}"] + ([f"hint: {error.hint}"] if error.hint else [])
    text = "\n".join(lines)
    with contextlib.suppress(OSError):
        print("".join(c for c in text if c.isprintable() or c == "\n"), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
