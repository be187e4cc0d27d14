"""The clock script in real containers, under each shell that may be an image's /bin/sh.

Most tests of one shell judge containers that ran side by side (``outcomes``). What is
judged is the uptimes the clock itself wrote, so that a slow engine changes no result.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.pace import in_time

pytestmark = [pytest.mark.engine, pytest.mark.timed]

SCRIPT = Path(__file__).parents[2] / "core" / "mooring" / "guest" / "clock.sh"
UID = os.getuid() or 1000
SHELLS = ("dash", "bash", "busybox")
LABEL = "mooring.test=clock"
IMAGE = "mooring-test-clock"
BUSYBOX_TOOLS = ("sleep", "cat", "rm", "mv", "mkdir", "stat", "ls", "date", "stty", "pkill")


def docker(*words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def wait_for(what: str, probe: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not probe():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


@dataclass
class Session:
    """A container run by the clock script, and its run directory on the host."""

    run_dir: Path
    id: str = ""
    exit_code: int | None = None
    notes: dict[str, object] = field(default_factory=dict)

    def write(self, name: str, text: str) -> None:
        path = self.run_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.parent / f".{path.name}.new"
        fresh.write_text(text)
        fresh.replace(path)

    def settings(self, **settings: object) -> None:
        text = "".join(f"{key} {value}\n" for key, value in settings.items())
        self.write("settings", text)

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
        self.sh = f"/shells/{shell}/sh"
        # All at once would leave too little of the processor for those that are to be busy
        self.starting = threading.Semaphore(4)

    def start(
        self,
        *command: str,
        flags: tuple[str, ...] = (),
        prepare: Callable[[Session], object] = lambda session: None,
        **settings: object,
    ) -> Session:
        session = Session(Path(self.root / f"{time.monotonic_ns()}"))
        session.run_dir.mkdir(parents=True)
        shutil.copy(SCRIPT, session.run_dir)
        session.settings(**settings)
        session.write("mounts", "")
        prepare(session)
        if os.getuid() == 0:
            for path in (session.run_dir, *session.run_dir.rglob("*")):
                os.chown(path, UID, UID)
        made = docker(
            "create", "--init", "--label", LABEL, "--network", "none", "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges", "-u", f"{UID}:{UID}",
            "-v", f"{session.run_dir}:/run/mooring",
            *(("-v", "/usr:/usr:ro") if self.shell != "busybox" else ()),
            *flags, f"{IMAGE}:{'busybox' if self.shell == 'busybox' else 'host'}",
            self.sh, "/run/mooring/clock.sh", "main", *(("--", *command) if command else ()),
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


def make_image(shell: str) -> None:
    """An almost empty image: the machine's own /usr goes over it, or busybox into it."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:

        def add(name: str, kind: bytes, link: str = "", mode: int = 0o755) -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, mode
            archive.addfile(member)

        for folder in ("proc", "sys", "dev", "run", "etc", "sbin", "usr", "shells"):
            add(folder, tarfile.DIRTYPE)
        add("tmp", tarfile.DIRTYPE, mode=0o1777)
        if shell == "busybox":
            add("bin", tarfile.DIRTYPE)
            archive.add(str(shutil.which("busybox")), "bin/busybox")
            for tool in ("sh", *BUSYBOX_TOOLS):
                add(f"bin/{tool}", tarfile.SYMTYPE, "busybox")
        else:
            for name in ("bin", "lib", "lib64", "lib32"):
                add(name, tarfile.SYMTYPE, f"usr/{name}")
        for name in SHELLS:
            add(f"shells/{name}", tarfile.DIRTYPE)
            target = "/bin/busybox" if name == "busybox" else f"/usr/bin/{name}"
            add(f"shells/{name}/sh", tarfile.SYMTYPE, target)
    tag = f"{IMAGE}:{'busybox' if shell == 'busybox' else 'host'}"
    done = subprocess.run(
        ["docker", "import", "-", tag], input=tar.getvalue(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=SHELLS)
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    shell: str = request.param
    if docker("version").returncode != 0:
        pytest.skip("no docker engine answers")
    if shutil.which(shell) is None:
        package = "busybox-static" if shell == "busybox" else shell
        pytest.skip(f"{shell} is not installed (apt-get install {package})")
    make_image(shell)
    yard = Yard(shell, tmp_path_factory.mktemp(shell))
    yield yard
    yard.close()
    left = docker("ps", "-aq", "--no-trunc", "--filter", f"label={LABEL}").stdout.split()
    assert not set(left) & set(yard.ids)
    docker("rmi", "-f", f"{IMAGE}:{'busybox' if shell == 'busybox' else 'host'}")


# --- what runs side by side ---------------------------------------------------------------

IDLE = {"idle_timeout_s": 3, "sample_s": 1, "grace_s": 2}
BACKSTOP = {"max_duration_s": 40}


def silent(yard: Yard) -> Session:
    return yard.sampled(**IDLE)


def silent_beside_a_command(yard: Yard) -> Session:
    return yard.sampled("sleep", "100", **IDLE)


def kernel_busy(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    session.write("k/one/busy", "busy 1\n")
    time.sleep(6)
    session.notes["last"] = uptime()
    session.write("k/one/busy", "idle 1\n")
    return session


def kernel_counting(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    for count in range(8):
        session.write("k/one/busy", f"idle {count}")
        session.notes["last"] = uptime()
        time.sleep(0.8)
    return session


def kernel_gone(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    session.write("k/one/exit", "0\n")
    session.write("k/one/busy", "busy 1\n")
    return session


def execs(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    clock = (yard.sh, "/run/mooring/clock.sh", "exec")
    begun = uptime()
    docker("exec", "-d", session.id, *clock, "one", "--", "sleep", "6")
    session.notes["last"] = begun + 6
    session.notes["code"] = session.exec(*clock, "two", "--", yard.sh, "-c", "exit 9").returncode
    session.write("x/stale", "1 2\n")
    wait_for(
        "the dead execs' files to go", lambda: len(list((session.run_dir / "x").iterdir())) == 1
    )
    session.notes["files"] = [path.name for path in (session.run_dir / "x").iterdir()]
    return session


def execs_begun(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    for _ in range(8):
        session.notes["last"] = uptime()
        session.write("exec", f"{session.notes['last']}\n")
        time.sleep(0.8)
    return session


def held(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    session.notes["last"] = uptime() + 5.5
    session.write("hold", f"{session.notes['last']:.2f}\n")
    return session


def burning(yard: Yard) -> Session:
    return yard.sampled(yard.sh, "-c", "while :; do :; done", **IDLE | {"max_duration_s": 9})


def burnt(yard: Yard) -> Session:
    script = "(while :; do :; done) & sleep 5; kill $!; exec sleep 100"
    session = yard.sampled(yard.sh, "-c", script, **IDLE, **BACKSTOP)
    session.notes["last"] = float(str(session.notes["started"])) + 5
    return session


def stubborn(yard: Yard) -> Session:
    script = "trap '' TERM HUP INT; while :; do sleep 1; done"
    settings = {"idle_timeout_s": 2.5, "max_duration_s": 4.2, "sample_s": 60, "grace_s": 1}
    session = yard.sampled(yard.sh, "-c", script, **settings)
    session.write("hold", f"{uptime() + 1000}\n")
    session.wait()
    session.notes["gone"] = uptime()
    return session


def paused(yard: Yard) -> Session:
    session = yard.sampled(**IDLE, **BACKSTOP)
    docker("pause", session.id)
    time.sleep(9)
    session.notes["last"] = uptime()
    docker("unpause", session.id)
    return session


def unsure(yard: Yard) -> Session:
    session = yard.sampled(**IDLE | {"max_duration_s": 7})
    session.write("k/one/busy", "gibberish")
    session.notes["unknown"] = session.sampled_after(uptime())["unknown"]
    return session


def unsure_of_execs(yard: Yard) -> Session:
    session = yard.sampled(**IDLE | {"max_duration_s": 7})
    session.write("exec", "")
    session.notes["unknown"] = session.sampled_after(uptime())["unknown"]
    return session


def counted_v2(yard: Yard) -> Session:
    """A control group of version 2, as the kernel would mount it."""

    flags = ("-v", f"{yard.root}/v2:/sys/fs/cgroup:ro")
    (yard.root / "v2").mkdir()
    (yard.root / "v2" / "cpu.stat").write_text("usage_usec 1000000\nuser_usec 0\n")
    session = yard.sampled(flags=flags, **IDLE, **BACKSTOP)
    began = uptime()
    while uptime() < began + 6:
        fresh = yard.root / "v2" / ".new"
        used = 1_000_000 + int((uptime() - began) * 500_000)
        fresh.write_text(f"usage_usec {used}\nuser_usec 0\n")
        fresh.replace(yard.root / "v2" / "cpu.stat")
        session.notes["last"] = uptime()
        time.sleep(0.2)
    session.notes["percent"] = session.status()["cpu_percent"]
    return session


def usage_lost(yard: Yard) -> Session:
    """The usage file was there and is no longer."""
    (yard.root / "lost").mkdir()
    (yard.root / "lost" / "cpu.stat").write_text("usage_usec 1000000\n")
    flags = ("-v", f"{yard.root}/lost:/sys/fs/cgroup:ro")
    session = yard.sampled(flags=flags, **IDLE | {"max_duration_s": 7})
    (yard.root / "lost" / "cpu.stat").unlink()
    session.notes["unknown"] = session.sampled_after(uptime())["unknown"]
    return session


def changed(yard: Yard) -> Session:
    session = yard.sampled(idle_timeout_s=0, sample_s=1, max_duration_s=0)
    session.notes["before"] = session.status()
    session.settings(idle_timeout_s="banana", sample_s="1.2.3", max_duration_s="-4")
    session.notes["garbled"] = session.sampled_after(uptime() + 1)
    session.settings(**IDLE)
    return session


def vanished(yard: Yard) -> Session:
    """The run directory's files go; the container tells when it ended."""
    session = yard.sampled(idle_timeout_s=0, max_duration_s=5, sample_s=1, grace_s=1)
    shutil.rmtree(session.run_dir, ignore_errors=True)
    session.wait()
    session.notes["gone"] = uptime()
    return session


def typed(yard: Yard) -> Session:
    """Someone types for 11 s: the kernel keeps a terminal's atime in steps of 8 s."""
    session = yard.sampled("sleep", "100", flags=("-t",), idle_timeout_s=9, sample_s=1, **BACKSTOP)
    words = ["docker", "exec", "-it", session.id, yard.sh]
    terminal, theirs = pty.openpty()
    client = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    began = uptime()
    while uptime() < began + 11:
        os.write(terminal, b":\n")
        session.notes["last"] = uptime()
        time.sleep(0.5)
    session.wait()
    client.wait()
    os.close(terminal)
    return session


def warned(yard: Yard) -> Session:
    return yard.sampled("sleep", "100", flags=("-t",), **IDLE, name="bert")


def cost(yard: Yard, *flags: str) -> Session:
    """The clock's CPU time and that of its children, over some twenty samples."""
    session = yard.sampled("sleep", "100", flags=flags, idle_timeout_s=1000, sample_s=0.5)
    return measured(yard, session)


def measured(yard: Yard, session: Session) -> Session:
    stat = ("cat", f"/proc/{session.status()['clock']}/stat")

    def ticks() -> int:
        return sum(map(int, session.exec(*stat).stdout.rpartition(") ")[2].split()[11:15]))

    first, began = ticks(), uptime()
    time.sleep(11)
    session.notes["ms"] = (ticks() - first) * 10 / ((uptime() - began) / 0.5)
    docker("kill", session.id)
    return session


def cost_plain(yard: Yard) -> Session:
    return cost(yard)


def cost_with_a_terminal(yard: Yard) -> Session:
    return cost(yard, "-t")


# Reads the use from the run directory, and counts how often it is asked
SMI = """#!/bin/sh
[ "$*" = '--query-gpu=utilization.gpu --format=csv,noheader,nounits' ] || exit 64
echo asked >>/run/mooring/asked
cat /run/mooring/use
"""


def with_gpus(yard: Yard, use: str, *command: str, smi: str = SMI, **options: object) -> Session:
    """A session that holds two GPUs, with what the driver's tool prints of them."""
    tools = yard.root / f"tools{time.monotonic_ns()}"
    tools.mkdir()
    if smi:
        (tools / "nvidia-smi").write_text(smi)
        (tools / "nvidia-smi").chmod(0o755)
    flags = ("-v", f"{tools}:/tools:ro", "-e", "PATH=/tools:/usr/bin:/bin")

    def prepare(session: Session) -> None:
        session.write("use", use)
        session.write("node", "")

    settings = IDLE | {"gpus": 2, "gpu_node": "/run/mooring/node"} | options
    return yard.sampled(*command, flags=flags, prepare=prepare, **settings)


def gpu_in_use(yard: Yard) -> Session:
    session = with_gpus(yard, "0\n5\n", **BACKSTOP)
    time.sleep(6)
    session.notes["status"] = session.status()
    session.write("use", "4\n4\n")
    session.notes["last"] = uptime()
    return session


def gpu_held_only(yard: Yard) -> Session:
    return with_gpus(yard, "0\n4\n", **BACKSTOP)


def gpu_without_a_tool(yard: Yard) -> Session:
    return with_gpus(yard, "", smi="", **BACKSTOP)


def gpu_split(yard: Yard) -> Session:
    return with_gpus(yard, "[N/A]\n[N/A]\n", **BACKSTOP)


def gpu_failing(yard: Yard) -> Session:
    session = with_gpus(yard, "", smi="#!/bin/sh\nexit 9\n", max_duration_s=7)
    session.notes["unknown"] = session.sampled_after(uptime() + 2)["unknown"]
    return session


def gpu_hanging(yard: Yard) -> Session:
    script = "#!/bin/sh\necho asked >>/run/mooring/asked\nexec sleep 1000\n"
    session = with_gpus(yard, "", smi=script, max_duration_s=9)
    status = session.sampled_after(uptime() + 4)
    session.notes["unknown"], session.notes["status"] = status["unknown"], status
    top = docker("top", session.id, "-o", "pid,args").stdout
    session.notes["hung"] = top.count("sleep 1000")
    return session


def gpu_lost(yard: Yard) -> Session:
    session = with_gpus(yard, "0\n0\n", max_duration_s=8)
    session.notes["before"] = session.sampled_after(uptime() + 1)["gpu"]
    (session.run_dir / "node").unlink()
    status = session.sampled_after(uptime() + 2)
    session.notes["unknown"], session.notes["status"] = status["unknown"], status
    return session


def gpu_asked_seldom(yard: Yard) -> Session:
    """Somebody works in it anyway: what its GPUs do decides nothing."""
    session = with_gpus(yard, "0\n0\n", **BACKSTOP)
    session.write("k/one/busy", "busy 1\n")
    time.sleep(8)
    session.notes["asked"] = (session.run_dir / "asked").read_text().count("asked")
    docker("kill", session.id)
    return session


def cost_with_gpus(yard: Yard) -> Session:
    """As ``cost``; its idle timeout is such that the driver's tool is run for every sample."""
    session = with_gpus(yard, "0\n0\n", "sleep", "100", idle_timeout_s=30, sample_s=0.5)
    return measured(yard, session)


def drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


SCENES = (
    typed, paused, kernel_busy, kernel_counting, kernel_gone, execs, execs_begun, held, burning,
    burnt, stubborn, unsure, unsure_of_execs, counted_v2, usage_lost, changed, vanished, warned,
    silent, silent_beside_a_command, cost_plain, cost_with_a_terminal,
    gpu_in_use, gpu_held_only, gpu_without_a_tool, gpu_split, gpu_failing, gpu_hanging, gpu_lost,
    gpu_asked_seldom, cost_with_gpus,
)  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(yard: Yard) -> dict[str, Session]:
    """What became of each scene, by its name; each has ended."""

    def play(scene: Callable[[Yard], Session]) -> Session:
        session = scene(yard)
        if session.exit_code is None:
            session.wait()
        return session

    with ThreadPoolExecutor(len(SCENES)) as pool:
        futures = {scene.__name__: pool.submit(play, scene) for scene in SCENES}
    return {name: future.result() for name, future in futures.items()}


def assert_idle_after(session: Session, last: object, timeout_s: float = 3) -> None:
    """Ended as idle one timeout after the last activity, within two samples of 0.75 s."""
    assert session.end["reason"] == "idle"
    waited = float(session.end["uptime"]) - float(str(last))
    assert timeout_s - 1.6 < waited < timeout_s + 2.5


def test_a_silent_session_ends_at_its_idle_timeout(outcomes: dict[str, Session]) -> None:
    """Without any signal a session ends after the idle timeout and says why."""
    session = outcomes["silent"]
    assert session.end["reason"] == "idle"
    assert 3 <= session.age < 5.5
    assert session.exit_code == 0
    detail = r"no kernel, terminal, exec, hold for 3s; cpu \d\.\d% of one core over the window"
    assert re.fullmatch(detail, session.end["detail"])
    signals = r"kernel=never terminal=never exec=never hold=never cpu=\d\.\d%"
    assert re.fullmatch(signals, session.end["signals"])
    assert abs(int(session.end["time"]) - time.time()) < 300


def test_a_silent_command_ends_too(outcomes: dict[str, Session]) -> None:
    """The clock beside a command ends it, and the container with it."""
    session = outcomes["silent_beside_a_command"]
    assert session.end["reason"] == "idle"
    assert 3 <= session.age < 5.5
    assert session.exit_code == 143


@pytest.mark.parametrize(
    "scene", ["kernel_busy", "kernel_counting", "execs", "execs_begun", "held", "counted_v2"]
)
def test_activity_keeps_a_session(outcomes: dict[str, Session], scene: str) -> None:
    """Each signal holds a session past its timeout, and lets go of it one timeout later."""
    session = outcomes[scene]
    assert session.age > 6
    assert_idle_after(session, session.notes["last"])


def test_the_end_names_the_last_signals(outcomes: dict[str, Session]) -> None:
    """The end file says how long ago each signal was seen."""
    assert re.match(r"kernel=[234] terminal=never", outcomes["kernel_busy"].end["signals"])
    assert re.search(r"exec=[234] hold=never", outcomes["execs"].end["signals"])
    assert re.search(r"exec=[234] hold=never", outcomes["execs_begun"].end["signals"])
    assert re.search(r"hold=[234] cpu", outcomes["held"].end["signals"])


def test_a_dead_kernel_is_no_activity(outcomes: dict[str, Session]) -> None:
    """A kernel that died while busy holds nothing."""
    assert outcomes["kernel_gone"].end["reason"] == "idle"
    assert outcomes["kernel_gone"].age < 5.5


def test_execs_pass_their_code_and_leave_no_file(outcomes: dict[str, Session]) -> None:
    """A finished exec's file is removed, as is one whose pid is another process by now."""
    assert outcomes["execs"].notes["code"] == 9
    assert outcomes["execs"].notes["files"] == ["one"]


def test_cpu_keeps_a_session_until_its_maximum(outcomes: dict[str, Session]) -> None:
    """A session that only computes is active, and the maximum duration ends it."""
    session = outcomes["burning"]
    assert session.end["reason"] == "max_duration", session.end
    assert 9 <= session.age < 10.5
    assert "cpu" in session.status()["active"]


def test_cpu_counts_over_the_window_only(outcomes: dict[str, Session]) -> None:
    """Once the window has passed without computing, the session is idle."""
    assert_idle_after(outcomes["burnt"], outcomes["burnt"].notes["last"])


def test_the_maximum_ends_what_ignores_signals_and_is_held(outcomes: dict[str, Session]) -> None:
    """The maximum duration holds during a hold and against a process deaf to TERM and HUP."""
    session = outcomes["stubborn"]
    assert session.end["reason"] == "max_duration"
    assert 4.2 <= session.age < 5.5
    assert float(str(session.notes["gone"])) - float(session.end["uptime"]) < 1 + 4
    assert session.exit_code == 137


def test_a_gap_restarts_the_window(outcomes: dict[str, Session]) -> None:
    """A session that was frozen past its timeout gets its whole window again."""
    session = outcomes["paused"]
    assert session.end["reason"] == "idle"
    assert 3 - 0.1 <= float(session.end["uptime"]) - float(str(session.notes["last"])) < 7
    assert session.status()["last_signal"].endswith(" resume")


@pytest.mark.parametrize(
    ("scene", "probe"),
    [
        ("unsure", "kernel"),
        ("unsure_of_execs", "exec"),
        ("usage_lost", "cpu"),
        ("gpu_failing", "gpu"),
        ("gpu_hanging", "gpu"),
        ("gpu_lost", "gpu"),
    ],
)
def test_a_failing_probe_is_not_idle(outcomes: dict[str, Session], scene: str, probe: str) -> None:
    """Unknown pauses the idle clock, but not the maximum duration."""
    assert outcomes[scene].notes["unknown"] == probe
    assert outcomes[scene].end["reason"] == "max_duration"


def test_a_gpu_in_use_keeps_a_session(outcomes: dict[str, Session]) -> None:
    """5 % of one of its GPUs is activity, and lets go of it one timeout later."""
    session = outcomes["gpu_in_use"]
    status = session.notes["status"]
    assert isinstance(status, dict)
    assert (status["active"], status["gpu"], status["gpu_percent"]) == ("gpu", "ok", "5")
    assert float(status["seen"].rpartition("gpu=")[2]) > float(status["started"]) + 3
    assert session.age > 6
    assert_idle_after(session, session.notes["last"])
    assert session.end["detail"].startswith("no kernel, terminal, exec, hold, gpu for 3s; cpu ")
    assert re.search(r"hold=never gpu=[1-5] cpu=", session.end["signals"])


def test_a_gpu_that_is_merely_held_is_no_activity(outcomes: dict[str, Session]) -> None:
    """Under 5 % of each, a session is idle."""
    session = outcomes["gpu_held_only"]
    assert session.end["reason"] == "idle"
    assert session.age < 5.5
    assert session.status()["gpu_percent"] == "4"


@pytest.mark.parametrize("scene", ["gpu_without_a_tool", "gpu_split"])
def test_gpus_that_nobody_tells_of_do_not_pause_the_clock(
    outcomes: dict[str, Session], scene: str
) -> None:
    """An image without the driver's tool, or a split GPU, has no such signal; the end says so."""
    session = outcomes[scene]
    assert session.end["reason"] == "idle"
    assert session.age < 5.5
    assert session.status()["gpu"] == "absent"
    assert session.end["detail"].endswith("; the use of its GPUs cannot be told")
    assert "gpu=absent cpu=" in session.end["signals"]


def test_a_driver_that_hangs_is_asked_once(outcomes: dict[str, Session]) -> None:
    """The clock goes on beside it, and what hangs does not pile up."""
    session = outcomes["gpu_hanging"]
    status = session.notes["status"]
    assert isinstance(status, dict)
    assert status["gpu"] == "failed"
    assert session.notes["hung"] in (0, 1)
    assert 9 <= session.age < 10.5


def test_a_lost_gpu_is_told(outcomes: dict[str, Session]) -> None:
    """Devices that could be opened at the start and cannot be any more are lost."""
    session = outcomes["gpu_lost"]
    status = session.notes["status"]
    assert isinstance(status, dict)
    assert (session.notes["before"], status["gpu"]) == ("ok", "lost")


def test_gpus_are_asked_seldom_while_somebody_works(outcomes: dict[str, Session]) -> None:
    """Asking costs: while something else is active, every half a minute is enough."""
    assert outcomes["gpu_asked_seldom"].notes["asked"] == 1


def test_asking_for_gpus_costs_little(
    outcomes: dict[str, Session], yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a tool that costs next to nothing, asking at each sample stays under 0.4 %."""
    each_ms = float(str(outcomes["cost_with_gpus"].notes["ms"]))
    with capsys.disabled():
        print(f"\n{yard.shell}, cost_with_gpus: {each_ms:.1f} ms a sample")
    assert in_time(each_ms / 5000 * 100, 0.4)


def test_settings_are_live_and_garbled_ones_ignored(outcomes: dict[str, Session]) -> None:
    """A timeout set later counts from the last signal; nonsense keeps the last good value."""
    session = outcomes["changed"]
    for notes in ("before", "garbled"):
        status = session.notes[notes]
        assert isinstance(status, dict)
        assert (status["idle_at"], status["max_at"]) == ("never", "never")
    assert session.end["reason"] == "idle"
    assert session.end["detail"].startswith("no kernel, terminal, exec, hold for 3s;")


def test_a_session_ends_without_its_run_directory(outcomes: dict[str, Session]) -> None:
    """The clock decides from what it remembers when its files are gone."""
    session = outcomes["vanished"]
    lived = float(str(session.notes["gone"])) - float(str(session.notes["started"]))
    assert 5 <= lived < 10


def test_typing_keeps_a_session(outcomes: dict[str, Session]) -> None:
    """Reading a terminal is activity; the 8 s steps of its atime are the tolerance."""
    session = outcomes["typed"]
    assert session.end["reason"] == "idle"
    since = float(session.end["uptime"]) - float(str(session.notes["last"]))
    assert 9 - 8 - 2 < since < 9 + 2.5
    assert session.age > 9 + 2
    assert re.search(r"terminal=(9|1[01]) ", session.end["signals"])


def test_terminals_are_warned_once(outcomes: dict[str, Session]) -> None:
    """A terminal reads when and why the session stops, and how to keep it."""
    said = docker("logs", outcomes["warned"].id).stdout
    sentence = (
        r"mooring: this session stops in [01] s \(idle\)\. "
        r"Keep it: type something here, or run: mooring hold bert 2h"
    )
    assert len(re.findall(sentence, said)) == 1
    assert outcomes["warned"].age < 5.5


@pytest.mark.parametrize("scene", ["cost_plain", "cost_with_a_terminal"])
def test_the_clock_costs_little(
    outcomes: dict[str, Session], scene: str, yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sampling every 5 s takes less than 0.2 % of one core, with its children's time."""
    each_ms = float(str(outcomes[scene].notes["ms"]))
    percent = each_ms / 5000 * 100
    with capsys.disabled():
        print(
            f"\n{yard.shell}, {scene}: {each_ms:.1f} ms a sample, {percent:.3f} % of a core at 5 s"
        )
    assert in_time(percent, 0.2)


# --- one at a time ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("-c", "exit 7"), 7, ""),
        (("/nosuch",), 127, "^/nosuch: not found$"),
        (("nosuch",), 127, "^nosuch: not found$"),
        (("/etc",), 126, "^/etc: is a folder$"),
        (("/run/mooring/settings",), 126, "^/run/mooring/settings: not executable$"),
    ],
)
def test_the_exit_code_passes_at_once(
    yard: Yard, command: tuple[str, ...], code: int, said: str
) -> None:
    """When the command ends the container ends, with its code; as a shell's if it cannot run."""
    session = yard.start(*((yard.sh, *command) if len(command) == 2 else command), sample_s=60)
    assert session.wait(20) == code
    assert re.search(said, docker("logs", session.id).stderr)
    assert (session.run_dir / "checked").exists() == (not said)
    if said:
        assert session.end["reason"] == {127: "missing", 126: "unrunnable"}[code]
        assert re.search(said, session.end["detail"])


@pytest.mark.parametrize(
    ("path", "code"), [("/empty:/home", 127), ("/home:/usr/bin", 126), ("/home:/home/bin", 0)]
)
def test_a_command_is_looked_for_as_a_shell_does(yard: Yard, path: str, code: int) -> None:
    """In all of PATH, and what cannot be executed is passed over; also behind a terminal's shell
    that sets its size."""
    folder = yard.root / f"path-{code}"
    (folder / "bin").mkdir(parents=True)
    behind = folder / "bin" / "tool"
    behind.write_text(f"#!{yard.sh}\nexit 0\n")
    behind.chmod(0o644 if code else 0o755)
    if code != 127:  # in front, and nothing that can be run
        (folder / "tool").write_text("")
        (folder / "tool").chmod(0o644)
    flags = ("-e", f"PATH={path}", "-v", f"{folder}:/home")
    script = "/run/mooring/clock.sh"
    for command in (["tool"], ["/bin/sh", script, "shell", "24", "80", "--", "tool"]):
        session = yard.start(*command, flags=flags, sample_s=60)
        assert session.wait(20) == code
        assert (session.run_dir / "checked").exists() == (not code)


NAMED = re.compile(r"for mooring_name in \\\n(.*?)\ndo\n", re.S)


def test_the_environment_is_handed_on_as_it_was(yard: Yard) -> None:
    """Whatever names the script uses, a command has its own variables of those names."""
    found = NAMED.search(SCRIPT.read_text())
    assert found is not None
    names = found.group(1).replace("\\", " ").split()
    flags = [text for name in names for text in ("-e", f"{name}=theirs of {name}")]
    theirs = {f"{name}=theirs of {name}" for name in names}
    session = yard.start(yard.sh, "-c", "env; exec sleep 100", flags=tuple(flags), sample_s=60)
    script = (yard.sh, "/run/mooring/clock.sh")
    ways = [("exec", "one", "--", "env"), ("shell", "24", "80", "--", "env")]
    for printed in (
        *(session.exec(*script, *way).stdout for way in ways),
        session.exec("/bin/sh", "-c", f"echo env | {' '.join(script)} shell 24 80").stdout,
        docker("logs", session.id).stdout,
    ):
        assert theirs <= set(printed.splitlines())


def test_the_script_knows_all_names_that_it_uses() -> None:
    """A name that is assigned anywhere in it is one of those that are given back."""
    text = SCRIPT.read_text()
    found = NAMED.search(text)
    assert found is not None
    known = set(found.group(1).replace("\\", " ").split())
    code = re.sub(r"(^|\s)#.*", "", text, flags=re.M)
    used = set(re.findall(r"""(?:^|[\s;({&|`"])([A-Za-z_]\w*)=""", code, re.M))
    used |= set(re.findall(r"\bfor (\w+)\b", code))
    used |= {name for some in re.findall(r"\bread -r ([\w ]+)", code) for name in some.split()}
    used -= {"_", "IFS", "PATH", "LD_PRELOAD", "LD_LIBRARY_PATH"}
    assert {name for name in used if not name.startswith("mooring_")} == known


def test_an_attached_client_is_not_kept(yard: Yard) -> None:
    """The clock holds no stream open: an attached client ends with the command."""
    session = yard.start(yard.sh, "-c", "read -r line; echo got $line", flags=("-i",), sample_s=60)
    began = time.monotonic()
    done = subprocess.run(
        ["docker", "attach", session.id],
        input="a line\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == "got a line\n"
    assert time.monotonic() - began < 8


def test_a_command_has_default_signals_and_no_child(yard: Yard) -> None:
    """Ctrl-C reaches the command as it would without a clock, and no child is forced on it."""
    if yard.shell == "busybox":
        pytest.skip("no python in the busybox image")
    script = (
        "import os, signal, sys; "
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, "
        "[s.name for s in map(signal.Signals, range(1, 16)) "
        "if signal.getsignal(s) == signal.SIG_IGN], "
        "os.getppid(), sys.stdin.isatty(), os.tcgetpgrp(0) == os.getpgrp(), "
        "open(f'/proc/self/task/{os.getpid()}/children').read().split(), flush=True)"
    )
    session = yard.start("/usr/bin/python3", "-c", script, flags=("-t",), sample_s=60)
    assert session.wait(20) == 0
    # Python itself ignores SIGPIPE.
    assert docker("logs", session.id).stdout.rstrip() == "True ['SIGPIPE'] 1 True True []"


def test_a_command_cannot_lose_its_clock_by_name(yard: Yard) -> None:
    """`pkill sh` and signals to all leave the clock of a command's session alone."""
    script = "trap '' TERM HUP INT QUIT TSTP USR1; while :; do sleep 1; done"
    session = yard.sampled(yard.sh, "-c", script, sample_s=0.5, grace_s=1)
    clock = session.status()["clock"]
    for signal in ("TERM", "HUP", "INT", "QUIT", "TSTP", "USR1"):
        session.exec(yard.sh, "-c", f"pkill -{signal} sh; kill -{signal} {clock}")
    assert session.sampled_after(uptime() + 1)["clock"] == clock


def test_end_stops_an_interactive_shell(yard: Yard) -> None:
    """`end` ends a shell that ignores TERM, well within its grace, and says who asked."""
    shell = yard.sh if yard.shell == "busybox" else "/usr/bin/bash"
    session = yard.sampled(shell, flags=("-i", "-t"), sample_s=1, grace_s=20)
    session.write("k/one/busy", "idle 3")
    session.sampled_after(uptime())
    began = uptime()
    session.exec(yard.sh, "/run/mooring/clock.sh", "end", "stopped", "by ada,\nwho left")
    session.wait(20)
    assert uptime() - began < 5
    assert session.end["reason"] == "stopped"
    assert session.end["detail"] == "by ada, who left"
    assert re.match(r"kernel=\d terminal=\d", session.end["signals"])


@pytest.mark.parametrize("how", ["end", "docker stop"])
def test_a_session_without_a_command_stops_gracefully(yard: Yard, how: str) -> None:
    """Processes get TERM and the time to use it; the session then leaves with 0."""
    session = yard.sampled(sample_s=60, grace_s=20)
    script = (
        "trap 'sleep 1; echo saved >/run/mooring/saved; exit' TERM; while :; do sleep 0.1; done"
    )
    docker("exec", "-d", session.id, yard.sh, "-c", script)
    wait_for("it to run", lambda: script[:20] in docker("top", session.id).stdout)
    time.sleep(0.3)
    if how == "end":
        session.exec(yard.sh, "/run/mooring/clock.sh", "end", "stopped")
    else:
        docker("stop", "-t", "20", session.id)
    assert session.wait(20) == 0
    assert session.end["reason"] == "stopped"
    assert (session.run_dir / "saved").read_text() == "saved\n"


def test_a_new_run_forgets_the_last(yard: Yard) -> None:
    """What an earlier run left is removed, its kernels are lost, and their logs are kept."""

    def prepare(session: Session) -> None:
        session.write("end", "reason idle\n")
        session.write("hold", "99999999999\n")
        session.write("exec", "99.5\n")
        session.write("x/old", "1 1\n")
        session.write("k/one/busy", "busy 4\n")
        session.write("k/one/log", "said\n")
        session.write("k/two/exit", "1\n")

    session = yard.sampled(prepare=prepare, sample_s=60)
    assert not session.end
    assert not (session.run_dir / "hold").exists()
    assert not (session.run_dir / "exec").exists()
    assert list((session.run_dir / "x").iterdir()) == []
    assert (session.run_dir / "k/one/exit").read_text() == "lost\n"
    assert (session.run_dir / "k/one/log").read_text() == "said\n"
    assert (session.run_dir / "k/two/exit").read_text() == "1\n"
    assert session.status()["active"] == ""


@pytest.mark.parametrize("command", [(), ("sleep", "30")], ids=["alone", "command"])
def test_the_kernel_host_is_started(yard: Yard, command: tuple[str, ...]) -> None:
    """The kernel host runs as the init's child, with its output in its log."""

    def prepare(session: Session) -> None:
        session.write("kernelhost", f"{yard.sh}\nmore\n")
        session.write(
            "kernelhost.py",
            "echo host; sleep 0.3\n"
            "read -r _ _ _ parent _ </proc/$$/stat; echo parent $parent >&2\n",
        )

    session = yard.sampled(*command, prepare=prepare, sample_s=60)
    log = session.run_dir / "kernelhost.log"
    wait_for("the host's last line", lambda: log.exists() and log.read_text().count("\n") == 2)
    assert log.read_text() == "host\nparent 1\n"


def test_a_shell_has_the_size_of_its_client(yard: Yard) -> None:
    """`shell ROWS COLS` sizes the terminal before the command sees it."""
    session = yard.sampled(sample_s=60)
    clock = (yard.sh, "/run/mooring/clock.sh", "shell", "33", "97")
    sized = docker("exec", "-t", session.id, *clock, "--", "stty", "size")
    assert sized.stdout.strip() == "33 97"
    plain = docker("exec", session.id, *clock, "--", yard.sh, "-c", "exit 5")
    assert plain.returncode == 5
    assert list((session.run_dir / "x").iterdir()) == []


def test_it_tells_the_memory_in_use(yard: Yard) -> None:
    """Shared memory that was written counts; the page cache of a file does not."""
    session = yard.sampled(sample_s=0.5)
    before = int(session.status()["memory_bytes"])
    (session.run_dir / "big").write_bytes(bytes(16 << 20))
    shell = (yard.sh, "-c")
    for target in ("/run/mooring/1", "/run/mooring/2", "/dev/shm/x"):
        assert session.exec(*shell, f"cat /run/mooring/big >{target}").returncode == 0
    grown = int(session.sampled_after(uptime())["memory_bytes"]) - before
    assert 15 << 20 < grown < 26 << 20
