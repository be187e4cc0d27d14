"""What ``image: host`` has of this machine's settings, and what it does not."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import time
from pathlib import Path

import pytest

from mooring.host.users import User
from mooring.images import host_settings, mounts
from mooring.images.host_environment import host_environment, is_system
from mooring.images.host_image import host_binds, root_tar
from mooring.images.host_settings import certificates, etc, has, notes, variables
from mooring.spec.model import SessionSpec


def objection(name: str, value: str) -> str:
    """The note about a variable; empty if the session has it."""
    environ = {name: value}
    text = "; ".join(notes(environ))
    assert (name in variables(environ)) is not bool(text)
    return text


def test_what_everybody_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not everybody's to read may have a password in it, and root's sessions could
    read it."""
    for name, mode in (("pip.conf", 0o600), ("npmrc", 0o644), ("gitconfig", 0o640)):
        (tmp_path / name).touch(mode)
        (tmp_path / name).chmod(mode)
    patterns = [f"{tmp_path}/{name}" for name in ("pip.conf", "npmrc", "gitc*", "missing")]
    monkeypatch.setattr(host_settings, "_ETC", patterns)
    found = etc()
    assert [one.target for one in found.copied] == [f"{tmp_path}/npmrc"]
    assert found.mounted == ()


def test_a_folder_is_copied_with_what_everybody_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links stay links, and a private file in a public folder stays out."""
    folder = tmp_path / "git"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "config").write_text("[x]")
    (folder / "private").touch(0o600)
    (folder / "closed").mkdir(0o700)
    (folder / "closed" / "key").touch()
    (folder / "link").symlink_to("/usr/bin/env")
    os.mkfifo(folder / "pipe")
    (tmp_path / "top").symlink_to(folder)
    monkeypatch.setattr(host_settings, "_ETC", [f"{tmp_path}/top"])
    found = etc()
    names = ["", "/link", "/sub", "/sub/config"]
    assert [one.target for one in found.copied] == [f"{tmp_path}/top{name}" for name in names]
    with tarfile.open(fileobj=io.BytesIO(root_tar([], found.copied))) as tar:
        top = str(tmp_path).lstrip("/") + "/top"
        assert tar.getmember(f"{top}/link").linkname == "/usr/bin/env"
        file = tar.extractfile(f"{top}/sub/config")
        assert file is not None
        assert file.read() == b"[x]"
    (folder / "sub" / "config").write_text("[xy]")
    assert etc() != found


def test_what_is_large_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image stays small, and a folder of certificates is not read at every start."""
    for name in ("many", "much"):
        (tmp_path / name).mkdir()
    for number in range(401):
        (tmp_path / "many" / str(number)).touch()
    (tmp_path / "much" / "file").write_bytes(b"x" * (1 << 19))
    monkeypatch.setattr(host_settings, "_ETC", [f"{tmp_path}/*"])
    assert etc() == host_settings.Etc((), (f"{tmp_path}/many", f"{tmp_path}/much"))


def test_no_private_keys() -> None:
    """Certificates are there without the keys that lie beside them."""
    found = etc()
    targets = [*found.mounted, *(one.target for one in found.copied)]
    for private in ("/etc/ssl/private", "/etc/pki/tls/private", "/etc/ssh", "/etc/shadow"):
        assert not any(f"{private}/".startswith(f"{target}/") for target in targets)
        assert not has(private)
    assert "/etc/ssl/certs" in targets
    assert has("/etc/ssl/certs/ca-certificates.crt")
    assert not has("/usr/lib/x")


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "PIP_INDEX_URL", "UV_INDEX"])
def test_addresses_come_along(name: str) -> None:
    """What pip needs outside it has inside."""
    assert objection(name, "https://index.example:8080/simple") == ""
    assert (variables({name: ""}), list(notes({name: ""}))) == ({}, [])


@pytest.mark.parametrize(
    "value",
    [
        "https://ann:secret@index.example/simple",
        "https://token@index.example",
        "https://a.example https://ann:secret@b.example",
        "ann:secret@proxy.example:3128",
    ],
)
def test_an_address_with_a_password_does_not(value: str) -> None:
    """Keys and secrets never reach a variable, and the user is told which one is missing."""
    told = objection("PIP_EXTRA_INDEX_URL", value)
    assert told.startswith("the session does not have your PIP_EXTRA_INDEX_URL")
    assert "secret@" not in told


