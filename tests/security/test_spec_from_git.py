"""A stranger's spec file, from git: refused in one line or asked about, with no side effect."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pexpect
import pytest

from mooring.client import Mooring
from mooring.errors import SpecError, TrustRequired
from mooring.spec.resolve import ResolvedSpec, resolve
from tests.conftest import Cli
from tests.support.streams import output_of

pytestmark = pytest.mark.engine

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
WRONG = {
    "a tag that runs": "command: !!python/object/apply:os.system ['touch pwned']",
    "a tag that makes an object": "env: !!python/object:subprocess.Popen {args: touch pwned}",
    "an alias bomb": BOMB,
    "ten megabytes": "# " + "x" * 10_000_000,
    "a NUL": "image: host\0",
    "an escaped NUL": 'command: ["touch\\0pwned"]',
    "a terminal's escapes": "image: \x1b]0;pwned\x07",
    "another user": "user: 0:0",
    "an odd uid": "uid: -1",
    "an unknown way in": "entrypoint: [touch, pwned]",
    "a name that is a path": "name: ../../pwned",
    "a mount that is a path": "inputs: [{name: ../../etc, source: .}]",
    "an image that is an option": "image: --privileged",
    "a hook": "on_create: touch pwned",
    "an include": "include: https://example.invalid/session.yml",
    "a circle": "extends: ./session.yml",
    "the shadow file": "extends: /etc/shadow",
    "a device": "extends: /dev/zero",
    "the kernel's own": "extends: [/proc/kmsg]",
    "a terminal": "extends: /dev/tty",
    "a folder": "extends: /etc",
    "a URL": "extends: https://example.invalid/session.yml",
    "an odd path": 'extends: "../\\e]0;pwned\\a.yml"',
    "a path of its own length": f"extends: /{'x' * 5000}.yml",
    "nobody's profile": "extends: pwned",
    "a folder of nobody's": "inputs: [~no-such-user/data]",
}


def leftovers(state: Path, project: Path) -> list[str]:
    """What a creation leaves that should not have happened."""
    found = [str(path) for name in ("sessions", "consents") for path in state.glob(f"{name}/*")]
    return found + [path.name for path in project.iterdir() if path.name != "session.yml"]


def written(project: Path, text: str) -> ResolvedSpec:
    (project / "session.yml").write_text(text)
    return resolve(flags={}, file=project / "session.yml")


def test_wrong_files_are_one_line(cli: Cli, state: Path, project: Path) -> None:
    """Tags, bombs, sizes, NULs, users, hooks and odd paths are each one error line with status 2,
    and nothing is run, made or remembered."""
    # one process for all: what is asked of each is the same
    script = project.parent / "each.py"
    script.write_text(
        "import contextlib, io, json, sys\n"
        "from mooring_cli.main import run\n"
        "told = {}\n"
        "for name, text in json.load(sys.stdin).items():\n"
        "    open('session.yml', 'w').write(text)\n"
        "    sys.argv = ['mooring', 'create', '-d', '-f', 'session.yml']\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as err:\n"
        "        try:\n"
        "            run()\n"
        "            told[name] = (0, err.getvalue())\n"
        "        except SystemExit as end:\n"
        "            told[name] = (end.code, err.getvalue())\n"
        "print(json.dumps(told))\n"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(WRONG),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told.keys() == WRONG.keys()
    for name, (code, err) in told.items():
        assert code == 2, (name, err)
        lines = err.splitlines()
        assert lines[0].startswith("error: "), (name, err)
        assert len(lines) <= 2, (name, err)
        assert all(line.isprintable() for line in lines), (name, err)
        assert all(len(line) < 500 for line in lines), (name, err)
    assert leftovers(state, project) == []
    assert done.stderr == ""


@pytest.mark.parametrize(
    "value", ["{{ env.HOME }}", "${HOME}", "$HOME", "$(touch pwned)", "`touch pwned`", "%h", "~"]
)
def test_templates_are_plain_text(mooring: Mooring, project: Path, value: str) -> None:
    """What another tool would expand or run arrives in the session letter by letter."""
    name = "quoted"
    spec = f"name: {name}\nenv: {{VALUE: '{value}'}}\ncommand: ['sleep', '60', '{value}']\n"
    resolved = written(project, spec.replace(", '" + value + "'", ""))
    session = mooring.sessions.create(resolved).session
    assert output_of(mooring, session, "sh", "-c", 'printf %s "$VALUE"') == value
    assert [path.name for path in project.iterdir()] == ["session.yml"]


REACHES = {
    "inputs: [/etc/ssl]": "inputs: read /etc/ssl",
    "outputs: [../out]": "outputs: write {parent}/out",
    "home: true": "home: your home, {home}, writable",
    "secrets: {A: {env: PATH}}": "secrets.A: from your variable PATH",
    "secrets: {A: {file: key}}": "secrets.A: from your file {parent}/project/key",
}


@pytest.mark.parametrize("text", REACHES)
def test_reaching_further_needs_consent(
    mooring: Mooring, state: Path, project: Path, text: str
) -> None:
    """Whatever a file wants beyond its folder is named and refused where nobody can be asked."""
    with pytest.raises(TrustRequired) as caught:
        mooring.sessions.create(written(project, text))
    home = os.path.expanduser("~")
    assert REACHES[text].format(parent=project.parent, home=home) in caught.value.message
    assert caught.value.hint == f"read it, then trust it: mooring trust {project}/session.yml"
    assert leftovers(state, project) == []
    assert not (project.parent / "out").exists()


def test_consent_is_for_one_content(cli: Cli, mooring: Mooring, project: Path) -> None:
    """`mooring trust` allows a file as it stands; any change of it asks again, and changing back
    does not."""
    (project / "session.yml").write_text("inputs: [/etc/ssl]\ncommand: [sleep, '60']\n")
    refused = cli("create", "-d", "-f", "session.yml", check=1)
    assert refused.stderr.splitlines()[0].endswith("inputs: read /etc/ssl")
    assert "mooring trust" in refused.stderr
    told = cli("trust", "session.yml", check=0).stdout
    assert told == "trusted: inputs: read /etc/ssl\n"
    cli("create", "-d", "-f", "session.yml", check=0)
    original = (project / "session.yml").read_text()
    with pytest.raises(TrustRequired):
        mooring.sessions.create(written(project, original + "# a comment\n"))
    with pytest.raises(TrustRequired):
        mooring.sessions.create(written(project, original.replace("ssl", "ssh")))
    assert mooring.sessions.create(written(project, original)).session.state.value == "running"


def test_consent_is_for_where_the_paths_lead(mooring: Mooring, project: Path) -> None:
    """The same file in another folder, or over another link, reaches something else: it asks."""
    from mooring.host.users import caller
    from mooring.images import mounts
    from mooring.policy import trust

    for name in ("one", "two"):
        (project.parent / name).mkdir()
    (project / "data").symlink_to("../one")
    resolved = written(project, "inputs: [data]\n")

    def grants() -> tuple[mounts.Grant, ...]:
        return mounts.plan(resolved.spec, project=project, cwd=project, user=caller()).grants

    trust.record(resolved, grants())
    assert trust.missing(resolved, grants()) == []
    (project / "data").unlink()
    (project / "data").symlink_to("../two")
    (missing,) = trust.missing(resolved, grants())
    assert missing.what == f"read {project.parent}/two"
    trust.record(resolved, grants())
    assert trust.missing(resolved, grants()) == []
    (project / "data").unlink()
    (project / "data").symlink_to("../one")
    assert trust.missing(resolved, grants()) == []


def test_a_flag_does_not_vouch_for_the_file(mooring: Mooring, project: Path) -> None:
    """A secret of the user's own on the command line is no consent to those of the file."""
    (project / "session.yml").write_text("secrets: {A: {file: ~/.ssh/id_rsa}}\n")
    flags = {"secrets": {"B": {"env": "PATH"}}}
    resolved = resolve(flags=flags, file=project / "session.yml")
    with pytest.raises(TrustRequired) as caught:
        mooring.sessions.create(resolved)
    assert "secrets.A: from your file /" in caught.value.message
    assert "secrets.B" not in caught.value.message


