"""The launcher's arguments: a kernelspec's folder, a connection file and the environment."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mooring import KernelError, NotSupported
from mooring_provisioner.relay import listen

if TYPE_CHECKING:
    from mooring_provisioner.session import KernelspecConfig

USAGE = "usage, by Jupyter clients: mooring-kernel KERNELSPEC-FOLDER CONNECTION-FILE [ARG…]"
# Variables of the client's environment that kernels get, beside those of the kernelspec
KERNEL_ENV = ("PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING",)
# Jupyter Server sets this to the notebook that a kernel is for; other clients may
NOTEBOOK = "JPY_SESSION_NAME"


@dataclass(frozen=True)
class Ports:
    """The contents of a client's connection file: five ports on the host, and the key."""

    ip: str
    numbers: tuple[int, ...]
    key: bytes = field(repr=False)

    @classmethod
    def read(cls, file: str) -> Ports:
        """Read a connection file.

        Args:
            file: its path.

        Raises:
            KernelError: it is not a connection file.
            NotSupported: it specifies another address, transport or signature scheme, no key, or
                encryption.
        """
        from mooring import CHANNELS

        try:
            content = json.loads(Path(file).read_bytes())
            numbers = tuple(int(content[name]) for name in CHANNELS)
            if not all(0 < number < 1 << 16 for number in numbers):
                raise ValueError(f"invalid ports: {numbers}")
            ip, transport = str(content["ip"]), content.get("transport", "tcp")
            scheme, key = content.get("signature_scheme", "hmac-sha256"), str(content["key"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise KernelError(f"{file} is not a connection file ({what})", USAGE) from error
        if transport != "tcp" or ip not in ("127.0.0.1", "localhost"):
            raise NotSupported(
                f"the client requests a kernel at {transport}://{ip}",
                "set the client's transport to tcp and its ip to 127.0.0.1",
            )
        if scheme != "hmac-sha256" or not key or content.get("curve_publickey"):
            raise NotSupported(
                "the client's connection file requests messages that are unsigned or encrypted",
                "connect the client to a Jupyter server, and select the kernel there",
            )
        return cls("127.0.0.1", numbers, key.encode())

    @contextlib.contextmanager
    def bound(self) -> Iterator[list[socket.socket]]:
        """Listen on the five ports; yield the sockets and close them at the end of the block.

        Raises:
            KernelError: a port is in use.
        """
        with contextlib.ExitStack() as stack:
            sockets = []
            for number in self.numbers:
                try:
                    sockets.append(stack.enter_context(listen(self.ip, number)))
                except OSError as error:
                    raise KernelError(f"cannot listen on port {number}: {error}") from error
            yield sockets


def read_kernelspec(folder: str) -> tuple[KernelspecConfig, dict[str, str]]:
    """Read the provisioner's configuration and the kernels' environment from a kernelspec.

    Args:
        folder: the kernelspec's folder.

    Returns:
        The configuration, and the environment variables of its kernels.

    Raises:
        KernelError: there is no kernelspec, or it is not a mooring kernelspec.
    """
    from mooring import PROVISIONER
    from mooring_provisioner.session import KernelspecConfig

    try:
        content = json.loads((Path(folder) / "kernel.json").read_text())
        provisioner = content["metadata"]["kernel_provisioner"]
        if provisioner["provisioner_name"] != PROVISIONER:
            raise ValueError("it has another provisioner")
        values = provisioner.get("config", {})
        config = KernelspecConfig(
            str(values.get("spec") or ""),
            dict(values.get("flags") or {}),
            str(values.get("session") or ""),
            str(values.get("profile") or ""),
        )
        env = {str(name): _value(name, str(text)) for name, text in content.get("env", {}).items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise KernelError(
            f"{folder} is not a mooring kernelspec ({what})",
            "install it again: mooring kernel install; to list kernelspecs: mooring kernel list",
        ) from error
    return config, env | {name: os.environ[name] for name in KERNEL_ENV if name in os.environ}


def _value(name: str, text: str) -> str:
    """The client's value of a kernelspec's variable; other variables in it are the kernel's own."""
    return text if "$" in text else os.environ.get(name, text)


def notebook_of(client: int) -> str:
    """Return the notebook that the kernel is for, or an empty string if the client does not set it.

    Args:
        client: the client's process id. A value that is also in the client's own environment is
            ignored: the client inherited it, and all of the client's kernels would share it.
    """
    name = os.environ.get(NOTEBOOK, "")
    try:
        client_env = Path(f"/proc/{client}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return "" if os.fsencode(f"{NOTEBOOK}={name}") in client_env else name
