"""Keys, tokens and secrets: planted ones are found where they belong and nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.errors import SpecError
from mooring.images.secrets import read_secrets
from mooring.launch.plan import plan_launch
from mooring.sessions.model import Session
from mooring.spec.resolve import resolve
from tests.conftest import Cli
from tests.support.kernel_clients import install, jupyter, kernel, only_session, run
from tests.support.sessions import session_folder

__all__ = ["jupyter"]  # a fixture

pytestmark = pytest.mark.engine

# Written apart, so that this file, and what pytest shows of it, does not hold them
FROM_ENV = "-".join(("sentinel", "env", "5b1f"))
FROM_FILE = "-".join(("sentinel", "file", "93ac"))
OPEN = "-".join(("sentinel", "open", "d07e"))
SPEC = """
secrets:
  TOKEN: {env: MY_TOKEN}
  CERT: {file: cert.txt}
env: {SETTING: %s}
"""


@pytest.fixture
def spec(project: Path) -> Path:
    """A trusted spec with a secret from the environment, one from a file, and an open setting."""
    (project / "cert.txt").write_text(FROM_FILE + "\n")
    (project / "session.yml").write_text(SPEC % OPEN)
    return project / "session.yml"


def with_token() -> dict[str, str]:
    return {**os.environ, "MY_TOKEN": FROM_ENV}


def other_processes() -> Iterator[tuple[str, bytes]]:
    """Command line and environment of every process but this one that this user may look into;
    those are all of the machine's for root, and all that mooring starts for anybody."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            for name in ("cmdline", "environ"):
                try:
                    yield f"{entry}/{name}", (entry / name).read_bytes()
                except OSError:
                    continue


def docker(*arguments: str) -> bytes:
    done = subprocess.run(["docker", *arguments], capture_output=True, check=True)
    return done.stdout + done.stderr


def traces(session: Session, cli: Cli, state: Path) -> dict[str, bytes]:
    """Everything that speaks of a session, by name."""
    found = {
        "docker inspect": docker("inspect", session.container),
        "docker logs": docker("logs", session.container),
        "docker diff": docker("diff", session.container),
        "docker image history": docker("history", "--no-trunc", docker_image(session)),
        "docker ps": docker("ps", "-a", "--no-trunc", "--format", "{{json .}}"),
        "docker top": docker("top", session.container, "-eo", "pid,args"),
    }
    for words in (
        ["ps", "--json"],
        ["ps", "--all"],
        ["describe", session.name],
        ["describe", session.name, "--json"],
        ["events", session.name],
        ["events", session.name, "--json"],
        ["-v", "why", session.name],
        ["logs", session.name],
    ):
        done = cli(*words, check=0)
        found[f"mooring {' '.join(words)}"] = (done.stdout + done.stderr).encode()
    folder = session_folder(session.id).path
    for path in state.rglob("*"):
        if path.is_file() and folder / "secrets" not in path.parents:
            found[f"file {path}"] = path.read_bytes()
    found.update(other_processes())
    return found


def docker_image(session: Session) -> str:
    return docker("inspect", "-f", "{{.Image}}", session.container).decode().strip()


def assert_hidden(found: dict[str, bytes], *sentinels: str) -> None:
    assert len(found) > 20
    assert any(name.endswith("history.db") for name in found)
    leaks = [name for name, text in found.items() if any(s.encode() in text for s in sentinels)]
    assert leaks == []


def test_secrets_of_a_shell_session(
    cli: Cli, mooring: Mooring, spec: Path, state: Path, project: Path
) -> None:
    """Secrets are files of mode 0400 inside, and in no label, log, argument, environment, event or
    history outside; an open variable is an open one."""
    cli("trust", "session.yml", check=0)
    words = ["-v", "create", "-f", "session.yml", "--name", "s", "-d", "--", "sleep", "60"]
    done = cli(*words, env=with_token(), check=0)
    session = mooring.sessions.get("s")
    script = (
        "cd /run/secrets && cat TOKEN && echo && cat CERT && echo && stat -c '%a %u %n' * && "
        "(echo x >TOKEN) 2>/dev/null || echo read-only; env"
    )
    told = cli("exec", "s", "--", "sh", "-c", script, check=0).stdout
    uid = os.getuid()
    assert told.startswith(f"{FROM_ENV}\n{FROM_FILE}\n400 {uid} CERT\n400 {uid} TOKEN\nread-only\n")
    environment = told.partition("read-only\n")[2]
    assert FROM_ENV not in environment
    assert f"SETTING={OPEN}" in environment
    found = traces(session, cli, state)
    found["create -v"] = (done.stdout + done.stderr).encode()
    # the project is the user's own, and is not looked through
    assert_hidden(found, FROM_ENV, FROM_FILE)
    assert OPEN.encode() in found["docker inspect"]
    folder = session_folder(session.id)
    assert {path.name for path in folder.secrets.iterdir()} == {"TOKEN", "CERT"}
    assert {path.stat().st_mode & 0o777 for path in folder.secrets.iterdir()} == {0o400}
    cli("stop", "s", check=0)
    cli("rm", "s", check=0)
    assert not folder.path.exists()
    gone = {str(path): path.read_bytes() for path in state.rglob("*") if path.is_file()}
    gone["events"] = cli("events", "s", check=0).stdout.encode()
    assert [n for n, text in gone.items() if FROM_ENV.encode() in text] == []
    assert [n for n, text in gone.items() if FROM_FILE.encode() in text] == []


