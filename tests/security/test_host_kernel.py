"""What a session's container may do to this machine's kernel: as little as any container may."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.client import Mooring
from mooring.engines.docker.seccomp import profile
from mooring.errors import SpecError
from mooring.host.users import User, caller
from mooring.launch.container import ROOT_CAPABILITIES
from mooring.spec.resolve import resolve
from tests.conftest import Cli
from tests.support.docker import imported, inspect
from tests.support.streams import output_of

pytestmark = pytest.mark.engine


def status_of(container: str) -> dict[str, str]:
    """/proc/PID/status of the container's first process, as the machine sees it."""
    text = Path(f"/proc/{inspect(container)['State']['Pid']}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines())


def somebody() -> User:
    return User(uid=54321, gid=54322, groups=(), name="somebody", home="/home/somebody")


@pytest.fixture
def as_somebody(
    monkeypatch: pytest.MonkeyPatch, mooring: Mooring, state: Path, project: Path
) -> User:
    """Sessions are made for a user who is not root; the folders they see are that user's."""
    user = somebody()
    for module in ("mooring.launch.create", "mooring.launch.plan", "mooring.launch.container"):
        monkeypatch.setattr(f"{module}.caller", lambda: user)
    os.chmod(project, 0o777)
    start = mooring.engine.start

    def hand_over(container: str) -> None:
        for path in (state / "sessions").rglob("*"):
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
        start(container)

    monkeypatch.setattr(mooring.engine, "start", hand_over)
    os.chmod(state, 0o711)
    return user


@pytest.fixture(scope="module")
def setuid_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A static busybox that is setuid root, and nothing else."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox-static is not installed here: apt-get install busybox-static")
    root = tmp_path_factory.mktemp("setuid")
    for name in ("bin", "etc", "proc", "dev", "tmp"):
        (root / name).mkdir()
    shutil.copy(busybox, root / "bin" / "busybox")
    os.chmod(root / "bin" / "busybox", 0o755)
    for name in ("sh", "id", "cat", "sleep", "rm", "mv", "stat", "mknod", "mount", "grep"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "suid").mkdir()
    shutil.copy(busybox, root / "suid" / "busybox")
    os.chmod(root / "suid" / "busybox", 0o4755)
    tar = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
    with imported(tar, "setuid") as reference:
        yield reference


@pytest.mark.parametrize(
    "flags", [{"command": ["sleep", "60"]}, {"kernel": "python3"}], ids=["shell", "kernel"]
)
def test_a_container_has_nothing_of_the_host(
    mooring: Mooring, project: Path, flags: dict[str, Any]
) -> None:
    """No privilege, no capability beyond the stated few, no namespace or device of the host's, no
    published port, and Docker's default seccomp profile, or the one that denies set-ID modes."""
    session = mooring.sessions.create(resolve(flags=flags)).session
    found = inspect(session.container)
    host = found["HostConfig"]
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    kept = ROOT_CAPABILITIES if caller().uid == 0 else ()
    assert sorted(name.removeprefix("CAP_") for name in host["CapAdd"] or []) == sorted(kept)
    plain, *filters = host["SecurityOpt"]
    assert plain == "no-new-privileges"
    assert filters == ["seccomp=" + profile(0o6000)]
    for mode in ("PidMode", "UTSMode", "UsernsMode"):
        assert host[mode] == "", mode
    assert host["IpcMode"] in ("private", "")
    assert host["CgroupnsMode"] == "private"
    assert host["NetworkMode"] != "host"
    assert not host["Devices"]
    assert not host["DeviceRequests"]
    assert not host["DeviceCgroupRules"]
    assert not host["PortBindings"]
    assert not host["PublishAllPorts"]
    assert host["AutoRemove"] is False
    assert host["MaskedPaths"]
    assert host["ReadonlyPaths"]
    sources = [mount["Source"] for mount in found["Mounts"]]
    assert sources
    assert not [source for source in sources if source.startswith(("/run", "/var/run", "/dev"))]
    assert {mount["Propagation"] for mount in found["Mounts"]} == {"rprivate"}
    written = {mount["Destination"] for mount in found["Mounts"] if mount["RW"]}
    assert written == {str(project), caller().home, "/run/mooring"}
    status = status_of(session.container)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"  # a filter
    pid = found["State"]["Pid"]
    for name in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
        own, hosts = (os.readlink(f"/proc/{which}/ns/{name}") for which in (pid, "self"))
        assert own != hosts, f"{name} namespace"


@pytest.mark.skipif(os.getuid() != 0, reason="sessions are those of root")
def test_roots_capabilities_are_the_stated_few(mooring: Mooring, project: Path) -> None:
    """Root in a session can do what package managers need and nothing to the machine: its bounding
    set has no more in it."""
    session = mooring.sessions.create(resolve(flags={"command": ["sleep", "60"]})).session
    numbers = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7}
    stated = sum(1 << numbers[name] for name in ROOT_CAPABILITIES)
    status = status_of(session.container)
    for name in ("CapBnd", "CapPrm", "CapEff"):
        assert int(status[name], 16) == stated, name
    assert int(status["CapAmb"], 16) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
def test_a_user_has_no_capability_and_setuid_gains_none(
    mooring: Mooring, as_somebody: User, setuid_image: str
) -> None:
    """Who is not root has no capability at all, and a program that is setuid root in the image
    runs as the caller."""
    session = mooring.sessions.create(
        resolve(flags={"image": setuid_image, "pull": "never", "command": ["sleep", "60"]})
    ).session
    status = status_of(session.container)
    for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["Uid"].split() == [str(as_somebody.uid)] * 4
    script = (
        "exec 2>&1; stat -c %a-%u /suid/busybox; /suid/busybox id -u; "
        "grep CapEff /proc/self/status; "
        "/suid/busybox mknod /tmp/disk b 8 0 || echo no device; "
        "/suid/busybox mount -t proc proc /proc || echo no mount"
    )
    lines = output_of(mooring, session, "sh", "-c", script).splitlines()
    assert lines[:2] == ["4755-0", str(as_somebody.uid)]
    assert lines[2] == "CapEff:\t0000000000000000"
    assert "no device" in lines
    assert "no mount" in lines


@pytest.mark.parametrize("key", ["privileged", "devices", "cap_add", "pid", "network", "volumes"])
def test_a_spec_has_no_words_for_more(project: Path, key: str) -> None:
    """What would give the host away is no key of a spec, and so an error and not an option."""
    (project / "session.yml").write_text(f"{key}: host\n")
    with pytest.raises(SpecError, match=f"{key} is not a key of a spec"):
        resolve(flags={}, file=project / "session.yml")


def test_the_command_line_has_no_words_for_more(cli: Cli, project: Path) -> None:
    """A flag for it is a usage error, and no session is made."""
    done = cli("create", "--privileged", "-d", "--", "sleep", "60", check=2)
    assert "no such option: --privileged" in done.stderr.lower()
    assert cli("ps", "--json", check=0).stdout.strip() == "[]"
