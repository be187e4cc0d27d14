"""A mount is exchanged between its check and its making: nothing runs that could answer for it.

The attacker is another session of the same project: it can rename what it can write to and put a
link in its place. What it can also bring is the image, the spec's variables, and what an earlier
run of the session left.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.engines.base import Engine
from mooring.engines.labels import LABEL_INSTALLATION
from mooring.errors import EngineError, ImageError, MooringError, PolicyError
from mooring.host.paths import Installation
from mooring.sessions.model import Session, State
from mooring.spec.resolve import resolve
from tests.security import attack
from tests.support.docker import docker, imported
from tests.support.exchange import Exchanging, replace_by_link
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

NOTHING: Mapping[str, str] = {}
LOOT = "the loot\n"
STEAL = "cat /mnt/inputs/data/* >>{project}/stolen; echo ran >>{project}/ran"


@pytest.fixture
def loot(tmp_path: Path) -> Path:
    folder = tmp_path / "loot"
    folder.mkdir()
    (folder / "file").write_text(LOOT)
    return folder


@pytest.fixture
def data(project: Path) -> Path:
    folder = project / "data"
    folder.mkdir()
    (folder / "file").write_text("granted\n")
    return folder


def nothing_was_run(project: Path, engine: Engine, state: Path) -> None:
    assert not (project / "stolen").exists()
    assert not (project / "ran").exists()
    assert engine.list({LABEL_INSTALLATION: Installation.here().id}) == []
    assert list((state / "sessions").glob("*")) == []


@pytest.mark.parametrize("method", ["create", "start"])
@pytest.mark.parametrize(
    "env",
    [
        {"LD_PRELOAD": "/nowhere.so"},
        {"LD_AUDIT": "/nowhere.so"},
        {"LD_DEBUG": "all"},
        {"ENV": "/mnt/inputs/data/file", "BASH_ENV": "/mnt/inputs/data/file"},
    ],
    ids=["preload", "audit", "debug", "shell"],
)
def test_no_variable_of_the_spec_has_an_effect_before_the_check(
    real_engine: Engine,
    state: Path,
    project: Path,
    data: Path,
    loot: Path,
    env: dict[str, str],
    method: str,
) -> None:
    """No loader and no shell begins before the mounts are compared: a loader would print here."""
    engine = Exchanging(real_engine, method, replace_by_link(data, loot))
    attacked = Mooring(engine, actor="tester")  # type: ignore[arg-type]
    flags = {"inputs": ["data"], "env": env, "command": ["sh", "-c", STEAL.format(project=project)]}
    with pytest.raises(PolicyError, match="the mount at /mnt/inputs/data has changed"):
        attacked.sessions.create(resolve(flags=flags), LaunchOptions(tty=False))
    assert set(engine.printed) == {""}
    nothing_was_run(project, real_engine, state)


def hostile_root(*scripts: str, script: str, links: Mapping[str, str] = NOTHING) -> bytes:
    """A root filesystem of busybox, in which some programs are a script, or links lead away."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.add(busybox, "bin/busybox")
        for tool in ("sh", "stat", "ls", "cat", "rm", "mkdir", "sleep", "env"):
            entry = tarfile.TarInfo(f"bin/{tool}")
            if f"bin/{tool}" in scripts:
                text = f'#!/bin/busybox sh\n{script}\nexec /bin/busybox {tool} "$@"\n'.encode()
                entry.size, entry.mode = len(text), 0o755
                archive.addfile(entry, io.BytesIO(text))
            else:
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(entry)
        folders = {"tmp", "proc", "sys", "dev", "run", "etc", "mnt", "sbin"} - links.keys()
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(entry)
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return tar.getvalue()


