"""Containers that run the guest scripts by themselves, under each shell that may be /bin/sh.

What is judged is the uptimes that the clock itself wrote, so that a slow engine changes no result.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mooring.guest import bundle
from tests.support.docker import RUN, docker, imported, this_run
from tests.support.waiting import eventually

UID = os.getuid() or 1000
PROGRAMS = "/.mooring-yard"
EXEC, CLOCK = f"{PROGRAMS}/exec.sh", f"{PROGRAMS}/clock.sh"
GATE = 2  # the words of the gate, which nobody opens here
SHELLS = ("dash", "bash", "busybox")
BUSYBOX_TOOLS = ("sleep", "cat", "rm", "mkdir", "stat", "ls", "date", "stty", "pkill")
# Settings of a session that ends soon, and of one that ends before its test gives up
IDLE = {"idle_timeout_s": 3, "sample_s": 1, "grace_s": 2}
BACKSTOP = {"max_duration_s": 40}


def wait_for(what: str, probe: Callable[[], object], timeout_s: float = 30) -> None:
    eventually(probe, timeout_s, f"waited {timeout_s} s for {what}")


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


@dataclass
class Session:
    """A container run by the clock script, and its run directory on the host."""

    run_dir: Path
    id: str = ""
    exit_code: int | None = None
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def programs(self) -> Path:
        return self.run_dir.with_name(f"{self.run_dir.name}-programs")

    def write(self, name: str, text: str) -> None:
        self._replace(self.run_dir / name, text)

    def _replace(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.parent / f".{path.name}.new"
        fresh.write_text(text)
        fresh.replace(path)

    def settings(self, **settings: object) -> None:
        text = "".join(f"{key} {value}\n" for key, value in settings.items())
        self._replace(self.programs / "settings", text)

    def fields(self, name: str) -> dict[str, str]:
        try:
            lines = (self.run_dir / name).read_text().splitlines()
        except FileNotFoundError:
            return {}
        return {key: rest for key, _, rest in (line.partition(" ") for line in lines)}

    def status(self) -> dict[str, str]:
        """The status file, read again while the clock is in the middle of writing it."""
        for _ in range(200):
            fields = self.fields("status")
            if "complete" in fields:
                return fields
            time.sleep(0.05)
        raise AssertionError(f"no complete status: {fields}")

    def sampled_after(self, moment: float) -> dict[str, str]:
        wait_for("a new sample", lambda: float(self.status()["sampled"]) > moment)
        return self.status()

    @property
    def end(self) -> dict[str, str]:
        return self.fields("end")

    @property
    def age(self) -> float:
        """Seconds from the clock's start to its decision."""
        return round(float(self.end["uptime"]) - float(str(self.notes["started"])), 2)

    @property
    def running(self) -> bool:
        return docker("inspect", "-f", "{{.State.Running}}", self.id).stdout.strip() == "true"

    def wait(self, timeout_s: float = 60) -> int:
        self.exit_code = int(docker("wait", self.id, timeout_s=timeout_s).stdout)
        return self.exit_code

    def exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        return docker("exec", self.id, *words)


class Yard:
    """Starts sessions for one shell and removes every one of them by its id."""

    def __init__(self, shell: str, root: Path) -> None:
        self.shell, self.root, self.ids = shell, root, list[str]()
        self._closing = contextlib.ExitStack()
        self.image = self._closing.enter_context(imported(root_with(shell), f"clock-{shell}"))
        # All at once would leave too little of the processor for those that are to be busy
        self.starting = threading.Semaphore(4)

    def start(
        self,
        *command: str,
        size: tuple[int, int] | None = None,
        flags: tuple[str, ...] = (),
        prepare: Callable[[Session], object] = lambda session: None,
        **settings: object,
    ) -> Session:
        session = Session(Path(self.root / f"{time.monotonic_ns()}"))
        session.run_dir.mkdir(parents=True)
        session.programs.mkdir()
        bundle.write_programs(session.programs)
        session.settings(**settings)
        prepare(session)
        if os.getuid() == 0:
            for top in (session.run_dir, session.programs):
                for path in (top, *top.rglob("*")):
                    os.chown(path, UID, UID, follow_symlinks=False)
        made = docker(
            "create", "--init", "--label", f"{RUN}={this_run()}", "--network", "none",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "-u", f"{UID}:{UID}",
            "-v", f"{session.run_dir}:/run/mooring", "-v", f"{session.programs}:{PROGRAMS}:ro",
            *(("-v", "/usr:/usr:ro") if self.shell != "busybox" else ()),
            *flags, self.image, *bundle.main_argv(PROGRAMS, command or None, size)[GATE:],
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        session.id = made.stdout.strip()
        self.ids.append(session.id)
        with self.starting:
            started = docker("start", session.id)
        session.notes["start_error"] = started.stderr
        return session

    def sampled(self, *command: str, **options: object) -> Session:
        """A session whose clock has taken its first sample."""
        session = self.start(*command, **options)  # type: ignore[arg-type]
        session.notes["started"] = session.status()["started"]
        return session

    def close(self) -> None:
        if self.ids:
            docker("rm", "-f", *self.ids)
        self._closing.close()


def root_with(shell: str) -> bytes:
    """An almost empty root with that /bin/sh: the machine's /usr goes over it, or busybox in."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:

        def add(name: str, kind: bytes, link: str = "", mode: int = 0o755) -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, mode
            archive.addfile(member)

        for folder in ("proc", "sys", "dev", "run", "etc", "bin", "sbin", "usr"):
            add(folder, tarfile.DIRTYPE)
        add("tmp", tarfile.DIRTYPE, mode=0o1777)
        if shell == "busybox":
            archive.add(str(shutil.which("busybox")), "bin/busybox")
            for tool in ("sh", *BUSYBOX_TOOLS):
                add(f"bin/{tool}", tarfile.SYMTYPE, "busybox")
        else:
            add("bin/sh", tarfile.SYMTYPE, f"/usr/bin/{shell}")
            for name in ("lib", "lib64", "lib32"):
                add(name, tarfile.SYMTYPE, f"usr/{name}")
    return tar.getvalue()


def play(yard: Yard, scenes: Iterable[Callable[[Yard], Session]]) -> dict[str, Session]:
    """Run scenes side by side; their sessions, ended, by the scene's name."""

    def run(scene: Callable[[Yard], Session]) -> Session:
        session = scene(yard)
        if session.exit_code is None:
            session.wait()
        return session

    scenes = tuple(scenes)
    with ThreadPoolExecutor(len(scenes)) as pool:
        futures = {scene.__name__: pool.submit(run, scene) for scene in scenes}
    return {name: future.result() for name, future in futures.items()}


def measured(session: Session) -> Session:
    """Notes the clock's CPU time a sample, in ms, that of its children included."""
    stat = ("cat", f"/proc/{session.status()['clock']}/stat")

    def ticks() -> int:
        return sum(map(int, session.exec(*stat).stdout.rpartition(") ")[2].split()[11:15]))

    first, began = ticks(), uptime()
    time.sleep(11)
    session.notes["ms"] = (ticks() - first) * 10 / ((uptime() - began) / 0.5)
    docker("kill", session.id)
    return session


def assert_idle_after(session: Session, last: object, timeout_s: float = 3) -> None:
    """Ended as idle one timeout after the last activity, within two samples of 0.75 s."""
    assert session.end["reason"] == "idle"
    waited = float(session.end["uptime"]) - float(str(last))
    assert timeout_s - 1.6 < waited < timeout_s + 2.5
