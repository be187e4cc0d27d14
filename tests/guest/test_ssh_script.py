"""ssh.sh: the shell, its folder and its PATH, for every shell that an image may have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.guest_scripts import GUEST, SHELLS, shell_named

SCRIPT = (GUEST / "ssh.sh").read_text()


def run(
    shell: str, home: Path, *words: str, text: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a mode of the script by a shell."""
    variables = {"HOME": str(home), "PATH": "/usr/bin:/bin", **environ}
    return subprocess.run(
        [*shell_named(shell), "-c", SCRIPT, "ssh", *words],
        input=text, env=variables, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_runs_at_home_by_the_users_shell(shell: str, tmp_path: Path) -> None:
    """Its quotes and its exit code are its own, and no variable of the script is left."""
    done = run(shell, tmp_path, "command", "pwd; echo \"a  b\" '$x'; exit 7", SHELL="/bin/sh")
    assert (done.returncode, done.stdout) == (7, f"{tmp_path}\na  b $x\n")
    names = run(shell, tmp_path, "command", "env", SHELL="/bin/sh").stdout.split()
    found = {line.partition("=")[0] for line in names}
    assert found <= {"HOME", "PATH", "SHELL", "PWD", "_", "SHLVL", "OLDPWD"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_home_that_is_none_is_no_error(shell: str, tmp_path: Path) -> None:
    """As with sshd, which begins at the root then; without SHELL there is still a shell."""
    done = run(shell, tmp_path / "missing", "command", "pwd; echo $SHELL")
    assert done.stdout.splitlines()[0] == "/"
    assert done.stdout.splitlines()[1].endswith("sh")


@pytest.mark.parametrize("login", ["bash", "dash", "zsh", "fish"])
def test_a_login_shell_keeps_the_sessions_path(login: str, tmp_path: Path) -> None:
    """What its startup files add comes behind; what they drop does not vanish."""
    program = shutil.which(login)
    if program is None:
        pytest.skip(f"{login} is not installed (apt-get install {login})")
    (tmp_path / ".profile").write_text("PATH=/usr/bin:/added\nexport PATH\n")
    (tmp_path / ".zprofile").write_text("PATH=/usr/bin:/added\nexport PATH\n")
    (tmp_path / ".config" / "fish").mkdir(parents=True)
    (tmp_path / ".config" / "fish" / "config.fish").write_text("set -gx PATH /usr/bin /added\n")
    text = "/usr/bin/env\npwd\n"
    done = run("dash", tmp_path, "login", "", text=text, SHELL=program, PATH="/own:/usr/bin:/bin")
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    if login != "fish":  # it reads its file once more as the second shell
        assert found["PATH"].startswith("/own:/usr/bin:/bin:")
        assert found["PATH"].endswith("/added")
    assert "MOORING_PATH" not in found
    assert "MOORING_LOGIN" not in found
    assert done.stdout.splitlines()[-1] == str(tmp_path)
