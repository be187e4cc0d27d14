"""Other projects' test suites, run once with a local kernel and once with mooring's."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
DIFFERENCES = HERE / "differences.md"
LOCAL, OURS = "local", "mooring"
TEST_S, SUITE_S = 120, 1200


@dataclass(frozen=True)
class Suite:
    """The tests of a package, as its source distribution has them.

    Attributes:
        package: its name in the index.
        arguments: pytest's, in the root of the source distribution.
        replacing: texts of its test files, and what is written in their place.
    """

    package: str
    arguments: tuple[str, ...] = ("tests",)
    replacing: tuple[tuple[str, str], ...] = ()


SUITES = (
    Suite(
        "papermill",
        (
            "papermill/tests",
            # these start no kernel: stores in a cloud, some of which need an account
            *(f"--ignore=papermill/tests/test_{name}.py" for name in ("abs", "adl", "gcs", "hdfs")),
            "--ignore=papermill/tests/test_s3.py",
            "--ignore=papermill/tests/test_iorw.py",
        ),
    ),
    # the first would start an ipykernel by itself, whatever the kernelspecs say
    Suite("nbval", replacing=(("--nbval-current-env", "--nbval-kernel-name=python3"),)),
    Suite("nbmake"),
    Suite("nbclient"),
    Suite("ipykernel"),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a test.

    Attributes:
        kind: passed, skipped, failed or error.
        message: the first line of what it said.
    """

    kind: str
    message: str = ""


Outcomes = dict[str, Outcome]


@dataclass(frozen=True)
class Difference:
    """A test that comes out otherwise than with a local kernel: the two kinds of its outcomes."""

    test: str
    local: str
    ours: str


def unpack(suite: Suite, archive: Path, folder: Path) -> Path:
    """Unpack a source distribution into a new folder. Returns the folder of its sources."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else (
            tar.extractall(folder)  # noqa: S202 - of the index that the packages come from
        )
    (source,) = folder.iterdir()
    configured = source / "pyproject.toml"
    if not configured.exists() or "pytest.ini_options" not in configured.read_text():
        (source / "pytest.ini").touch()  # lest pytest looks further up, and finds ours
    for old, new in suite.replacing:
        for path in source.glob("tests/**/*.py"):
            path.write_text(path.read_text().replace(old, new))
    return source


def run(
    python: Path,
    source: Path,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    report: Path,
) -> Outcomes:
    """Run a suite, and return what became of each test, by the id that pytest gives it.

    Args:
        python: an interpreter with the suite's requirements.
        source: the folder to run it in.
        arguments: pytest's.
        environ: variables beside this process's own.
        report: a file without a suffix; pytest's reports are written beside it.

    Raises:
        TimeoutError: it took longer than ``SUITE_S``.
        RuntimeError: pytest ended without a report.
    """
    results, log = report.with_suffix(".xml"), report.with_suffix(".log")
    results.unlink(missing_ok=True)
    command = [
        str(python), "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={results}",
        "-o", "junit_family=xunit1", "-o", "asyncio_default_fixture_loop_scope=function",
        f"--timeout={TEST_S}", *arguments,
    ]  # fmt: skip
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, cwd=source, env={**os.environ, **environ}, stdin=subprocess.DEVNULL,
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            process.wait(SUITE_S)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"longer than {SUITE_S} s: see {log}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):  # also what the suite has left
                os.killpg(process.pid, signal.SIGKILL)
    if not results.exists():
        raise RuntimeError(f"pytest ended without a report: see {log}")
    return read_report(results)


def read_report(path: Path) -> Outcomes:
    """Return the outcomes in a JUnit report of pytest's family ``xunit1``."""
    outcomes: Outcomes = {}
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - pytest's own
        found = Outcome("passed")
        for child in case:
            kind = {"failure": "failed"}.get(child.tag, child.tag)
            # one that failed may also have an error, of what an earlier one left
            if kind in ("skipped", "failed", "error") and found.kind != "failed":
                lines = child.get("message", "").splitlines()
                found = Outcome(kind, lines[0] if lines else "")
        outcomes[_test_id(case)] = found
    return outcomes


def _test_id(case: ET.Element) -> str:
    """The id that selects a test: ``tests/test_x.py::TestClass::test_name``."""
    file, name = case.get("file", ""), case.get("name", "")
    module = re.sub(r"\.py$", "", file).replace("/", ".")
    classes = case.get("classname", "").removeprefix(module).strip(".").split(".")
    return "::".join(filter(None, [file, *classes, name]))


def compare(package: str, local: Outcomes, ours: Outcomes) -> list[Difference]:
    """Return the tests of a package that come out differently; one that is not run is absent."""
    absent = Outcome("absent")
    return [
        Difference(f"{package}::{test}", local.get(test, absent).kind, ours.get(test, absent).kind)
        for test in sorted(local.keys() | ours.keys())
        if local.get(test, absent).kind != ours.get(test, absent).kind
    ]


def listed(text: str) -> dict[Difference, str]:
    """Return the expected differences of a page like ``differences.md``, each with its reason.

    Raises:
        ValueError: a line of its table is not understood, or has no reason.
    """
    found: dict[Difference, str] = {}
    for line in text.splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) != 4 or not all(cells):
            raise ValueError(f"not a test, two outcomes and a reason: {line}")
        found[Difference(cells[0].strip("`"), cells[1], cells[2])] = cells[3]
    return found


def faults(found: Sequence[Difference], expected: Mapping[Difference, str]) -> list[str]:
    """Return what is wrong: differences that are not listed, and listed ones that are not there."""
    return [
        *(
            f"not listed: {one.test}: {one.local} with a local kernel, {one.ours} with mooring's"
            for one in found
            if one not in expected
        ),
        *(
            f"listed, and no longer so: {one.test}: {one.local}, then {one.ours}"
            for one in expected
            if one not in found
        ),
    ]
