"""The clock does not depend on the environment that it finds, and its own tools are enough."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.guest_scripts import (
    HOSTILE,
    SHELLS,
    caged,
    make_run_folder,
    script_names,
    shell_named,
)
from tests.support.waiting import eventually

# Every name that the scripts use holds something that none of them could go on with
SPOILT = dict.fromkeys(script_names(), "spoilt *\n'") | HOSTILE
TOOLS = ("sleep", "cat", "rm", "mkdir", "stat", "date", "sh")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return shell_named(request.param)


def lines_of(path: Path) -> dict[str, str]:
    """A file of lines KEY VALUE; empty until it is there."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def tools_without_env(path: Path) -> Path:
    """A folder of the tools that the scripts need, and no more."""
    path.mkdir()
    for name in TOOLS:
        (path / name).symlink_to(str(shutil.which(name)))
    return path


@contextmanager
def clock_beside_a_command(run: Path, shell: list[str]) -> Iterator[int]:
    """A session that sleeps, in a spoilt environment, and the number of its clock."""
    command = ["/bin/sh", "-c", "/bin/sleep 1000; :"]
    words = [*caged(), *shell, run / "init.sh", "command", "--", *command]
    with subprocess.Popen(words, env=SPOILT, stdin=subprocess.DEVNULL) as session:
        try:
            eventually(lambda: "complete" in lines_of(run / "status"), 20, "no sample was taken")
            yield clock_of(run)
        finally:
            session.send_signal(signal.SIGKILL)


def clock_of(run: Path) -> int:
    """The process that has this run folder's clock.sh for a program."""
    mine = f"{run}/clock.sh".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:2] == [mine]:
            return int(entry.name)
    raise AssertionError("no clock runs")


def test_the_clock_has_no_environment_of_the_session(tmp_path: Path, shell: list[str]) -> None:
    """It gets two search paths, and nothing else that a spec or an image sets."""
    run = make_run_folder(tmp_path / "run", sample_s=0.5)
    with clock_beside_a_command(run, shell) as clock:
        environ = Path(f"/proc/{clock}/environ").read_bytes()
    names = {line.partition(b"=")[0] for line in environ.split(b"\0") if line}
    assert names == {b"PATH", b"LD_LIBRARY_PATH"}


@pytest.mark.parametrize("has_env", [True, False])
def test_no_variable_changes_what_the_clock_does(
    tmp_path: Path, shell: list[str], has_env: bool
) -> None:
    """It samples at its pace and knows its settings, whatever its variables hold when it begins;
    also where the image has no env(1)."""
    tools = None if has_env else tools_without_env(tmp_path / "tools")
    run = make_run_folder(
        tmp_path / "run", tools, sample_s=0.5, idle_timeout_s=100, max_duration_s=300
    )
    with clock_beside_a_command(run, shell):
        status = lines_of(run / "status")
        first = float(status["sampled"])
        eventually(
            lambda: float(lines_of(run / "status").get("sampled", first)) != first,
            timeout=20,
            message="no second sample was taken",
        )
        second = lines_of(run / "status")
    assert float(second["sampled"]) - first > 0.4
    assert float(status["idle_at"]) == pytest.approx(float(status["started"]) + 100, abs=0.02)
    assert float(status["max_at"]) == pytest.approx(float(status["started"]) + 300, abs=0.02)
    # this machine's terminals are in use
    assert re.fullmatch(r"kernel=never terminal=\S+ exec=never hold=never", status["seen"])
    assert status["unknown"] == ""


def test_a_terminal_from_before_is_no_activity(tmp_path: Path, shell: list[str]) -> None:
    """At its first sample nobody has typed yet, whatever terminals there are."""
    run = make_run_folder(tmp_path / "run", sample_s=60)
    ends = os.openpty()
    try:
        with clock_beside_a_command(run, shell):
            status = lines_of(run / "status")
    finally:
        for end in ends:
            os.close(end)
    assert "terminal=never" in status["seen"].split()
    assert status["active"] == ""
    assert status["last_signal"].endswith(" start")


def test_no_variable_changes_what_an_end_does(tmp_path: Path, shell: list[str]) -> None:
    """An `end`, which is run in the session's environment, tells and does the same in any."""
    run = make_run_folder(tmp_path / "run", grace_s=5)
    end = [*shell, run / "clock.sh", "end", "stopped", "by ada"]
    ending = subprocess.run(
        [*caged(), "/bin/sh", "-c", '/bin/sleep 1000 & "$@"', "sh", *end],
        env=SPOILT, stdin=subprocess.DEVNULL, timeout=4, check=False,
    )  # fmt: skip
    assert ending.returncode == 0
    record = lines_of(run / "end")
    assert (record["reason"], record["detail"]) == ("stopped", "by ada")
    assert record["signals"] == "kernel=never terminal=never exec=never hold=never cpu=?%"
    assert abs(float(record["time"]) - time.time()) < 60


def test_a_process_that_ends_while_it_is_read_is_none(tmp_path: Path, shell: list[str]) -> None:
    """A read that fails, which leaves bash's variables as they were, ends what reads."""
    run = make_run_folder(tmp_path / "run")
    (tmp_path / "gone" / "stat").mkdir(parents=True)  # its open succeeds, its read does not
    script = f'. {run}/proc.sh; line="1 (sh) S 0" STATE=none; read_stat "$1"; echo "$? $STATE"'
    words = [*shell, "-c", script, "sh", f"..{tmp_path}/gone"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    assert (done.stdout, done.stderr) == ("1 none\n", "")


def test_settings_that_cannot_be_read_keep_no_session(tmp_path: Path, shell: list[str]) -> None:
    """A session whose settings were replaced by something else is ended all the same."""
    run = make_run_folder(tmp_path / "run")
    (run / "settings").unlink()
    (run / "settings").mkdir()
    words = [*caged(), *shell, run / "clock.sh", "end", "stopped"]
    ending = subprocess.run(
        words, env=os.environ | {"key": "name"}, stdin=subprocess.DEVNULL, timeout=10, check=False
    )
    assert ending.returncode == 0
    assert lines_of(run / "end")["reason"] == "stopped"


def test_usage_is_refused_before_anything_is_done(tmp_path: Path, shell: list[str]) -> None:
    """A call without a known mode fails with mooring's own code and touches nothing."""
    run = make_run_folder(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [*shell, run / "clock.sh", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert done.stderr.startswith("mooring: usage:")
    assert sorted(tmp_path.rglob("*")) == before