@pytest.mark.parametrize(
    "value", ["http://localhost:3128", "127.0.0.1:3128", "http://[::1]:80/", "https://127.9.9.9"]
)
def test_this_machines_loopback_is_not_the_sessions(value: str) -> None:
    """A proxy that cannot be reached would break what works without one."""
    assert "loopback" in objection("HTTPS_PROXY", value)


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_exceptions_are_no_addresses(name: str) -> None:
    """``no_proxy`` usually names the loopback."""
    assert objection(name, "localhost,127.0.0.1,.example") == ""


def test_certificates_bring_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that a variable names is mounted, as the user's choice for the policy."""
    file = tmp_path / "ca.pem"
    file.touch()
    for name in certificates(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert certificates(os.environ) == {"SSL_CERT_FILE": str(file)}
    assert str(file) in [bind.target for bind in host_binds()]
    assert ("image host, SSL_CERT_FILE", file) in host_environment().sources
    assert not is_system(str(file))


def test_certificates_that_are_nowhere() -> None:
    """A path that leads nowhere, or exposes the host, keeps no session from being created."""
    assert "no such absolute path" in objection("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert "no such absolute path" in objection("PIP_CERT", "ca.pem")
    assert "expose the host" in objection("SSL_CERT_DIR", "/run")


def test_the_plan_tells(project: Path, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """`create` says what is missing, and only where it concerns the image."""
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:secret@proxy.example")

    def note(**spec: object) -> str:
        declared = SessionSpec.model_validate(spec)
        return mounts.plan(declared, project=project, cwd=project, user=user).note

    assert "does not have your HTTPS_PROXY" in note()
    assert "HTTPS_PROXY" not in note(image="docker://python:3.12")


def test_a_large_folder_with_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount would show what is private in it to root's sessions: the rest is copied."""
    folder = tmp_path / "certs"
    (folder / "sub").mkdir(parents=True)
    for number in range(500):
        (folder / f"{number}.pem").touch()
    monkeypatch.setattr(host_settings, "_ETC", [str(folder)])
    assert etc().mounted == (str(folder),)
    (folder / "sub" / "server.key").touch(0o600)
    found = etc()
    assert found.mounted == ()
    assert len(found.copied) == 502
    assert not any("server.key" in one.target for one in found.copied)
    monkeypatch.setattr(host_settings, "_LOOKED_AT", 400)
    assert etc() == host_settings.Etc((), ())


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("[global]\nindex-url = https://ann:secret@index.example/simple\n", True),
        ("//registry.example/:_authToken=secret\n", True),
        ("proxy_password = secret\n", True),
        ("export https_proxy=http://ann:secret@proxy.example:3128\n", True),
        ("<server><password>secret</password></server>\n", True),
        ("<!-- an example:\n<password>secret</password>\n-->\n", False),
        ("# index-url = https://ann:secret@index.example\n", False),
        ("index-url = https://$USER:$TOKEN@index.example\nhttp_proxy=http://a.example\n", False),
        ("PASS_MAX_DAYS 99999\nset passwordless\n", False),
        ("index-url = https://token@index.example/simple\n", True),
        ("index-url = https://ann:pa$$@index.example/simple\n", True),
        ("# x\rindex-url = https://ann:secret@index.example\n", True),
        ("proxy = ann:secret@proxy.example:3128\n", True),
        ('[url "ssh://git@git.example/"]\n', False),
        ('{\n"index": "https://ann:secret@index.example"\n}\n', True),
        ('{"password": "secret"}\n', True),
        ('" set x https://ann:secret@index.example\n', False),
        ("export GITHUB_TOKEN=secret OTHER=1\n", True),
        ("setenv GITHUB_TOKEN secret\n", True),
        ("AWS_SECRET_ACCESS_KEY=secret\n", True),
        ("api_key = secret\n", True),
        ("password: secret\n", True),
        ("machine h login ann password secret\n", True),
        ("machine h\n  login ann\n  password secret\n", True),
        ("[http]\n\textraheader = AUTHORIZATION: basic c2VjcmV0\n", True),
        ("<password>\n  secret\n</password>\n", True),
        ("<password>${env.SECRET}</password>\n", False),
        ("-----BEGIN RSA PRIVATE KEY-----\n", True),
        ("passwd:         files systemd\n", False),
        ("challengePassword = A challenge password\n", False),
        ("password: null\ntoken=$(get)\nexport TOKEN=$X\nmax_tokens = 5\n", False),
        ("password sufficient pam_unix.so\nOLDPWD=/x\n", False),
    ],
)
def test_a_file_with_a_password_is_not_copied(tmp_path: Path, text: str, known: bool) -> None:
    """An image stays, and so would a password in it after it was changed."""
    file = tmp_path / "settings"
    file.write_text(text)
    copied = [host_settings.Copied("/etc/settings", str(file), (file.stat().st_mode, 0, 0))]
    with tarfile.open(fileobj=io.BytesIO(root_tar([], copied))) as tar:
        assert tar.getnames() == ([] if known else ["etc/settings"])


@pytest.mark.parametrize(
    "piece",
    [
        *("<!--", "<!---->", "://a:", "://", "w", " ", "\n", "password", "password ", "token:"),
        *("proxy=", "proxy:", "proxy ", "<password>", "authorization: basic ", "login password "),
        *("{", "$(", "`", "*", "%a", "$a", "-----BEGIN ", '"', " #", "setenv "),
    ],
)
@pytest.mark.parametrize("start", ["", "https://a:", "token=", "password", "<password>", "proxy="])
def test_a_hostile_file_takes_no_time(start: str, piece: str) -> None:
    """Whoever can write a file of settings does not keep everybody else waiting."""
    for end in ("", "@", " x y", "://"):
        text = f"{start}{piece * ((1 << 18) // len(piece))}{end}".encode()
        began = time.process_time()
        host_settings.has_credentials(text)
        assert time.process_time() - began < 1.5


def test_this_machines_settings_have_no_password() -> None:
    """What distributions install is copied as it is."""
    paths = [Path(one.source) for one in etc().copied]
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    assert [path for path in files if host_settings.has_credentials(path.read_bytes())] == []


@pytest.mark.parametrize(
    "value",
    [
        "token@proxy.example:3128",
        "https://index.example/simple?token=secret",
        "https://index.example/simple?a=1&api_key=secret",
        "corp=https://ann:secret@index.example/simple",
    ],
)
def test_other_forms_of_a_token(value: str) -> None:
    """It need not be a name and a password."""
    assert "a password or a token" in objection("UV_INDEX", value)


@pytest.mark.parametrize(
    "value",
    ["http://[proxy]:3128", "http://[fd00::1:3128", "https://ann:a/secret@index.example"],
)
def test_what_is_no_url(value: str) -> None:
    """It was an internal error of every command that plans a session."""
    told = objection("HTTPS_PROXY", value)
    assert told.endswith("because it is no URL")
    assert "loopback" in objection("UV_INDEX", "corp=http://localhost:3141/simple")


def test_a_certificates_path_as_people_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mounted, and what the variable names, is the plain path of the same file."""
    (tmp_path / "certs").mkdir()
    for name in certificates(os.environ):
        monkeypatch.delenv(name)
    for text in (f"{tmp_path}/certs/", f"/{tmp_path}//certs", f"{tmp_path}/x/../certs"):
        monkeypatch.setenv("SSL_CERT_DIR", text)
        assert certificates(os.environ) == {"SSL_CERT_DIR": f"{tmp_path}/certs"}
        assert f"{tmp_path}/certs" in [bind.target for bind in host_binds()]


def test_a_link_leads_to_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that can write to a folder could exchange it for a link to the user's keys."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home / ".ssh", home / "certs", elsewhere):
        folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "keys").symlink_to(home / ".ssh")
    (tmp_path / "mine").symlink_to(home)
    user = User(os.getuid(), os.getgid(), (), "ann", str(tmp_path / "mine"))
    monkeypatch.setattr(host_settings, "caller", lambda: user)
    for name in certificates(os.environ):
        monkeypatch.delenv(name)

    def note(path: Path | str) -> str:
        monkeypatch.setenv("SSL_CERT_DIR", str(path))
        found = host_environment()
        assert (str(path) in [one.target for one in found.chosen]) is not bool(found.note)
        return found.note

    assert "because a link leads to it: use" in note(tmp_path / "link")
    assert "with keys" in note(tmp_path / "keys")
    assert "with keys" in note(home / ".ssh")
    assert "with keys" in note(home)
    assert note(tmp_path / "mine" / "certs") == ""
    assert note(elsewhere) == ""
    monkeypatch.delenv("SSL_CERT_DIR")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "link"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "link")])
    found = host_environment()
    assert "of image host, PYTHONPATH, because a link leads to it" in found.note
    assert str(tmp_path / "link") not in [one.target for one in found.chosen]
