"""What the kernel host's children do before they become a kernel, each on its own."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def process(tmp_path: Path) -> Any:
    """The module, as it lies in a session's run folder."""
    path = tmp_path / "kernelprocess.py"
    path.write_text((resources.files("mooring") / "guest" / "kernelprocess.py").read_text())
    spec = importlib.util.spec_from_file_location("kernelprocess_under_test", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ("name train\nrecord_bytes 70000\n", 70000),
        ("record_bytes 0\n", None),
        ("record_bytes many\n", None),
        ("", None),
        (None, None),
    ],
)
def test_recording_follows_the_settings(
    process: Any, tmp_path: Path, settings: str | None, limit: int | None
) -> None:
    """A kernel is recorded up to the session's limit; without a valid one it runs unrecorded."""
    if settings is not None:
        (tmp_path / "settings").write_text(settings)
    recorder = SimpleNamespace(Recorder=lambda folder, limit: (folder, limit))
    expected = None if limit is None else ("k/a", limit)
    assert process.open_recorder("k/a", recorder) == expected
    assert process.open_recorder("k/a", None) is None


def test_a_kernelspec_becomes_a_command(
    process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jupyter's placeholders are filled in, and the rest of the command stays as it is."""
    folder = tmp_path / "data" / "kernels" / "other"
    folder.mkdir(parents=True)
    argv = ["other", "-f", "{connection_file}", "{resource_dir}/x", "{prefix}/y", "{z}", "{}"]
    spec = {"argv": argv, "display_name": "Other", "language": "x", "env": {"A": "b"}}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    command, env = process.find_command("other", "/k/a")
    filled = ["/k/a/c.json", f"{folder}/x", f"{sys.prefix}/y"]
    assert command == ["other", "-f", *filled, "{z}", "{}"]
    assert env == {"A": "b"}
    own = folder.parent / "demo"
    own.mkdir()
    spec["metadata"] = {"kernel_provisioner": {"provisioner_name": "mooring-provisioner"}}
    (own / "kernel.json").write_text(json.dumps(spec))
    with pytest.raises(LookupError, match="no kernel 'none' in this image") as caught:
        process.find_command("none", "/k/a")
    assert "other" in str(caught.value)
    assert "demo" not in str(caught.value)  # it would start another session


@pytest.mark.parametrize("version", ["", "3", f"3.{sys.version_info.minor}"])
def test_a_kernelspec_of_this_python(
    process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """A Python without a path is this one, as in Jupyter."""
    folder = tmp_path / "data" / "kernels" / "other"
    folder.mkdir(parents=True)
    spec = {"argv": [f"python{version}", "-m", "x"], "display_name": "Other", "language": "x"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    assert process.find_command("other", "/k/a") == ([sys.executable, "-m", "x"], {})


def test_variables_of_a_kernelspec_are_expanded(
    process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """${NAME} is the kernel's own variable, before any of the kernelspec's was set; what is no
    variable stays text (jupyter_client#472, vscode-jupyter#15007)."""
    for name in ("PATH", "A", "B", "C", "D"):
        monkeypatch.setenv(name, "/bin")
    variables = {"PATH": "/x:${PATH}", "A": "$B", "B": "${A}/b", "C": "$$5 ${NONE} $", "D": ""}
    process.expand_into_environ(variables)
    found = {name: os.environ[name] for name in variables}
    assert found == {
        "PATH": "/x:/bin", "A": "/bin", "B": "/bin/b", "C": "$5 ${NONE} $", "D": ""
    }  # fmt: skip


def test_a_process_is_told_from_a_later_one_of_its_number(process: Any) -> None:
    """Its start is known as long as it exists."""
    assert process.started_at(os.getpid()).isdigit()
    assert process.started_at("self") == process.started_at(os.getpid())
    assert process.started_at(2**22 + 1) == ""


def test_secrets_are_in_the_environment(
    process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python kernel finds each secret under its name; a session may have none."""
    monkeypatch.setattr(process, "SECRETS", str(tmp_path / "secrets"))
    process.read_secrets()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "WORD_OF_THIS_TEST").write_text("newer")
    monkeypatch.setenv("WORD_OF_THIS_TEST", "older")
    process.read_secrets()
    assert os.environ["WORD_OF_THIS_TEST"] == "newer"


def test_the_users_own_folder_of_packages(
    process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made before the first kernel, and looked into before the image's, where pip installs
    there by default, and otherwise not."""
    folder, packages = tmp_path / "home" / "site-packages", str(tmp_path / "site-packages")
    monkeypatch.setattr(process.site, "getusersitepackages", lambda: str(folder))
    monkeypatch.setattr(process.sysconfig, "get_path", lambda _: packages)
    monkeypatch.setattr(sys, "path", ["/lib", packages])
    for enabled, writable in ((None, False), (False, False), (True, True)):
        monkeypatch.setattr(process.site, "ENABLE_USER_SITE", enabled)
        monkeypatch.setattr(process.os, "access", lambda *_, yes=writable: yes)
        process.make_user_site()
        assert not folder.exists()
    monkeypatch.setattr(process.os, "access", lambda *_: False)
    for _ in range(2):
        process.make_user_site()
        assert sys.path == ["/lib", str(folder), packages]
        assert folder.is_dir()


def test_what_was_installed_since_is_noticed(
    process: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that appears in a folder of packages, or the user's folder that appears, is seen."""
    packages, own = tmp_path / "dist-packages", tmp_path / "own"
    packages.mkdir()
    monkeypatch.setattr(process.site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(process.site, "getusersitepackages", lambda: str(own))
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(packages)])
    before = process.installed()
    assert process.installed() == before
    (tmp_path / "other").touch()  # no folder of packages
    assert process.installed() == before
    own.mkdir()
    assert process.installed() != before
    before = process.installed()
    os.utime(packages, ns=(1, 1))
    assert process.installed() != before
