"""A machine that is always the same, for pictures and for the tests of how things look.

Eight GPUs that are not there, three people's sessions on an engine that runs nothing, and a clock
that stands still: what a command prints here is the same today and tomorrow, and anywhere.

::

    python docs/scene.py             write docs/pictures/*.svg
    python docs/scene.py ps 80       print what `mooring ps` says on a terminal of 80 columns
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
NVML = ROOT / "tests" / "fakes" / "nvml" / "pynvml.py"

NOW, UPTIME = 1_771_250_700.0, 900_000.0  # 2026-02-16 14:05:00 UTC, a Monday
MINUTE, HOUR, DAY, GIB = 60.0, 3600.0, 86400.0, 1 << 30
WIDTHS = (80, 200)
COMMANDS = {
    "ps": "mooring ps",
    "ps-all-users": "mooring ps --all-users",
    "gpus": "mooring gpus",
    "top": "mooring top --once",
    "describe": "mooring describe bert-finetune",
    "events": "mooring events bert-finetune",
}
OTHERS = "00000000000000bb"  # the installation of the machine's other people


def main(arguments: list[str]) -> int:
    if arguments:
        name, width = arguments[0], int(arguments[1]) if len(arguments) > 1 else 80
        with scene() as stage:
            print(stage.said(COMMANDS.get(name, name), width), end="")
        return 0
    for path, svg in pictures().items():
        path.write_text(svg)
        print(path.relative_to(ROOT))
    return 0


def pictures() -> dict[Path, str]:
    """Each picture's file, and what is to stand in it."""
    from svg import picture

    with scene() as stage:
        return {
            PICTURES / f"cli-{name}-{width}.svg": picture(
                f"\033[1m$ {command}\033[0m\n" + stage.said(command, width), width
            )
            for name, command in COMMANDS.items()
            for width in WIDTHS
        }


class Stage:
    """What stands there: ``engine``, and the sessions on it."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def said(self, command: str, width: int, *, terminal: bool = True, **environ: str) -> str:
        """What a command prints on a terminal of that many columns; into a pipe without one."""
        from mooring_cli.main import app

        out = _Terminal() if terminal else io.StringIO()
        around = {"COLUMNS": str(width), "LINES": "1000", "TERM": "xterm-256color", **environ}
        with (
            mock.patch.dict(os.environ, around),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            app(shlex.split(command)[1:], standalone_mode=False)
        return out.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def scene() -> Iterator[Stage]:
    """Set it up, and take it away again; this process's clocks stand still meanwhile."""
    from mooring import FakeEngine
    from mooring.gpus import inventory, usage
    from mooring.launch import create
    from mooring.sessions import context, find

    with tempfile.TemporaryDirectory(prefix="ms-", dir="/var/tmp") as folder:
        nvml = Path(folder) / "nvml.json"
        environ = {
            "MOORING_STATE_DIR": f"{folder}/state",
            "XDG_CONFIG_HOME": f"{folder}/config",
            "MOORING_FAKE_NVML": str(nvml),
            "TZ": "UTC",
            "LC_ALL": "C",
        }
        with (
            _clock_of(environ),
            _fake_nvml(),
            mock.patch.object(inventory, "_amd", return_value=()),
            mock.patch("time.time", return_value=NOW),
            mock.patch("time.clock_gettime", return_value=UPTIME),
            mock.patch.object(usage, "living_name", lambda pid: COMMS.get(pid, "")),
            mock.patch.object(usage, "owner_name", return_value="dana"),
            mock.patch.object(usage, "container_of", return_value=""),
        ):
            os.environ.pop("NO_COLOR", None)
            os.environ.pop("COLORTERM", None)
            nvml.write_text(json.dumps({"driver": "550.54.15", "devices": _devices()}))
            engine = FakeEngine(images=["scene"], clock=lambda: NOW)
            user = dataclasses.replace(context.caller(), name="alice")
            with (
                mock.patch.object(context, "caller", return_value=user),
                mock.patch.object(context, "open_engine", return_value=engine),
                mock.patch.object(create, "ensure_dispatcher"),
                mock.patch.object(find, "ensure_dispatcher"),
            ):
                try:
                    _people_it(engine)
                    yield Stage(engine)
                finally:
                    while _places:
                        _places.pop().remove()


