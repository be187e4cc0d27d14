"""Attacks on this machine's files through mounts: nothing but what was granted, or no session."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import Bind, Engine
from mooring.engines.docker import DockerEngine
from mooring.engines.labels import LABEL_INSTALLATION
from mooring.errors import PolicyError, SpecError, TrustRequired
from mooring.host.paths import Installation
from mooring.host.users import caller
from mooring.images.mounts import plan
from mooring.images.pinned import PinnedSources
from mooring.launch import create, verified
from mooring.sessions.model import State
from mooring.spec.resolve import ResolvedSpec, resolve
from tests.support.exchange import Exchanging, replace_by_link
from tests.support.guest_scripts import OWN_PATH, caged, make_run_folder

pytestmark = pytest.mark.engine


@pytest.fixture
def loot(tmp_path: Path) -> Path:
    """What an attacker wants: a folder outside the project, with a file in it."""
    folder = tmp_path / "loot"
    folder.mkdir()
    (folder / "file").write_text("the loot")
    return folder


def seen(command: str) -> dict[str, object]:
    """Flags of a session whose command leaves a mark as soon as it runs."""
    return {"command": ["sh", "-c", f"touch ran; {command}"]}


def nothing_is_left(engine: Engine, state: Path) -> None:
    assert engine.list({LABEL_INSTALLATION: Installation.here().id}) == []
    assert list((state / "sessions").glob("*")) == []


def file_spec(project: Path, text: str) -> ResolvedSpec:
    (project / "session.yml").write_text(text)
    return resolve(flags={}, file=project / "session.yml")


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_a_link_swapped_in_after_the_check_grants_nothing(
    mooring: Mooring, real_engine: Engine, state: Path, project: Path, loot: Path, kind: str
) -> None:
    """A mount's source that became a link to elsewhere ends the session before its command."""
    (project / "data").mkdir()
    engine = Exchanging(real_engine, "create", replace_by_link(project / "data", loot))
    attacked = Mooring(engine, actor="tester")  # type: ignore[arg-type]
    with pytest.raises(PolicyError) as caught:
        attacked.sessions.create(resolve(flags={kind: ["data"]} | seen("sleep 60")))
    assert caught.value.message == f"the mount at /mnt/{kind}/data has changed since it was checked"
    assert "replaced" in caught.value.hint
    assert engine.created
    assert not (project / "ran").exists()
    nothing_is_left(real_engine, state)


def test_a_link_swapped_in_above_the_source_grants_nothing(
    mooring: Mooring, real_engine: Engine, state: Path, project: Path, tmp_path: Path
) -> None:
    """A folder above a mount's source that became a link ends the session as well."""
    (project / "a" / "data").mkdir(parents=True)
    (tmp_path / "elsewhere" / "data").mkdir(parents=True)
    act = replace_by_link(project / "a", tmp_path / "elsewhere")
    engine = Exchanging(real_engine, "create", act)
    attacked = Mooring(engine, actor="tester")  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="the mount at /mnt/inputs/data"):
        attacked.sessions.create(resolve(flags={"inputs": ["a/data"]} | seen("sleep 60")))
    assert engine.created
    nothing_is_left(real_engine, state)


def test_a_working_directory_swapped_after_the_check_grants_nothing(
    mooring: Mooring, real_engine: Engine, state: Path, project: Path, loot: Path
) -> None:
    """The working directory is compared as every other mount is, and in a kernel's session too."""
    engine = Exchanging(real_engine, "create", replace_by_link(project, loot))
    attacked = Mooring(engine, actor="tester")  # type: ignore[arg-type]
    try:
        with pytest.raises(
            PolicyError, match=f"the mount at {project} has changed since it was checked"
        ):
            attacked.sessions.create(resolve(flags={"kernel": "python3"}))
        nothing_is_left(real_engine, state)
        assert sorted(path.name for path in loot.iterdir()) == ["file"]
    finally:
        project.unlink()
        project.with_name("project.aside").rename(project)