def test_the_users_own_flags_need_no_consent(mooring: Mooring, project: Path) -> None:
    """What was asked for on the command line was asked for by the user."""
    (project / "session.yml").write_text("command: [sleep, '60']\n")
    flags = {"inputs": [{"name": "ssl", "source": "/etc/ssl"}]}
    resolved = resolve(flags=flags, file=project / "session.yml")
    assert mooring.sessions.create(resolved).session.state.value == "running"


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_a_person_is_asked(
    mooring: Mooring, state: Path, project: Path, answer: str, code: int
) -> None:
    """At a terminal the question names what is wanted; no is a refusal, yes is remembered."""
    import sys

    (project / "session.yml").write_text("inputs: [/etc/ssl]\ncommand: [sleep, '60']\n")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "mooring_cli", "create", "-d", "-f", "session.yml"],
        env={**os.environ, "TERM": "dumb"},
        encoding="utf-8",
        timeout=60,
    )
    child.expect_exact("inputs: read /etc/ssl")
    child.expect("Trust this file.*: ")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == code
    assert len(list((state / "consents").glob("*"))) == (1 if code == 0 else 0)
    assert len(mooring.sessions.list()) == (1 if code == 0 else 0)


def test_a_broken_consent_is_no_consent(mooring: Mooring, state: Path, project: Path) -> None:
    """A consent that cannot be read, or is of another shape, allows nothing."""
    from mooring.images.mounts import Grant
    from mooring.policy.trust import missing as untrusted
    from mooring.policy.trust import record

    resolved = written(project, "inputs: [/etc/ssl]\n")
    grant = Grant("inputs", "read /etc/ssl")
    record(resolved, [grant])
    (kept,) = (state / "consents").iterdir()
    assert untrusted(resolved, [grant]) == []
    for text in ("", "null", "[]", '"inputs: read /etc/ssl"', '{"allowed": null}', "\xff"):
        kept.write_text(text, encoding="latin-1")
        assert untrusted(resolved, [grant]) == [grant]


def test_a_file_that_is_no_file(mooring: Mooring, project: Path) -> None:
    """A spec that is a FIFO or a device is refused at once."""
    os.mkfifo(project / "session.yml")
    for path in (project / "session.yml", Path("/dev/zero"), Path("/dev/tty")):
        with pytest.raises(SpecError, match="not a regular file"):
            resolve(flags={}, file=path)