@contextlib.contextmanager
def _clock_of(environ: dict[str, str]) -> Iterator[None]:
    """An environment, with its time zone."""
    try:
        with mock.patch.dict(os.environ, environ):
            time.tzset()
            yield
    finally:
        time.tzset()


@contextlib.contextmanager
def _fake_nvml() -> Iterator[None]:
    """NVML is the fake one, also where the real one has been asked before."""
    before = sys.modules.get("pynvml")
    sys.modules["pynvml"] = fake = ModuleType("pynvml")
    try:
        SourceFileLoader("pynvml", str(NVML)).exec_module(fake)
        yield
    finally:
        del sys.modules["pynvml"]
        if before is not None:
            sys.modules["pynvml"] = before


# the machine

COMMS = {48213: "python"}  # of dana, who does not know mooring; 50999 is about to end


def uuid(number: int) -> str:
    return f"GPU-5f1c0de{number}-7a3b-41c8-9d2e-0b5a6c7d8e9{number}"


def _devices() -> list[dict[str, Any]]:
    used = {0: (97, 71.2), 1: (96, 70.8), 2: (0, 9.6), 3: (88, 64.0), 4: (91, 64.0), 5: (41, 22.5)}
    devices: list[dict[str, Any]] = []
    for number in range(8):
        use, memory = used.get(number, (0, 0.4))
        devices.append(
            {
                "uuid": uuid(number),
                "name": "NVIDIA A100-SXM4-80GB",
                "memory": 80 * GIB,
                "memory_used": int(memory * GIB),
                "use": use,
                "processes": [],
            }
        )
    devices[5]["processes"] = [{"pid": 48213, "memory": 22 * GIB}]
    devices[6]["processes"] = [{"pid": 50999, "memory": GIB}]
    devices[7]["mig"] = [
        {
            "uuid": f"MIG-7c0ffee{part}-1f2e-5d3c-8b4a-69788796a5b{part}",
            "name": f"NVIDIA A100-SXM4-80GB MIG {name}",
            "memory": int(memory * GIB),
            "memory_used": int(memory * GIB / (3 if part == 0 else 1000)),
            "processes": [],
        }
        for part, (name, memory) in enumerate(
            [("3g.40gb", 39.5), ("2g.20gb", 19.5), ("2g.20gb", 19.5)]
        )
    ]
    return devices


# the sessions