def test_a_folder_swapped_between_its_resolving_and_its_reading_grants_nothing(
    mooring: Mooring,
    real_engine: Engine,
    state: Path,
    project: Path,
    loot: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is written down as granted is what the path was resolved to, not what it leads to."""
    (project / "data").mkdir()
    original = verified.pinned

    def after_the_swap(binds: Iterable[Bind]) -> AbstractContextManager[PinnedSources]:
        replace_by_link(project / "data", loot)()
        return original(binds)

    monkeypatch.setattr(verified, "pinned", after_the_swap)
    with pytest.raises(PolicyError, match="data"):
        mooring.sessions.create(resolve(flags={"inputs": ["data"]} | seen("sleep 60")))
    nothing_is_left(real_engine, state)


def test_a_link_that_turns_after_the_consent_asks_again(
    mooring: Mooring,
    state: Path,
    real_engine: Engine,
    project: Path,
    loot: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file's input that leads outside only after it was judged is refused for want of consent."""
    (project / "data").mkdir()
    resolved = file_spec(project, "inputs: [data]\ncommand: [sleep, '60']\n")
    engine = Exchanging(real_engine, "create", lambda: None)

    reserve = create.reserve

    def after_the_turn(*arguments: object, **options: object) -> object:
        replace_by_link(project / "data", loot)()
        return reserve(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(create, "reserve", after_the_turn)
    with pytest.raises(TrustRequired, match=str(loot)):
        Mooring(engine).sessions.create(resolved)  # type: ignore[arg-type]
    assert engine.created == []
    nothing_is_left(real_engine, state)


def test_a_stopped_session_is_not_started_over_a_link(
    mooring: Mooring, project: Path, loot: Path
) -> None:
    """A source that became a link while the session was stopped is refused; put back, it starts."""
    (project / "data").mkdir()
    flags = {"inputs": ["data"], "command": ["sleep", "60"]}
    name = mooring.sessions.create(resolve(flags=flags)).session.name
    mooring.sessions.stop(mooring.sessions.get(name))
    replace_by_link(project / "data", loot)()
    with pytest.raises(PolicyError, match="data"):
        mooring.sessions.start(mooring.sessions.get(name))
    assert mooring.sessions.get(name).state is State.STOPPED
    (project / "data").unlink()
    (project / "data.aside").rename(project / "data")
    assert mooring.sessions.start(mooring.sessions.get(name)).state is State.RUNNING


def test_a_link_swapped_in_during_a_start_grants_nothing(
    mooring: Mooring, real_engine: Engine, project: Path, loot: Path
) -> None:
    """The mounts are compared at every start."""
    (project / "data").mkdir()
    flags = {"inputs": ["data"]} | seen("sleep 60")
    session = mooring.sessions.create(resolve(flags=flags)).session
    mooring.sessions.stop(mooring.sessions.get(session.name))
    (project / "ran").unlink()

    engine = Exchanging(real_engine, "start", replace_by_link(project / "data", loot))
    attacked = Mooring(engine)  # type: ignore[arg-type]
    with pytest.raises(
        PolicyError, match="the mount at /mnt/inputs/data has changed since it was checked"
    ):
        attacked.sessions.start(session)
    found = mooring.sessions.get(session.name)
    assert (found.state, found.reason) == (State.STOPPED, "refused")
    assert not (project / "ran").exists()


def test_a_folder_made_anew_while_stopped_is_the_users_own_business(
    mooring: Mooring, project: Path
) -> None:
    """A source that was deleted and made again between stop and start is mounted as it is now."""
    (project / "data").mkdir()
    flags = {"inputs": ["data"], "command": ["sleep", "60"]}
    name = mooring.sessions.create(resolve(flags=flags)).session.name
    mooring.sessions.stop(mooring.sessions.get(name))
    (project / "data").rename(project / "old")  # keeps its inode from being used again
    (project / "data").mkdir()
    (project / "data" / "new").touch()
    mooring.sessions.start(mooring.sessions.get(name))
    assert run_in(mooring, name, "ls /mnt/inputs/data") == "new\n"


@pytest.fixture(params=["dash", "bash", "busybox"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed here")
    return ["busybox", "ash"] if request.param == "busybox" else [request.param]


@pytest.mark.parametrize(
    "loader",
    [
        {},
        {"LD_PRELOAD": "", "LD_LIBRARY_PATH": ""},
        {"LD_PRELOAD": "libc.so.6", "LD_LIBRARY_PATH": "/no where:/*"},
    ],
    ids=["unset", "empty", "set"],
)
def test_the_command_has_the_environment_that_the_check_had_not(
    tmp_path: Path, shell: list[str], loader: dict[str, str]
) -> None:
    """The check's tools get none of the loader's variables, the kernel host and the command get
    all of them as they were: set, empty or not there."""
    run, bin_folder = tmp_path / "run", tmp_path / "bin"
    for folder in (run, bin_folder):
        folder.mkdir()
    env, remove = shutil.which("env"), shutil.which("rm")
    asked = bin_folder / "rm"
    asked.write_text(f'#!/bin/sh\n{env} >>{run}/asked\nexec {remove} "$@"\n')
    asked.chmod(0o755)
    (run / "kernelhost").write_text("/bin/sh\n")
    (run / "kernelhost.py").write_text(f"{env} >{run}/.host; mv {run}/.host {run}/host\n")
    make_run_folder(run, bin_folder)
    (run / "end").touch()  # of an earlier run: rm is needed
    begin = [str(shutil.which(shell[0])), *shell[1:], run / "init.sh"]
    wait = f"until [ -e {run}/host ]; do sleep 0.05; done; exec {env}"
    given = {"PATH": f"/nowhere:{OWN_PATH}"} | loader
    done = subprocess.run(
        [*caged(), *begin, "command", "--", "sh", "-c", wait],
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    for told in (done.stdout, (run / "host").read_text()):
        found = dict(line.split("=", 1) for line in told.splitlines())
        watched = {name: found[name] for name in found if name == "PATH" or name[:3] == "LD_"}
        assert watched == given
    if shell[0] != "busybox":  # it has its own rm
        assert f"PATH={bin_folder}\n" in (run / "asked").read_text()
        assert "LD_" not in (run / "asked").read_text()


def run_in(mooring: Mooring, name: str, command: str) -> str:
    """What a shell command in a session prints."""
    done = subprocess.run(
        ["docker", "exec", mooring.sessions.get(name).container, "sh", "-c", command],
        env={name: value for name, value in os.environ.items() if name != "DOCKER_HOST"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


# What may be asked for at all


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("../loot", "outside"),
        ("../project-sibling", "a sibling with the same beginning"),
        ("link", "a link in the project that leads outside"),
        ("sub/../../loot", "dots inside"),
    ],
)
def test_a_file_that_reaches_outside_its_folder_asks_first(
    mooring: Mooring, state: Path, real_engine: Engine, project: Path, source: str, why: str
) -> None:
    """Dots, links and siblings count by where they really lead, and need consent."""
    for name in ("loot", "project-sibling", "project/sub"):
        (project.parent / name).mkdir(exist_ok=True)
    (project / "link").symlink_to("../loot")
    for kind in ("inputs", "outputs"):
        with pytest.raises(TrustRequired) as caught:
            mooring.sessions.create(
                file_spec(project, f"{kind}: [{{name: x, source: {source}}}]\n")
            )
        real = (project / source).resolve()
        assert f"{'read' if kind == 'inputs' else 'write'} {real}" in caught.value.message
    nothing_is_left(real_engine, state)


def test_links_that_stay_inside_need_no_consent(mooring: Mooring, project: Path) -> None:
    """A link in the project to something in the project is its own business."""
    (project / "data").mkdir()
    (project / "data" / "file").write_text("mine")
    (project / "link").symlink_to("data")
    resolved = file_spec(project, "inputs: [link, data/../data/file]\ncommand: [sleep, '60']\n")
    name = mooring.sessions.create(resolved).session.name
    assert run_in(mooring, name, "cat /mnt/inputs/link/file /mnt/inputs/file") == "minemine"


@pytest.fixture
def custom_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An engine's socket in a folder of its own, which DOCKER_HOST names."""
    import socket

    folder = tmp_path / "engine"
    folder.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "d.sock"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/d.sock")
    yield folder
    listener.close()


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run",
        "/var/run",
        "/run/",
        "/var/../run/./docker.sock",
        "//run//docker.sock",
        "/proc/self/root/run/docker.sock",
        "/proc/self/cwd/link-to-socket",
        "link-to-socket",
        "link-to-parent",
        "link-to-link",
        "/dev",
        "/dev/null",
        "/sys",
        "/proc",
        "/boot",
        "/var/lib/docker",
        "/var/lib",
        "/var",
        "fifo",
    ],
)
@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_what_gives_the_machine_away_is_refused_in_every_spelling(
    mooring: Mooring, state: Path, real_engine: Engine, project: Path, kind: str, source: str
) -> None:
    """The engine's socket, the folders it lies in, devices and the kernel's own files: never,
    not as a flag and not with consent."""
    (project / "link-to-socket").symlink_to("/var/run/docker.sock")
    (project / "link-to-parent").symlink_to("/var/run")
    (project / "link-to-link").symlink_to("link-to-socket")
    os.mkfifo(project / "fifo")
    with pytest.raises((PolicyError, SpecError)) as caught:
        mooring.sessions.create(resolve(flags={kind: [{"name": "x", "source": source}]}))
    assert "would expose the host" in caught.value.message or (
        kind == "outputs" and "is not a folder" in caught.value.message
    )
    nothing_is_left(real_engine, state)


@pytest.mark.parametrize("source", ["engine/d.sock", "engine", "."])
def test_an_engines_socket_elsewhere_is_refused_too(
    project: Path, custom_socket: Path, source: str
) -> None:
    """A socket that DOCKER_HOST names is no mount, nor is any folder above it."""
    flags = {"inputs": [{"name": "x", "source": str(custom_socket.parent / source)}]}
    resolved = resolve(flags=flags)
    with pytest.raises(PolicyError, match="would expose the host"):
        plan(resolved.spec, project=project, cwd=project, user=caller())


def test_a_socket_in_the_project_is_masked(mooring: Mooring, custom_socket: Path) -> None:
    """Where the working directory itself holds the engine's socket, the session sees nothing."""
    resolved = resolve(flags={"command": ["sleep", "60"]})
    resolved = type(resolved)(
        spec=resolved.spec,
        origins=resolved.origins,
        path=None,
        project=custom_socket,
        sha256=None,
    )
    name = mooring.sessions.create(resolved).session.name
    told = run_in(mooring, name, f"test -S {custom_socket}/d.sock && echo socket; echo end")
    assert told == "end\n"


def test_other_sessions_keys_are_masked(mooring: Mooring, state: Path, project: Path) -> None:
    """Mooring's own folder is seen in no session, through whatever mount that holds it."""
    outer = state.parent / f"{state.name}-around"
    outer.mkdir()
    try:
        inner = outer / "state"
        shutil.copytree(state, inner)
        os.environ["MOORING_STATE_DIR"] = str(inner)  # conftest's monkeypatch puts it back
        other = Mooring(mooring.engine, actor="tester")
        try:
            flags = {"inputs": [{"name": "x", "source": str(outer)}], "command": ["sleep", "60"]}
            session = other.sessions.create(resolve(flags=flags)).session
            assert (inner / "sessions" / session.id / "record.json").exists()
            told = run_in(other, session.name, "ls -A /mnt/inputs/x; ls -A /mnt/inputs/x/state")
            assert told == "state\n"
        finally:
            for session in other.sessions.list():
                other.sessions.remove(session, force=True)
            os.environ["MOORING_STATE_DIR"] = str(state)
    finally:
        shutil.rmtree(outer)


def test_moorings_own_folder_is_no_mount(mooring: Mooring, state: Path, project: Path) -> None:
    """Neither the state folder nor one inside it may be an input or a working directory."""
    (state / "sessions").mkdir()
    for source in (state, state / "sessions"):
        with pytest.raises(PolicyError, match="belongs to mooring itself"):
            mooring.sessions.create(
                resolve(flags={"inputs": [{"name": "x", "source": str(source)}]})
            )
    spec = resolve(flags={}).spec
    found = plan(spec, project=state / "sessions", cwd=state, user=caller())
    assert found.workdir == caller().home


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("~nobody-of-that-name/x", "no such user"),
        ("missing", "does not exist"),
        ("loop", "form a loop"),
        ("x" * 300, "File name too long"),
        ("file/below", "Not a directory"),
    ],
)
def test_paths_that_lead_nowhere_are_one_line(project: Path, source: str, message: str) -> None:
    """Whatever is wrong with a source's path is a SpecError that names the mount."""
    (project / "loop").symlink_to("loop")
    (project / "file").touch()
    resolved = resolve(flags={"inputs": [{"name": "x", "source": source}]})
    with pytest.raises(SpecError) as caught:
        plan(resolved.spec, project=project, cwd=project, user=caller())
    assert "\n" not in caught.value.message
    assert message in caught.value.message


def test_a_missing_source_is_never_made(
    mooring: Mooring, real_engine: Engine, state: Path, project: Path
) -> None:
    """A source that vanished after the check is an error, and nobody makes a folder of its name."""
    (project / "data").mkdir()
    engine = Exchanging(real_engine, "create", (project / "data").rmdir)
    with pytest.raises(Exception, match="data"):
        Mooring(engine).sessions.create(
            resolve(flags={"inputs": ["data"], "command": ["sleep", "60"]})
        )
    assert not (project / "data").exists()
    nothing_is_left(real_engine, state)


def test_the_engine_under_test_is_a_real_one(real_engine: Engine) -> None:
    """These attacks are made on a real engine."""
    assert isinstance(real_engine, DockerEngine)
