"""What mooring runs from, and what no session may change of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from mooring.engines.base import Bind
from mooring.errors import PolicyError
from mooring.images import protected
from mooring.images.mounts import MountPlan, SessionFolders
from mooring.images.overmounts import overmounts
from mooring.images.protected import Guarded, guarded_paths


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for environments; this Python's own is not in the way."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr(sys, "argv", [""])
    return folder


def runs_from(monkeypatch: pytest.MonkeyPatch, prefix: Path) -> Path:
    """Let this Python be in an environment."""
    prefix.mkdir(parents=True, exist_ok=True)
    for name in ("prefix", "exec_prefix"):
        monkeypatch.setattr(sys, name, str(prefix))
    return prefix


def installed_editable(packages: Path, url: str, *, editable: bool = True) -> None:
    """Let a folder of packages have an installed project, as pip writes it."""
    info = packages / "mine-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    origin = {"url": url, "dir_info": {"editable": editable}}
    (info / "direct_url.json").write_text(json.dumps(origin))


def imports_from(monkeypatch: pytest.MonkeyPatch, *folders: Path | str) -> None:
    monkeypatch.setattr(sys, "path", ["", *map(str, folders)])


def on_top(made: MountPlan, target: Path | str) -> Bind | None:
    return {bind.target: bind for bind in made.on_top}.get(str(target))


def test_this_pythons_own(state: Path, tmp_path: Path) -> None:
    """The environment, the interpreter, mooring's own code, the state folder and nothing of the
    caller's are protected."""
    guarded = {guard.path: guard.mask for guard in guarded_paths(tmp_path)}
    code = Path(protected.__file__).resolve().parents[1]
    assert code.name == "mooring"
    for path in (sys.prefix, sys.executable, code):
        assert guarded[os.path.realpath(path)] == ""
    assert guarded[str(state)] == str(tmp_path)
    assert not {"/", "/usr", "/usr/local", str(tmp_path), os.path.expanduser("~")} & guarded.keys()
    depths = [guard.path.count("/") for guard in guarded_paths(tmp_path)]
    assert depths == sorted(depths)