def _people_it(engine: Any) -> None:
    from mooring.gpus.claims import Claim

    mig = "MIG-7c0ffee0-1f2e-5d3c-8b4a-69788796a5b0"
    torch = "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"
    _session(
        engine, "bert-finetune", 0x1, image=torch, age=2 * HOUR + 600,
        claims=(Claim(uuid(0)), Claim(uuid(1))),
        spec={
            "gpus": 2, "cpus": 16, "memory": 128 * GIB, "shm": 16 * GIB, "kernel": "python3",
            "inputs": [{"name": "corpus", "source": "./corpus"}],
            "outputs": [{"name": "checkpoints", "source": "./checkpoints"}],
            "env": {"WANDB_MODE": "offline"}, "secrets": {"HF_TOKEN": {"env": "HF_TOKEN"}},
            "idle_timeout": 30 * MINUTE, "max_duration": 8 * HOUR,
        },
        clock={"active": "kernel gpu", "idle": 30 * MINUTE, "max": 5 * HOUR + 50 * MINUTE,
               "cpu": 1183, "memory": 61.4, "gpu": 97},
        kernels={"7d1fe2a90c34": "busy 214", "c0a81f3b5e62": "idle 12"},
    )  # fmt: skip
    _session(
        engine, "vision-lab", 0x2, image=torch, age=3 * HOUR + 120, claims=(Claim(uuid(2), 0.5),),
        spec={"gpus": 0.5, "memory": 32 * GIB, "idle_timeout": HOUR, "max_duration": 12 * HOUR},
        clock={"active": "", "idle": 35 * MINUTE, "max": 8 * HOUR + 58 * MINUTE,
               "cpu": 0.4, "memory": 9.7, "gpu": 0, "unused": 25 * MINUTE},
        kernels={"19fe0aa3b7c5": "idle 41"},
    )  # fmt: skip
    _session(
        engine, "diffusion-xl", 0x3, image=torch, age=DAY + 4 * HOUR,
        claims=(Claim("GPU-0badcafe-dead-4bee-8f00-000000000000"),),
        spec={"gpus": 1, "memory": 64 * GIB, "max_duration": 2 * DAY},
        clock={"active": "terminal", "max": 20 * HOUR, "cpu": 100, "memory": 31.0, "lost": True},
    )  # fmt: skip
    _session(
        engine, "notes", 0x4, image="host", age=5 * DAY,
        spec={"idle_timeout": 30 * MINUTE},
        clock={"active": "hold", "idle": 2 * HOUR + 29 * MINUTE, "hold": 2 * HOUR - 30,
               "cpu": 0.1, "memory": 0.21},
    )  # fmt: skip
    _session(
        engine, "sweep-07", 0x5, image=torch, age=4 * MINUTE + 10, state="pending",
        spec={"gpus": 4, "priority": 10},
        waiting="1st in the queue for 4 GPUs; held by bert-finetune (alice), llama-serve (bob), "
        "viz (carol), vision-lab (alice) and 1 more; the first must end by 18:20",
    )  # fmt: skip
    _session(
        engine, "genome", 0x6, image="quay.io/jupyter/scipy-notebook:2026-02-02", age=40,
        state="starting", spec={"memory": 8 * GIB},
        waiting="pulling quay.io/jupyter/scipy-notebook:2026-02-02: 41% of 1.2 GiB",
    )  # fmt: skip
    _session(
        engine, "data-prep", 0x7, image="host", age=9 * HOUR, state="stopped",
        end="reason idle\ndetail no kernel, terminal, exec, hold, gpu for 30m\nsignals last kernel",
        ended=3 * HOUR, spec={"idle_timeout": 30 * MINUTE},
    )  # fmt: skip
    _session(
        engine, "eval-nightly", 0x8, image="registry.lab.example/eval:1.4", age=13 * HOUR,
        state="stopped", exit_code=3, ended=11 * HOUR, spec={"gpus": 1},
    )  # fmt: skip
    for name, number, owner, claims, hours in (
        ("llama-serve", 0x9, "bob", (Claim(uuid(3)), Claim(uuid(4))), 7),
        ("viz", 0xA, "carol", (Claim(uuid(2), 0.25),), 1),
        ("tutorial", 0xB, "carol", (Claim(mig),), 2),
    ):
        _foreign(engine, name, number, owner, claims, age=hours * HOUR)


def _id(number: int) -> str:
    return f"{number:x}a7c4e90b1d2{number:x}"[:12].rjust(12, "0")


def _started(engine: Any, name: str, labels: dict[str, str], age: float, **more: Any) -> str:
    from mooring.engines.base import ContainerConfig
    from mooring.engines.labels import LABEL_GPUS
    from mooring.gpus.claims import from_label

    gpus = {"gpus": tuple(claim.gpu for claim in from_label(labels.get(LABEL_GPUS, "")))}
    made: str = engine.create(
        ContainerConfig(
            name=name,
            image="scene",
            argv=("true",),
            user="1000:1000",
            labels=labels,
            **(gpus | more),
        )
    )
    found = engine.containers[made]
    found.state = "running"
    found.created_at = found.started_at = NOW - age
    return made


def _labels(
    number: int, name: str, owner: str, installation: str, spec: Any, claims: Any
) -> dict[str, str]:
    from mooring.engines import labels
    from mooring.gpus.claims import to_label

    found = {
        labels.LABEL_ID: _id(number),
        labels.LABEL_NAME: name,
        labels.LABEL_OWNER: owner,
        labels.LABEL_INSTALLATION: installation,
        labels.LABEL_SPEC: json.dumps(spec),
    }
    return found | ({labels.LABEL_GPUS: to_label(claims)} if claims else {})


def _foreign(
    engine: Any, name: str, number: int, owner: str, claims: tuple[Any, ...], age: float
) -> None:
    spec = {
        "image": "vllm/vllm-openai:0.11",
        "gpus": len(claims),
        "max_duration": age + 4.25 * HOUR,
    }
    labels = _labels(number, name, owner, OTHERS, spec, claims)
    _started(engine, f"mooring-{name}-{_id(number)[:4]}", labels, age)


