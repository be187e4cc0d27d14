"""Look at the GPUs of this machine, and say what is as mooring believes and what is not.

    python -m tests.gpus.hardware             # the driver alone
    python -m tests.gpus.hardware --engine    # and sessions on this machine's engine
    python -m tests.gpus.hardware --mps       # and an MPS daemon of its own, for shares
    python -m tests.gpus.hardware --engine --lose 'systemctl daemon-reload'

Each line begins with ``right``, ``WRONG``, ``seen`` (there is nothing to compare it with) or
``UNSEEN`` (what could not be looked at, and why).
Nothing of the machine is changed, but for what ``--lose`` names. The exit code is 1 if something
is wrong, 2 if there is no real GPU to look at, and else 0, whatever was not seen.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mooring.guest
from mooring.gpus.claims import Claim
from mooring.gpus.devices import limits
from mooring.gpus.inventory import NVIDIA, Gpu, inventory
from mooring.gpus.usage import lost
from mooring.host.processes import living_name, owner_name

RIGHT, WRONG, SEEN, UNSEEN = "right", "WRONG", "seen", "UNSEEN"
CUDA = Path(__file__).with_name("cuda.py")
PROBES = Path(mooring.guest.__file__).with_name("probes.sh")
MIB = 1 << 20
ALLOCATED = 256 * MIB
WORK_S, WAIT_S = 6.0, 60.0

Row = tuple[str, str]
Worker = Callable[..., "contextlib.AbstractContextManager[Work]"]


class CannotWork(Exception):
    """Nothing can be computed on the device, and the reason."""


class Work:
    """A process that computes on a GPU; see ``tests/gpus/cuda.py``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    def answer(self) -> int:
        """Wait for the result of its next step.

        Raises:
            CannotWork: the step failed.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        result = json.loads(line) if line else {"error": "it ended without a word"}
        if "error" in result:
            raise CannotWork(result["error"])
        (value,) = result.values()
        return int(value)


@contextlib.contextmanager
def work(gpu: str, *steps: str, env: Mapping[str, str] = os.environ) -> Iterator[Work]:
    """Have a process compute on a device until the end of the block."""
    with subprocess.Popen(
        [sys.executable, str(CUDA), gpu, *steps, "wait"], env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            yield Work(process)
        finally:
            process.kill()


def same(what: str, mooring: object, real: object) -> Row:
    """Return the row for something that mooring and the machine should agree on."""
    if mooring == real:
        return RIGHT, f"{what}: {real}"
    return WRONG, f"{what}: mooring says {mooring}, the machine {real}"


def listed(gpus: Sequence[Gpu]) -> Iterator[Row]:
    """The inventory against the driver's own tool."""
    for gpu in gpus:
        whose = f"instance of {gpu.parent}" if gpu.parent else "split" if gpu.split else "whole"
        yield SEEN, f"{gpu.uuid} {gpu.model}, {gpu.memory_bytes // MIB} MiB, {whose}"
    if shutil.which("nvidia-smi") is None:
        yield UNSEEN, "the same by nvidia-smi: it is not on PATH"
        return
    done = _smi("--query-gpu=index,uuid,name,memory.total,driver_version", "nounits")
    theirs = [tuple(cell.strip() for cell in row.split(",")) for row in done]
    ours = [
        (str(gpu.index), gpu.uuid, gpu.model, str(gpu.memory_bytes // MIB), gpu.driver)
        for gpu in gpus
        if gpu.kind == NVIDIA and not gpu.parent
    ]
    yield same("index, UUID, model, MiB, driver by nvidia-smi", ours, theirs)


def _smi(query: str, *formats: str) -> list[str]:
    command = ["nvidia-smi", query, f"--format={','.join(('csv', 'noheader', *formats))}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.splitlines()


def processes(gpu: Gpu, worker: Worker = work) -> Iterator[Row]:
    """A process of this user's, its memory, and the use that it makes of the device."""
    before = gpu.memory_used_bytes or 0
    try:
        with worker(gpu.uuid, f"allocate:{ALLOCATED}", f"use:{WORK_S}") as child:
            child.answer()
            now = _again(gpu)
            pids = [one.pid for one in now.processes]
            if child.pid not in pids:
                yield WRONG, f"process {child.pid} computes on it, and NVML lists {pids}"
            else:
                yield RIGHT, f"NVML lists process {child.pid}"
                (own,) = (one for one in now.processes if one.pid == child.pid)
                enough = own.memory_bytes is None or own.memory_bytes >= ALLOCATED
                yield (RIGHT if enough else WRONG), f"its memory: {own.memory_bytes}"
            yield same("its user", owner_name(child.pid), getpass.getuser())
            yield (RIGHT if living_name(child.pid) else WRONG), f"name: {living_name(child.pid)}"
            used = (now.memory_used_bytes or 0) - before
            yield (RIGHT if used >= ALLOCATED else WRONG), f"memory in use rose by {used} bytes"
            busiest, signalled = _busiest(gpu)
            yield (RIGHT if busiest >= 5 else WRONG), f"use while it works: {busiest}%"
            yield (RIGHT if signalled >= 5 else WRONG), f"the gpu signal then: {signalled}%"
    except CannotWork as error:
        yield UNSEEN, f"processes, memory and use under load: {error}"
        return
    deadline = time.monotonic() + WAIT_S
    while child.pid in [one.pid for one in _again(gpu).processes]:
        if time.monotonic() > deadline:
            yield WRONG, f"process {child.pid} has ended, and NVML lists it after {WAIT_S:g} s"
            return
        time.sleep(0.1)
    yield RIGHT, "NVML does not list it once it has ended"


def _again(gpu: Gpu) -> Gpu:
    return next(one for one in inventory() if one.uuid == gpu.uuid)


def _busiest(gpu: Gpu) -> tuple[int, int]:
    """The highest use in a while, by the inventory and by the clock's own question."""
    found, signalled = 0, 0
    deadline = time.monotonic() + WORK_S
    while time.monotonic() < deadline and min(found, signalled) < 5:
        found = max(found, _again(gpu).use_percent or 0)
        signalled = max([signalled, *(int(line) for line in ask() if line.isdigit())])
        time.sleep(0.2)
    return found, signalled


def ask() -> list[str]:
    """Ask for the use of the GPUs as a session's clock does. Returns the lines of the answer."""
    script = 'gpu_had_node= gpu_libraries=; . "$0"; ask_gpu'
    done = subprocess.run(
        ["sh", "-c", script, str(PROBES)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.splitlines()


def costs(gpus: Sequence[Gpu]) -> Iterator[Row]:
    """What the inventory and the clock's question cost."""
    for what, call in (("the inventory", inventory), ("the clock's question", ask)):
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            taken.append((time.perf_counter() - began) * 1000)
        yield SEEN, f"{what} takes {statistics.median(taken):.1f} ms, at most {max(taken):.1f} ms"
    answer = ask()
    whole = [gpu for gpu in gpus if not gpu.parent]
    if answer == ["absent"]:
        yield UNSEEN, "the gpu signal: there is no nvidia-smi, so the clock says that it is absent"
    elif len(answer) == len(whole) or any(gpu.split for gpu in whole):
        yield RIGHT, f"the clock's question is answered by {answer}"
    else:
        yield WRONG, f"the clock's question about {len(whole)} GPUs is answered by {answer}"


def instances(gpus: Sequence[Gpu]) -> Iterator[Row]:
    """Devices that are split by MIG."""
    split = [gpu for gpu in gpus if gpu.split]
    if not split:
        yield UNSEEN, "MIG: no device is split"
    listing = subprocess.run(
        ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False
    ).stdout if split and shutil.which("nvidia-smi") else ""  # fmt: skip
    for gpu in split:
        parts = [one for one in gpus if one.parent == gpu.uuid]
        yield (RIGHT if parts else WRONG), f"{gpu.uuid} is split into {len(parts)}"
        yield same("its use, which a split device has not", gpu.use_percent, None)
        for part in parts:
            statement = limits(Claim(part.uuid, 0.5), part).statement
            yield (RIGHT if "MIG" in statement else WRONG), f"{part.uuid}: {statement}"
            if not listing:
                yield UNSEEN, f"{part.uuid} by nvidia-smi: it is not on PATH"
            else:
                yield (RIGHT if part.uuid in listing else WRONG), f"nvidia-smi -L has {part.uuid}"


def shares(gpu: Gpu, worker: Worker = work) -> Iterator[Row]:
    """Two processes with half of a device each, which MPS limits to that."""
    share = limits(Claim(gpu.uuid, 0.5), gpu)
    if not share.binds:
        yield UNSEEN, f"MPS: {share.statement}; --mps starts a daemon for this"
        return
    # outside of a container the daemon's folder is where it is
    env = {**os.environ, **share.env, "CUDA_MPS_PIPE_DIRECTORY": share.binds[0].source}
    third, most = gpu.memory_bytes // 3, gpu.memory_bytes * 6 // 10
    try:
        with worker(gpu.uuid, "units") as child:
            everything = child.answer()
        with contextlib.ExitStack() as stack:
            two = [
                stack.enter_context(worker(gpu.uuid, "units", f"allocate:{third}", env=env))
                for _ in range(2)
            ]
            for child in two:
                units = child.answer()
                right = units <= everything * 0.6
                yield (RIGHT if right else WRONG), f"multiprocessors: {units} of {everything}"
                child.answer()
                yield RIGHT, f"a third of the memory was had by process {child.pid}"
        with worker(gpu.uuid, f"allocate:{most}", env=env) as child:
            try:
                child.answer()
                yield WRONG, "six tenths of the memory were had by a half share"
            except CannotWork as error:
                yield RIGHT, f"six tenths of the memory were refused: {error}"
    except CannotWork as error:
        yield UNSEEN, f"MPS with two shares: {error}"


@contextlib.contextmanager
def mps_daemon() -> Iterator[None]:
    """An MPS daemon of our own, in a folder that mooring trusts."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        os.environ["CUDA_MPS_PIPE_DIRECTORY"] = os.environ["CUDA_MPS_LOG_DIRECTORY"] = folder
        subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True, timeout=60)
        try:
            yield
        finally:
            subprocess.run(
                ["nvidia-cuda-mps-control"], input="quit\n", text=True, check=False, timeout=60
            )
            del os.environ["CUDA_MPS_PIPE_DIRECTORY"], os.environ["CUDA_MPS_LOG_DIRECTORY"]


FORK = """
import os, torch
assert not torch.cuda.is_initialized(), "importing torch initialised CUDA"
pid = os.fork()
if not pid:
    print(float(torch.ones(8, device="cuda").sum()), flush=True)
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def forks() -> Iterator[Row]:
    """A kernel host that has imported torch, and forks kernels that use CUDA."""
    # In a process of its own: the question alone can initialise CUDA
    code = "import torch; raise SystemExit(not torch.cuda.is_available())"
    asked = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, timeout=300
    )
    if asked.returncode:
        yield UNSEEN, f"a fork after torch was imported: {sys.executable} has no torch with a GPU"
        return
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=300, check=False
    )
    last = (done.stderr.splitlines() or [""])[-1]
    if done.stdout.split() == ["8.0"] and done.returncode == 0:
        yield RIGHT, "a fork after torch was imported computes on the device"
    else:
        yield WRONG, f"a fork after torch was imported: {done.returncode}: {last}"


def losses(gpus: Sequence[Gpu]) -> Iterator[Row]:
    """What is believed lost: never a device that is there, always one that is not."""
    gone = Claim("GPU-00000000-0000-0000-0000-000000000000")
    yield same("devices that are there are lost", lost([Claim(g.uuid) for g in gpus], gpus), False)
    yield same("one that is not there is lost", lost([gone], gpus), True)


def sessions(gpu: Gpu, lose: str) -> Iterator[Row]:
    """A session with a GPU on this machine's engine; ``lose`` is run to take it away."""
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/var/tmp") as folder:
        env = {**os.environ, "MOORING_STATE_DIR": f"{folder}/state"}
        project = Path(folder, "project")
        project.mkdir()
        shutil.copy(CUDA, project)

        def mooring(*words: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "mooring_cli", *words], env=env, cwd=project,
                capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            if done.returncode:
                raise CannotWork(f"mooring {words[0]}: {' '.join(done.stderr.split())}")
            return done.stdout

        def seen(wanted: Callable[[dict[str, Any]], object]) -> bool:
            deadline = time.monotonic() + WAIT_S
            while time.monotonic() < deadline:
                (row,) = json.loads(mooring("ps", "--json"))
                if wanted(row):
                    return True
                time.sleep(1)
            return False

        try:
            began = time.monotonic()
            mooring("create", "-d", "--name", "hardware", "--gpus", "1", "--max-wait", "10s",
                    "--idle-timeout", "10m", "--", "sleep", "600")  # fmt: skip
            yield SEEN, f"a session with a GPU starts in {time.monotonic() - began:.1f} s"
            (row,) = json.loads(mooring("ps", "--json"))
            (claim,) = row["claims"]
            listing = mooring("exec", "hardware", "--", "nvidia-smi", "-L").splitlines()
            alone = len(listing) == 1 and claim["gpu"] in listing[0]
            yield (RIGHT if alone else WRONG), f"it sees {listing}, and holds {claim['gpu']}"
            with subprocess.Popen(
                [sys.executable, "-m", "mooring_cli", "exec", "hardware", "--",
                 "python3", "cuda.py", "0", f"use:{WAIT_S}"],
                env=env, cwd=project, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            ) as busy:  # fmt: skip
                used = seen(lambda row: "gpu" in row["active_signals"])
                busy.kill()
            yield (RIGHT if used else WRONG), "its clock sees the use of its GPU"
            if not lose:
                yield UNSEEN, "gpu lost: --lose names a command that takes the devices away"
                return
            subprocess.run(shlex.split(lose), check=False, timeout=300)
            told = seen(lambda row: "lost" in str(row["degraded"]))
            yield (
                (RIGHT if told else WRONG),
                f"after {lose!r} the session says gpu lost",
            )
        except CannotWork as error:
            yield WRONG, str(error)
        finally:
            with contextlib.suppress(CannotWork):
                mooring("rm", "--force", "hardware")


def is_real() -> bool:
    """Whether the GPUs are the driver's, and none of a module that reads a file."""
    try:
        import pynvml
    except ImportError:
        return True  # AMD's, or those of CDI files
    return "fakes" not in Path(pynvml.__file__).parts


def look(options: argparse.Namespace) -> Iterator[Row]:
    """Look at everything that there is. Yields a row for each thing that was looked at."""
    gpus = inventory()
    yield from listed(gpus)
    yield from costs(gpus)
    yield from instances(gpus)
    whole = [gpu for gpu in gpus if gpu.kind == NVIDIA and not gpu.split and not gpu.parent]
    if whole:
        yield from processes(whole[0])
        with mps_daemon() if options.mps else contextlib.nullcontext():
            yield from shares(whole[0])
    else:
        yield UNSEEN, "processes, use and shares: there is no whole NVIDIA device"
    yield from forks()
    yield from losses(gpus)
    if options.engine:
        yield from sessions(gpus[0], options.lose)
    else:
        yield UNSEEN, "sessions, and gpu lost: --engine looks at them"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", action="store_true", help="create sessions on the engine")
    parser.add_argument("--mps", action="store_true", help="start an MPS daemon for the shares")
    parser.add_argument("--lose", default="", metavar="COMMAND", help="takes the devices away")
    options = parser.parse_args(arguments)
    if not inventory():
        print("NO GPU: the driver does not answer, or lists none. NOTHING WAS SEEN.")
        return 2
    real = is_real()
    if not real:
        print("NO REAL GPU: NVML is the fake of the tests. NOTHING OF THIS IS HARDWARE.")
    marks = []
    for mark, text in look(options):
        marks.append(mark)
        print(f"{mark:6} {text}", flush=True)
    print(", ".join(f"{marks.count(mark)} {mark}" for mark in (RIGHT, WRONG, SEEN, UNSEEN)))
    if not real:
        print("NO REAL GPU HAS BEEN SEEN")
    return 1 if WRONG in marks else 0 if real else 2


if __name__ == "__main__":
    sys.exit(main())
