"""Records docs/terminal.svg: real commands on a real engine, in a terminal of 80 columns.

python docs/picture.py
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "terminal.svg"
WIDTH = 80
COMMANDS = (
    "cat session.yml",
    "mooring kernel install -f session.yml --session demo",
    "jupyter execute analysis.ipynb --kernel_name=demo",
    "mooring ps",
    "mooring exec demo -- head /tmp/best-run",
    "mooring stop demo",
    "mooring start demo",
)
THEME = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34),
     (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)],
)  # fmt: skip


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mp-", dir="/var/tmp") as folder:
        home = Path(folder)
        project = home / "training"
        shutil.copytree(
            ROOT / "examples" / "demo", project, ignore=shutil.ignore_patterns("results", "*.py")
        )
        spec = (project / "session.yml").read_text()
        (project / "session.yml").write_text(spec.partition("\n")[2])  # without the editors' line
        environment = {
            **os.environ,
            "HOME": folder,
            "MOORING_STATE_DIR": f"{folder}/state",
            "JUPYTER_DATA_DIR": f"{folder}/.local/share/jupyter",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TERM": "xterm-256color",
        }
        console = Console(
            record=True,
            width=WIDTH,
            force_terminal=True,
            file=open(os.devnull, "w"),  # noqa: SIM115
        )
        try:
            for command in COMMANDS:
                console.print(f"[bold green]$[/] [bold]{command}[/]", highlight=False)
                said = recorded(command, project, environment)
                if said.strip():
                    console.print(Text.from_ansi(said.replace(folder, "~").rstrip()))
        finally:
            subprocess.run(
                ["mooring", "rm", "-f", "*"], env=environment, check=False,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
    svg = console.export_svg(title="mooring", theme=THEME)
    # the reader's own monospaced font: a picture fetches nothing
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: Fira Code", "font-family: Menlo, Consolas")
    svg = re.sub(r"terminal-\d+", "terminal", svg)
    PICTURE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")
    print(PICTURE.relative_to(ROOT))
    return 0


def recorded(command: str, folder: Path, environment: dict[str, str]) -> str:
    """What a command writes to a terminal. Jupyter's log lines are left out."""
    parent, child = pty.openpty()
    ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    with subprocess.Popen(
        ["/bin/sh", "-c", command], cwd=folder, env=environment,
        stdin=child, stdout=child, stderr=child, start_new_session=True,
    ) as running:  # fmt: skip
        os.close(child)
        said = b""
        while True:
            try:
                said += os.read(parent, 65536)
            except OSError:  # the last one has closed it
                break
    os.close(parent)
    if running.returncode:
        raise SystemExit(f"{command} exited with {running.returncode}:\n{said.decode()}")
    lines = said.decode().replace("\r\n", "\n").splitlines()
    return "\n".join(line for line in lines if not line.startswith("[NbClientApp]"))


if __name__ == "__main__":
    sys.exit(main())
