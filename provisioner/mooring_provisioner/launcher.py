"""The command in a kernelspec's ``argv``, for clients that ignore provisioners, such as VS Code.

For the client this process is the kernel: it listens on the kernel's five ports, forwards signals
and exits with the kernel's exit code. The kernel itself runs in a session, as for other clients.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from mooring import ImageError, KernelError, MooringError, NotSupported, quoted
from mooring_provisioner.connection_file import USAGE, Ports, notebook_of, read_kernelspec
from mooring_provisioner.death import death_text, print_error
from mooring_provisioner.relay import Relay
from mooring_provisioner.watchdog import CRASH_S, Watchdog

if TYPE_CHECKING:
    from mooring import KernelHandle, Lease, Mooring, ResolvedSpec, Session
    from mooring_provisioner.session import KernelspecConfig

# Timeout for GPUs: the client's timeout for a kernel is one minute, without any progress shown
GPU_WAIT_S = 40.0
POLL_S = 0.25
LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class _Leave(BaseException):
    """The client has sent this process a signal to exit."""

    def __init__(self, code: int) -> None:
        self.code = code


def main() -> int:
    """Run the ``mooring-kernel`` console script.

    Returns:
        The kernel's exit code, 128 plus the signal's number after a signal, or the exit code of an
        error.
    """
    for number in LEAVE_SIGNALS:
        signal.signal(number, _leave)
    signal.signal(signal.SIGINT, lambda number, frame: None)  # no cell is running yet
    try:
        if len(sys.argv) == 2:
            raise KernelError(
                "this kernelspec was installed by an older version of mooring",
                "install it again: mooring kernel install",
            )
        if len(sys.argv) < 3:
            raise KernelError("two arguments are needed", USAGE)
        folder, file, *arguments = sys.argv[1:]
        watchdog = Watchdog()
        ports = Ports.read(file)
        with ports.bound() as sockets:
            return Launcher(folder, ports.key, watchdog, arguments).run(sockets)
    except _Leave as leave:
        return leave.code
    except MooringError as error:
        print_error(error, "error")
        return error.exit_code
    except OSError as error:
        print_error(KernelError(f"cannot start the kernel: {error}"), "error")
        return 1


class Launcher:
    """Runs one kernel in a session for a client that treats this process as the kernel.

    Args:
        kernelspec: the kernelspec's folder.
        key: the client's key; the kernel uses it too, so the relay need not sign messages again.
        watchdog: cleans up after this process has exited.
        arguments: command-line arguments, added to the kernel's.
    """

    def __init__(
        self, kernelspec: str, key: bytes, watchdog: Watchdog, arguments: Sequence[str] = ()
    ) -> None:
        from mooring import process_mark

        self._arguments = arguments
        self._kernelspec, self._key, self._watchdog = kernelspec, key, watchdog
        self._cwd = os.getcwd()
        self._client = os.getppid()
        self._notebook = notebook_of(self._client)
        self._holder = process_mark(os.getpid())
        self._short_id = os.urandom(6).hex()
        self._lease: Lease | None = None  # held for the rest of this process's life
        watchdog.report(holder=self._holder, client=process_mark(self._client))

    def run(self, ports: list[socket.socket]) -> int:
        """Start the kernel and serve it until it exits, or the client ends it or exits.

        Args:
            ports: listening sockets, in the order of ``mooring.CHANNELS``.

        Returns:
            The exit code.

        Raises:
            MooringError: the kernel cannot be started, or exited while starting; the message
                includes its last output.
        """
        config, env = read_kernelspec(self._kernelspec)
        from mooring import Mooring

        mooring = Mooring()
        session, kernel_name = self._open_session(mooring, config)
        handle = mooring.kernels.handle(session.id, self._short_id)
        self._watchdog.report(session=session.id, kernel=handle.id)
        try:
            connection = handle.write_connection(
                key=self._key, encrypt=False, kernel_name=kernel_name
            )
            mooring.kernels.start(
                session,
                handle,
                connection,
                cwd=self._cwd,
                cwd_optional=config.is_elsewhere(self._cwd),
                env=env,
                arguments=self._arguments,
            )
            return self._serve(
                handle, ports, lambda: mooring.kernels.describe_exit(session, handle)
            )
        finally:
            for number in (*LEAVE_SIGNALS, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            if self._lease is not None:
                self._lease.announce()
            mooring.kernels.end(session.id, handle.id)

    # the session

    def _open_session(self, mooring: Mooring, config: KernelspecConfig) -> tuple[Session, str]:
        """Return the session, on a restart the last launcher's, and the kernel's name in it."""
        resolved = config.resolve(self._cwd, pull="never")
        if resolved.spec.encrypt == "always":
            raise _no_encryption("its spec says encrypt: always")
        session = None if config.session else self._last_session(mooring, config)
        if session is None:
            session = self._new_session(mooring, config, resolved)
        if session.declared.get("encrypt") == "always":
            raise _no_encryption(f"session {session.name} was created with encrypt: always")
        return session, resolved.spec.kernel or "python3"

    def _last_session(self, mooring: Mooring, config: KernelspecConfig) -> Session | None:
        from mooring_provisioner.restart import take_over

        taken = take_over(
            mooring,
            self._lease_key(config),
            notebook=bool(self._notebook),
            holder=self._holder,
            kernel=self._short_id,
            cancelled=self._orphaned,
            max_wait_s=GPU_WAIT_S,
        )
        if taken is None:
            return None
        session, self._lease = taken
        self._watchdog.report(session=session.id, own=True)
        return session

    def _new_session(
        self, mooring: Mooring, config: KernelspecConfig, resolved: ResolvedSpec
    ) -> Session:
        from mooring_provisioner.session import open_session, own_name

        if not config.session:
            self._watchdog.report(name=own_name(resolved, self._short_id))
        try:
            opened = open_session(
                mooring,
                config,
                resolved,
                cwd=self._cwd,
                short_id=self._short_id,
                cancelled=self._orphaned,
                max_wait_s=GPU_WAIT_S,
            )
        except ImageError as error:
            raise _not_pulled(mooring, resolved.spec.image, error) from error
        if opened.created:
            self._lease = mooring.leases.make(
                opened.session.id,
                key=self._lease_key(config),
                holder=self._holder,
                kernel=self._short_id,
            )
            self._watchdog.report(session=opened.session.id, own=True)
        return opened.session

    def _lease_key(self, config: KernelspecConfig) -> dict[str, Any]:
        from mooring import process_mark

        return {
            "client": process_mark(self._client),
            "cwd": self._cwd,
            "notebook": self._notebook,
            "kernelspec": os.path.abspath(self._kernelspec),
            "spec": config.spec,
            "flags": dict(config.flags),
        }

    # the kernel's life

    def _serve(
        self, handle: KernelHandle, ports: list[socket.socket], describe_exit: Callable[[], str]
    ) -> int:
        import asyncio

        with handle.pinned_sockets() as targets:
            code = asyncio.run(self._relay(handle, ports, targets))
        if code is None:
            return 128 + signal.SIGTERM
        if code == 0:
            return 0
        if self._notebook and not handle.session_ended():
            self._watchdog.report(patience_s=CRASH_S)
        print_error(death_text("the kernel", describe_exit(), handle), "error")
        return code if code > 0 else 128 - code

    async def _relay(
        self, handle: KernelHandle, ports: list[socket.socket], targets: list[str]
    ) -> int | None:
        """Forward bytes until the kernel exits or is to be ended.

        Returns:
            The kernel's exit code, or None if it is to be ended.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        leave = asyncio.Event()
        for number in LEAVE_SIGNALS:
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
        """Return whether the client has exited.

        This is polled because PR_SET_PDEATHSIG sends its signal when the parent's *thread* exits,
        and clients start kernels in threads.
        """
        return os.getppid() != self._client


def _not_pulled(mooring: Mooring, image: str, error: ImageError) -> ImageError:
    """Return the error for a missing image; the client's timeout is too short for a pull."""
    if image == "host" or mooring.engine.image_id(image) is not None:
        return error
    return ImageError(
        f"image {image} is not on this machine",
        f"pull it in a terminal, then try again: docker pull {quoted(image)}",
    )


def _no_encryption(why: str) -> NotSupported:
    return NotSupported(
        f"this client cannot encrypt its messages to a kernel, and {why}",
        "connect it to a Jupyter server (jupyter server), and select the kernel there",
    )


def _leave(number: int, frame: FrameType | None) -> None:
    for leave_signal in LEAVE_SIGNALS:
        signal.signal(leave_signal, signal.SIG_IGN)
    raise _Leave(128 + number)


if __name__ == "__main__":
    sys.exit(main())