def _session(
    engine: Any,
    name: str,
    number: int,
    *,
    image: str,
    age: float,
    spec: dict[str, Any],
    state: str = "running",
    claims: tuple[Any, ...] = (),
    clock: dict[str, Any] | None = None,
    kernels: dict[str, str] | None = None,
    waiting: str = "",
    end: str = "",
    ended: float = 0.0,
    exit_code: int = 0,
) -> None:
    """One of alice's: its folder, its container, its history."""
    from mooring.engines.labels import container_name
    from mooring.gpus.claims import Request, in_words
    from mooring.host.boot import boot_id
    from mooring.host.paths import Installation
    from mooring.sessions.folder import SessionFolder
    from mooring.sessions.history import History
    from mooring.sessions.record import Identity, RecordState

    spec = {"image": image, **spec}
    began = NOW - age
    installation = Installation.here()
    folder = SessionFolder.create(
        installation,
        Identity(id=_id(number), name=name, owner="alice", created_at=began, spec=spec),
        RecordState(boot_id=boot_id(), changed_at=began),
    )
    history = History(installation.history)
    history.session_created(folder.id, name=name, owner="alice", image=image, spec=spec, at=began)
    wanted = str(Request.of(spec.get("gpus", 0)) or "")
    history.add(folder.id, "requested", "alice", wanted, at=began)
    if waiting:
        folder.write_waiting(waiting)
        if state == "pending":
            folder.mark_queued()
            _places.append(_in_line(engine, folder.id, name, spec))
        _held.append(folder)
        return
    if claims:
        because = f"2nd in the queue for {wanted}; held by llama-serve (bob), sweep-06 (alice)"
        history.add(folder.id, "queued", "alice", because, at=began + 1)
        history.add(folder.id, "granted", "alice", in_words(claims), at=began + 95)
    labels = _labels(number, name, "alice", installation.id, spec, claims)
    container = _started(engine, container_name(name, folder.id), labels, age)
    folder.update_state(container=container)
    history.add(folder.id, "started", "alice", f"image {image}", at=began + 97)
    for kernel, said in (kernels or {}).items():
        (folder.run / "k" / kernel).mkdir()
        (folder.run / "k" / kernel / "busy").write_text(f"{said}\n")
    if clock is not None:
        (folder.run / "status").write_text(_status(clock, age))
        if "hold" in clock:
            (folder.run / "hold").write_text(f"{UPTIME + clock['hold']:.2f}\n")
        folder.clock.write_settings(
            idle_timeout_s=spec.get("idle_timeout", 0), max_duration_s=spec.get("max_duration", 0)
        )
    folder.mark_ready()
    folder.release()
    if state == "stopped":
        engine.finish(container, exit_code)
        engine.containers[container].finished_at = NOW - ended
        if end:
            (folder.run / "end").write_text(f"time {NOW - ended:.0f}\n{end}\n")
        folder.update_state(changed_at=NOW - ended, end_recorded=True)


_held: list[Any] = []  # folders in the making: their locks are this process's
_places: list[Any] = []  # in the queue: so are theirs


def _in_line(engine: Any, session_id: str, name: str, spec: dict[str, Any]) -> Any:
    """A place of alice's in the queue for GPUs."""
    from mooring.gpus.claims import Request
    from mooring.gpus.tickets import Ticket, ticket_queue_of
    from mooring.host.paths import Installation

    ticket_queue, request = ticket_queue_of(engine), Request(spec["gpus"])
    with ticket_queue.locked():
        return ticket_queue.enqueue(
            Ticket(session_id, Installation.here().id, "alice", name, request, spec["priority"], 0)
        )


def _status(clock: dict[str, Any], age: float) -> str:
    def at(key: str) -> str:
        return f"{UPTIME + clock[key] + 30:.2f}" if key in clock else "never"

    gpu = "lost" if clock.get("lost") else "ok" if "gpu" in clock else ""
    seen = UPTIME - clock.get("unused", 0)
    last = clock["active"].split()[:1] or ["kernel"]
    lines = [
        f"sampled {UPTIME - 2:.2f}",
        f"started {UPTIME - age:.2f}",
        f"idle_at {at('idle')}",
        f"max_at {at('max')}",
        f"last_signal {UPTIME - 2 if clock['active'] else seen:.2f} {last[0]}",
        f"active {clock['active']}".rstrip(),
        "unknown",
        f"cpu_percent {clock['cpu']}",
        f"seen kernel=never terminal=never exec=never hold=never gpu={seen:.2f}",
        f"memory_bytes {int(clock['memory'] * GIB)}",
        *([f"gpu {gpu}", f"gpu_percent {clock.get('gpu', 0)}"] if gpu else []),
        "clock 7",
        "complete",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