@pytest.mark.parametrize(
    ("scripts", "changes"),
    [
        (("bin/sh",), ()),
        (("bin/stat", "bin/ls"), ()),
        ((), ("ENV LD_PRELOAD=/nowhere.so PATH=/mnt/inputs/data",)),
        (("bin/sh",), ('ENTRYPOINT ["/bin/sh", "-c", "true"]', "USER 0", "WORKDIR /mnt")),
        (("bin/sh",), ('HEALTHCHECK --interval=1ms CMD ["/bin/sh"]',)),
    ],
    ids=["shell", "tools", "environment", "entrypoint", "healthcheck"],
)
def test_no_program_of_the_image_runs_before_the_check(
    real_engine: Engine,
    state: Path,
    project: Path,
    data: Path,
    loot: Path,
    scripts: tuple[str, ...],
    changes: tuple[str, ...],
) -> None:
    """A hostile image is asked for nothing: its shell would copy what it sees, and say yes."""
    script = STEAL.format(project=project) + "; touch /run/mooring/checked"
    with imported(hostile_root(*scripts, script=script), "hostile", *changes) as image:
        engine = Exchanging(real_engine, "start", replace_by_link(data, loot))
        Mooring(real_engine).sessions.create(  # the facts of the image are known
            resolve(flags={"image": image, "command": ["true"]}), LaunchOptions(name="facts")
        )
        facts = Mooring(real_engine).sessions.get("facts")
        Mooring(real_engine).sessions.remove(facts, force=True)
        for name in ("stolen", "ran"):
            (project / name).unlink(missing_ok=True)
        attacked = Mooring(engine, actor="tester")  # type: ignore[arg-type]
        flags = {"image": image, "inputs": ["data"], "command": ["true"]}
        with pytest.raises(PolicyError, match="the mount at /mnt/inputs/data has changed"):
            attacked.sessions.create(resolve(flags=flags))
        nothing_was_run(project, real_engine, state)


@pytest.mark.parametrize(
    "link", [("sbin", "/mnt/outputs/out"), ("sbin/docker-init", "/mnt/outputs/out/docker-init")]
)
def test_a_link_of_the_image_does_not_lead_to_another_init(
    real_engine: Engine, state: Path, project: Path, data: Path, link: tuple[str, str]
) -> None:
    """The engine's init, which runs before the gate, cannot be hidden by a mount."""
    (project / "out").mkdir()
    planted = project / "out" / "docker-init"
    planted.write_text(f"#!/bin/busybox sh\n{STEAL.format(project=project)}\n")
    planted.chmod(0o755)
    with imported(hostile_root(script="", links=dict([link])), "led-away") as image:
        flags = {"image": image, "inputs": ["data"], "outputs": ["out"], "command": ["true"]}
        with pytest.raises(
            ImageError, match="brings /sbin/docker-init into the mount at /mnt/outp"
        ):
            Mooring(real_engine).sessions.create(resolve(flags=flags))
        nothing_was_run(project, real_engine, state)


def test_what_an_earlier_run_left_is_not_asked(
    mooring: Mooring, real_engine: Engine, project: Path, data: Path, loot: Path
) -> None:
    """A session cannot change the programs that its next start runs, nor open its gate itself."""
    tampering = """
        cd /.mooring-*/ || exit 9
        for n in clock.sh init.sh exec.sh proc.sh gate settings kernelhost.py; do
            echo 'cat /mnt/inputs/data/* >>$OLDPWD/stolen' >$n && echo wrote $n
            rm -f $n && echo removed $n
            mv $n x && echo moved $n
        done 2>/dev/null
        mv "$PWD" /x && echo renamed
        ln -s /run/mooring ./x 2>/dev/null && echo linked
        for n in init.sh clock.sh exec.sh; do
            printf '#!/bin/sh\\ncat /mnt/inputs/data/* >>%s/stolen\\n' "$OLDPWD" >/run/mooring/$n
        done
        touch /run/mooring/checked
        (exec 3<>gate.fifo; sleep 1000) &
        echo done; sleep 1000
    """
    flags = {"inputs": ["data"], "command": ["sh", "-c", tampering]}
    session = mooring.sessions.create(
        resolve(flags=flags), LaunchOptions(name="twice", tty=False)
    ).session
    eventually(lambda: b"done" in b"".join(mooring.sessions.logs(session)))
    printed = b"".join(mooring.sessions.logs(session)).decode()
    assert [line for line in printed.splitlines() if "mv:" not in line] == ["done"]
    mooring.sessions.stop(session)
    replace_by_link(data, loot)()
    with pytest.raises(PolicyError, match="data"):
        mooring.sessions.start(mooring.sessions.get("twice"))
    engine = Exchanging(real_engine, "start", replace_by_link(data, loot))
    data.unlink()
    data.with_name("data.aside").rename(data)
    with pytest.raises(PolicyError, match="the mount at /mnt/inputs/data has changed"):
        Mooring(engine).sessions.start(mooring.sessions.get("twice"))  # type: ignore[arg-type]
    assert not (project / "stolen").exists()
    assert mooring.sessions.get("twice").state is State.STOPPED


