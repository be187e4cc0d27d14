"""The Host entries by which OpenSSH's client reaches sessions, and the line that includes them.

What is written is read by ssh's parser, and a ProxyCommand by the user's shell after that; see
ssh_config(5). A text that one of them would take for more than itself is refused.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mooring.errors import MooringError, SpecError
from mooring.host import atomic
from mooring.host.paths import Installation
from mooring.ssh import host_key

# What decides which sessions the command finds; ssh may be started where they are not set
_SETTINGS = ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST")
_HEADER = """\
# Written by mooring ssh-config, which replaces the whole file: edit ~/.ssh/config instead.
"""
# As in mooring.engines.labels: other programs may have labelled a container
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
_PREFIX = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,39})?")
# In a quoted word, ssh expands ${NAME} and takes \ for an escape
_NOT_IN_A_WORD = re.compile(r'["\\$\x00-\x1f\x7f]')
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_KEY = re.compile(r"[a-z0-9-]+ [A-Za-z0-9+/=]+")
_VIA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:-]{0,254}")


@dataclass(frozen=True)
class Route:
    """How ssh gets to this installation's sessions.

    Attributes:
        command: the command that runs mooring, as an argument list.
        alias: as ``host_key.alias``.
        known_hosts: a file on the machine that runs ssh; None if ``via`` is set.
        public_key: as ``host_key.public_key``.
        via: the ssh destination of the machine that has the sessions; empty for this machine.
        settings: environment variables that the command needs, as pairs.
    """

    command: Sequence[str]
    alias: str
    known_hosts: Path | None
    public_key: str
    via: str = ""
    settings: Sequence[tuple[str, str]] = ()


class SshConfigFile:
    """An installation's Host entries, and the file in the state folder that has them.

    Args:
        installation: the installation.
        command: the command that runs mooring, as an argument list.
        via: the ssh destination by which another machine reaches this one, for entries to use
            there; empty for entries to use here.
        prefix: put before each session's name.

    Raises:
        NotSupported: asyncssh is not installed.
        MooringError: the host key's file is damaged.
        OSError: the state folder cannot be written.
    """

    def __init__(
        self, installation: Installation, command: Sequence[str], *, via: str = "", prefix: str = ""
    ) -> None:
        known_hosts = host_key.known_hosts(installation)
        self.path = host_key.folder(installation) / "config"
        self._prefix = prefix
        self._route = Route(
            command=command,
            alias=host_key.alias(installation),
            known_hosts=None if via else known_hosts,
            public_key=host_key.public_key(installation),
            via=via,
            settings=_settings(installation),
        )

    def text(self, names: Sequence[str]) -> str:
        """Return the entries of sessions. Raises SpecError and MooringError like ``entries``."""
        return entries(names, self._route, prefix=self._prefix)

    def write(self, names: Sequence[str]) -> bool:
        """Write the entries of sessions to the file; return whether that has changed it.

        Raises:
            SpecError, MooringError: as ``entries``.
            OSError: the file cannot be written.
        """
        text = self.text(names)
        if self.path.exists() and self.path.read_text(errors="replace") == text:
            return False
        atomic.write_text(self.path, text)
        return True

    @property
    def include_line(self) -> str:
        """The line for ``~/.ssh/config``. Raises MooringError like ``include_line``."""
        return include_line(self.path)

    @property
    def is_included(self) -> bool:
        """Whether ``~/.ssh/config`` has that line where it counts. Raises OSError."""
        return is_included(self.include_line, user_file())

    def include(self) -> None:
        """Put that line at the top of ``~/.ssh/config``. Raises OSError."""
        include(self.include_line, user_file())

    def hosts(self, names: Sequence[str]) -> list[str]:
        """Return the hosts' names of sessions, without those that have no entry."""
        return [self._prefix + name for name in names if _HOST.fullmatch(self._prefix + name)]

    def hidden(self, names: Sequence[str]) -> list[str]:
        """Return the hosts of the user's own that entries of sessions take precedence over."""
        return hidden_hosts(self.hosts(names), user_file())


def _settings(installation: Installation) -> list[tuple[str, str]]:
    """The variables that the command needs; a relative state folder would be another one there."""
    found = [(name, os.environ[name]) for name in _SETTINGS if os.environ.get(name)]
    if os.environ.get("MOORING_STATE_DIR"):
        found.append(("MOORING_STATE_DIR", str(installation.path)))
    return found