def test_an_environment_in_the_project(
    lay, folders: SessionFolders, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read-only in the project, and nothing in the way down to it can be moved."""
    prefix = runs_from(monkeypatch, project / "a" / ".venv")
    made = lay(folders)
    assert on_top(made, prefix) == Bind(str(prefix), str(prefix))
    assert on_top(made, project / "a") == Bind(f"{project}/a", f"{project}/a", False)
    assert made.note == ""


@pytest.mark.parametrize("what", ["itself", "below", "missing below", "through a link"])
def test_a_part_of_the_environment(
    lay, project: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """An output that is the environment, or lies in it, is refused."""
    prefix = runs_from(monkeypatch, project / ".venv")
    (prefix / "lib").mkdir()
    (project / "link").symlink_to(prefix / "lib")
    source = {"itself": ".venv", "below": ".venv/lib", "missing below": ".venv/x/y"}.get(what)
    with pytest.raises(PolicyError, match=f"belongs to the Python that mooring runs .* {prefix}"):
        lay(outputs=[{"name": "x", "source": source or "link"}])
    lay(inputs=[{"name": "x", "source": ".venv/lib"}])  # read-only


def test_a_project_that_is_the_environment(
    lay, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that is an environment, or lies in one, is refused."""
    runs_from(monkeypatch, project)
    (project / "sub").mkdir()
    for folder in (project, project / "sub"):
        with pytest.raises(
            PolicyError, match=r"working directory: .* belongs to the Python"
        ) as got:
            lay(at=folder)
        assert got.value.hint


def test_a_system_prefix_is_protected_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of /usr only the programs and libraries are protected, so that a folder for data there can be
    an output."""
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    guarded = {guard.path for guard in guarded_paths(tmp_path)}
    assert {"/usr/bin", "/usr/lib"} <= guarded
    assert "/usr" not in guarded


@pytest.mark.parametrize("what", ["environment", "parent", "interpreter", "command", "state"])
def test_a_link_on_the_way_is_refused(
    lay,
    project: Path,
    elsewhere: Path,
    outside: Path,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """A link in the project by which mooring is reached is refused, because a session could replace
    it; one outside, and one in what is protected itself, are not."""
    (elsewhere / "venv" / "bin").mkdir(parents=True)
    command = elsewhere / "venv" / "bin" / "mooring"
    command.touch(0o755)
    link = project / "link"
    link.symlink_to({"parent": elsewhere, "state": state}.get(what, elsewhere / "venv"))
    lay()
    if what == "environment":
        monkeypatch.setattr(sys, "prefix", str(link))
    elif what == "parent":
        monkeypatch.setattr(sys, "base_prefix", str(link / "venv"))
    elif what == "interpreter":
        monkeypatch.setattr(sys, "executable", str(link / "bin" / "mooring"))
    elif what == "command":
        monkeypatch.setattr(sys, "argv", [str(link / "bin" / "mooring")])
    else:
        monkeypatch.setenv("MOORING_STATE_DIR", str(link))
    with pytest.raises(PolicyError, match=f"could replace the link {link}") as caught:
        lay()
    assert "itself" in caught.value.hint
    lay(at=outside)


def test_links_in_what_is_protected_or_in_a_home(
    lay, project: Path, user, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link inside the environment is read-only with it; one in a home that is mounted is left,
    because who can write to a home has other ways."""
    prefix = runs_from(monkeypatch, project / ".venv")
    (prefix / "lib").mkdir()
    (prefix / "lib64").symlink_to("lib")
    monkeypatch.setattr(sys, "base_prefix", str(prefix / "lib64"))
    lay()
    (Path(user.home) / "python").symlink_to(prefix)
    monkeypatch.setattr(sys, "exec_prefix", str(Path(user.home) / "python"))
    lay(home=True)


def test_folders_that_are_imported_from(
    lay, folders: SessionFolders, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of sys.path inside the project is read-only there, and the user is told."""
    (project / "src").mkdir()
    imports_from(monkeypatch, project / "src", "/usr/lib/python3", project.parent)
    made = lay(folders)
    assert on_top(made, project / "src") == Bind(f"{project}/src", f"{project}/src")
    assert made.note.startswith("mounted read-only, because the Python that runs mooring imports")
    assert made.note.endswith(str(project / "src"))


def test_projects_of_editable_installs(
    lay,
    folders: SessionFolders,
    project: Path,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A project whose editable install has a finder is read-only inside another, and the user is
    told; one whose folder is on sys.path is so only there."""
    packages = elsewhere / "site-packages"
    (project / "flat one" / "src").mkdir(parents=True)
    installed_editable(packages, (project / "flat one").as_uri())
    imports_from(monkeypatch, packages)
    made = lay(folders)
    assert on_top(made, project / "flat one") == Bind(*[f"{project}/flat one"] * 2)
    assert made.note.endswith(f"imports from it: {project}/flat one")
    imports_from(monkeypatch, packages, project / "flat one" / "src")
    made = lay(folders)
    assert on_top(made, project / "flat one" / "src")
    assert on_top(made, project / "flat one") == Bind(*[f"{project}/flat one"] * 2, False)


@pytest.mark.parametrize(
    ("url", "editable"),
    [("file:///not/editable", False), ("https://host/x", True), ("", True), ("//[x", True)],
)
def test_what_is_no_editable_install(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, url: str, editable: bool
) -> None:
    """An installation of another kind, or one whose description makes no sense, adds nothing."""
    installed_editable(elsewhere / "site-packages", url, editable=editable)
    (elsewhere / "site-packages" / "broken-1.dist-info").mkdir()
    (elsewhere / "site-packages" / "broken-1.dist-info" / "direct_url.json").write_text("[")
    imports_from(monkeypatch, elsewhere / "site-packages")
    assert protected.editable_projects() == []


@pytest.mark.parametrize("what", ["itself", "missing", "behind a link"])
def test_folders_that_are_imported_from_and_can_be_changed(
    lay,
    folders: SessionFolders,
    project: Path,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """A folder of sys.path that cannot be protected without making the project useless is named."""
    (project / "link").symlink_to(elsewhere)
    entry = {"itself": project, "missing": project / "none"}.get(what, project / "link")
    imports_from(monkeypatch, entry)
    made = lay(folders)
    assert made.note.startswith(f"the session can change {entry}, which the Python that runs")
    assert on_top(made, entry) is None


def test_the_first_entry_depends_on_how_python_was_started(
    lay, folders: SessionFolders, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m` puts the current folder first on sys.path; that is no reason for a note."""
    monkeypatch.setattr(sys, "path", [str(project), "relative", "/usr/lib/python3"])
    assert lay(folders).note == ""


def test_the_engines_socket_and_the_way_to_it(
    lay, folders: SessionFolders, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket of an engine in the project is hidden, and the folders above it cannot be moved."""
    (project / "run").mkdir()
    (project / "run" / "docker.sock").touch()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project}/run/docker.sock")
    made = lay(folders)
    mask = on_top(made, project / "run" / "docker.sock")
    assert mask == Bind(os.devnull, f"{project}/run/docker.sock")
    assert on_top(made, project / "run") == Bind(f"{project}/run", f"{project}/run", False)
    assert Guarded(f"{project}/run/docker.sock", os.devnull) in guarded_paths(folders.empty)


def test_the_state_folder_is_hidden_in_the_hosts_software(
    lay, folders: SessionFolders, state: Path
) -> None:
    """A state folder below /opt, or below a Python environment, is hidden there as well."""
    assert on_top(lay(folders), state) is None
    image = [Bind(str(state.parent), "/opt/x")]
    (mask,) = overmounts(image, guarded_paths(folders.empty))
    assert mask == Bind(str(folders.empty), f"/opt/x/{state.name}")
