"""`image: host` for a normal user: the same machine, the same person, nothing of root's."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.wheels import OFFLINE, tiny_wheel
from tests.users.people import ONE_CELL, Person

pytestmark = pytest.mark.engine

ABOUT = """
import getpass, json, os, pathlib, pwd, sys
import pydantic, traitlets  # the user's packages
pathlib.Path("from-inside").write_text("x")
pathlib.Path.home().joinpath("from-inside").write_text("x")
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "groups": sorted(os.getgroups()),
    "name": getpass.getuser(), "pwd": list(pwd.getpwuid(os.getuid()))[:4],
    "home": str(pathlib.Path.home()), "cwd": os.getcwd(),
    "prefix": sys.prefix, "packages": [pydantic.__version__, pydantic.__file__],
    "capabilities": [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")],
}))
"""


def about(alice: Person, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        alice.mooring("exec", name, "--", "python", "-c", ABOUT).stdout
    )
    return found


def test_a_session_is_the_users_own(alice: Person) -> None:
    """Python in the container sees the user's packages, uid, gid and name, and a writable
    home and working directory; what it writes there belongs to the user."""
    project = alice.folder("project")
    (project / "out").mkdir()
    os.chown(project / "out", alice.uid, alice.gid)
    words = ["create", "--name", "s", "--output", "out", "--output", "new=made/here"]
    alice.mooring(*words, "-d", "--", "sleep", "300", cwd=project)
    found = about(alice, "s")
    outside = alice.python("import pydantic; print(pydantic.__file__)").stdout
    assert found["uid"] == alice.uid
    assert found["gid"] == alice.gid
    assert set(found["groups"]) <= {alice.gid}  # type: ignore[call-overload]
    assert found["name"] == alice.name
    assert found["pwd"] == [alice.name, "x", alice.uid, alice.gid]
    assert found["home"] == str(alice.home)
    assert found["cwd"] == str(project)
    assert found["prefix"] == "/run/mooring/venv"
    assert str(found["packages"][1]) in outside  # type: ignore[index]
    assert found["capabilities"] == ["0000000000000000"]
    assert (project / "from-inside").stat().st_uid == alice.uid
    assert not (alice.home / "from-inside").exists()  # a private home
    assert alice.mooring("exec", "s", "--", "whoami").stdout == f"{alice.name}\n"
    script = "echo x >/mnt/outputs/out/f; echo x >/mnt/outputs/new/f; echo x >~/.profile; id -un"
    assert alice.mooring("exec", "s", "--", "bash", "-lc", script).stdout == f"{alice.name}\n"
    for path in (project / "out" / "f", project / "made", project / "made" / "here" / "f"):
        assert (path.stat().st_uid, path.stat().st_gid) == (alice.uid, alice.gid)
    for path in ("/usr/bin", "/etc", str(alice.wheel.path), "/opt"):
        done = alice.mooring("exec", "s", "--", "touch", f"{path}/x", check=1)
        assert "Read-only" in done.stderr or "Permission denied" in done.stderr


def test_installed_packages_survive_stop_and_start(alice: Person) -> None:
    """What pip installed for the user, and files in the private home, are there after a restart of
    the session; they are not in the real home, and gone with the session."""
    project = alice.folder("packages")
    package = tiny_wheel(project)
    os.chown(package, alice.uid, alice.gid)
    alice.mooring("create", "--name", "s", "-d", "--", "sleep", "300", cwd=project)
    install = ["python", "-m", "pip", "install", "--no-index", "--no-warn-script-location"]
    alice.mooring("exec", "s", "--", *install, str(package))
    alice.mooring("exec", "s", "--", *install, "--target", f"{alice.home}/lib", str(package))
    script = (
        f"import mt_tiny, sys; sys.path.insert(0, '{alice.home}/lib'); del sys.modules['mt_tiny']; "
        "first = mt_tiny.__file__; import mt_tiny; print(first); print(mt_tiny.__file__)"
    )
    for restart in (False, True):
        if restart:
            alice.mooring("stop", "s")
            alice.mooring("start", "s")
        told = alice.mooring("exec", "s", "--", "python", "-c", script).stdout.split()
        assert told[0].startswith("/run/mooring/venv/lib/")
        assert told[1] == f"{alice.home}/lib/mt_tiny.py"
    assert not (alice.home / "lib").exists()
    assert (
        alice.python("import mt_tiny", check=None).returncode != 0
    )  # the environment is as it was
    kept = list((alice.state / "sessions").rglob("mt_tiny.py"))
    assert len(kept) == 2
    alice.mooring("rm", "-f", "s")
    assert not [path for path in kept if path.exists()]


def test_the_real_home_is_mounted_and_moorings_state_masked(alice: Person) -> None:
    """With `home: true` the session works in the real home, and sees nothing of the keys and
    records of this and other sessions."""
    alice.write(alice.home / "diary", "dear diary")
    alice.mooring("create", "--name", "other", "-d", "--", "sleep", "300")
    alice.mooring("create", "--name", "h", "--home", "-d", "--", "sleep", "300")
    script = f"cat ~/diary; echo new >~/written; ls -A {alice.state}; touch {alice.state}/x; pwd"
    done = alice.mooring("exec", "h", "--", "sh", "-c", script)
    assert done.stdout == f"dear diary{alice.home}\n"
    assert "Read-only" in done.stderr or "Permission" in done.stderr
    assert (alice.home / "written").stat().st_uid == alice.uid
    assert {path.name for path in alice.state.iterdir()} >= {"sessions", "installation"}
    assert not (alice.state / "x").exists()


def test_a_kernel_is_the_users_own(alice: Person) -> None:
    """nbclient executes a notebook's cell through the installed kernelspec, as the user, in the
    container, with the user's packages; no file but the user's is left."""
    project = alice.folder("notebooks")
    told = alice.mooring("kernel", "install", "--name", "host", cwd=project)
    assert "host" in told.stdout + told.stderr
    cell = (
        "import os, getpass, pydantic; open('cell', 'w').close(); "
        "print(os.getuid(), getpass.getuser(), os.getcwd(), os.path.exists('/.dockerenv'))"
    )
    done = alice.run(alice.wheel.python, "-c", ONE_CELL, cell, cwd=project)
    assert done.stdout == f"{alice.uid} {alice.name} {project} True\n"
    assert (project / "cell").stat().st_uid == alice.uid
    assert alice.sessions() == []
    alice.mooring("kernel", "remove", "host")


def test_the_users_own_packages_are_seen_and_kept(alice: Person) -> None:
    """Packages in ~/.local are there for the machine's Python; a session cannot change them, and
    `pip install --user` in it installs beside them."""
    site = Path(".local/lib") / alice.run(
        "/usr/bin/python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"
    ).stdout.strip() / "site-packages"  # fmt: skip
    alice.write(alice.folder(str(site)) / "mt_mine.py", "VALUE = 'mine'\n")
    python = "/usr/bin/python3"
    project = alice.folder("own-packages")
    mooring = "import sys; sys.path[:0] = %r; from mooring_cli.main import run; run()" % [
        str(path) for path in alice.wheel.path.glob("lib/python3*/site-packages")
    ]
    try:
        words = ["create", "--name", "s", "-d", "--", "sleep", "300"]
        alice.run(python, "-c", mooring, *words, cwd=project)
        script = "import mt_mine; print(mt_mine.__file__)"
        told = alice.mooring("exec", "s", "--", python, "-c", script).stdout
        assert told == f"{alice.home}/{site}/mt_mine.py\n"
        alice.mooring("exec", "s", "--", "rm", f"{alice.home}/{site}/mt_mine.py", check=1)
        os.chown(tiny_wheel(project), alice.uid, alice.gid)
        pip = f"python -m pip install -q --user {OFFLINE} --find-links . mt-tiny && mt-tiny"
        script = f"{pip} && python -c 'import mt_mine, mt_tiny; print(mt_mine.VALUE)'"
        assert alice.mooring("exec", "s", "--", "sh", "-c", script).stdout == "1.0\nmine\n"
        assert (alice.home / site / "mt_mine.py").exists()
    finally:
        shutil.rmtree(alice.home / ".local" / "lib")
