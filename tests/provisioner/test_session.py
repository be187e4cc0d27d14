"""From a kernelspec's configuration to a session that runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.errors import SpecError
from mooring_provisioner.session import KernelspecConfig, OpenedSession, open_session
from tests.support.sessions import session_folder

SHORT_ID = "0123456789ab"


def opened(service: Mooring, config: KernelspecConfig, project: Path) -> OpenedSession:
    resolved = config.resolve(str(project))
    return open_session(
        service, config, resolved, cwd=str(project), short_id=SHORT_ID, max_wait_s=1.0
    )


def test_a_spec_without_a_kernel_has_python(project: Path) -> None:
    """A kernelspec starts kernels; which one is the spec's to say."""
    assert KernelspecConfig().resolve(str(project)).spec.kernel == "python3"
    other = KernelspecConfig(flags={"kernel": "ir"}).resolve(str(project))
    assert other.spec.kernel == "ir"


@pytest.mark.parametrize(
    ("flags", "policy", "longest_s"),
    [
        ({}, "", 7 * 86400),
        ({}, "max_duration: 12h", 12 * 3600),
        ({}, "max_duration: 30d", 7 * 86400),
        ({"max_duration": "14d"}, "", 14 * 86400),
        ({"max_duration": "off"}, "", 0),
    ],
)
def test_a_busy_kernel_does_not_hold_a_session_for_ever(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, str],
    policy: str,
    longest_s: float,
) -> None:
    """A session that a kernelspec creates has an end, the user's if there is one."""
    file = tmp_path / "policy.yml"
    file.write_text(policy)
    monkeypatch.setattr("mooring.policy.limits.POLICY_FILE", file)
    monkeypatch.setattr("mooring.policy.limits.OWNER", os.getuid())
    assert KernelspecConfig(flags=flags).resolve(str(project)).spec.max_duration == longest_s


def test_the_project_of_a_session_without_a_file_is_the_kernels_folder(project: Path) -> None:
    """Its relative paths start where the notebook lies."""
    assert KernelspecConfig().resolve(str(project)).project == project


@pytest.mark.parametrize(
    ("folder", "elsewhere"), [("", False), ("deep/er", False), ("../project2", True)]
)
def test_a_notebook_outside_a_specs_folder_runs_in_that(
    project: Path, folder: str, elsewhere: bool
) -> None:
    """This is what its kernelspec declares; without a file, a kernel runs in its own folder."""
    file = project / "session.yml"
    file.write_text("image: host\n")
    cwd = str(project / folder)
    assert KernelspecConfig(spec=str(file)).is_elsewhere(cwd) is elsewhere
    assert not KernelspecConfig().is_elsewhere(cwd)


def test_a_wrong_session_name_is_refused_with_the_rule(project: Path) -> None:
    """The message names the kernelspec, whose author it concerns."""
    with pytest.raises(SpecError, match="session 'a b' of the kernelspec"):
        KernelspecConfig(session="a b").resolve(str(project))


def test_a_session_of_the_kernels_own_ends_with_it(service: Mooring, project: Path) -> None:
    """It has a name of its own, and its record says that it was created for a kernel."""
    made = opened(service, KernelspecConfig(flags={"name": "train"}), project)
    assert made.created
    assert made.session.name == "train-012345"
    assert session_folder(made.session.id).record().identity.ends_with_kernels is True


def test_a_shared_session_is_found_or_created_and_stays(service: Mooring, project: Path) -> None:
    """The second kernel gets the session of the first, and it ends with neither."""
    config = KernelspecConfig(session="lab")
    first, second = (opened(service, config, project) for _ in range(2))
    assert first.session.id == second.session.id
    assert (first.session.name, first.created, second.created) == ("lab", False, False)
    assert not session_folder(first.session.id).record().identity.ends_with_kernels
