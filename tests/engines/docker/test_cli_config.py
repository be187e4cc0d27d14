"""What the user has configured for Docker's command line holds for sessions too."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.base import ContainerConfig
from mooring.engines.docker import DockerEngine, cli_config, images
from mooring.errors import ImageError
from tests.engines.conftest import Server

CONFIG = ContainerConfig(
    name="n", image="i:1", argv=("true",), user="0:0", env={"HTTP_PROXY": "mine", "A": "b"}
)
PROXIES = {"httpProxy": "http://p:1", "noProxy": "*.example.org", "allProxy": "ignored"}
Configure = Callable[[object], None]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write the configuration: text, or a document."""

    def write(config: object) -> None:
        folder = tmp_path / "docker"
        folder.mkdir(exist_ok=True)
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "config.json").write_text(text)
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    return write


def test_proxies(configure: Configure, server: Server) -> None:
    """A container gets the user's proxies, in both cases, and the spec's own variables win."""
    configure({"proxies": {"default": PROXIES}})
    DockerEngine(f"unix://{server.server_address}").create(CONFIG)
    env = server.posted[-1]["Env"]
    assert sorted(env[:4]) == [
        "HTTP_PROXY=http://p:1", "NO_PROXY=*.example.org",
        "http_proxy=http://p:1", "no_proxy=*.example.org",
    ]  # fmt: skip
    assert env[4:] == ["HTTP_PROXY=mine", "A=b"]  # of two, the engine takes the last


def test_proxies_of_one_engine(configure: Configure) -> None:
    """Those of an engine's own address take precedence over the default ones."""
    configure({"proxies": {"default": PROXIES, "unix:///s": {"ftpProxy": "f"}}})
    assert cli_config.proxies("unix:///s") == {"FTP_PROXY": "f", "ftp_proxy": "f"}
    assert cli_config.proxies("unix:///t")["HTTP_PROXY"] == "http://p:1"


@pytest.mark.parametrize(
    "config", ["", "[]", "{", {}, {"proxies": []}, {"proxies": {"default": "x"}}]
)
def test_nothing_configured(configure: Configure, config: object) -> None:
    """A configuration that is missing or broken configures nothing."""
    configure(config)
    assert cli_config.proxies("unix:///s") == {}
    assert cli_config.detach_keys() == ""


def test_detach_keys(configure: Configure, tmp_path: Path, monkeypatch: Any) -> None:
    """The configuration is found in the home folder, too."""
    configure({"detachKeys": "ctrl-q"})
    assert cli_config.detach_keys() == "ctrl-q"
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli_config.detach_keys() == ""
    (tmp_path / "docker").rename(tmp_path / ".docker")
    assert cli_config.detach_keys() == "ctrl-q"


class Api:
    """An engine that is asked for a pull, and its response."""

    def open(self, *path: str, **options: Any) -> Api:
        self.headers, self.query = options["headers"], options["query"]
        return self

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def chunks(self) -> Iterator[bytes]:
        yield b'{"status": "done"}'


def pulled(reference: str) -> Api:
    api = Api()
    assert [line.status for line in images.pull(api, reference)] == ["done"]  # type: ignore[arg-type]
    return api


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("r.example:5000/a/b", "r.example:5000/a/b", "latest"),
        ("r.example:5000/a/b:1", "r.example:5000/a/b", "1"),
        ("r.example:5000/a@sha256:abc", "r.example:5000/a", "sha256:abc"),
        ("r.example:5000/a:1@sha256:abc", "r.example:5000/a", "sha256:abc"),
    ],
)
def test_credentials(configure: Configure, reference: str, name: str, tag: str) -> None:
    """A pull has the user's credentials for that registry, and for no other."""
    auth = base64.b64encode(b"me:secret").decode()
    configure({"auths": {"r.example:5000": {"auth": auth}}})
    api = pulled(reference)
    assert api.query == {"fromImage": name, "tag": tag}
    sent = json.loads(base64.urlsafe_b64decode(api.headers["X-Registry-Auth"]))
    assert (sent["username"], sent["password"]) == ("me", "secret")
    assert pulled("other.example/a").headers == {}


def test_a_credential_helper(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that keeps the credentials is asked; if it fails, the pull says so."""
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\necho \'{"Username": "me", "Secret": "s"}\'\n')
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    configure({"credHelpers": {"r.example": "test", "s.example": "missing"}})
    sent = json.loads(base64.urlsafe_b64decode(pulled("r.example/a").headers["X-Registry-Auth"]))
    assert (sent["Username"], sent["Password"]) == ("me", "s")
    with pytest.raises(ImageError, match=r"cannot pull s\.example/a: .*docker-credential-missing"):
        pulled("s.example/a")


@pytest.mark.parametrize(
    "config",
    [{"auths": "x"}, {"auths": {"r.example": {"auth": 5}}}, {"auths": 5}, {"credsStore": 5}],
)
def test_broken_credentials(configure: Configure, config: object) -> None:
    """Credentials that cannot be read are told, with the file that they are in, by pulls alone."""
    configure(config)
    with pytest.raises(ImageError, match=r"cannot pull r\.example/a") as caught:
        pulled("r.example/a")
    assert "config.json" in caught.value.hint
    assert cli_config.proxies("unix:///s") == {}


@pytest.mark.parametrize("config", ["", "[]", "{", "\x00"])
def test_no_credentials(configure: Configure, config: object) -> None:
    """A configuration that is none has no credentials."""
    configure(config)
    assert pulled("r.example/a").headers == {}
