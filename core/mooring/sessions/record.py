"""A session's folder on this machine: what its container sees under /run/mooring, and its record.

::

    sessions/ID/            0700, the caller's
      record.json           id, name, container: written before the container exists
      lock                  held by the process that creates or starts it; freed by its death
      ready                 the creation is complete; without it and without the lock: remove
      waiting               what the creation waits for now, in a line
      cancel                somebody asked for its end; the creator looks
      queued                it waits for its GPUs now
      enqueued              how it is to be made, of one that was left to wait; private
      refused               the version of mooring that cannot read that
      kernels/              which client each kernel belongs to (mooring.sessions.kernel_owners)
      home/                 the private home (unless the spec mounts the real one)
      secrets/              one 0400 file a secret, read-only in the container
      etc/                  passwd and group with the caller in them
      run/                  /run/mooring in the container, see guest/clock.sh for its files
      term/                 the keeper of its terminals and their output, see terminals/host.py
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mooring
from mooring.errors import MooringError
from mooring.guest import shared
from mooring.host import paths

GUEST_RUN = "/run/mooring"
_COUNT = re.compile(r"[0-9]{1,15}")
_KERNEL = re.compile(r"[A-Za-z0-9-]{1,40}")
# No clock counts so far; seconds, or anything else that a status tells
_MOST = 1e15
# Of a line that the clock has written, so much is shown
_MOST_TEXT = 1000


@dataclass(frozen=True)
class ClockStatus:
    """What a session's clock last said. Seconds from now; None where there is no such end.

    Attributes:
        gpu_percent: of the busiest of its GPUs, when it was last asked; None for not known.
        gpu_unused_s: since one was at 5 % or more, or since the start; None as above.
        gpu_lost: its GPUs were there at the start and cannot be opened any more.
        gpu_absent: it has GPUs, and nobody in the container tells their use.
    """

    age_s: float
    idle_in_s: float | None
    max_in_s: float | None
    active: tuple[str, ...]
    unknown: tuple[str, ...]
    held_for_s: float
    cpu_percent: float | None
    last_signal: str
    last_signal_ago_s: float
    running_for_s: float = 0.0
    memory_bytes: int | None = None
    gpu_percent: float | None = None
    gpu_unused_s: float | None = None
    gpu_lost: bool = False
    gpu_absent: bool = False


@dataclass(frozen=True)
class End:
    """Why a session's clock ended it: the reason's word, when (epoch), one line, the signals."""

    reason: str
    time: float
    detail: str
    signals: str


@dataclass(frozen=True)
class KernelEntry:
    """A kernel of a session, as its folder tells."""

    id: str
    busy: bool
    requests: int
    exit: str | None


class Folder:
    """One session's folder; made by ``create``, found by ``open``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self.home = path / "home"
        self.secrets = path / "secrets"
        self._held: int | None = None

    @property
    def id(self) -> str:
        return self.path.name

    @classmethod
    def create(cls, session_id: str, record: dict[str, Any]) -> Folder:
        """Make the folder with its record, all at once, and hold it until ``release``.

        There is never one without a record, nor one in the making that nobody holds.
        """
        final = paths.sessions_dir() / session_id
        draft = final.with_name(f".{session_id}.new")
        held = None
        try:
            for name in ("", "run", "run/k", "run/x", "home", "secrets", "etc", "empty"):
                (draft / name).mkdir(mode=0o700, exist_ok=True)
            (draft / "record.json").write_text(json.dumps(record))
            # flock itself, and not a library: the lock must follow the folder through its renaming
            held = os.open(draft / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(held, fcntl.LOCK_EX)
            draft.rename(final)
        except BaseException:
            if held is not None:
                os.close(held)
            shutil.rmtree(draft, ignore_errors=True)
            raise
        folder = cls(final)
        folder._held = held
        return folder

    @classmethod
    def all(cls) -> list[Folder]:
        return [
            cls(Path(entry.path))
            for entry in os.scandir(paths.sessions_dir())
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]

    @classmethod
    def open(cls, session_id: str) -> Folder:
        return cls(paths.sessions_dir() / session_id)

    @property
    def exists(self) -> bool:
        return (self.path / "record.json").exists()

    def record(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.path / "record.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def update_record(self, **changes: Any) -> None:
        """Change some of it; what others change at the same time, in any process, stays too."""
        held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            _write(self.path / "record.json", json.dumps(self.record() | changes))
        finally:
            os.close(held)

    # creation

    @property
    def ready(self) -> bool:
        return (self.path / "ready").exists()

    def mark_ready(self) -> None:
        (self.path / "ready").touch()

    def tell_waiting(self, text: str) -> None:
        """Say what the creation waits for; whoever looks at the session reads it."""
        _write(self.path / "waiting", text)

    def waiting(self) -> str:
        try:
            return (self.path / "waiting").read_text()
        except OSError:
            return ""

    def ask_cancel(self) -> None:
        """Ask the process that creates it to give up; it looks at each step."""
        with contextlib.suppress(FileNotFoundError):  # it has just done so
            (self.path / "cancel").touch()

    def cancelled(self) -> bool:
        return (self.path / "cancel").exists()

    @property
    def queued(self) -> bool:
        """Whether it waits for GPUs."""
        return (self.path / "queued").exists()

    def mark_queued(self) -> None:
        (self.path / "queued").touch()

    def unmark_queued(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self.path / "queued").unlink()

    @property
    def enqueued(self) -> bool:
        """Whether it was left to wait, for whoever comes to go on with."""
        return (self.path / "enqueued").exists()

    def mark_enqueued(self, how: dict[str, Any]) -> None:
        """Leave it to wait; ``how`` tells who comes what to do."""
        self.mark_queued()
        _write(self.path / "enqueued", json.dumps(how))

    @property
    def to_be_made(self) -> bool:
        """Whether it was left to wait, and this version can make it."""
        return self.enqueued and not self.ready and not self.refused

    @property
    def refused(self) -> bool:
        """Whether this version of mooring cannot read how it is to be made."""
        try:
            return (self.path / "refused").read_text() == mooring.__version__
        except OSError:
            return False

    def refuse(self, why: str) -> None:
        """Write down that this version cannot make it; what waits for it shows ``why``."""
        _write(self.path / "refused", mooring.__version__)
        self.tell_waiting(why)

    def take(self) -> bool:
        """Hold one that was left to wait, until ``release``; False if somebody else does."""
        try:
            held = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(held)
            return False
        self._held = held
        return True

    def release(self) -> None:
        """Let go of a folder that ``create`` made: it is complete, or to be removed."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def being_created(self) -> bool:
        """Whether a live process holds it now; the kernel lets go for one that dies."""
        return is_held(self.path / "lock")

    def remove(self) -> None:
        """Delete it; what could not be deleted is told.

        Raises:
            MooringError: something inside cannot be deleted by the caller.
        """
        from mooring.terminals.keeper.client import end_keeper

        end_keeper(self)  # it writes in there
        gone = self.path.with_name(f".{self.id}.gone")
        with contextlib.suppress(OSError):
            self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        if gone.exists():
            raise MooringError(f"cannot delete {gone}", "look at what is inside, then delete it")

    # what the clock reads

    def write_settings(self, **settings: str | float) -> None:
        text = "".join(f"{key} {value}\n" for key, value in settings.items())
        shared.write(self.run, "settings", text)

    def setting_s(self, key: str) -> float | None:
        """A setting in seconds, 0 for never; None for one that is not there or is no number."""
        try:
            return max(0.0, _number(self.settings()[key]))
        except (KeyError, ValueError):
            return None

    def settings(self) -> dict[str, str]:
        lines = shared.text(self.run, "settings").splitlines()
        return dict(line.split(" ", 1) for line in lines if " " in line)

    def hold(self, seconds: float) -> None:
        """Keep the session from idling out for that long; 0 ends a hold."""
        until = uptime() + seconds if seconds > 0 else 0.0
        shared.write(self.run, "hold", f"{until:.2f}\n")

    def mark_exec(self) -> None:
        """Have the clock's next look see that an exec was begun, even one that is over by then."""
        with contextlib.suppress(OSError):  # the disk may be full; one that lives is seen anyway
            shared.write(self.run, "exec", f"{uptime():.6f}\n")

    # what the clock writes

    def status(self) -> ClockStatus | None:
        """The clock's last word, or None before its first (or after a torn write)."""
        found = _lines(shared.text(self.run, "status"))
        try:
            now, sampled = uptime(), _number(found["sampled"])
            last_at, last = found.get("last_signal", "0 start").split(" ", 1)
            percent, memory = found.get("cpu_percent", ""), found.get("memory_bytes", "")
            started, gpu = _number(found.get("started", found["sampled"])), found.get("gpu", "")
            status = ClockStatus(
                age_s=now - sampled,
                idle_in_s=_until(found.get("idle_at", "never"), now),
                max_in_s=_until(found.get("max_at", "never"), now),
                active=tuple(found.get("active", "").split()),
                unknown=tuple(found.get("unknown", "").split()),
                held_for_s=max(0.0, _number(shared.text(self.run, "hold") or "0") - now),
                cpu_percent=max(0.0, _number(percent)) if percent else None,
                last_signal=last,
                last_signal_ago_s=max(0.0, now - _number(last_at)),
                running_for_s=now - started,
                memory_bytes=int(memory) if _COUNT.fullmatch(memory) else None,
                gpu_percent=max(0.0, _number(found["gpu_percent"])) if gpu == "ok" else None,
                gpu_unused_s=_gpu_unused_s(found, now, started) if gpu == "ok" else None,
                gpu_lost=gpu == "lost",
                gpu_absent=gpu == "absent",
            )
            return self._with_hold(self._with_exec(status))
        except (KeyError, ValueError):
            return None

    def _with_exec(self, status: ClockStatus) -> ClockStatus:
        """An exec that was begun since the clock's last sample counts at once."""
        try:
            ago_s = uptime() - _number(shared.text(self.run, "exec"))
        except ValueError:
            return status
        if not 0 <= ago_s < status.age_s:
            return status
        idle_in_s = status.idle_in_s
        if idle_in_s is not None:
            idle_in_s = max(idle_in_s, (self.setting_s("idle_timeout_s") or 0.0) - ago_s)
        others = tuple(signal for signal in status.active if signal != "exec")
        return replace(
            status,
            active=(*others, "exec"),
            idle_in_s=idle_in_s,
            last_signal="exec",
            last_signal_ago_s=ago_s,
        )

    def _with_hold(self, status: ClockStatus) -> ClockStatus:
        """A hold that came or went since the clock's last sample counts at once."""
        if (status.held_for_s > 0) == ("hold" in status.active):
            return status
        timeout_s = self.setting_s("idle_timeout_s") or 0.0
        idle_in_s = status.idle_in_s
        if status.held_for_s == 0:
            active = tuple(signal for signal in status.active if signal != "hold")
            idle_in_s = None if idle_in_s is None else min(idle_in_s, timeout_s)
            return replace(status, active=active, idle_in_s=idle_in_s)
        if idle_in_s is not None:
            idle_in_s = max(idle_in_s, status.held_for_s + timeout_s)
        return replace(
            status,
            active=(*status.active, "hold"),
            idle_in_s=idle_in_s,
            last_signal="hold",
            last_signal_ago_s=0.0,
        )

    def end(self) -> End | None:
        """Why the clock ended the session, if it did."""
        found = _lines(shared.text(self.run, "end"))
        if "reason" not in found:
            return None
        try:
            at = _number(found.get("time", "0"))
        except ValueError:
            at = 0.0
        at = at or shared.modified_at(self.run, "end")
        texts = (found.get(key, "")[:_MOST_TEXT] for key in ("reason", "detail", "signals"))
        reason, detail, signals = texts
        return End(reason, max(0.0, min(at, time.time())), detail, signals)

    def kernels(self) -> list[KernelEntry]:
        """The kernels that were started in this session, dead ones included."""
        found = []
        for name in filter(_KERNEL.fullmatch, shared.entries(self.run, "k")):
            state = shared.text(self.run, f"k/{name}/busy").split()
            found.append(
                KernelEntry(
                    id=name,
                    busy=bool(state) and state[0] == "busy",
                    requests=int(state[1]) if len(state) > 1 and _COUNT.fullmatch(state[1]) else 0,
                    exit=shared.text(self.run, f"k/{name}/exit") or None,
                )
            )
        return found


def is_held(lock: Path) -> bool:
    """Whether a living process holds that file's lock."""
    try:
        found = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # shared: two that ask at once must not take each other for the holder
        fcntl.flock(found, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(found)
    return False


def uptime() -> float:
    """Seconds since boot, suspended time included: the clock's time scale (proc_uptime(5))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _gpu_unused_s(found: dict[str, str], now: float, started: float) -> float:
    seen = dict(pair.split("=", 1) for pair in found["seen"].split())["gpu"]
    return max(0.0, now - (started if seen == "never" else _number(seen)))


def _until(text: str, now: float) -> float | None:
    return None if text == "never" else _number(text) - now


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or abs(number) > _MOST:
        raise ValueError(text)
    return number


def _lines(text: str) -> dict[str, str]:
    parts = (line.partition(" ") for line in text.splitlines())
    return {key: value for key, _, value in parts}


def _write(path: Path, text: str) -> None:
    """Replace a file whole: a reader sees the old text or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(text)
    draft.replace(path)
