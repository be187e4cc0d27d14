"""What goes on inside a session: processes, terminals, output, kernels."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence

from mooring.engines.base import Stream
from mooring.errors import EngineError, EngineUnavailable, SessionStateError
from mooring.guest import shared
from mooring.host.processes import process_mark
from mooring.kernels.kernel import KernelHandle, host_lives, others_live
from mooring.launch import plan
from mooring.service.lifecycle import Lifecycle
from mooring.sessions.model import Session, State, out_of_memory
from mooring.sessions.record import GUEST_RUN, Folder
from mooring.terminals.keeper.client import Keeping
from mooring.terminals.keeper.protocol import MAIN
from mooring.terminals.listing import TerminalEntry, exec_id_of, terminals
from mooring.terminals.terminal import UNTYPED_KEYS, Kept, MainTerminal

log = logging.getLogger(__name__)

# $0 the signal, $1 where an exec writes its number: not yet, if it was started a moment ago.
# Each exec is the leader of its group.
_SIGNAL_EXEC = """
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if read -r pid _ <"$1"; then kill "-$0" "-$pid"; exit; fi
    sleep 0.2
done 2>/dev/null
"""

# $0 a folder, then a command. Asked in the container: an engine's refusal names its own parts,
# and comes in the place of the command's output.
_IN_FOLDER = """
if ! CDPATH= cd -- "$0" 2>/dev/null; then
    if [ -d "$0" ]; then printf 'error: no permission to enter %s in the session\\n' "$0"
    elif [ -e "$0" ]; then printf 'error: %s is no folder in the session\\n' "$0"
    else printf 'error: there is no folder %s in the session\\n' "$0"
    fi >&2
    echo 'hint: make it there first, or choose another --workdir' >&2
    exit 125
