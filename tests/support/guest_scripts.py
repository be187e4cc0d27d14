"""The guest scripts run on this machine: their shells, a namespace for them, and environments."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[2] / "core" / "mooring" / "guest"
SESSION_SCRIPTS = ("init.sh", "exec.sh", "command.sh", "clock.sh", "proc.sh", "probes.sh", "end.sh")
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
OWN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Prints the environment that it was started with, whatever is in it
ENVIRONMENT = ("/bin/cat", "/proc/self/environ")
# What a shell or the loader gives a meaning to, with values that would do harm if they were used
HOSTILE = {
    "PATH": "/nowhere:",
    "IFS": "/o",
    "ENV": "/etc/passwd",
    "BASH_ENV": "/etc/passwd",
    "PS1": "$(kill $$)",
    "PS4": "$(kill $$)",
    "OPTIND": "7",
    "OPTARG": "x",
    "CDPATH": "/",
    "HOME": "/nowhere",
    "PWD": "/nowhere",
    "OLDPWD": "relative",
    "SHLVL": "x",
    "MAIL": "/etc/passwd",
    "TERM": "x",
    "LC_ALL": "nonsense",
    "TZ": "nonsense",
    "POSIXLY_CORRECT": "1",
    "TMOUT": "1",
    "GLOBIGNORE": "*",
    "EXECIGNORE": "*",
    "HISTFILE": "/etc/passwd",
    "PROMPT_COMMAND": "kill $$",
    "SHELLOPTS": "noglob:noclobber:errexit",
    "LD_LIBRARY_PATH": "/nowhere",
}


def shell_named(name: str) -> list[str]:
    """The words that start a shell; skips the test where it is not installed."""
    program, *options = SHELLS[name]
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return [path, *options]  # found whatever PATH it is to have


@functools.cache
def caged() -> tuple[str, ...]:
    """The words that give a command process ids of its own, which end with it.

    The clock outlives its command and may end all processes that it sees.
    """
    unshare = (
        shutil.which("unshare") or "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    )
    words = unshare if os.getuid() == 0 else (*unshare, "--user", "--map-root-user")
    if subprocess.run([*words, "/bin/true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace of process ids can be made here")
    return words


def make_run_folder(path: Path, tools: Path | None = None, **settings: object) -> Path:
    """A session's run folder, which is its folder of programs and settings as well.

    Args:
        tools: where the scripts look for the image's own tools; None for the usual places.
        settings: for the clock.
    """
    path.mkdir(parents=True, exist_ok=True)
    for name in SESSION_SCRIPTS:
        text = (GUEST / name).read_text()
        assert name != "init.sh" or text.count(f"    PATH={OWN_PATH}\n") == 1
        (path / name).write_text(text.replace(OWN_PATH, str(tools)) if tools else text)
    with contextlib.suppress(FileExistsError):
        (path / "run").symlink_to(".")
    text = "".join(f"{key} {value}\n" for key, value in settings.items())
    (path / "settings").write_text(text)
    return path


def script_names() -> list[str]:
    """Every variable that the scripts assign."""
    names: set[str] = set()
    for script in SESSION_SCRIPTS:
        code = re.sub(r"(^|\s)#.*", "", (GUEST / script).read_text(), flags=re.M)
        names |= set(re.findall(r"""(?:^|[\s;({&|`"])([A-Za-z_]\w*)=""", code, re.M))
        names |= set(re.findall(r"\bfor (\w+)\b", code))
        for words in re.findall(r"\bread -r ([\w ]+)", code):
            names |= set(words.split())
    return sorted(names - {"_"})


def environment_after(words: Sequence[object], env: Mapping[str, str]) -> dict[str, str]:
    """The environment that the command at the end of ``words`` gets (see ``ENVIRONMENT``)."""
    done = subprocess.run(
        [str(word) for word in words],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return parsed(done.stdout)


def parsed(environ: bytes) -> dict[str, str]:
    """The content of a process's environ file, without `_`: bash sets that at every command."""
    lines = (line.partition("=") for line in environ.decode().split("\0") if line)
    return {name: value for name, _, value in lines if name != "_"}
