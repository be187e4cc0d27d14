"""`make foreign`, on a suite of two tests: it finds what differs, and nothing else."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest

from tests.foreign import __main__ as foreign
from tests.foreign.suites import (
    DIFFERENCES,
    SUITES,
    Difference,
    Outcome,
    Suite,
    compare,
    faults,
    listed,
    read_report,
    unpack,
)

TESTS = """
import socket
import pytest
from jupyter_client.manager import start_new_kernel

@pytest.fixture(scope="module")
def name():
    manager, client = start_new_kernel()
    told = []
    code = "import socket; print(socket.gethostname())"
    client.execute_interactive(code, output_hook=told.append)
    client.stop_channels()
    manager.shutdown_kernel()
    return "".join(one["content"].get("text", "") for one in told).strip()

class TestName:
    @pytest.mark.parametrize("what", ["a.b"])
    def test_there_is_one(self, name, what):
        assert name

def test_it_is_the_machines(name):
    assert name == socket.gethostname()
"""
DIFFERS = "small::tests/test_small.py::test_it_is_the_machines"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A source distribution with the suite."""
    tests = tmp_path / "small-1" / "tests"
    tests.mkdir(parents=True)
    (tests / "test_small.py").write_text(TESTS)
    path = tmp_path / "small-1.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "small-1", "small-1")
    return path


@pytest.mark.engine
@pytest.mark.slow
def test_a_difference_is_found_twice_and_told(
    real_engine: object, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same suite runs with either kernel; what differs is run once more, and told with why."""
    suite = Suite("small")
    found = foreign.differences(Path(sys.executable), suite, archive, tmp_path / "build")
    assert found == [Difference(DIFFERS, "passed", "failed")]
    printed = capsys.readouterr().out
    assert "small      local    2 passed" in printed
    assert "small      mooring  1 failed, 1 passed" in printed
    assert printed.count("small      mooring  1 failed") == 2
    assert "AssertionError: assert 'kernel-" in printed


@pytest.mark.engine
def test_a_suite_that_uses_no_session_is_a_fault(
    real_engine: object, state: Path, archive: Path, tmp_path: Path
) -> None:
    """A suite that did not find mooring's kernelspec has compared a local kernel with itself."""
    with (
        pytest.raises(RuntimeError, match="used no session"),
        foreign.kernelspecs(Path(sys.executable), "mooring"),
    ):
        pass


def test_a_test_has_the_id_that_selects_it(tmp_path: Path) -> None:
    """The report gives each test's id, classes and parameters included, and the worst of its
    outcomes."""
    report = tmp_path / "report.xml"
    case = '<testcase file="tests/test_a.py" classname="tests.test_a{}" name="test_x[b.c]">{}'
    rows = [
        ("", ""),
        (".TestB", '<failure message="first&#10;second"/><error message="left"/>'),
        (".TestB.TestC", '<skipped message="no tool"/>'),
    ]
    body = "".join(case.format(*row) + "</testcase>" for row in rows)
    report.write_text(f"<testsuites><testsuite>{body}</testsuite></testsuites>")
    assert read_report(report) == {
        "tests/test_a.py::test_x[b.c]": Outcome("passed"),
        "tests/test_a.py::TestB::test_x[b.c]": Outcome("failed", "first"),
        "tests/test_a.py::TestB::TestC::test_x[b.c]": Outcome("skipped", "no tool"),
    }


def test_only_listed_differences_pass() -> None:
    """A difference that is not listed is a fault, and so is a listed one that is not there."""
    same = {"a": Outcome("passed"), "b": Outcome("failed", "one"), "only": Outcome("passed")}
    ours = {"a": Outcome("failed"), "b": Outcome("failed", "another")}
    found = compare("p", same, ours)
    assert found == [
        Difference("p::a", "passed", "failed"),
        Difference("p::only", "passed", "absent"),
    ]
    expected = dict.fromkeys(found, "why")
    assert faults(found, expected) == []
    assert len(faults(found, {})) == 2
    (fault,) = faults(found[:1], expected)
    assert "p::only" in fault


def test_the_list_is_understood() -> None:
    """Each listed difference is of one of the suites, and has its reason; none is listed twice."""
    text = DIFFERENCES.read_text()
    expected = listed(text)
    assert len(expected) == text.count("\n| `")
    assert {one.test.partition("::")[0] for one in expected} <= {one.package for one in SUITES}
    with pytest.raises(ValueError, match="reason"):
        listed("| `p::a` | passed | failed |  |")


def test_a_suite_without_settings_has_not_ours(archive: Path, tmp_path: Path) -> None:
    """pytest looks for its settings in the folders above, and must not find mooring's."""
    replaced = Suite("small", replacing=(("gethostname", "getfqdn"),))
    source = unpack(replaced, archive, tmp_path / "unpacked")
    assert (source / "pytest.ini").exists()
    assert "getfqdn" in (source / "tests" / "test_small.py").read_text()
