"""The Python environment of a session: what is installed in it, and what it has from outside."""

from __future__ import annotations

import json
import site
import sys
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.images.environment import ENVIRONMENT, PYTHON
from mooring.spec.resolve import resolve
from tests.support.kernel_clients import READY_S, install, jupyter, kernel, only_session, run
from tests.support.streams import told
from tests.support.wheels import OFFLINE, editable_project, tiny_wheel

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

# A package of this environment that nothing in it imports
REPLACED = "annotated-doc"


def test_what_a_notebook_installs_is_there(mooring: Mooring, jupyter: Path, project: Path) -> None:
    """`%pip install X; import X` works at once (ipython#12613, jupyterhub#2539), editable installs
    do after a restart (pip#7627), and a package of the machine's can be replaced; programs are on
    PATH, the machine's own see what was installed, and the machine keeps what it has."""
    outside = Path(site.getsitepackages()[0]) / f"{REPLACED.replace('-', '_')}"
    assert outside.exists()
    tiny_wheel(project), tiny_wheel(project, REPLACED, "0.0.0")
    editable_project(project)
    pip = f"%pip install -q {OFFLINE}"
    with kernel(install()) as (manager, client):
        done = run(client, f"{pip} --find-links . mt-tiny\nimport mt_tiny, sys\nsys.executable")
        assert done.text.endswith(repr(PYTHON))
        assert run(client, "!mt-tiny").text == "1.0"
        rest = f"'{REPLACED}<0.0.1' --no-build-isolation -e ./mt-edited"
        run(client, f"{pip} --find-links . {rest}", timeout=100)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=READY_S)
        code = "import annotated_doc, mt_edited; print(annotated_doc.VERSION, mt_edited.__file__)"
        found = run(client, code).text
        assert found == f"0.0.0 {project}/mt-edited/src/mt_edited/__init__.py"
        script = "ipython -c 'import mt_tiny, mt_edited; print(mt_tiny.VERSION)'; which ipython"
        seen = told(mooring, only_session(mooring), script)
        assert seen == f"1.0\n{ENVIRONMENT}/bin/ipython\n"
    assert (outside / "__init__.py").exists()


def test_pythonpath_of_a_spec_hides_nothing(
    mooring: Mooring, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PYTHONPATH in a spec, what is installed in the session is found as well
    (docker-stacks#1073), what a .pth file of the machine's adds, and what a finder finds, which is
    how a flat layout is installed (pip#7627)."""
    tiny_wheel(project)
    (project / "lib").mkdir()
    (project / "lib" / "mt_listed.py").touch()
    packages = tmp_path / "site-packages"
    flat = tmp_path / "flat project"
    for module in (flat / "mt_flat", tmp_path / "src" / "mt_plain"):
        module.mkdir(parents=True)
        (module / "__init__.py").touch()
    info = packages / "mt_flat-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mt-flat\nVersion: 1\n")
    origin = {"url": flat.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    (packages / "__editable__.mt_flat.pth").write_text("import mt_finder\n")
    (packages / "plain.pth").write_text(f"{tmp_path}/src\n")
    (packages / "mt_finder.py").write_text(
        "import importlib.util, sys\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'mt_flat':\n"
        f"            place = {str(flat)!r} + '/mt_flat/__init__.py'\n"
        "            return importlib.util.spec_from_file_location(name, place)\n"
        "sys.meta_path.append(Finder)\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages), f"{tmp_path}/src"])
    folders = [*site.getsitepackages(), str(packages)]
    monkeypatch.setattr(site, "getsitepackages", lambda: folders)
    spec = {"command": ["sleep", "300"], "env": {"PYTHONPATH": f"{project}/lib"}}
    session = mooring.sessions.create(resolve(flags=spec)).session
    script = f"python -m pip install -q {OFFLINE} --find-links . mt-tiny; mt-tiny"
    assert told(mooring, session, f"{script}; python -c 'import mt_listed, mt_tiny'") == "1.0\n"
    script = "python -c 'import mt_flat, mt_plain; print(mt_flat.__file__, mt_plain.__file__)'"
    assert told(mooring, session, script) == (
        f"{flat}/mt_flat/__init__.py {tmp_path}/src/mt_plain/__init__.py\n"
    )
