"""tools/build-panel: with what it calls JupyterLab's package manager."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("YARN_", "NODE_EXTRA")
NPM = """#!/bin/sh
case $3 in
cafile) echo /etc/ours/ca.pem ;;
https-proxy) echo http://proxy:3128 ;;
strict-ssl) echo true ;;
registry) echo http://npm.example:4873/ ;;
*) echo null ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of what the script uses, whose jlpm records its environment in ``env``."""
    clone = tmp_path / "clone"
    panel = clone / "server_extension" / "panel"
    for folder in (panel / "src", panel / "style", clone / "tools", clone / "lab" / "staging"):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "build-panel", clone / "tools")
    for name in ("package.json", "tsconfig.json", "yarn.lock", ".yarnrc.yml", "src/x", "style/x"):
        (panel / name).touch()
    (clone / "lab" / "staging" / "package.json").touch()
    programs = {
        ".venv/bin/python": f"#!/bin/sh\necho {clone}/lab\n",
        ".venv/bin/jlpm": f"#!/bin/sh\nenv >>{clone}/env\n",
        "bin/node": "#!/bin/sh\necho v20.0.0\n",
        "bin/npm": NPM,
    }
    for name, text in programs.items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(text)
        (clone / name).chmod(0o755)
    return clone


def test_it_uses_what_npm_is_configured_to_use(clone: Path) -> None:
    """npm's registry, its certificates and its proxies are jlpm's too, unless jlpm has its own."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
    environ["PATH"] = f"{clone}/bin:{environ['PATH']}"
    environ["YARN_HTTPS_PROXY"] = "http://own:1"
    subprocess.run([clone / "tools" / "build-panel"], env=environ, check=True, capture_output=True)
    lines = dict(line.partition("=")[::2] for line in (clone / "env").read_text().splitlines())
    assert {name: text for name, text in lines.items() if name.startswith(OURS)} == {
        "YARN_NPM_REGISTRY_SERVER": "http://npm.example:4873",
        "YARN_UNSAFE_HTTP_WHITELIST": "npm.example",
        "NODE_EXTRA_CA_CERTS": "/etc/ours/ca.pem",
        "YARN_HTTPS_PROXY": "http://own:1",
        "YARN_ENABLE_STRICT_SSL": "true",
    }
