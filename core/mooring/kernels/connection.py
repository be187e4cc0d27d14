"""A kernel's connection file: where its sockets are, and its keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: The keys of a connection file's ports, in the order of the sockets.
CHANNELS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")


@dataclass(frozen=True)
class Connection:
    """The fields of a kernel's Jupyter connection file.

    Attributes:
        ip: path prefix of the sockets; a socket's path is ``{ip}-{port}``.
        key: the HMAC key that signs every message.
        kernel_name: ``python3``, or a kernelspec of the image.
        curve_public_key, curve_secret_key: Z85 text; empty when the sockets are not encrypted.
    """

    ip: str
    key: bytes = field(repr=False)
    kernel_name: str = "python3"
    curve_public_key: str = ""
    curve_secret_key: str = field(default="", repr=False)

    def info(self) -> dict[str, Any]:
        """Return the fields as jupyter_client's ``KernelConnectionInfo``; the key is bytes."""
        info: dict[str, Any] = {
            "transport": "ipc",
            "ip": self.ip,
            "key": self.key,
            "signature_scheme": "hmac-sha256",
            **{name: number for number, name in enumerate(CHANNELS, start=1)},
        }
        if self.curve_public_key:
            info["curve_publickey"] = self.curve_public_key
            info["curve_secretkey"] = self.curve_secret_key
        return info
