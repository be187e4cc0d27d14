"""ps, stop, start, rm, logs, describe, events, why, hold, update: on real sessions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.errors import EngineError
from mooring.sessions.model import FIELDS, State

pytestmark = pytest.mark.engine

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def create(cli: Cli, project: Path) -> Callable[..., None]:
    """Makes sessions of these names, in the background; flags by keyword."""

    def make(*names: str, flags: tuple[str, ...] = (), command: tuple[str, ...] = ()) -> None:
        for name in names:
            cli("create", "-d", "--name", name, *flags, "--", *command, check=0)

    return make


def test_stop_and_start_keep_files_and_packages(cli, create, project) -> None:
    """What was written and installed inside is there again after stop and start."""
    (project / "package").mkdir()
    (project / "package" / "mooring_test_module.py").write_text("ANSWER = 42\n")
    (project / "package" / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "mooring-test-module"\nversion = "1"\n'
    )
    create("kept")
    install = (
        "pip install --quiet --no-index --no-build-isolation ./package &&"
        "echo home >~/file && echo layer >/tmp/layer"
    )
    cli("exec", "kept", "--", "sh", "-c", install, check=0)
    (before,) = json.loads(cli("ps", "--json", check=0).stdout)
    assert cli("stop", "kept", check=0).stdout == "kept\n"
    cli("exec", "kept", "--", "true", check=125)
    assert cli("start", "kept", check=0).stdout == "kept\n"
    ask = "cat ~/file /tmp/layer;python3 -c 'import mooring_test_module as m; print(m.ANSWER)'"
    assert cli("exec", "kept", "--", "sh", "-c", ask, check=0).stdout == "home\nlayer\n42\n"
    (after,) = json.loads(cli("ps", "--json", check=0).stdout)
    assert (before["container"], before["id"]) == (after["container"], after["id"])


def test_stop_and_start_are_idempotent(cli, create, mooring) -> None:
    """Stopping what is stopped and starting what runs are no errors and change nothing."""
    create("twice")
    cli("start", "twice", check=0)
    cli("stop", "twice", check=0)
    cli("stop", "twice", check=0)
    assert mooring.sessions.get("twice").state is State.STOPPED
    assert [
        event.kind for event in mooring.sessions.events(mooring.sessions.get("twice").id)
    ].count("stopped") == 1


def test_several_at_once_and_one_failure_does_not_hide_the_others(cli, create, mooring) -> None:
    """Names, id beginnings and patterns act on each session once; a bad one costs only itself."""
    create("a-1", "a-2", "b-1", "c-1")
    identity = mooring.sessions.get("c-1").id
    done = cli("stop", "nosuch", "a-*", "a-1", identity[:6], check=1)
    assert sorted(done.stdout.split()) == ["a-1", "a-2", "c-1"]
    assert done.stderr.startswith("error: no session named nosuch\nhint: choose from: ")
    states = {session.name: str(session.state) for session in mooring.sessions.list()}
    assert states == {"a-1": "stopped", "a-2": "stopped", "b-1": "running", "c-1": "stopped"}
    done = cli("start", "nosuch", "a-?", check=1)
    assert sorted(done.stdout.split()) == ["a-1", "a-2"]
    done = cli("rm", "a-1", "c-1", check=1)
    assert done.stdout == "c-1\n"
    assert done.stderr == (
        "error: session a-1 is running\nhint: stop it first, or: mooring rm -f a-1\n"
    )
    assert sorted(cli("rm", "-f", "*-*", check=0).stdout.split()) == ["a-1", "a-2", "b-1"]
    assert mooring.sessions.list() == []


def test_a_failing_engine_costs_one_session_only(create, mooring, monkeypatch, capsys) -> None:
    """If the engine refuses one, the others are done all the same and the exit code is 1."""
    create("x-1", "x-2")
    import typer

    from mooring_cli.selection import apply, select

    def refuse_one(session) -> None:
        if session.name == "x-2":
            raise EngineError("it will not", "try later")

    with pytest.raises(typer.Exit) as left:
        apply(select(mooring, ["x-*"], verb="stop"), refuse_one)
    assert left.value.exit_code == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("x-1\n", "error: it will not\nhint: try later\n")


def test_logs(cli, create, mooring) -> None:
    """logs prints what the main process printed; --tail the last lines; also when it has ended."""
    create("talk", command=("sh", "-c", "for i in 1 2 3; do echo line $i; done"))
    deadline = time.monotonic() + 20
    while mooring.sessions.get("talk").state is not State.STOPPED:
        assert time.monotonic() < deadline
    lines = cli("logs", "talk", check=0).stdout.replace("\r", "").splitlines()
    assert lines == ["line 1", "line 2", "line 3"]
    assert cli("logs", "--tail", "1", "talk", check=0).stdout.strip() == "line 3"


def test_logs_follow_until_the_end(cli, create) -> None:
    """logs -f prints as it comes and ends with the main process."""
    create("go", command=("sh", "-c", "echo one; read -r x; echo two"))
    command = [sys.executable, "-m", "mooring_cli", "logs", "-f", "go"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "one"
        cli("stop", "go", check=0)
        assert process.wait(timeout=20) == 0


def test_describe_events_and_why(cli, create, mooring) -> None:
    """describe, events and why tell of a running, an ended and a removed session."""
    create("told", flags=("--idle-timeout", "30m"), command=("sh", "-c", "read -r x; exit 3"))
    said = " ".join(cli("describe", "told", check=0).stdout.split())
    for part in ("name told", "state running", "idle timeout 30m", "requested", "started"):
        assert part in said, part
    document = json.loads(cli("describe", "--json", "told", check=0).stdout)
    assert document["spec"]["idle_timeout"] == 1800
    assert [event["kind"] for event in document["events"]] == ["requested", "started"]
    assert "told is running" in cli("why", "told", check=0).stdout
    cli("stop", "told", check=0)
    said = cli("why", "told", check=0).stdout
    assert said.startswith("told is stopped: by ")
    assert f"by {mooring.sessions.get('told').owner}" in said
    assert json.loads(cli("why", "--json", "told", check=0).stdout)["reason"].startswith("by ")
    cli("rm", "told", check=0)
    assert cli("why", "told", check=0).stdout.startswith("told is gone: stopped by ")
    events = json.loads(cli("events", "--json", "told", check=0).stdout)
    kinds = [event["kind"] for event in events]
    assert kinds == ["requested", "started", "stopped", "removed"]
    assert all(event["actor"] and event["time"] for event in events)
    assert len(cli("events", "told", check=0).stdout.splitlines()) == 4
    assert "removed" in cli("describe", "told", check=0).stdout
    done = cli("logs", "told", check=1)
    assert done.stderr.startswith("error: session told is gone (stopped by ")
    assert "hint: see what happened: mooring events told" in done.stderr


def test_several_are_told_at_once(cli, create) -> None:
    """describe, events and why take several names and patterns; one that is not there is told."""
    create("one", "two")
    document = json.loads(cli("describe", "--json", "one", "two", check=0).stdout)
    assert [session["name"] for session in document] == ["one", "two"]
    said = cli("events", "two", "one", check=0).stdout.splitlines()
    assert [line.split()[0] for line in said].count("one") == 2
    assert said == sorted(said, key=lambda line: line.split()[1:3])
    done = cli("why", "o*", "nobody", check=1)
    assert "one is running" in done.stdout
    assert "no session named nobody" in done.stderr
    assert "two" in cli("describe", "nobody", "two", check=1).stdout


def test_a_hold_is_seen_at_once(cli, create) -> None:
    """why and ps agree about a hold in the moment after it, before the clock has looked."""
    create("kept", flags=("--idle-timeout", "30m"))
    cli("hold", "kept", "2h", check=0)
    said = cli("why", "kept", check=0).stdout
    assert "last      hold, 0s ago" in said
    assert "stops in  2h 29m (idle)" in said
    cli("hold", "kept", "off", check=0)
    said = cli("why", "kept", check=0).stdout
    assert "held" not in said
    assert re.search(r"stops in  (30m|29m) \(idle\)", said), said


def test_events_follow(cli, create) -> None:
    """events -f prints each as it happens, and ends when the session is removed."""
    create("live")
    command = [sys.executable, "-m", "mooring_cli", "events", "-f", "live"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "requested" in process.stdout.readline()
        assert "started" in process.stdout.readline()
        cli("hold", "live", "1h", check=0)
        assert "held" in process.stdout.readline()
        cli("rm", "-f", "live", check=0)
        assert "removed" in process.stdout.read()
        assert process.wait(timeout=20) == 0


def test_hold(cli, create, mooring) -> None:
    """hold shows in ps, expires by itself, and can be given up."""
    create("keep")
    assert cli("hold", "keep", "2h", check=0).stdout == "keep held for 2h\n"
    held = json.loads(cli("ps", "--json", check=0).stdout)[0]["held_for_s"]
    assert 7100 < held <= 7200
    assert "held" in cli("ps", check=0).stdout
    assert cli("hold", "keep", "off", check=0).stdout == "keep no longer held\n"
    assert json.loads(cli("ps", "--json", check=0).stdout)[0]["held_for_s"] == 0
    done = cli("hold", "keep", "soon", check=2)
    assert "error: duration: 'soon' must be a duration" in done.stderr
    cli("stop", "keep", check=0)
    assert "cannot be held" in cli("hold", "keep", check=1).stderr


def test_update(cli, create, mooring) -> None:
    """update is live; below what has elapsed it is refused, with the hint to stop it."""
    create("moving", flags=("--idle-timeout", "1h"))
    cli("update", "moving", "--idle-timeout", "2h", "--max-duration", "3h", check=0)
    deadline = time.monotonic() + 20
    while True:
        row = json.loads(cli("ps", "--json", check=0).stdout)[0]
        if row["idle_stop_in_s"] and row["max_stop_in_s"] and row["idle_stop_in_s"] > 3600:
            break
        assert time.monotonic() < deadline, row
    assert 10700 < row["max_stop_in_s"] <= 10800
    done = cli("update", "moving", "--max-duration", "0.1s", check=2)
    assert "error: session moving has run for" in done.stderr
    assert "hint: to end it now: mooring stop moving" in done.stderr
    assert "nothing to update" in cli("update", "moving", check=2).stderr
    assert "--idle-timeout: '-5m'" in cli("update", "moving", "--idle-timeout=-5m", check=2).stderr


# What a session sees of its limits, whichever version of cgroups the machine has
LIMITS = """cd /sys/fs/cgroup
cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes
cat cpu.max 2>/dev/null || echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
cat pids.max 2>/dev/null || cat pids/pids.max"""


def test_update_of_limits(cli, create) -> None:
    """They hold at once in the container, and when it has been stopped and started again."""
    create("train", flags=("--memory", "256MiB", "--pids-limit", "300"))
    cli("update", "train", "--memory", "1g", "--cpus", "0.5", check=0)
    for _ in range(2):
        memory, cpu, pids = cli("exec", "train", "--", "sh", "-c", LIMITS, check=0).stdout.split(
            "\n"
        )[:3]
        quota, period = map(int, cpu.split())
        assert (int(memory), quota / period, int(pids)) == (2**30, 0.5, 300)
        (row,) = json.loads(cli("ps", "--json", check=0).stdout)
        assert (row["memory_limit_bytes"], row["cpus"]) == (2**30, 0.5)
        cli("stop", "train", check=0)
        cli("start", "train", check=0)
    cli("stop", "train", check=0)
    cli("update", "train", "--memory", "512m", "--pids-limit", "off", check=0)
    cli("start", "train", check=0)
    seen = cli("exec", "train", "--", "sh", "-c", LIMITS, check=0).stdout
    memory, _, pids = seen.splitlines()
    assert (int(memory), pids) == (2**29, "max")
    assert "updated" in cli("events", "train", check=0).stdout
    done = cli("update", "train", "--memory", "1", check=2)
    assert "error: flag --memory: memory must be at least 6 MiB" in done.stderr
    assert "this machine has" in cli("update", "train", "--memory", "1EiB", check=1).stderr
    assert "has only" in cli("update", "train", "--cpus", "4096", check=1).stderr


def test_ps_chooses_rows_and_columns(cli, create, mooring) -> None:
    """ps shows the newest change first; flags choose; --json has the documented fields."""
    empty = cli("ps", check=0)
    assert (empty.stdout, empty.stderr) == ("", "no sessions; to create one: mooring create\n")
    create("old", "mid", "new")
    cli("stop", "mid", check=0)
    cli("rm", "-f", "old", check=0)
    assert cli("ps", "-q", check=0).stdout == "mid\nnew\n"
    assert cli("ps", "-q", "-n", "1", check=0).stdout == "mid\n"
    assert cli("ps", "-q", "--state", "running", check=0).stdout == "new\n"
    assert cli("ps", "-q", "--filter", "name=[mn]*", check=0).stdout == "mid\nnew\n"
    assert "no state 'dead'" in cli("ps", "--state", "dead", check=2).stderr
    assert cli("ps", "-q", "--running", check=0).stdout == "new\n"
    assert cli("ps", "-q", "--dead", check=0).stdout == "old\nmid\n"
    assert cli("ps", "-q", "--filter", "state=stopped", check=0).stdout == "mid\n"
    assert cli("ps", "-q", "--filter", "state=stopped", "--filter", "name=new").stdout == ""
    said = cli("ps", "--dead", "--format", "name,state,exit", check=0).stdout.splitlines()
    assert [line.split()[0] for line in said] == ["NAME", "old", "mid"]
    rows = json.loads(cli("ps", "--json", "--dead", check=0).stdout)
    assert [(row["name"], row["state"]) for row in rows] == [("old", "gone"), ("mid", "stopped")]
    assert all(tuple(row) == FIELDS for row in rows)


def test_ps_pages_after_ten(cli, mooring, project, monkeypatch, capsys) -> None:
    """Ten are shown, and how to see the rest is said; --all, -q and --json show all."""
    from mooring_cli import ps

    session = _session(cli, mooring)
    import dataclasses

    ended = dataclasses.replace(session, state=State.STOPPED)
    many = [dataclasses.replace(ended, name=f"s{i}") for i in range(12)]
    monkeypatch.setattr("mooring.client.sessions.Sessions.list", lambda self: many)
    ps.ps(format_="name")
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 11
    assert said.err == "2 more: mooring ps --all\n"
    ps.ps(everything=True, format_="name")
    assert len(capsys.readouterr().out.splitlines()) == 13
    ps.ps(last=11, format_="name")
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), said.err) == (12, "")
    ps.ps(quiet=True)
    assert len(capsys.readouterr().out.splitlines()) == 12


def _session(cli, mooring):
    cli("create", "-d", "--name", "one", check=0)
    return mooring.sessions.get("one")


def test_config_show_tells_origins(cli, project, state) -> None:
    """config show prints each value with its source; flags beat environment, file and config."""
    import os

    (state / "config" / "mooring").mkdir(parents=True)
    (state / "config" / "mooring" / "config.yml").write_text("cpus: 3\nmemory: 2GiB\n")
    (project / "session.yml").write_text("memory: 4GiB\nshm: 1GiB\nidle_timeout: 5m\n")
    environ = os.environ | {"MOORING_SHM": "2GiB", "MOORING_MAX_DURATION": "8h"}
    arguments = ["config", "show", "-f", "session.yml", "--max-duration", "9h"]
    shown = json.loads(cli(*arguments, "--json", env=environ, check=0).stdout)
    origins = {key: shown[key]["origin"] for key in shown}
    assert origins["max_duration"] == "flag --max-duration"
    assert origins["shm"] == "environment MOORING_SHM"
    assert origins["memory"] == "file session.yml:1"
    assert origins["cpus"].startswith("user config ")
    assert origins["image"] == "default"
    assert shown["max_duration"]["value"] == 9 * 3600
    table = cli(*arguments, env=environ, check=0).stdout
    assert "memory" in table
    assert "4GiB" in table.replace(" ", "")
    schema = json.loads(cli("config", "schema", check=0).stdout)
    assert set(shown) <= set(schema["properties"])


def test_doctor(cli) -> None:
    """doctor names the engine with its version and says what is wrong, in JSON as well."""
    findings = json.loads(cli("doctor", "--json", check=0).stdout)
    subjects = {finding["subject"] for finding in findings}
    assert {"system", "engine", "state", "kernel", "gpus"} <= subjects
    assert "docker" in cli("doctor", check=0).stdout.lower()


def test_trust(cli, project, tmp_path) -> None:
    """A file that reaches outside is refused until `mooring trust`, and again when it changes."""
    (tmp_path / "data").mkdir()
    spec = project / "session.yml"
    spec.write_text("name: far\ninputs: [../data]\n")
    done = cli("create", "-d", "-f", "session.yml", check=1)
    assert "uses paths outside its folder: inputs" in done.stderr
    assert f"hint: read it, then trust it: mooring trust {spec}" in done.stderr
    assert str(tmp_path / "data") in cli("trust", "session.yml", check=0).stdout
    cli("create", "-d", "-f", "session.yml", check=0)
    spec.write_text("name: far2\ninputs: [../data]\n")
    cli("create", "-d", "-f", "session.yml", check=1)


def test_kernelspecs(cli, project, tmp_path, monkeypatch) -> None:
    """kernel install, list and remove; another program's kernelspec is left alone."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    (project / "session.yml").write_text("name: lab\nidle_timeout: 5m\n")
    done = cli("kernel", "install", "-f", "session.yml", check=0)
    assert done.stdout == "lab\n"
    assert "its sessions end after 7d at the latest" in done.stderr
    flags = ["--session", "shared", "--display-name", "Shared", "--memory", "1GiB"]
    cli("kernel", "install", "--name", "other", *flags, check=0)
    rows = {row["name"]: row for row in json.loads(cli("kernel", "list", "--json").stdout)}
    assert set(rows) - {"mooring"} == {"lab", "other"}  # one comes with the package
    assert rows["lab"]["config"]["spec"] == str(project / "session.yml")
    assert rows["other"]["config"]["session"] == "shared"
    assert rows["other"]["display_name"] == "Shared"
    assert "Shared" in cli("kernel", "list", check=0).stdout
    document = json.loads((tmp_path / "jupyter/kernels/lab/kernel.json").read_text())
    assert document["metadata"]["kernel_provisioner"]["provisioner_name"] == "mooring-provisioner"
    cli("kernel", "install", "--name", "here", "--prefix", str(tmp_path / "env"), check=0)
    assert (tmp_path / "env/share/jupyter/kernels/here/kernel.json").exists()
    foreign = tmp_path / "jupyter/kernels/foreign"
    foreign.mkdir()
    (foreign / "kernel.json").write_text('{"argv": ["x"], "display_name": "x", "language": "x"}')
    done = cli("kernel", "install", "--name", "foreign", check=1)
    assert "exists and is not mooring's" in done.stderr
    done = cli("kernel", "remove", "foreign", "lab", check=1)
    assert "mooring has no kernelspec named foreign" in done.stderr
    assert done.stdout == "lab\n"
    assert foreign.exists()
    assert (
        "not a valid name for a kernelspec"
        in cli("kernel", "install", "--name", "a b", check=2).stderr
    )
    assert "needs names, or --all" in cli("kernel", "remove", check=2).stderr
    assert "needs names, or --all" in cli("kernel", "remove", "--all", "other", check=2).stderr
    assert cli("kernel", "remove", "--all", check=0).stdout == "other\n"
    assert foreign.exists()
    left = json.loads(cli("kernel", "list", "--json", check=0).stdout)
    assert {row["name"] for row in left} <= {"mooring"}
