"""The Host entries: ssh reads out of them what was put in, whatever the paths and names are."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from mooring.errors import MooringError, SpecError
from mooring.host.paths import Installation
from mooring.ssh import config_file
from mooring.ssh.config_file import Route, SshConfigFile
from tests.ssh.conftest import need

ROUTE = Route(
    command=["/usr/bin/python3", "-m", "mooring_cli"],
    alias="mooring-0123",
    known_hosts=Path("/state/known_hosts"),
    public_key="ssh-ed25519 AAAAC3Nz+/=",
)
ODD_WORDS = [
    "a b",
    "it's",
    "%h %% %",
    "$(touch x)",
    "`touch x`",
    "# no comment",
    "a;b&c|d",
    "~",
    "ü",
]


def read_by_ssh(text: str, host: str, folder: Path) -> dict[str, str]:
    """The options that ssh finds for a host, the last one of each name."""
    need("ssh")
    (folder / "config").write_text(text)
    words = ["ssh", "-G", "-F", str(folder / "config"), host]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


@pytest.mark.parametrize("odd", ODD_WORDS)
def test_odd_paths_stay_words(odd: str, tmp_path: Path) -> None:
    """A shell and ssh find what was meant: the same words, and no command of a path's."""
    route = dataclasses.replace(
        ROUTE,
        command=[f"/opt/{odd}/python", "-m", "mooring_cli"],
        settings=[("MOORING_STATE_DIR", f"/s/{odd}")],
    )
    found = read_by_ssh(config_file.entries(["train"], route), "train", tmp_path)
    line = found["proxycommand"].replace("%%", "%")
    assert "%" not in found["proxycommand"].replace("%%", "")
    assert shlex.split(line) == [
        *("env", f"MOORING_STATE_DIR=/s/{odd}", f"/opt/{odd}/python", "-m", "mooring_cli"),
        *("ssh-proxy", "train"),
    ]
    said = subprocess.run(
        ["/bin/sh", "-c", f"set -- {line}; printf '%s\\n' \"$@\""],
        capture_output=True, text=True, cwd=tmp_path, timeout=20, check=True,
    )  # fmt: skip
    assert said.stdout.splitlines()[1:3] == [f"MOORING_STATE_DIR=/s/{odd}", f"/opt/{odd}/python"]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("odd", ["a b", "it's", "100%", "#", "~", "ü"])
def test_odd_folders_of_the_host_key(odd: str, tmp_path: Path) -> None:
    """ssh looks the key up in the file that was written."""
    route = dataclasses.replace(ROUTE, known_hosts=Path(f"/{odd}/known_hosts"))
    found = read_by_ssh(config_file.entries(["train"], route), "train", tmp_path)
    assert found["userknownhostsfile"] in (f"/{odd}/known_hosts", f'"/{odd}/known_hosts"')
    assert found["hostkeyalias"] == "mooring-0123"
    assert found["stricthostkeychecking"] in ("true", "yes")
    assert found["forwardagent"] == "no"


@pytest.mark.parametrize("odd", ['"', "\\", "${HOME}", "\n", "\r", "\x1b"])
def test_folders_that_ssh_would_take_for_something_else_are_refused(odd: str) -> None:
    """A line break would be a line of its own, a dollar a variable."""
    route = dataclasses.replace(ROUTE, known_hosts=Path(f"/a{odd}b/known_hosts"))
    with pytest.raises(MooringError, match="cannot have this path") as caught:
        config_file.entries(["train"], route)
    assert odd == "\\" or "\n" not in str(caught.value)
    with pytest.raises(MooringError, match="cannot have this path"):
        config_file.include_line(Path(f"/a{odd}b/config"))


@pytest.mark.parametrize("odd", ["\n    PermitLocalCommand yes", "\0", "\r"])
def test_no_word_of_the_command_breaks_its_line(odd: str) -> None:
    """Neither the interpreter's path nor a variable can add an option."""
    for route in (
        dataclasses.replace(ROUTE, command=[f"/opt/{odd}/python"]),
        dataclasses.replace(ROUTE, settings=[("DOCKER_HOST", f"unix:///x{odd}")]),
    ):
        with pytest.raises(MooringError, match="cannot have this path"):
            config_file.entries(["train"], route)


