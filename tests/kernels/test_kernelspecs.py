"""Kernelspecs: what makes a session something to pick, and nobody else's touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jupyter_core.paths
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from mooring.errors import MooringError, SpecError
from mooring.kernels import kernelspecs


@pytest.fixture(autouse=True)
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter's folders, empty but for what tests put there."""
    folder = tmp_path / "jupyter"
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder))
    monkeypatch.setenv("JUPYTER_PATH", "")
    # what this environment and this machine have installed
    monkeypatch.setattr(jupyter_core.paths, "ENV_JUPYTER_PATH", [])
    monkeypatch.setattr(jupyter_core.paths, "SYSTEM_JUPYTER_PATH", [])
    return folder


def document(**changes: str) -> dict[str, object]:
    values = {"display_name": "Training", "kernel": "python3", **changes}
    return kernelspecs.document(config={"spec": "/x/session.yml"}, **values)  # type: ignore[arg-type]


def foreign(jupyter: Path, name: str = "other") -> Path:
    folder = jupyter / "kernels" / name
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(
        json.dumps({"argv": ["x"], "display_name": "Other", "language": "x"})
    )
    return folder


def test_install_list_remove(jupyter: Path) -> None:
    """What is installed is what Jupyter finds and what is listed; what is removed is gone."""
    path = kernelspecs.install("training", document(), prefix=None, user=True)
    assert path == jupyter / "kernels" / "training"
    spec = KernelSpecManager().get_kernel_spec("training")
    assert spec.display_name == "Training"
    provisioner = spec.metadata["kernel_provisioner"]
    assert provisioner["provisioner_name"] == "mooring-provisioner"
    assert [found.name for found in kernelspecs.installed()] == ["training"]
    assert kernelspecs.installed()[0].config == {"spec": "/x/session.yml"}
    assert kernelspecs.remove("training") == path
    assert not path.exists()
    assert kernelspecs.installed() == []


def test_installing_again_replaces(jupyter: Path) -> None:
    """A kernelspec of ours is replaced by a new one of its name."""
    kernelspecs.install("training", document(), prefix=None, user=True)
    kernelspecs.install("training", document(display_name="Anew"), prefix=None, user=True)
    assert [found.display_name for found in kernelspecs.installed()] == ["Anew"]


def test_into_a_prefix(tmp_path: Path) -> None:
    """A prefix gets it under share/jupyter, where that environment's Jupyter looks."""
    path = kernelspecs.install("training", document(), prefix=str(tmp_path / "env"), user=False)
    assert path == tmp_path / "env" / "share" / "jupyter" / "kernels" / "training"
    assert json.loads((path / "kernel.json").read_text()) == document()


def test_what_others_installed_is_not_touched(jupyter: Path) -> None:
    """A name that another program's kernelspec has is refused, for installing and for removing."""
    theirs = foreign(jupyter)
    before = (theirs / "kernel.json").read_bytes()
    for name in ("other", "OTHER"):
        with pytest.raises(MooringError, match="not mooring's"):
            kernelspecs.install(name, document(), prefix=None, user=True)
        with pytest.raises(MooringError, match="has no kernelspec named"):
            kernelspecs.remove(name)
    assert (theirs / "kernel.json").read_bytes() == before
    assert kernelspecs.installed() == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", "naïve", "a\n"])
def test_names_that_jupyter_does_not_take(jupyter: Path, name: str) -> None:
    """A name that Jupyter would not find is a SpecError, and nothing is written."""
    with pytest.raises(SpecError):
        kernelspecs.install(name, document(), prefix=None, user=True)
    assert not (jupyter / "kernels").exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"metadata": 1}', '{"metadata": {}}'])
def test_broken_kernelspecs_are_not_ours(jupyter: Path, content: str) -> None:
    """A kernel.json that makes no sense is neither listed nor an error."""
    (foreign(jupyter) / "kernel.json").write_text(content)
    assert kernelspecs.installed() == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Where nothing can be written, the error says which flag leads elsewhere."""
    (tmp_path / "file").touch()
    with pytest.raises(MooringError, match="cannot install") as caught:
        kernelspecs.install("training", document(), prefix=str(tmp_path / "file"), user=False)
    assert "--prefix" in caught.value.hint


def test_a_kernelspec_that_cannot_be_deleted(jupyter: Path) -> None:
    """What cannot be deleted, a linked folder say, is an error of ours."""
    real = kernelspecs.install("training", document(), prefix=None, user=True)
    real.rename(jupyter / "elsewhere")
    real.symlink_to(jupyter / "elsewhere")
    with pytest.raises(MooringError, match="cannot delete"):
        kernelspecs.remove("training")
    assert (jupyter / "elsewhere" / "kernel.json").exists()


def test_what_editors_need() -> None:
    """The argv is an absolute program that is not called python, its folder and the connection."""
    made = document()
    program, folder, file = made["argv"]  # type: ignore[misc]
    assert os.path.isabs(program)
    assert os.path.basename(program) == "mooring-kernel"
    assert (folder, file) == ("{resource_dir}", "{connection_file}")
    assert (made["language"], made["interrupt_mode"]) == ("python", "message")


@pytest.mark.parametrize(
    ("kernel", "language", "shown", "mode", "curve"),
    [
        ("python3", "", "python", "message", True),
        ("ir", "R", "R", "signal", False),
        ("bash", "", "bash", "signal", False),
    ],
)
def test_other_languages(kernel: str, language: str, shown: str, mode: str, curve: bool) -> None:
    """Only what is known of a kernel is promised of it: messages and encryption are Python's."""
    made = kernelspecs.document(display_name="X", kernel=kernel, config={}, language=language)
    assert (made["language"], made["interrupt_mode"]) == (shown, mode)
    assert ("supported_encryption" in made["metadata"]) == curve
