"""A kernel's connection file: where its sockets are, and its keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: The keys of a connection file's ports, in the order of the sockets.
CHANNELS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
_Z85 = (
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # in the order of the digits
    ".-:+=^!/*?&<>()[]{}@%$#"
)
_CURVE_KEY_CHARACTERS = 40


@dataclass(frozen=True)
class Connection:
    """The fields of a kernel's Jupyter connection file.

    Attributes:
        ip: path prefix of the sockets; a socket's path is ``{ip}-{port}``.
        key: the HMAC key that signs every message.
        kernel_name: ``python3``, or a kernelspec of the image.
        curve_public_key, curve_secret_key: Z85 text; empty when the sockets are not encrypted.

    Raises:
        ValueError: only one of the CurveZMQ keys is there, or one is no key.
    """

    ip: str
    key: bytes = field(repr=False)
    kernel_name: str = "python3"
    curve_public_key: str = ""
    curve_secret_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        keys = (self.curve_public_key, self.curve_secret_key)
        if keys != ("", "") and not all(map(_is_curve_key, keys)):
            raise ValueError("no pair of CurveZMQ keys")

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


def _is_curve_key(text: str) -> bool:
    """Return whether a text is 32 bytes in Z85, https://rfc.zeromq.org/spec/32/."""
    if len(text) != _CURVE_KEY_CHARACTERS or not set(text) <= set(_Z85):
        return False
    digits = [_Z85.index(character) for character in text]
    groups = [digits[start : start + 5] for start in range(0, len(digits), 5)]
    return all(sum(d * 85 ** (4 - n) for n, d in enumerate(group)) < 1 << 32 for group in groups)
