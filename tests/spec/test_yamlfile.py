"""Reading a spec file that a stranger may have written."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mooring.errors import MooringError, SpecError
from mooring.spec.model import SessionSpec
from mooring.spec.validation import validate
from mooring.spec.yamlfile import MAX_BYTES, load, scalar


@pytest.fixture(autouse=True)
def _in_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(content: str | bytes, name: str = "session.yml") -> Path:
    path = Path(name)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path) -> SessionSpec:
    document = load(path)
    return validate(document.data, where=document)


def refusal(content: str | bytes) -> SpecError:
    path = write(content)
    with pytest.raises(SpecError) as caught:
        read(path)
    assert "\n" not in caught.value.message + caught.value.hint
    assert "pydantic" not in str(caught.value)
    return caught.value


def test_document() -> None:
    """A document holds the data, the place of every key and item, and the bytes' hash."""
    text = "image: host\ninputs:\n  - a\n  - name: b\n    source: c\nenv: {A: x}\n"
    document = load(write(text))
    assert document.data == {
        "image": "host",
        "inputs": ["a", {"name": "b", "source": "c"}],
        "env": {"A": "x"},
    }
    assert document.positions[("image",)] == (1, 1)
    assert document.positions[("inputs", 0)] == (3, 5)
    assert document.positions[("inputs", 1, "source")] == (5, 5)
    assert document.positions[("env", "A")] == (6, 7)
    assert document.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert document.where(("inputs", 1, "nowhere")) == "session.yml:4:5"
    assert document.where(()) == "session.yml"


def test_values_keep_their_spelling_where_they_are_text() -> None:
    """Under env and command, numbers and truth values stay as written."""
    document = load(write("env: {V: 1.10, M: 0755, D: off, NO: 1:30}\ncommand: [sleep, 010, yes]"))
    spec = validate(document.data, where=document)
    assert spec.env == {"V": "1.10", "M": "0755", "D": "off", "NO": "1:30"}
    assert spec.command == ["sleep", "010", "yes"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("+7", 7), ("-0", 0), ("0o10", 8), ("0x1F", 31), ("1e3", 1000.0),
        ("1.", 1.0), (".5", 0.5), ("-.5e-1", -0.05), (".inf", float("inf")), ("1.50", 1.5),
        ("True", True), ("FALSE", False), ("null", None), ("", None), ("NULL", None),
        *((text, text) for text in (
            "yes", "No", "on", "OFF", "y", "tRUE", "nULL", "1_000", "0b11", "1:30", "190:20:30",
            "2024-01-01", "0o8", "0x", "08x", "1e", "+", ".", "inf", "=", "1 0", "+0o7",
        )),
    ],
)  # fmt: skip
@pytest.mark.parametrize("c", [True, False])
def test_the_core_schema(monkeypatch: Any, text: str, value: object, c: bool) -> None:
    """What is a number, a truth value or nothing is so by YAML 1.2, section 10.3.2."""
    if not c:
        monkeypatch.delattr("yaml.CSafeLoader", raising=False)
    found = load(write(f"a: {text}\nb: '{text}'\nc: !!str {text}\n")).data
    assert (found["a"], type(found["a"])) == (value, type(value))
    assert (found["b"], found["c"]) == (text, text)
    assert repr(scalar(text)) == repr(value)


def test_a_number_is_decimal() -> None:
    """A zero in front makes no octal number."""
    document = load(write("cpus: 010"))
    assert validate(document.data, where=document).cpus == 10


def test_off_means_never() -> None:
    """`off` without quotes is never."""
    document = load(write("idle_timeout: off\nmax_duration: never"))
    spec = validate(document.data, where=document)
    assert (spec.idle_timeout, spec.max_duration) == (0.0, 0.0)


def test_byte_order_mark_and_comments() -> None:
    """A file as Windows editors save it is read."""
    assert load(write(b"\xef\xbb\xbf# mine\r\nimage: host\r\n")).data == {"image": "host"}


def test_aliases() -> None:
    """A small alias is YAML as people use it."""
    document = load(write("inputs: &mine [a]\noutputs: *mine"))
    assert document.data["outputs"] == ["a"]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "session.yml: empty"),
        ("# nothing\n", "session.yml: empty"),
        ("null", "session.yml:1:1: not a mapping"),
        ("- a", "session.yml:1:1: not a mapping"),
        ("image: host\n\0", "session.yml:2:1: a NUL byte is not allowed"),
        ("image: h\x1bst", "session.yml:1:9: the character '\\x1b' is not allowed"),
        (b"image: h\xffst", "session.yml:1:9: not UTF-8 text"),
        ("image: a".encode("utf-16"), "session.yml:1:1: not UTF-8 text"),
        ("image: a\nhome: true\nimage: b", "session.yml:3:1: duplicate key image"),
        ("env: {A: 1, A: 2}", "session.yml:1:13: duplicate key A"),
        ("image: a\n---\nimage: b", "session.yml:2:1: a second document"),
        ("env:\n  <<: {A: 1}", "session.yml:2:3: merge keys"),
        ("image: !!python/object/apply:os.system [id]", "session.yml:1:8: the tag"),
        ("image: !mine host", "session.yml:1:8: the tag !mine"),
        ("image: !!binary aGk=", "session.yml:1:8: the tag"),
        ("env: !!set {A}", "session.yml:1:6: the tag"),
        ("image: ! host", "session.yml:1:8: the tag !"),
        ("gpus: !!int many", "session.yml:1:7: not a number"),
        ("? [a]\n: b", "session.yml:1:3: a list or a mapping as a key"),
        ("image: *gone", "session.yml:1:8: found undefined alias"),
        ("image: [a", "session.yml:"),
        ("image: a: b", "session.yml:1:9: "),
        ("\timage: a", "session.yml:1:1: "),
        ("{a: &a [*a]}", "session.yml:1:5: nested deeper than 64"),
        ("{a: &a [*a, *a]}", "session.yml:1:5: nested deeper than 64"),
        ("a: " + "[" * 100_000, "session.yml:1:67: nested deeper than 64"),
        ("a: " + "{a: " * 50_000, "session.yml:1:"),
        ("a: [" + "x," * 20_000 + "]", "session.yml:1:"),
        (BOMB, "session.yml:1:"),
        (b"#" * (MAX_BYTES + 1), "session.yml: larger than 256 KiB"),
    ],
    ids=range(30),
)
def test_refused(content: str | bytes, message: str) -> None:
    """What is not one plain, small mapping is refused in one line that says where."""
    error = refusal(content)
    assert error.message.startswith(message)
    assert error.hint


