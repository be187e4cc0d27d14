"""JupyterLab with a session in its panel: a copy of the demonstration to play with.

`make lab` runs this. It works in a folder of its own, so that nothing in the clone changes, and
takes the session away when JupyterLab ends. Arguments are JupyterLab's: `ARGS=--no-browser`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from mooring import install_kernelspec, kernelspec_document

HERE = Path(__file__).resolve().parent
NAME = "lab"


def main() -> int:
    bin_dir = Path(sys.executable).parent
    work = HERE.parents[1] / "build" / "lab"
    os.environ["PATH"] = f"{bin_dir}:{os.environ.get('PATH', os.defpath)}"
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    lay_out(work)
    remove()
    create = ["mooring", "create", "-f", "session.yml", "--kernel", "python3", "--detach"]
    created = subprocess.run([*create, "--name", NAME], cwd=work)
    if created.returncode:
        return created.returncode
    try:
        return run_lab(work)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        remove()
        print(f"Session {NAME} is removed. What you wrote is in {os.path.relpath(work)}.")


def lay_out(work: Path) -> None:
    """A folder with the spec, its data, and the notebook on a kernel in the session."""
    (work / "results").mkdir(parents=True, exist_ok=True)
    shutil.copytree(HERE / "data", work / "data", dirs_exist_ok=True)
    shutil.copy(HERE / "session.yml", work)
    notebook = work / "analysis.ipynb"
    if not notebook.exists():
        content = json.loads((HERE / "analysis.ipynb").read_text())
        content["metadata"]["kernelspec"] = {"name": NAME, "display_name": f"session {NAME}"}
        notebook.write_text(json.dumps(content, indent=1) + "\n")
    os.environ["JUPYTER_PATH"] = str(work / ".jupyter" / "share" / "jupyter")
    install_kernelspec(
        NAME,
        kernelspec_document(
            display_name=f"session {NAME}",
            kernel="python3",
            config={"spec": str(work / "session.yml"), "session": NAME},
        ),
        prefix=str(work / ".jupyter"),
        user=False,
    )


def run_lab(work: Path) -> int:
    screen = sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    argv = [
        *("jupyter", "lab", f"--ServerApp.root_dir={work}"),
        "--LabApp.default_url=/lab/tree/analysis.ipynb",
        *(["--allow-root"] if os.geteuid() == 0 else []),
        *([] if screen else ["--no-browser"]),  # a text browser would take the terminal
        *sys.argv[1:],
    ]
    print("The anchor in JupyterLab's left sidebar shows the session. Ctrl-C ends all of it.")
    sys.stdout.flush()
    with subprocess.Popen(argv) as lab:
        try:
            return lab.wait()
        except BaseException:
            lab.terminate()  # a Ctrl-C on its terminal it would ask about
            lab.wait()
            raise


def remove() -> None:
    subprocess.run(["mooring", "rm", "-f", NAME], capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