# Opens the gate's FIFO for writing, and sends it over a socket in the project
SEND = """
import array, glob, os, socket, time
fifo = os.open(glob.glob("/.mooring-*/gate.fifo")[0], os.O_RDWR)
there = socket.socket(socket.AF_UNIX)
while True:
    try:
        there.connect("mail")
        break
    except OSError:
        time.sleep(0.05)
there.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fifo]))])
time.sleep(1000)
"""
HOLD = """
import array, os, socket, time
here = socket.socket(socket.AF_UNIX)
here.bind("mail")
here.listen()
link, _ = here.accept()
_, found, _, _ = link.recvmsg(1, 100)
open("held", "w").close()
time.sleep(1000)
"""


def test_a_gate_that_another_session_holds_open_is_closed(
    mooring: Mooring, real_engine: Engine, project: Path, data: Path, loot: Path
) -> None:
    """A session that was sent the last FIFO of the gate, opened for writing, does not open the next
    one: a read-only mount keeps nobody from opening a FIFO so."""

    def begin(name: str, program: str, **flags: object) -> Session:
        spec = resolve(flags={"command": [sys.executable, "-c", program], **flags})
        return mooring.sessions.create(spec, LaunchOptions(name=name, tty=False)).session

    begin("holder", HOLD)
    env = {"LD_DEBUG": "all", "LD_DEBUG_OUTPUT": f"{project}/loaded"}
    attacked = begin("attacked", SEND, inputs=["data"], env=env)
    eventually(lambda: (project / "held").exists(), timeout=20)
    mooring.sessions.stop(attacked)
    for trace in project.glob("loaded.*"):
        trace.unlink()
    engine = Exchanging(real_engine, "start", replace_by_link(data, loot))
    with pytest.raises(PolicyError, match="the mount at /mnt/inputs/data has changed"):
        Mooring(engine).sessions.start(mooring.sessions.get("attacked"))  # type: ignore[arg-type]
    assert list(project.glob("loaded.*")) == []  # no loader ran


@pytest.mark.parametrize("what", ["path", "prefix", "programs", "run", "etc/passwd"])
def test_moorings_own_mounts_are_compared_too(
    real_engine: Engine,
    state: Path,
    project: Path,
    tmp_path: Path,
    loot: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """What `image: host` mounts of Python, and the session's own folders, are what was planned."""
    (tmp_path / "packages").mkdir()
    if what in ("path", "prefix"):
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "packages")])
        if what == "prefix":
            monkeypatch.setattr(sys, "prefix", str(tmp_path / "packages"))

    def act() -> None:
        if what in ("path", "prefix"):
            replace_by_link(tmp_path / "packages", loot)()
            return
        (folder,) = (state / "sessions").glob("[0-9a-f]*")
        target = loot / "file" if what == "etc/passwd" else loot
        replace_by_link(folder / what, target)()

    engine = Exchanging(real_engine, "start", act)
    attacked = Mooring(engine, actor="tester")  # type: ignore[arg-type]
    flags = {"command": ["sh", "-c", f"touch {project}/ran"]}
    with pytest.raises((PolicyError, EngineError)) as caught:
        attacked.sessions.create(resolve(flags=flags))
    if isinstance(caught.value, PolicyError):
        assert "has changed since it was checked" in caught.value.message
    else:  # without its programs, the gate itself cannot be run
        assert what == "programs"
    nothing_was_run(project, real_engine, state)


