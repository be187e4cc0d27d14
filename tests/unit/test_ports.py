"""Ports: how they are written, and what a spec makes of them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from mooring.engines.fake import FakeEngine
from mooring.errors import PortTaken, SpecError
from mooring.ports import canonical, holder, pairs
from mooring.service import Mooring
from mooring.spec.model import SessionSpec
from mooring.spec.resolve import resolve


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (8080, "0:8080"),
        ("8080", "0:8080"),
        (":8080", "0:8080"),
        ("0:8080", "0:8080"),
        ("6006:6006", "6006:6006"),
        ("8080:80/tcp", "8080:80"),
        ("127.0.0.1:6006:80", "6006:80"),
        ("127.0.0.1::80", "0:80"),
    ],
)
def test_a_port_is_written_as_for_docker(given: object, meant: str) -> None:
    """THERE alone is any free port here; an address may be 127.0.0.1."""
    assert canonical(given) == meant
    assert canonical(meant) == meant


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.0.1", "[::]", "[::1]", "localhost", "::"])  # noqa: S104
def test_another_address_is_named(address: str) -> None:
    """The error says which address it was."""
    with pytest.raises(ValueError, match=r"published on 127\.0\.0\.1 alone") as caught:
        canonical(f"{address}:80:80")
    assert address.strip("[]") in str(caught.value)


@pytest.mark.parametrize(
    "given", ["", "x", "80:", "0", 0, -1, 65536, "65536:1", True, None, 1.5, "1-2", "²", "80 80"]
)
def test_what_is_no_port_is_refused(given: object) -> None:
    """Text, ranges, zero and numbers beyond 65535."""
    with pytest.raises(ValueError, match="must be a port"):
        canonical(given)


def test_udp_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="only TCP"):
        canonical("53:53/udp")


def test_a_file_keeps_what_yaml_would_count_to_base_60(tmp_path: Any) -> None:
    """`22:22` without quotes is a port, not 1342."""
    file = tmp_path / "session.yml"
    file.write_text("ports: [22:22, 8080]\n")
    spec = resolve(flags={}, file=file, environ={}, user_config=tmp_path / "none").spec
    assert spec.ports == ("22:22", "0:8080")
    assert pairs(spec.ports) == ((22, 22), (0, 8080))
    assert SessionSpec.from_public_dict(spec.public_dict()) == spec


def test_one_port_twice_is_refused(tmp_path: Any) -> None:
    """Two free ports for one service are fine, one port here for two are not."""
    assert SessionSpec(ports=("80", "80")).ports == ("0:80", "0:80")
    with pytest.raises(SpecError, match="has 80 of this machine twice"):
        resolve(flags={"ports": ["80:80", "80:81"]}, file=None, environ={})


def test_sessions_tell_their_ports(engine: FakeEngine, service: Mooring, declare: Any) -> None:
    """The session has the real numbers while it runs; a clash names the one that holds it."""
    made = service.create(declare(name="a", ports=["7001:80", "81"])).session
    assert made.ports[0] == (7001, 80)
    assert made.ports[1][0] > 0
    with pytest.raises(PortTaken, match=r"port 7001 of .* is taken by session a"):
        service.create(declare(name="b", ports=["7001:80"]))
    service.stop(service.get("a"))
    assert service.get("a").ports == ()


def test_a_listening_program_is_named() -> None:
    """With its number, its name and its user."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert holder(None, listening.getsockname()[1]).startswith("process ")
    assert holder(None, 1) == "somebody else"
