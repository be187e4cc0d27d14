"""The paths of a spec: what is refused, and what leads nowhere."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mooring.errors import PolicyError, SpecError


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
@pytest.mark.parametrize(
    "source",
    "/ /../ /proc /proc/self //proc /usr/../proc /sys /dev /boot /run /var/run /var /var/lib "
    "/var/lib/docker/volumes".split(),
)
def test_the_machine_itself_is_refused(lay, kind: str, source: str) -> None:
    """A source that would expose the host is refused in every spelling."""
    if kind == "inputs" and not os.path.exists(source):
        pytest.skip(f"this machine has no {source}")
    with pytest.raises((PolicyError, SpecError), match=r"would expose the host|Permission denied"):
        lay(**{kind: [{"name": "x", "source": source}]})


def test_a_link_to_the_machine_is_refused(lay, project: Path) -> None:
    """A link to a forbidden source is refused like the source."""
    (project / "link").symlink_to("/proc")
    with pytest.raises(PolicyError):
        lay(inputs=["link"])


def test_the_engines_socket_is_refused(
    lay, project: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's socket and the folder that holds it are refused, wherever they are."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(outside / "docker.sock"))
        with pytest.raises(PolicyError):
            lay(inputs=[str(outside / "docker.sock")])
        monkeypatch.setenv("DOCKER_HOST", f"unix://{outside}/docker.sock")
        with pytest.raises(PolicyError):
            lay(inputs=[str(outside)])


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files_are_refused(lay, project: Path, kind: str) -> None:
    """Only files and folders are inputs."""
    path = project / "special"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "fifo":
            os.mkfifo(path)
        else:
            listening.bind("special")
        with pytest.raises(PolicyError):
            lay(inputs=["special"])


@pytest.mark.parametrize("below", ["", "sessions", "consents"])
@pytest.mark.parametrize("through_a_link", [False, True])
def test_moorings_own_folder_is_refused(
    lay, state: Path, outside: Path, below: str, through_a_link: bool
) -> None:
    """The state folder and what is in it are refused, even if it is configured by a link."""
    (state / "sessions").mkdir(exist_ok=True)
    (state / "consents").mkdir(exist_ok=True)
    source = state
    if through_a_link:
        source = outside / "link"
        source.symlink_to(state)
    with pytest.raises(PolicyError, match="belongs to mooring itself"):
        lay(inputs=[{"name": "x", "source": str(source / below)}])


def test_missing_sources(lay, project: Path) -> None:
    """A missing input is an error that names it, a missing output is not; outputs are folders."""
    with pytest.raises(SpecError, match=r"inputs: nowhere: .*nowhere does not exist"):
        lay(inputs=["nowhere"])
    lay(outputs=["nowhere"])
    assert not (project / "nowhere").exists()
    (project / "file").touch()
    with pytest.raises(SpecError, match="is not a folder"):
        lay(outputs=["file"])


@pytest.mark.parametrize(
    "source", ["loop", "~nobody-of-that-name/x", "file/below", "x" * 300, "a\u202eb", "new\x7fline"]
)
def test_sources_that_lead_nowhere(lay, project: Path, source: str) -> None:
    """Anything wrong with a path is one printable SpecError."""
    (project / "loop").symlink_to("loop")
    (project / "file").touch()
    with pytest.raises((SpecError, ValueError)) as caught:
        lay(inputs=[{"name": "x", "source": source}])
    assert isinstance(caught.value, ValueError) or str(caught.value).isprintable()
