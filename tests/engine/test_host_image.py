"""`image: host` on the engine: this machine's programs on a root of their own, and no more."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import Engine
from mooring.images.environment import PYTHON
from mooring.images.host_image import host_binds, host_image, root_layout, root_tar
from mooring.images.host_settings import etc
from mooring.sessions.model import Session
from mooring.spec.resolve import resolve
from tests.support.streams import told

pytestmark = pytest.mark.engine


@pytest.fixture
def session(mooring: Mooring, project: Path) -> Session:
    return mooring.sessions.create(resolve(flags={"command": ["sleep", "300"]})).session


def test_the_root_is_an_image_of_links_and_empty_folders(real_engine: Engine) -> None:
    """The image is made once for a layout and what it has of /etc, and is below 1 MiB."""
    first = host_image(real_engine)
    made = real_engine.image_id(first.reference)
    second = host_image(real_engine)
    assert made is not None
    assert (second.reference, real_engine.image_id(second.reference)) == (first.reference, made)
    layout = {name: (mode, target) for name, mode, target in root_layout()}
    for name in ("bin", "lib", "sbin", "lib64"):
        if os.path.islink(f"/{name}") and name != "sbin":
            assert layout[name] == (0o777, os.readlink(f"/{name}"))
    assert layout["sbin"] == (0o755, "")  # real, because the engine puts its init there
    assert layout["tmp"][0] == 0o1777
    assert len(root_tar(root_layout(), etc().copied)) < 2**20


def test_the_machines_programs_work(mooring: Mooring, session: Session) -> None:
    """Shells, Python with its packages, name look-ups and certificates are this machine's own."""
    script = (
        f"{shlex.quote(sys.executable)} -c 'import pydantic, ssl; print(pydantic.__file__)'; "
        "command -v python; getent passwd root | cut -d: -f1; ldconfig -p >/dev/null && echo libs; "
        "cat /etc/os-release | head -n 1; ls -1d /usr/bin /sbin /bin/sh; python --version"
    )
    import pydantic

    lines = told(mooring, session, script).splitlines()
    first = Path("/etc/os-release").read_text().splitlines()[0]
    assert lines[0] == pydantic.__file__
    assert lines[1] == PYTHON
    assert lines[2:5] == ["root", "libs", first]
    assert lines[5:8] == ["/bin/sh", "/sbin", "/usr/bin"]
    assert lines[8] == f"Python {sys.version.split()[0]}"


def test_the_machines_settings_are_found(mooring: Mooring, session: Session) -> None:
    """Programs find in /etc what they find outside (go-judge#119, jupyterhub-deploy-docker#69)."""
    for command in ("git config --system -l", "pip config list", "man -w ls", "mvn -v"):
        outside = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        inside = told(mooring, session, f"{command} || true")
        elsewhere = (str(Path.home()), ":env:")  # of the user's, not of the machine's
        lines = outside.stdout.splitlines()
        expected = [line for line in lines if not any(word in line for word in elsewhere)]
        assert [line for line in expected if line not in inside] == [], command


def test_the_rest_of_the_machine_is_not_there(
    mooring: Mooring, session: Session, project: Path
) -> None:
    """No other home, no shadow file, no key of the machine's, no run or log folder, no disk."""
    script = (
        "for path in /etc/shadow /etc/sudoers /etc/ssh /etc/docker /etc/machine-id /var/log "
        "/var/lib/docker /run/docker.sock /run/systemd /boot /srv /media; do "
        'if [ -e "$path" ]; then echo "$path"; fi; done; '
        "ls -A /root | grep -v -x -e .cache -e .pyenv -e .local; ls -A /home /var/tmp; "
        "find /dev -type b; find / -xdev -type s -not -path '/run/mooring/*'; echo end"
    )
    text = told(mooring, session, script)
    seen = [line for line in text.splitlines() if line and not line.endswith(":")]
    own = {part for path in (project, sys.prefix, sys.base_prefix) for part in Path(path).parts}
    assert [line for line in seen if line not in own] == ["end"]


def test_the_machines_own_files_cannot_be_changed(mooring: Mooring, session: Session) -> None:
    """Everything of the machine's is read-only, even for root; /tmp and the home are the
    session's own."""
    own = [bind.target for bind in host_binds()]
    assert "/usr" in own
    script = "".join(
        f"(: >>{path}/mt-x || mkdir {path}/mt-x || : >>{path}) 2>/dev/null && echo wrote {path}; "
        for path in map(shlex.quote, own)
    )
    marks = "touch /tmp/mt-mark ~/mt-mark && echo fine"
    assert told(mooring, session, script + marks) == "fine\n"
    assert not Path("/tmp/mt-mark").exists()
    assert not Path("~/mt-mark").expanduser().exists()
