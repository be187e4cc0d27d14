"""The network of sessions, in which containers reach the world and not each other.

It is one for all users of an engine, because the engine has few address ranges to give, and stays
when its last container goes, because another one may be about to start in it.
"""

from __future__ import annotations

import contextlib
from typing import Any

from mooring.engines.docker import messages
from mooring.engines.docker.client import ApiError, Client
from mooring.errors import EngineError

NAME = "mooring"
LABEL = "mooring.network"
_ISOLATED = {"com.docker.network.bridge.enable_icc": "false"}
# What an administrator configures for the default network holds for this one too
_COPIED = ("com.docker.network.driver.mtu", "com.docker.network.bridge.enable_ip_masquerade")


def ensure(api: Client) -> str:
    """Create the network unless it exists.

    Of several processes that create it at the same time, each ends up with the same one.

    Returns:
        Its name.

    Raises:
        EngineError: it cannot be created, or somebody has made one in which containers reach each
            other.
    """
    networks = _networks(api)
    if not networks:
        made = ""
        try:
            made = _create(api)
        except ApiError as error:
            if error.status != 409:  # 409: another process was faster
                raise _refused(error) from error
        networks = _networks(api)
        if made and networks and networks[0]["Id"] != made:
            with contextlib.suppress(ApiError):
                api.send("DELETE", "networks", made)
    if networks and not _ISOLATED.items() <= (networks[0].get("Options") or {}).items():
        raise EngineError(
            f"containers in the network {NAME} reach each other, so no session starts in it",
            "remove it, and mooring makes its own: docker network rm " + NAME,
        )
    return NAME


def attach(api: Client, container: str) -> None:
    """Connect a container that was started without a network."""
    network = ensure(api)
    body = {"Container": container}
    api.send("POST", "networks", "none", "disconnect", body=body)
    api.send("POST", "networks", network, "connect", body=body)


def is_gone(why: str) -> bool:
    """Whether the engine did not start a container because its network was removed meanwhile."""
    return messages.NETWORK_GONE.search(why) is not None


def reattach(api: Client, container: str) -> None:
    """Connect a stopped container whose network was removed to the one that is there now."""
    network = ensure(api)
    body = {"Container": container}
    with contextlib.suppress(ApiError):
        api.send("POST", "networks", network, "disconnect", body=body | {"Force": True})
    api.send("POST", "networks", network, "connect", body=body)


def _networks(api: Client) -> list[dict[str, Any]]:
    """The networks of that name, the one to use first; old engines allow several."""
    rows = [row for row in _named(api, NAME) if row["Name"] == NAME]
    return sorted(rows, key=lambda row: (row.get("Created", ""), row["Id"]))


def _create(api: Client) -> str:
    defaults = [row.get("Options") or {} for row in _named(api, "bridge")]
    copied = {key: options[key] for options in defaults for key in _COPIED if key in options}
    body = {
        "Name": NAME,
        "Driver": "bridge",
        "Options": copied | _ISOLATED,
        "Labels": {LABEL: "sessions"},
        "CheckDuplicate": True,
    }
    return str(api.post("networks", "create", body=body)["Id"])


def _named(api: Client, name: str) -> list[dict[str, Any]]:
    """The networks whose names contain one."""
    rows: list[dict[str, Any]] = api.get("networks", query={"filters": {"name": [name]}})
    return rows


def _refused(error: ApiError) -> EngineError:
    hint = "see: docker network ls"
    if messages.NO_BRIDGE_FILTER.search(error.why):
        hint = "as root: modprobe br_netfilter"
    elif messages.NO_ADDRESSES.search(error.why):
        hint = "remove networks that no container uses: docker network prune"
    return EngineError(f"creating the network {NAME}: {error.why}", hint)