def test_bombs_say_what_they_are() -> None:
    """An alias bomb is refused by the number of values that it would grow to."""
    assert "more than 10000 values" in refusal(BOMB).message


def test_largest_file() -> None:
    """A file of exactly the limit is read."""
    content = b"image: host\n#"
    assert load(write(content + b"x" * (MAX_BYTES - len(content)))).data == {"image": "host"}


def test_not_files(tmp_path: Path) -> None:
    """Folders, FIFOs, devices and what is missing are refused at once, without waiting."""
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")
    for path in ("fifo", ".", os.devnull, "missing.yml", "loop", "a\0b", "x" * 5000, ""):
        with pytest.raises(SpecError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert "\0" not in str(caught.value)
    with pytest.raises(SpecError, match=r"^missing\.yml: No such file"):
        load("missing.yml")


def test_swapped_for_a_fifo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that becomes a FIFO between the check and the opening is refused, not waited on."""
    write("image: host", "real.yml")
    os.mkfifo("fifo")
    regular = os.stat("real.yml")
    assert stat.S_ISREG(regular.st_mode)
    monkeypatch.setattr("mooring.spec.yamlfile.os.stat", lambda _path: regular)
    with pytest.raises(SpecError, match="not a regular file"):
        load("fifo")


def test_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be opened is one line, also for a caller who is not root."""

    def refuse(*_arguments: Any) -> int:
        raise PermissionError(13, "Permission denied")

    write("image: host")
    monkeypatch.setattr("mooring.spec.yamlfile.os.open", refuse)
    with pytest.raises(SpecError, match=r"^session\.yml: Permission denied"):
        load("session.yml")


def test_odd_file_names() -> None:
    """A file's name never breaks the line of an error."""
    with pytest.raises(SpecError) as caught:
        load(write("", "a\n\x1b[31mb.yml"))
    assert caught.value.message == "a\\n\\x1b[31mb.yml: empty"


def test_azure_ml_job() -> None:
    """An Azure ML job file is read as it stands."""
    text = (
        "name: my-interactive-job\ncommand: bash\ntarget: my-cluster\nenvironment: azureml/dask\n"
        "inputs:\n  - mydata\n  - otherdata\noutputs:\n  - writedata\n"
        'distribution:\n  type: dask\n  nodes: 10\n  scheduler_class: "dask.Scheduler"\n'
    )
    document = load(write(text))
    spec = validate(document.data, where=document)
    assert spec.image == "azureml/dask"
    assert [mount.name for mount in spec.inputs] == ["mydata", "otherdata"]
    assert spec.distribution is not None
    assert spec.distribution["nodes"] == 10


@pytest.mark.parametrize(
    ("text", "value"),
    [("30m", "30m"), ("5", 5), ("0.5", 0.5), ("off", "off"), ("true", True), ("~", None),
     ("1:30", "1:30"), ("2024-01-01", "2024-01-01"), ("a: b", "a: b"), ("!!int x", "!!int x")],
)  # fmt: skip
def test_scalar(text: str, value: object) -> None:
    """One value is read as YAML reads it without quotes, and never as more than a value."""
    assert scalar(text) == value


def test_pure_python_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML was built without libyaml, the same is read and the same is refused."""
    monkeypatch.delattr("yaml.CSafeLoader", raising=False)
    assert load(write("env: {A: 1}")).data == {"env": {"A": "1"}}
    assert "more than 10000 values" in refusal(BOMB).message
    assert "nested deeper" in refusal("a: " + "[" * 1000).message
    assert refusal('name: "\\uD800"').message.startswith("session.yml:1:1: name must be")


def judge(content: bytes) -> None:
    refused = ""
    try:
        read(write(content))
    except MooringError as error:
        refused = str(error)
    assert refused.isprintable()  # so it is one line


FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    """Any bytes are a spec or an explained refusal."""
    judge(content)


KEYS = sorted(SessionSpec.model_fields)
PIECES = [*KEYS, ": ", "\n", "- ", "  ", "{", "}", "[", "]", ",", "&a ", "*a", "!!", "!!str ", "|",
          ">", '"', "'", "<<", "? ", "%", "---\n", "...", "1", "0x", "1:30", "off", "~", ".nan",
          ".inf", "2024-02-30", "a", "é", "\t", "#", "@", "`", "9" * 5000]  # fmt: skip


@FUZZ
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_yaml(pieces: list[str]) -> None:
    """Anything made of YAML's pieces is a spec or an explained refusal."""
    judge("".join(pieces).encode())


@FUZZ
@given(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(PIECES), max_size=4))
def test_any_scalar_under_any_key(data: dict[str, str]) -> None:
    """Any scalar under any key is a spec or an explained refusal."""
    judge("".join(f"{key}: {value}\n" for key, value in data.items()).encode())