def entries(names: Sequence[str], route: Route, *, prefix: str = "") -> str:
    """Return the Host entries of sessions.

    Args:
        names: the sessions' names; one that cannot be a host's is left out.
        route: how ssh gets there.
        prefix: put before each name: with ``box-``, ``ssh box-train`` is for session ``train``.

    Raises:
        SpecError: the prefix or ``via`` has characters that a host's name cannot have.
        MooringError: a path in the route has characters that ssh would not take as they are.
    """
    if not _PREFIX.fullmatch(prefix):
        raise SpecError(
            f"prefix {prefix!r} cannot begin the name of a host", "use letters, digits and dashes"
        )
    blocks = [_HEADER]
    for name in names:
        if _HOST.fullmatch(prefix + name):
            blocks.append("\n".join([f"Host {prefix}{name}", *_options(name, route), ""]))
    return "\n".join(blocks)


def _options(name: str, route: Route) -> list[str]:
    if not _KEY.fullmatch(route.public_key) or not _HOST.fullmatch(route.alias):
        raise MooringError("the host key of this installation is damaged")
    if route.known_hosts is not None:
        known = [f"UserKnownHostsFile {_word(str(route.known_hosts))}"]
    else:  # no file there to keep in step
        known = [
            "UserKnownHostsFile /dev/null",
            f"KnownHostsCommand /bin/echo {route.alias} {route.public_key}",
        ]
    return [
        "    " + line
        for line in (
            f"ProxyCommand {_proxy_command(name, route)}",
            f"HostKeyAlias {route.alias}",
            *known,
            "GlobalKnownHostsFile /dev/null",
            "StrictHostKeyChecking yes",
            "UpdateHostKeys no",
            "CheckHostIP no",
            # the quickest of what both have
            "Ciphers aes128-gcm@openssh.com,aes128-ctr",
            # asked for with ssh -A, or not at all: programs in a session could use the keys
            "ForwardAgent no",
            "ForwardX11 no",
        )
    ]


def _proxy_command(name: str, route: Route) -> str:
    settings = [f"{key}={value}" for key, value in route.settings]
    words = [*(["env", *settings] if settings else []), *route.command, "ssh-proxy", name]
    line = shlex.join(words)
    if route.via:
        if not _VIA.fullmatch(route.via):
            raise SpecError(f"{route.via!r} is not the name of a machine", "as in gpu1 or ada@gpu1")
        # -T: a terminal there would change bytes; BatchMode would keep a password from being asked
        line = f"ssh -T {route.via} {shlex.quote(line)}"
    if _UNPRINTABLE.search(line):
        raise _refusal(line)
    return line.replace("%", "%%")  # ssh expands %h and such


def _word(path: str) -> str:
    """Return a path as one word of a line of ssh's configuration."""
    if _NOT_IN_A_WORD.search(path):
        raise _refusal(path)
    return '"' + path.replace("%", "%%") + '"'


def _refusal(text: str) -> MooringError:
    return MooringError(
        f"ssh's configuration cannot have this path: {text!r}",
        'set MOORING_STATE_DIR to a folder whose path has none of " \\ $ and no line breaks',
    )


def include_line(path: Path) -> str:
    """Return the line of ``~/.ssh/config`` that includes a file. Raises MooringError."""
    text = str(path)
    if _NOT_IN_A_WORD.search(text) or re.search(r"[*?%\[]", text):
        raise _refusal(text)
    return f'Include "{text}"'


def user_file() -> Path:
    """The user's own configuration of ssh, ``~/.ssh/config``."""
    return Path("~/.ssh/config").expanduser()


def is_included(line: str, config: Path) -> bool:
    """Return whether a configuration has an ``Include`` line outside a Host or Match block.

    Raises:
        OSError: it exists and cannot be read.
    """
    try:
        text = config.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return False
    for each in text.splitlines():
        words = each.split(None, 1)
        if words and words[0].lower() in ("host", "match"):
            return False
        if each.strip() == line:
            return True
    return False


def include(line: str, config: Path) -> None:
    """Put an ``Include`` line at the top of a configuration, which keeps its other lines and mode.

    Further down it would belong to the last Host block. A link, as a repository of dotfiles has
    it, stays one.

    Raises:
        OSError: it cannot be written.
    """
    config.parent.mkdir(mode=0o700, exist_ok=True)
    target = Path(os.path.realpath(config))
    before, mode = b"", 0o600
    if target.exists():
        before, mode = target.read_bytes(), stat.S_IMODE(target.stat().st_mode)
    atomic.write_bytes(target, os.fsencode(line) + b"\n\n" + before, mode=mode)


def hidden_hosts(names: Sequence[str], config: Path) -> list[str]:
    """Return those names that the user's own configuration has a Host entry for."""
    try:
        text = config.read_text(errors="replace")
    except OSError:
        return []
    own = {
        word
        for line in text.splitlines()
        if (words := line.replace("=", " ").split()) and words[0].lower() == "host"
        for word in words[1:]
    }
    return [name for name in names if name in own]
