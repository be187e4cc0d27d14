"""What a client gives the launcher: the kernelspec's folder, a connection file, an environment."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import KernelError, NotSupported
from mooring_provisioner.relay import listen

if TYPE_CHECKING:
    from mooring_provisioner.opening import Wanted

USAGE = "a Jupyter client runs this: mooring-kernel KERNELSPEC-FOLDER CONNECTION-FILE"
# Of the client's environment; what the kernelspec itself sets comes beside
KERNEL_ENV = ("PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING",)
# Where Jupyter's own server says which notebook a kernel is for, and other clients may
NOTEBOOK = "JPY_SESSION_NAME"


@dataclass(frozen=True)
class Ports:
    """What a client's connection file says: five ports of this machine, and the key."""

    ip: str
    numbers: tuple[int, ...]
    key: bytes = field(repr=False)

    @classmethod
    def read(cls, file: str) -> Ports:
        """
        Raises:
            KernelError: it is no connection file, or one that cannot be served.
        """
        from mooring.kernels.kernel import CHANNELS

        try:
            said = json.loads(Path(file).read_bytes())
            numbers = tuple(int(said[name]) for name in CHANNELS)
            if not all(0 < number < 1 << 16 for number in numbers):
                raise ValueError(f"no such ports: {numbers}")
            ip, transport = str(said["ip"]), said.get("transport", "tcp")
            scheme, key = said.get("signature_scheme", "hmac-sha256"), str(said["key"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise KernelError(f"{file} is not a connection file ({what})", USAGE) from error
        if transport != "tcp" or ip not in ("127.0.0.1", "localhost"):
            raise NotSupported(
                f"the client wants its kernel at {transport}://{ip}",
                "a kernel of mooring's listens on 127.0.0.1 alone",
            )
        if scheme != "hmac-sha256" or not key or said.get("curve_publickey"):
            raise NotSupported(
                "the client's connection file wants messages without a key, or encrypted",
                "connect the client to a Jupyter server, and pick the kernel there",
            )
        return cls("127.0.0.1", numbers, key.encode())

    @contextlib.contextmanager
    def held(self) -> Iterator[list[socket.socket]]:
        """All five, bound and listening.

        Raises:
            KernelError: one is taken.
        """
        with contextlib.ExitStack() as stack:
            ports = []
            for number in self.numbers:
                try:
                    ports.append(stack.enter_context(listen(self.ip, number)))
                except OSError as error:
                    raise KernelError(f"cannot listen on port {number}: {error}") from error
            yield ports


def read_kernelspec(folder: str) -> tuple[Wanted, dict[str, str]]:
    """What a kernelspec of mooring's asks for, and the environment it gives its kernels.

    Raises:
        KernelError: there is none, or it is another program's.
    """
    from mooring.kernels.kernelspecs import PROVISIONER
    from mooring_provisioner.opening import Wanted

    try:
        content = json.loads((Path(folder) / "kernel.json").read_text())
        provisioner = content["metadata"]["kernel_provisioner"]
        if provisioner["provisioner_name"] != PROVISIONER:
            raise ValueError("its provisioner is another one")
        config = provisioner.get("config", {})
        wanted = Wanted(
            str(config.get("spec") or ""),
            dict(config.get("flags") or {}),
            str(config.get("session") or ""),
            str(config.get("profile") or ""),
        )
        env = {
            str(name): os.environ.get(name, value) for name, value in content.get("env", {}).items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise KernelError(
            f"{folder} is not a kernelspec of mooring's ({what})",
            "install it again: mooring kernel install; mooring kernel list tells what there is",
        ) from error
    return wanted, env | {name: os.environ[name] for name in KERNEL_ENV if name in os.environ}


def notebook_of(client: int) -> str:
    """The notebook that the kernel is for, where the client says so; empty where it does not.

    Args:
        client: its process id. A name that it has itself, from whatever started it, is no answer:
            all of its kernels would have the same.
    """
    name = os.environ.get(NOTEBOOK, "")
    try:
        clients_own = Path(f"/proc/{client}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return "" if os.fsencode(f"{NOTEBOOK}={name}") in clients_own else name