def test_a_session_is_not_used_before_its_check(
    mooring: Mooring, real_engine: Engine, cli, data: Path
) -> None:
    """While a container waits behind its gate, no command runs in it and it counts as starting."""
    flags = {"inputs": ["data"], "command": ["sleep", "1000"]}
    session = mooring.sessions.create(resolve(flags=flags), LaunchOptions(name="early")).session
    mooring.sessions.stop(session)
    seen: list[object] = []

    class Looking(Exchanging):
        def mounted(self, *arguments: object) -> object:
            seen.append(Mooring(real_engine).sessions.get("early").state)
            seen.append(cli("exec", "early", "--", "true").stderr)
            return real_engine.mounted(*arguments)  # type: ignore[attr-defined]

    Mooring(Looking(real_engine, "", lambda: None)).sessions.start(session)  # type: ignore[arg-type]
    state, refused = seen[:2]
    assert state is State.STARTING
    assert "is starting" in str(refused)
    assert mooring.sessions.get("early").state is State.RUNNING


@pytest.mark.parametrize("at", ["mounted", "gate"])
def test_an_interrupted_start_is_stopped(
    mooring: Mooring, real_engine: Engine, project: Path, data: Path, at: str
) -> None:
    """Who is killed between the start and the check leaves a container that waits; whoever lists
    sessions next stops it."""
    flags = {"inputs": ["data"], "command": ["sh", "-c", f"echo ran >>{project}/ran; sleep 1000"]}
    session = mooring.sessions.create(resolve(flags=flags), LaunchOptions(name="killed")).session
    mooring.sessions.stop(session)
    program = (
        "import os, sys\n"
        "from mooring import Mooring\n"
        "from mooring.launch import verified\n"
        "place = '_compare' if sys.argv[1] == 'mounted' else 'open_gate'\n"
        "setattr(verified, place, lambda *_: os.kill(os.getpid(), 9))\n"
        "service = Mooring()\n"
        "service.sessions.start(service.sessions.get('killed'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, at], check=False, env=os.environ)
    assert done.returncode == -9
    assert docker("inspect", "-f", "{{.State.Running}}", session.container).stdout == "true\n"
    mooring.sessions.list()
    assert mooring.sessions.get("killed").state is State.STOPPED
    assert (project / "ran").read_text() == "ran\n"
    assert mooring.sessions.start(session).state is State.RUNNING
    assert (session_folder(session.id).path / "unverified").exists() is False


def test_files_that_this_machine_does_not_see_are_no_leave(
    real_engine: Engine, state: Path, project: Path
) -> None:
    """With an engine in a virtual machine or elsewhere nothing can be compared: nothing runs."""

    class Elsewhere(Exchanging):
        def mounted(self, container: str, paths: list[str]) -> list[None]:
            return [None for _ in paths]

    service = Mooring(Elsewhere(real_engine, "", lambda: None))  # type: ignore[arg-type]
    with pytest.raises(MooringError, match="cannot be checked") as caught:
        service.sessions.create(resolve(flags={"command": ["touch", "ran"]}))
    assert "on this machine" in caught.value.hint
    nothing_was_run(project, real_engine, state)


@pytest.fixture
def back() -> Iterator[None]:
    """The attack changes its current directory."""
    here = os.getcwd()
    yield
    os.chdir(here)


@pytest.mark.timed
@pytest.mark.parametrize("env", [{}, {"LD_PRELOAD": "/nowhere.so"}], ids=["plain", "preload"])
def test_an_attack_reads_nothing(mooring: Mooring, back: None, env: dict[str, str]) -> None:
    """Twelve sessions are made and started while their mounts are exchanged at random times."""
    came = attack.attack(rounds=12, seed=len(env) + 7, timeout_s=90, image="host", env=env)
    assert came["rounds"] == 12
    assert came["stolen"] == 0
    assert mooring.sessions.list() == []
