"""Run other projects' test suites with a local kernel and with mooring's, and compare.

``make foreign`` does so. The suites come from the packages' source distributions, and find a
kernelspec named ``python3`` as they expect: the environment's own, and then one of mooring's.
It fails if a test comes out differently and ``differences.md`` does not list it, and if a listed
one does not. Everything is in ``build/foreign``: the environment, the sources, pytest's logs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.foreign.suites import (
    DIFFERENCES,
    HERE,
    LOCAL,
    OURS,
    SUITES,
    Difference,
    Outcomes,
    Suite,
    compare,
    faults,
    listed,
    run,
    unpack,
)

ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "foreign"
NAMED = tuple(suite.package for suite in SUITES)
INSTALL_S, ENDED_S = 1200, 30


def environment(folder: Path) -> Path:
    """Make the environment that the suites run in, unless it is there. Returns its Python."""
    python = folder / "bin" / "python"
    files = [ROOT / "constraints.txt", HERE / "requirements.txt", ROOT / "pyproject.toml"]
    content = b"".join(path.read_bytes() for path in files)
    wanted = f"{ROOT} {sys.version} {hashlib.sha256(content).hexdigest()}"
    stamp = folder / ".foreign"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", str(folder)], check=True)
    constraints = ("-c", str(files[0]))
    _pip(python, "install", *constraints, "hatchling")
    _pip(
        python, "install", *constraints, "--no-build-isolation", "-r", str(files[1]),
        "-e", f"{ROOT}[test]",
    )  # fmt: skip
    stamp.write_text(wanted)
    return python


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    subprocess.run([*command, "--quiet"], check=True, timeout=INSTALL_S)


def source_distribution(python: Path, package: str, folder: Path) -> Path:
    """Download the source distribution of the version that an environment has, if necessary."""
    asked = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([str(python), "-c", asked], check=True, capture_output=True, text=True)
    version = done.stdout.strip()
    archive = folder / f"{package}-{version}.tar.gz"
    if not archive.exists():
        _pip(
            python, "download", "--no-deps", "--no-binary", package, "--dest", str(folder),
            f"{package}=={version}",
        )  # fmt: skip
    return archive


@contextlib.contextmanager
def kernelspecs(python: Path, kernel: str) -> Iterator[dict[str, str]]:
    """Have ``python3`` be a local kernel or mooring's. Yields the variables that make it so.

    Afterwards it raises RuntimeError if no session was used where one should have been, or if one
    is left; what is left is removed.
    """
    # its path is short enough for sockets
    folder = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    environ = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "JUPYTER_PATH": str(folder / "share" / "jupyter"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "IPYTHONDIR": str(folder / "ipython"),
        "MOORING_STATE_DIR": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    Path(environ["JUPYTER_PATH"]).mkdir(parents=True)
    try:
        if kernel == OURS:
            _mooring(python, environ, "kernel", "install", "--name", "ours", "--prefix", folder)
            specs = folder / "share" / "jupyter" / "kernels"
            (specs / "ours").rename(specs / "python3")
        yield environ
        if kernel == OURS:
            _check_sessions(python, environ)
    finally:
        if left := _names(python, environ):
            _mooring(python, environ, "rm", "--force", *left)
        shutil.rmtree(folder, ignore_errors=True)


def _check_sessions(python: Path, environ: dict[str, str]) -> None:
    deadline = time.monotonic() + ENDED_S
    while (left := _names(python, environ)) and time.monotonic() < deadline:
        time.sleep(1)
    if left:
        raise RuntimeError(f"sessions are left, whose clients have ended: {', '.join(left)}")
    if not _names(python, environ, "--dead"):
        raise RuntimeError("the suite used no session: it has not found mooring's python3")


def _names(python: Path, environ: dict[str, str], *which: str) -> list[str]:
    """The names of sessions: those that exist, or with ``--dead`` all that have ended."""
    rows = json.loads(_mooring(python, environ, "ps", *which, "--json"))
    return [row["name"] for row in rows if which or row["container"]]


def _mooring(python: Path, environ: dict[str, str], *words: str | Path) -> str:
    done = subprocess.run(
        [str(python), "-m", "mooring_cli", *map(str, words)],
        env={**os.environ, **environ}, cwd=environ["JUPYTER_PATH"], check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"mooring {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def both(
    python: Path, suite: Suite, archive: Path, build: Path, tests: Sequence[str] = ()
) -> tuple[Outcomes, Outcomes]:
    """Run a suite, or some of its tests, with a local kernel and with mooring's."""
    outcomes = {}
    for kernel in (LOCAL, OURS):
        began = time.monotonic()
        # one place for both: there are tests that have it in their names
        source = unpack(suite, archive, build / "sources" / suite.package)
        report = build / kernel / f"{suite.package}{'-again' if tests else ''}"
        report.parent.mkdir(exist_ok=True)
        with kernelspecs(python, kernel) as environ:
            outcomes[kernel] = run(python, source, tests or suite.arguments, environ, report)
        kinds = [outcome.kind for outcome in outcomes[kernel].values()]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        took_s = time.monotonic() - began
        print(f"{suite.package:10} {kernel:8} {counts} ({took_s:.0f} s)", flush=True)
    return outcomes[LOCAL], outcomes[OURS]


def differences(python: Path, suite: Suite, archive: Path, build: Path) -> list[Difference]:
    """Return a suite's differences; a test that differs is run once more with both kernels."""
    local, ours = both(python, suite, archive, build)
    found = compare(suite.package, local, ours)
    again = [one.test.partition("::")[2] for one in found]
    if again:
        messages = {name: ours[name].message for name in again if name in ours}
        local_again, ours_again = both(python, suite, archive, build, again)
        local, ours = local | local_again, ours | ours_again
        found = compare(suite.package, local, ours)
        steady = {one.test.partition("::")[2] for one in found}
        for name in again:
            if name not in steady:
                print(f"  differed once of twice: {name}: {messages.get(name, '')}", flush=True)
    for one in found:
        name = one.test.partition("::")[2]
        message = (ours if one.ours in ("failed", "error") else local).get(name)
        print(
            f"  {name}: {one.local}, {one.ours}: {message.message if message else ''}", flush=True
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suites", nargs="*", choices=[[], *NAMED], help="default: all")
    options = parser.parse_args(arguments)
    names = options.suites or NAMED
    BUILD.mkdir(parents=True, exist_ok=True)
    python = environment(BUILD / "venv")
    expected = listed(DIFFERENCES.read_text())
    wrong = []
    for suite in SUITES:
        if suite.package not in names:
            continue
        of_suite = {k: v for k, v in expected.items() if k.test.startswith(f"{suite.package}::")}
        try:
            archive = source_distribution(python, suite.package, BUILD)
            wrong += faults(differences(python, suite, archive, BUILD), of_suite)
        except (RuntimeError, TimeoutError) as error:
            print(f"  {error}", flush=True)
            wrong.append(f"{suite.package}: {error}")
    for line in wrong:
        print(line)
    listed_here = sum(one.test.partition("::")[0] in names for one in expected)
    print(
        f"foreign: {len(wrong)} faults; {listed_here} differences are listed in {DIFFERENCES.name}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
