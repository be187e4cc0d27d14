"""An enqueued launch: what the dispatcher reads is what was judged, and it is judged again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.errors import PolicyError, TrustRequired
from mooring.images.host_image import host_image
from mooring.launch import enqueued
from mooring.launch.options import LaunchOptions
from mooring.launch.plan import LaunchPlan, planned_again
from tests.support.fake import Declare, clock, declare, engine, service
from tests.support.sessions import make_folder

__all__ = ["clock", "declare", "engine", "service"]


def stored(plan: LaunchPlan) -> LaunchPlan:
    """What the dispatcher reads of a plan that was left to it."""
    folder = make_folder("0123456789ab", "waits")
    folder.release()
    launch = enqueued.dump(plan, LaunchOptions(enqueue=True), 0, "tester")
    folder.mark_enqueued(json.loads(json.dumps(launch)))
    return enqueued.load(folder)[0]


@pytest.fixture
def plan(service: Mooring, declare: Declare, tmp_path: Path) -> LaunchPlan:
    """A trusted file that uses a folder outside its own."""
    (tmp_path / "outside").mkdir()
    resolved = declare(f"inputs: [{tmp_path}/outside]\ncommand: x\n")
    return service.sessions.plan(resolved).with_trust()


def test_nothing_is_lost_on_the_way(plan: LaunchPlan, project: Path) -> None:
    """The dispatcher has the file, its place and the folder that confines it, as they were."""
    confined = dataclasses.replace(plan, within=project, mounted=project.parent)
    read = stored(confined)
    assert (read.resolved, read.within) == (plan.resolved, project)
    assert read.mounted == project.parent
    assert read.trust_digest != ""


def test_a_waiting_launch_is_trusted_as_its_file_is(plan: LaunchPlan, project: Path) -> None:
    """While it waits, its folder may be exchanged for another with the same bytes: then nobody has
    consented to what is launched."""
    read = stored(plan)
    assert planned_again(read).sources
    shutil.copytree(project, project.with_name("copy"))
    project.rename(project.with_name("aside"))
    project.with_name("copy").rename(project)
    with pytest.raises(TrustRequired):
        planned_again(read)


def test_a_waiting_launch_stays_confined(plan: LaunchPlan, project: Path) -> None:
    """What a closed server confined is confined when it is launched."""
    with pytest.raises(PolicyError, match="lies outside"):
        planned_again(stored(dataclasses.replace(plan, within=project)))


def test_a_waiting_launch_has_its_creators_variables(
    service: Mooring, declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dispatcher has no proxy and no kernels of its own: the creator's are stored, without
    what a session must not have, and the note that says so stays."""
    (tmp_path / "ca.pem").touch()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("PIP_INDEX_URL", "https://ann:secret@index.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    kernel = tmp_path / "kernels" / "pt"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["pt"], "display_name": "pt"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    plan = service.sessions.plan(declare("image: host\nkernel: pt\n")).with_trust()
    for name in ("HTTPS_PROXY", "PIP_INDEX_URL", "SSL_CERT_FILE", "JUPYTER_PATH"):
        monkeypatch.delenv(name)
    read = stored(plan)
    assert read.mounts.host == plan.mounts.host
    facts = host_image(FakeEngine(), read.mounts.host)
    assert "PIP_INDEX_URL" not in dict(facts.env)
    assert dict(facts.env)["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert {str(tmp_path / "ca.pem"), str(kernel)} <= {bind.target for bind in facts.binds}
    final = planned_again(read)
    assert ("image host, SSL_CERT_FILE", tmp_path / "ca.pem") in final.chosen
    assert "does not have your PIP_INDEX_URL" in final.note