fi
exec "$@"
"""


class Inside(Lifecycle):
    """What joins the processes in a session."""

    def exec(
        self,
        session: Session,
        argv: Sequence[str],
        *,
        tty: bool,
        stdin: bool,
        size: tuple[int, int] | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        detach_keys: str = "",
        mark: str = "",
    ) -> Stream:
        """Start a process in a running session.

        It starts the idle window anew; without a terminal it counts as activity while it lives.

        Args:
            argv: the command; empty for a shell.
            size: rows and columns of the terminal, right from its first moment.
            workdir: where there is no such folder, that is printed and the exit code is 125.
            mark: a plain word of the caller's, by which ``signal`` finds a process without a
                terminal; one is made up without.

        Raises:
            SessionNotFound, SessionStateError: it has ended meanwhile.
            EngineError
        """
        if tty:
            command = _in_terminal(argv, size or (24, 80))
        else:
            mark = mark or secrets.token_hex(4)
            command = ["/bin/sh", plan.CLOCK, "exec", mark, "--", *(argv or ["/bin/sh"])]
        stream = self._begin(
            session,
            command,
            tty=tty,
            stdin=stdin,
            env=env,
            workdir=workdir,
            detach_keys=detach_keys,
        )
        if size:
            stream.resize(*size)
        return stream

    def _begin(
        self,
        session: Session,
        command: list[str],
        *,
        tty: bool,
        stdin: bool,
        env: Mapping[str, str] | None,
        workdir: str | None,
        detach_keys: str,
    ) -> Stream:
        """Start what a user asked for, and have the session's clock know of it."""
        Folder.open(session.id).mark_exec()
        if workdir:
            command = ["/bin/sh", "-c", _IN_FOLDER, workdir, *command]
        try:
            return self.engine.exec(
                session.container,
                command,
                tty=tty,
                stdin=stdin,
                env=env,
                detach_keys=detach_keys,
            )
        except EngineUnavailable:
            raise
        except EngineError:
            self.running(session.name)  # says what has become of it
            raise

    def signal(self, session: Session, name: str, mark: str = "") -> None:
        """Send a signal into a session, as a terminal's Ctrl-C would.

        Args:
            name: INT, TERM, HUP, …
            mark: of a process that ``exec`` started, which gets it with all of its group;
                without, the main process does, through the container's init.

        Raises:
            EngineError
        """
        script = _SIGNAL_EXEC if mark else 'kill -s "$0" 1'
        argv = ["/bin/sh", "-c", script, name, f"{GUEST_RUN}/x/{mark}"]
        self.engine.exec_detached(session.container, argv)

    def why_killed(self, session: Session, since: float) -> str:
        """Why something in a session was killed since then (epoch): memory, or empty for unknown.

        Raises:
            EngineError
        """
        starved = self.engine.out_of_memory(session.container, since)
        return out_of_memory(session.spec) if starved else ""

    def open_terminal(
        self,
        session: Session,
        argv: Sequence[str],
        *,
        size: tuple[int, int],
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        label: str = "",
        detach_keys: str = "",
    ) -> Stream:
        """Start a process in a terminal that outlives whoever opened it.

        Args:
            argv: the command; empty for a shell.
            size: rows and columns, right from its first moment.
            label: by which a door finds its own terminals again.
            detach_keys: for a stream that nobody could be found to keep.

        Returns:
            A ``Kept``; where no keeper can be started (the disk is full) the stream itself.

        Raises:
            SessionNotFound, SessionStateError: it has ended meanwhile.
            EngineError
        """
        folder = Folder.open(session.id)
        try:
            keeping = Keeping.begin(folder)
        except OSError as error:
            log.warning("nobody keeps this terminal: %s", error)
            return self.exec(
                session,
                argv,
                tty=True,
                stdin=True,
                size=size,
                env=env,
                workdir=workdir,
                detach_keys=detach_keys,
            )
        # whoever joins it resizes it, too: here that would wait until the process has begun
        stream = self._begin(
            session,
            _in_terminal(argv, size),
            tty=True,
            stdin=True,
            env=env,
            workdir=workdir,
            detach_keys=UNTYPED_KEYS,
        )
        about = {"command": list(argv), "size": size, "label": label, "exec": stream.exec_id}
        try:
            name = keeping.hand_over(stream, "", about)
        except SessionStateError as error:
            log.warning("nobody keeps this terminal: %s", error)
            return stream
        stream.close()
        return Kept(self.engine, session.container, folder, name, stream.exec_id, new=True)

    def terminals(self, session: Session) -> list[TerminalEntry]:
        """The terminals of a session: the main one, then those that were opened, the oldest first.

        One that has ended is listed until somebody has seen the rest of what it printed.
        """
        found = terminals(Folder.open(session.id))
        if session.state is not State.STOPPED:
            return found
        return [  # its keeper may have gone with it before anybody asked how they ended
            dataclasses.replace(one, ended=True, code=session.exit_code)
            if one.id == MAIN
            else dataclasses.replace(one, ended=True)
            for one in found
        ]

    def attach(
        self, session: Session, terminal: str = "", *, detach_keys: str = ""
    ) -> Stream | None:
        """A terminal of a session, or its main process's streams.

        Args:
            terminal: its id; empty for the main one.

        Returns:
            A ``Kept`` for a terminal. None when the session has no main process but its clock.

        Raises:
            SessionStateError: it has no such terminal.
            EngineError
        """
        folder = Folder.open(session.id)
        main = self._main_kind(session)
        if terminal and (terminal != MAIN or main == "none"):
            known = [one.id for one in terminals(folder)]
            if terminal not in known:
                raise SessionStateError(
                    f"session {session.name} has no terminal {terminal}",
                    f"it has: {', '.join(known)}" if known else f"mooring exec {session.name}",
                )
            exec_id = exec_id_of(folder, terminal)
            return Kept(self.engine, session.container, folder, terminal, exec_id)
        if main == "none":
            return None
        if main == "streams":
            return self.engine.attach(session.container, tty=False, detach_keys=detach_keys)
        return MainTerminal(self.engine, folder).find(session.container, detach_keys)

    def last_words(self, session: Session) -> Kept | None:
        """The main terminal of a session that has ended, if nobody has seen its end yet."""
        folder = Folder.open(session.id)
        if session.state is not State.STOPPED or not (folder.path / "term" / MAIN).exists():
            return None
        return MainTerminal(self.engine, folder).over(session.container)

    def logs(
        self, session: Session, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[bytes]:
        """What the main process printed."""
        tty = bool(Folder.open(session.id).record().get("tty", True))
        return self.engine.logs(session.container, tty=tty, follow=follow, tail=tail)

    # kernels

    def end_with_kernel(self, session: Session, kernel_id: str) -> None:
        """A kernel is over: remove the session if it was made for kernels and has no other.

        Args:
            kernel_id: mooring's own; its process has ended.

        Raises:
            EngineError: its clock ends it then, and the next look removes it.
        """
        folder = Folder.open(session.id)
        if not folder.record().get("ends_with_kernels") or others_live(folder, kernel_id):
            return
        try:
            self.remove(session, force=True)
        except EngineError:
            if folder.exists:
                folder.update_record(remove=process_mark(os.getpid()))
                with contextlib.suppress(OSError):
                    folder.write_settings(**folder.settings() | {"max_duration_s": "1"})
            raise

    def kernel(self, session_id: str, kernel_id: str) -> KernelHandle:
        """A handle for a kernel of a session, there or not yet.

        Raises:
            KernelError: the path of its sockets would be too long.
        """
        return KernelHandle(Folder.open(session_id), kernel_id)

    def ensure_kernel_host(self, session: Session) -> None:
        """Have the parent of kernels run in a session: where there was none, or where it died.

        Raises:
            ImageError: the image has no Python with ipykernel.
            EngineError
        """
        folder = Folder.open(session.id)
        first = not shared.exists(folder.run, "kernelhost.lock")
        if host_lives(folder) or (first and shared.exists(folder.run, "kernelhost")):
            return  # the clock starts the first one of a session that was made for kernels
        python = folder.record().get("python")
        if not python:
            raise plan.no_kernel(session.image, "no Python with ipykernel was found in it")
        command = 'exec "$0" "$1" >"$2" 2>&1 </dev/null'
        self.engine.exec_detached(
            session.container,
            [
                "/bin/sh",
                "-c",
                command,
                python,
                f"{GUEST_RUN}/kernelhost.py",
                f"{GUEST_RUN}/kernelhost.log",
            ],
        )


def _in_terminal(argv: Sequence[str], size: tuple[int, int]) -> list[str]:
    """A command, or a shell, that finds its terminal at its size from the first moment."""
    return ["/bin/sh", plan.CLOCK, "shell", *map(str, size), "--", *argv]
