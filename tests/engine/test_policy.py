"""The administrator's policy where it really stands, /etc/mooring/policy.yml, at every door."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.errors import PolicyError
from mooring.policy import limits
from tests.conftest import Cli
from tests.support.kernel_clients import Server, install, jupyter

__all__ = ["jupyter"]
pytestmark = [pytest.mark.engine, pytest.mark.alone]

Plant = Callable[[str], None]


@pytest.fixture
def in_force() -> Iterator[Plant]:
    """Writes the machine's own policy; whatever happens, it is gone afterwards."""
    file = limits.POLICY_FILE
    if os.getuid() != 0:
        pytest.skip("only root can write a policy")
    if file.exists():
        pytest.fail(f"{file} is there: this machine has a policy of its own")
    made = not file.parent.exists()
    file.parent.mkdir(mode=0o755, exist_ok=True)

    def write(text: str) -> None:
        file.write_text(text)
        file.chmod(0o644)

    try:
        yield write
    finally:
        file.unlink(missing_ok=True)
        if made:
            file.parent.rmdir()


# The limits are so wide that nobody else on the machine is kept from anything
WIDE = "# ours\nmax_gpus: 1000\nmax_priority: 99\n"


def test_every_door_obeys(cli: Cli, in_force: Plant, mooring: Mooring, jupyter: Path) -> None:
    """The command line and a kernel's dialog refuse what the policy does, with its key and line;
    `config policy` and `doctor` tell it; a policy that others may write stops all of them."""
    in_force(WIDE)
    done = cli("create", "-d", "--gpus", "1001", check=1)
    assert done.stderr == (
        "error: gpus is 1001 (flag --gpus), and the maximum for a session is 1000: max_gpus in "
        "/etc/mooring/policy.yml:2\n"
        "hint: ask for 1000 or fewer; for more ask the administrator\n"
    )
    assert "max_priority" in cli("create", "-d", "--priority", "100", check=1).stderr
    assert "max_gpus" in cli("kernel", "install", "--name", "g", "--gpus", "1001", check=1).stderr
    told = json.loads(cli("config", "policy", "--json", check=0).stdout)
    assert told == {"max_gpus": 1000, "max_priority": 99}
    assert "/etc/mooring/policy.yml:2" in cli("config", "policy", check=0).stdout
    assert "max_gpus 1000; max_priority 99" in cli("doctor").stdout
    server = Server()
    try:
        install("greedy", flags={"gpus": 1001})
        status, answer = server.ask("POST", "kernels", {"name": "greedy"})
        assert status == 500
        assert "max_gpus in /etc/mooring/policy.yml:2" in answer["message"]
    finally:
        server.stop()
    assert mooring.sessions.list() == []
    name = cli("create", "-d", check=0).stdout.strip()
    limits.POLICY_FILE.chmod(0o666)
    assert "is writable by other users" in cli("create", "-d", check=1).stderr
    cli("stop", name, check=0)
    assert "is writable by other users" in cli("start", name, check=1).stderr
    cli("rm", name, check=0)


def test_a_running_session_stays_within_it(
    cli: Cli, mooring: Mooring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`update` cannot lengthen a session beyond the policy, nor `start` bring one back."""
    file = tmp_path / "policy.yml"
    file.write_text("max_duration: 2h\nrequire_max_duration: true\n")
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(limits, "POLICY_FILE", file)
    monkeypatch.setattr(limits, "OWNER", os.getuid())
    monkeypatch.setenv("MOORING_MAX_DURATION", "1h")
    name = cli("create", "-d", check=0).stdout.strip()
    session = mooring.sessions.get(name)
    for seconds in (0.0, 3 * 3600.0):
        with pytest.raises(PolicyError, match=r"max_duration in .*policy\.yml:1"):
            mooring.sessions.update(session, max_duration_s=seconds)
    assert mooring.sessions.deadlines(session)["max_duration"] == 3600
    mooring.sessions.update(session, max_duration_s=7200)
    mooring.sessions.stop(session)
    file.write_text("max_duration: 90m\n")
    with pytest.raises(PolicyError, match="max_duration is 2h, and the maximum is 90m"):
        mooring.sessions.start(mooring.sessions.get(name))
    assert mooring.sessions.get(name).state == "stopped"
    file.write_text("host_paths: [/nonexistent]\n")
    with pytest.raises(PolicyError, match="outside the folders that may be mounted"):
        mooring.sessions.start(mooring.sessions.get(name))
    file.write_text("")
    assert mooring.sessions.start(mooring.sessions.get(name)).state == "running"


def test_what_a_profile_says_is_what_runs(cli: Cli, state: Path, project: Path) -> None:
    """A profile by flag, by variable and by `extends` reaches the container; flags win."""
    folder = state / "config" / "mooring" / "profiles"
    folder.mkdir(parents=True)
    (folder / "small.yml").write_text("env: {FROM: profile}\nmemory: 512m\n")
    (project / "base.yml").write_text("extends: small\nenv: {BASE: there}\n")
    (project / "session.yml").write_text("extends: ./base.yml\nenv: {OWN: mine}\n")
    command = ["--", "sh", "-c", "echo $FROM $BASE $OWN"]
    done = cli("create", "--rm", "--profile", "small", *command, check=0)
    assert done.stdout.strip() == "profile"
    flags = ["--rm", "--env", "FROM=flag"]
    environ = {**os.environ, "MOORING_PROFILE": "small"}
    assert cli("create", *flags, *command, check=0, env=environ).stdout.strip() == "flag"
    done = cli("create", "--rm", "-f", "session.yml", *command, check=1)
    assert f"extends: read your profile small, {folder}/small.yml" in done.stderr
    assert "and what it extends (" in done.stderr
    told = cli("trust", "session.yml", check=0).stdout
    assert told == f"trusted: extends: read your profile small, {folder}/small.yml\n"
    done = cli("create", "--rm", "-f", "session.yml", *command, check=0)
    assert done.stdout.strip() == "profile there mine"
    (folder / "small.yml").write_text("env: {FROM: changed}\n")
    cli("create", "--rm", "-f", "session.yml", *command, check=1)
    assert cli("config", "profiles", "--json", check=0).stdout.count("small") == 2


def test_a_kernelspec_has_its_profile(cli: Cli, state: Path, jupyter: Path) -> None:
    """`kernel install --profile` writes the name down, and the kernel gets the profile's values."""
    folder = state / "config" / "mooring" / "profiles"
    folder.mkdir(parents=True)
    (folder / "small.yml").write_text("image: mooring-test-nowhere:1\npull: never\n")
    cli("kernel", "install", "--name", "slim", "--profile", "small", check=0)
    server = Server()
    try:
        status, answer = server.ask("POST", "kernels", {"name": "slim"})
    finally:
        server.stop()
    assert status == 500
    assert "No such image: mooring-test-nowhere:1" in answer["message"]
