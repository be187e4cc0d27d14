"""The Python environment of a session: what is installed in it, and what it has from outside."""

from __future__ import annotations

import site
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.images.environment import ENVIRONMENT, PYTHON
from mooring.sessions.model import Session
from mooring.spec.resolve import resolve
from tests.support.kernel_clients import READY_S, install, jupyter, kernel, only_session, run
from tests.support.streams import read_all
from tests.support.wheels import OFFLINE, editable_project, tiny_wheel

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

# A package of this environment that nothing in it imports
REPLACED = "annotated-doc"


def told(mooring: Mooring, session: Session, script: str) -> str:
    """What a shell script in a session prints."""
    stream = mooring.sessions.exec(session, ["sh", "-c", script], stdin=False)
    text, code = read_all(stream).decode(), stream.exit_code()
    stream.close()
    assert code == 0, text
    return text


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


def test_pythonpath_of_a_spec_hides_nothing(mooring: Mooring, project: Path) -> None:
    """With PYTHONPATH in a spec, what is installed in the session is found as well
    (docker-stacks#1073)."""
    tiny_wheel(project)
    (project / "lib").mkdir()
    (project / "lib" / "mt_listed.py").touch()
    spec = {"command": ["sleep", "300"], "env": {"PYTHONPATH": f"{project}/lib"}}
    session = mooring.sessions.create(resolve(flags=spec)).session
    script = f"python -m pip install -q {OFFLINE} --find-links . mt-tiny; mt-tiny"
    assert told(mooring, session, f"{script}; python -c 'import mt_listed, mt_tiny'") == "1.0\n"
