"""A registry on this machine, as slow as a test wants it: for pulls that take their time.

It serves one image over the Docker Registry HTTP API v2. Engines take a registry on 127.0.0.0/8
without TLS.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker import docker

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CHUNK = 65536


class SlowRegistry:
    """Serves one image whose layer comes at a pace.

    Args:
        files: path and contents of what the image has.
        padding_bytes: random bytes beside them, so that the layer takes a while.
    """

    def __init__(self, files: dict[str, bytes], padding_bytes: int) -> None:
        layer = _layer({**files, "padding": os.urandom(padding_bytes)})
        compressed = gzip.compress(layer, 1)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
                "history": [{}],
            }
        ).encode()
        self.blobs = {_digest(compressed): compressed, _digest(config): config}
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": _digest(config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(compressed),
                        "digest": _digest(compressed),
                    }
                ],
            }
        ).encode()
        self.seconds = 0.0  # how long the layer takes
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.image = f"127.0.0.1:{self._server.server_address[1]}/slow:1"

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def _answer(self, *, body: bool) -> None:
                kind, _, name = self.path.strip("/").rpartition("/")
                found, content_type = b"{}", "application/json"
                if kind.endswith("manifests"):
                    found, content_type = registry.manifest, MANIFEST
                elif kind.endswith("blobs"):
                    found = registry.blobs.get(name, b"")
                    content_type = "application/octet-stream"
                self.send_response(200)
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                self.send_header("Docker-Content-Digest", _digest(found))
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                if body:
                    try:
                        self._send(found)
                    except OSError:  # the engine gave up
                        self.close_connection = True

            def _send(self, content: bytes) -> None:
                parts = max(1, len(content) // CHUNK)
                pause = registry.seconds / parts if len(content) > CHUNK else 0
                for start in range(0, len(content), CHUNK):
                    self.wfile.write(content[start : start + CHUNK])
                    if pause and registry.over.wait(pause):
                        raise ConnectionAbortedError

            def log_message(self, *arguments: Any) -> None:
                """Tests say themselves what matters."""

        return Handler


@pytest.fixture
def slow_registry() -> Iterator[SlowRegistry]:
    """A registry with an image that has busybox's shell, and 8 MiB beside it.

    A pull takes half a minute; what came of it is removed from the engine at the end.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        missing = "the image of the slow registry is made of busybox-static, which is not here"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    registry = SlowRegistry({"bin/busybox": Path(busybox).read_bytes()}, 8 << 20)
    registry.seconds = 30
    yield registry
    docker("rmi", "--force", registry.image)
    registry.close()


@pytest.fixture
def slow_image(slow_registry: SlowRegistry) -> str:
    """The image of ``slow_registry``."""
    return slow_registry.image


def _layer(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
    return written.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