@pytest.mark.parametrize(
    "name",
    ["*", "a*", "a?", "!a", "a b", "a\nProxyCommand x", "", "-oProxyCommand=x", "a,b", "$(x)", "ü"],
)
def test_a_name_that_no_host_can_have_gets_no_entry(name: str) -> None:
    """Labels of containers are not mooring's alone; a pattern would match the user's own hosts."""
    assert "Host" not in config_file.entries([name], ROUTE).replace("Host entries", "")
    text = config_file.entries([name, "train"], ROUTE)
    assert [line for line in text.splitlines() if line.startswith("Host ")] == ["Host train"]


def test_prefixes_and_ways_that_are_none_are_refused() -> None:
    """They are the beginning of a host's name, and a destination."""
    assert "\nHost box-a\n" in "\n" + config_file.entries(["a"], ROUTE, prefix="box-")
    for prefix in ("*", "a b", "-o", "\n"):
        with pytest.raises(SpecError, match="prefix"):
            config_file.entries(["a"], ROUTE, prefix=prefix)
    for via in ("-oProxyCommand=x", "a b", "$(x)", "a;b", "\n"):
        with pytest.raises(SpecError, match="not the name of a machine"):
            config_file.entries(["a"], dataclasses.replace(ROUTE, via=via))


def test_entries_for_another_machine_need_no_file_there(tmp_path: Path) -> None:
    """The command runs over ssh, and the host key is in the entry."""
    route = dataclasses.replace(ROUTE, via="ada@gpu1", known_hosts=None)
    found = read_by_ssh(config_file.entries(["train"], route), "train", tmp_path)
    words = shlex.split(found["proxycommand"])
    assert words[:3] == ["ssh", "-T", "ada@gpu1"]
    assert shlex.split(words[3]) == [*ROUTE.command, "ssh-proxy", "train"]
    assert found["knownhostscommand"] == f"/bin/echo mooring-0123 {ROUTE.public_key}"


def test_the_include_line_goes_to_the_top_once(tmp_path: Path) -> None:
    """What was there stays as it was, with its mode; further down it would not count."""
    config, line = tmp_path / ".ssh" / "config", config_file.include_line(tmp_path / "a b")
    config_file.include(line, config)
    assert (config.read_text(), config.stat().st_mode & 0o777) == (f"{line}\n\n", 0o600)
    assert config.parent.stat().st_mode & 0o777 == 0o700
    config.write_bytes(b"Host a\n  User \xff\n")
    config.chmod(0o644)
    assert not config_file.is_included(line, config)
    config_file.include(line, config)
    assert config.read_bytes() == os.fsencode(line) + b"\n\nHost a\n  User \xff\n"
    assert config.stat().st_mode & 0o777 == 0o644
    assert config_file.is_included(line, config)
    config.write_text(f"Host a\n  User b\n{line}\n")
    assert not config_file.is_included(line, config)


def test_a_linked_configuration_stays_a_link(tmp_path: Path) -> None:
    """As a repository of dotfiles has it."""
    real = tmp_path / "dotfiles"
    real.write_text("Host a\n")
    (tmp_path / ".ssh").mkdir()
    config = tmp_path / ".ssh" / "config"
    config.symlink_to(real)
    config_file.include("Include x", config)
    assert config.is_symlink()
    assert real.read_text() == "Include x\n\nHost a\n"


def test_the_file_is_written_only_if_something_changed(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a host of the user's own that it hides is named."""
    monkeypatch.setenv("HOME", str(state))
    file = SshConfigFile(Installation.here(), ["mooring"], prefix="b-")
    assert file.write(["one", "two"])
    assert not file.write(["one", "two"])
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.write(["two"])
    assert file.hosts(["two", "*"]) == ["b-two"]
    (state / ".ssh").mkdir()
    (state / ".ssh" / "config").write_text("Host x b-two\n")
    assert file.hidden(["one", "two"]) == ["b-two"]
    assert not file.is_included
    file.include()
    assert file.is_included
