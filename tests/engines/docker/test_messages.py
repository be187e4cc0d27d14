"""What engines of different versions say, and what is understood of it."""

from __future__ import annotations

import inspect
import re

import pytest

from mooring.engines.docker import messages
from mooring.engines.docker.client import ApiError
from mooring.engines.docker.errors import mapped
from mooring.errors import EngineError, PortTaken

_ENDPOINT = "driver failed programming external connectivity on endpoint mooring-a (0a1b2c): "
_PROXY, _BIND = "Error starting userland proxy: ", "failed to bind host port "
_NETWORKING = "failed to set up container networking: " + _ENDPOINT
_POOL = "could not find an available, non-overlapping IPv4 address pool among the defaults to "
_DRIVER = 'could not select device driver "" with capabilities: [[gpu]]'

#: By pattern: the engine, its message, and the pattern's first group.
KNOWN = {
    "PORT_TAKEN": [
        ("20.10", _ENDPOINT + "Bind for 127.0.0.1:80 failed: port is already allocated", "80"),
        (
            "20.10",
            _ENDPOINT + _PROXY + "listen tcp4 127.0.0.1:80: bind: address already in use",
            "80",
        ),
        ("26.1", _ENDPOINT + "Bind for 127.0.0.1:80 failed: port is already allocated", "80"),
        ("28.5", _NETWORKING + "Bind for 127.0.0.1:80 failed: port is already allocated", "80"),
        (
            "28.5",
            _NETWORKING + _BIND + "for 127.0.0.1:80:172.17.0.2:8000/tcp: address already in use",
            "80",
        ),
        (
            "28.5",
            _NETWORKING + "failed to bind host port 127.0.0.1:80/tcp: address already in use",
            "80",
        ),
        (
            "28.5",
            _NETWORKING + "failed to bind host port [::1]:80/tcp: address already in use",
            "80",
        ),
        (
            "Podman 4.3",
            "rootlessport listen tcp 127.0.0.1:80: bind: address already in use",
            "80",
        ),
        (
            "Podman 4.3",
            "cannot listen on the TCP port: listen tcp4 127.0.0.1:80: bind: address already in use",
            "80",
        ),
    ],
    "TOO_MANY_CPUS": [
        ("20.10", "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "2.00"),
        ("26.1", "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "2.00"),
        ("28.5", "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "2.00"),
    ],
    "UNREADABLE": [
        ("20.10", 'invalid mount config for type "bind": stat /a b: permission denied', "/a b"),
        ("Podman 4.3", "statfs /a b: permission denied", "/a b"),
    ],
    "ABSENT": [
        (
            "20.10",
            'invalid mount config for type "bind": bind source path does not exist: /a',
            "/a",
        ),
        ("28.5", 'invalid mount config for type "bind": bind source path does not exist: /a', "/a"),
        ("Podman 4.3", "statfs /a: no such file or directory", None),
    ],
    "NO_GPU_DRIVER": [("20.10", _DRIVER, ""), ("28.5", _DRIVER, "")],
    "NO_IMAGE": [
        ("20.10", "No such image: a:1", ""),
        ("28.5", "No such image: a:1", ""),
        ("Podman 4.3", "No such image: a:1", ""),
        ("Podman 4.3", "a:1: no such image", ""),
    ],
    "IMAGE": [("20.10", "No such image: a:1", ""), ("Podman 4.3", "a:1: image not known", "")],
    "REMOVAL_GOES_ON": [("20.10", "removal of container 0a1b is already in progress", "")],
    "NETWORK_GONE": [
        ("20.10", "network 0a1b not found", ""),
        ("20.10", "network mooring is ambiguous (2 matches found on name)", ""),
        ("28.5", "failed to set up container networking: network 0a1b not found", ""),
    ],
    "NO_ADDRESSES": [
        ("20.10", _POOL + "assign to the network", ""),
        ("28.5", "all predefined address pools have been fully subnetted", ""),
    ],
    "NO_BRIDGE_FILTER": [
        ("28.5", "cannot restrict inter-container communication: br_netfilter", "")
    ],
    "EXITED": [("20.10", "Exited (137) 2 hours ago", "137"), ("Podman 4.3", "Exited (0) ago", "0")],
}
CASES = [
    pytest.param(name, message, group, id=f"{name}-{engine}-{number}")
    for name, rows in KNOWN.items()
    for number, (engine, message, group) in enumerate(rows)
]


def test_each_pattern_has_a_message() -> None:
    """What no known message is found with would be dead."""
    patterns = inspect.getmembers(messages, lambda one: isinstance(one, re.Pattern))
    assert {name for name, _ in patterns} == set(KNOWN)


@pytest.mark.parametrize(("name", "message", "group"), CASES)
@pytest.mark.parametrize("written", [str, str.lower, str.upper])
def test_known_messages_in_any_case(
    name: str, message: str, group: str | None, written: type[str]
) -> None:
    """The next version may write the same words in another case."""
    found = getattr(messages, name).search(written(message))
    assert found is not None
    if found.groups():
        assert found.group(1) == (None if group is None else written(group))


@pytest.mark.parametrize(
    "message",
    [
        "listen tcp4 127.0.0.1:80: bind: permission denied",
        "dial tcp 127.0.0.1:80: connect: connection refused",
    ],
)
def test_other_trouble_with_a_port(message: str) -> None:
    """Only a port that is in use is told as taken."""
    assert messages.PORT_TAKEN.search(message) is None


@pytest.mark.parametrize(
    ("why", "error", "message", "hint"),
    [
        (KNOWN["PORT_TAKEN"][4][1], PortTaken, "port 80 of this machine is taken", ""),
        (
            KNOWN["TOO_MANY_CPUS"][2][1],
            EngineError,
            "the engine's machine has only 2 CPUs",
            "request at most 2",
        ),
        (_DRIVER, EngineError, "creating a container: " + _DRIVER, "NVIDIA Container Toolkit"),
    ],
)
def test_what_users_are_told(why: str, error: type[EngineError], message: str, hint: str) -> None:
    """The cause in mooring's words, with what to do about it."""
    with pytest.raises(error) as caught, mapped("creating a container", "unix:///s", 1.0):
        raise ApiError(500, why)
    assert caught.value.message == message
    assert hint in caught.value.hint