@pytest.mark.parametrize("encrypt", [None, "always"])
def test_secrets_and_keys_of_a_kernel(
    cli: Cli,
    mooring: Mooring,
    spec: Path,
    state: Path,
    jupyter: Path,
    monkeypatch: pytest.MonkeyPatch,
    encrypt: str | None,
) -> None:
    """A Python kernel finds the secrets in os.environ and /proc shows them nowhere; its keys are in
    files of mode 0600 and nowhere else."""
    cli("trust", "session.yml", check=0)
    monkeypatch.setenv("MY_TOKEN", FROM_ENV)  # putenv: not what /proc shows of this process
    flags = {"encrypt": encrypt} if encrypt else {}
    name = install(spec=str(spec), flags=flags)
    with kernel(name) as (manager, client):
        code = "import os; print(os.environ['TOKEN'], os.environ['CERT'], os.environ['SETTING'])"
        assert run(client, code).text == f"{FROM_ENV} {FROM_FILE} {OPEN}"
        session = only_session(mooring)
        info = manager.get_connection_info()
        keys = [info["key"].decode()]
        if encrypt:
            keys.append(str(info["curve_secretkey"]))
        assert all(len(key) > 20 for key in keys)
        found = traces(session, cli, state)
        homes = {name for name in found if name.endswith("/c.json")}
        assert len(homes) == 1
        path = Path(homes.pop().removeprefix("file "))
        assert path.stat().st_mode & 0o777 == 0o600
        assert keys[0].encode() in path.read_bytes()
        runtime = [n for n in found if str(jupyter) in n]  # the client's own files
        keep = {n: text for n, text in found.items() if not n.endswith("/c.json")}
        assert_hidden({n: t for n, t in keep.items() if n not in runtime}, *keys)
        # what a cell prints is in its recording, as it is in its notebook
        printed = {n for n in keep if n.endswith(("/out.0", "/out.1"))}
        printed.add(f"mooring logs {session.name}")
        assert_hidden({n: t for n, t in keep.items() if n not in printed}, FROM_ENV, FROM_FILE)


def test_failures_tell_no_secret(cli: Cli, spec: Path, project: Path, state: Path) -> None:
    """No error, with -v or without, tells a secret's value: not of a creation that fails late, nor
    of one whose secrets cannot be read."""
    cli("trust", "session.yml", check=0)
    told = []
    for words in (
        ["--image", "mooring-test/absent:1", "--pull", "never"],
        ["--name", "UPPER"],
        ["--workdir"],
        ["--", "/no/such/program"],
    ):
        done = cli("-v", "create", "-f", "session.yml", "-d", *words, env=with_token())
        told.append(done.stdout + done.stderr)
    (project / "cert.txt").write_bytes(b"\xff" + FROM_FILE.encode())
    done = cli("-v", "create", "-f", "session.yml", "-d", env=with_token(), check=2)
    assert "it is not text" in done.stderr
    told.append(done.stderr)
    assert any("No such image" in text for text in told)
    assert not [text for text in told if FROM_ENV in text or FROM_FILE in text]


def test_a_traceback_tells_no_secret(spec: Path, project: Path, state: Path) -> None:
    """Even a traceback with all that the exceptions carry holds no secret's value."""
    script = (
        "import os, traceback\n"
        "from pathlib import Path\n"
        "from mooring import Mooring, resolve\n"
        "resolved = resolve(flags={}, file=Path('session.yml'))\n"
        "def fail(config): raise RuntimeError(f'cannot create {config}')\n"
        "mooring = Mooring()\n"
        "plan = mooring.sessions.plan(resolved).with_trust()\n"
        "mooring.engine.create = fail\n"
        "mooring.sessions.create(plan)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=with_token(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RuntimeError: cannot create ContainerConfig(" in done.stderr
    assert OPEN in done.stderr  # the whole configuration was printed
    assert FROM_ENV not in done.stderr
    assert FROM_FILE not in done.stderr


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("missing", "No such file"),
        ("/dev/zero", "not a regular file"),
        ("fifo", "not a regular file"),
        (".", "not a regular file"),
        ("big", "larger than 512 KiB"),
        ("loop", "its links form a loop"),
    ],
)
def test_odd_secret_files_are_refused_at_once(project: Path, source: str, why: str) -> None:
    """A secret is a small regular text file; anything else is one line, and is not waited for."""
    os.mkfifo(project / "fifo")
    (project / "big").write_bytes(b"x" * (512 * 1024 + 1))
    (project / "loop").symlink_to("loop")
    resolved = resolve(flags={"secrets": {"T": {"file": source}}})
    with pytest.raises(SpecError, match=r"^secrets: T: ") as caught:
        read_secrets(resolved.spec, plan_launch(resolved).mounts.secret_files, {})
    assert re.search(why, str(caught.value), re.IGNORECASE)
    assert "\n" not in str(caught.value)
