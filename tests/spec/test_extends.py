"""What a file builds on: other files and profiles, by the rules that hold between sources."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mooring.client import Mooring
from mooring.errors import SpecError, TrustRequired
from mooring.spec.extends import MAX_DEPTH, MAX_FILES
from mooring.spec.resolve import ResolvedSpec, resolve


def write(files: dict[str, str]) -> None:
    """Files below the current folder, with their folders."""
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def go(main: str | None = "session.yml", /, **files: str) -> ResolvedSpec:
    write({name.replace("__", "/") + ".yml": text for name, text in files.items()})
    return resolve(
        flags={},
        file=Path(main) if main else None,
        environ={},
        user_config=Path("../user/config.yml"),
    )


def refusal(main: str = "session.yml", /, **files: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        go(main, **files)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture(autouse=True)
def _here(project: Path) -> None:
    """In an empty folder."""


def profile(name: str, text: str) -> None:
    write({f"../user/profiles/{name}.yml": text})


# merging


def test_a_file_wins_over_what_it_extends() -> None:
    """The file's values replace its base's, and each value tells the file and the line it is of."""
    resolved = go(base="image: theirs\ncpus: 2\n", session="cpus: 4\nextends: base.yml\n")
    assert (resolved.spec.image, resolved.spec.cpus) == ("theirs", 4)
    assert resolved.origins["image"] == "file base.yml:1"
    assert resolved.origins["cpus"] == "file session.yml:1"
    assert resolved.extended == ("base.yml",)


def test_later_ones_of_a_list_win() -> None:
    """Of several bases the later one wins, and the file over all."""
    resolved = go(
        a="cpus: 1\nmemory: 1g\nshm: 1g",
        b="cpus: 2\nmemory: 2g",
        session="extends: [a.yml, ./b.yml]\ncpus: 3",
    )
    spec = resolved.spec
    assert (spec.cpus, spec.memory, spec.shm) == (3, 2 << 30, 1 << 30)


def test_chains_and_folders() -> None:
    """Each path starts from the folder of the file that says it."""
    resolved = go(
        session="extends: conf/gpu.yml",
        conf__gpu="extends: ../common/base.yml\ncpus: 2",
        common__base="extends: deeper.yml\nmemory: 1g",
        common__deeper="shm: 1g",
    )
    assert resolved.origins["cpus"] == "file conf/gpu.yml:2"
    assert resolved.origins["memory"] == "file common/base.yml:2"
    assert resolved.origins["shm"] == "file common/deeper.yml:1"


def test_env_and_secrets_merge_by_name() -> None:
    """Variables and secrets of a file and its base add up, each with its origin."""
    resolved = go(
        base="env: {A: base, B: base}\nsecrets: {S: {env: S}}",
        session="extends: base.yml\nenv: {B: mine}\nsecrets: {T: {env: T}}",
    )
    assert resolved.spec.env == {"A": "base", "B": "mine"}
    assert sorted(resolved.spec.secrets) == ["S", "T"]
    assert resolved.origins["env.A"] == "file base.yml:1"
    assert resolved.origins["env.B"] == "file session.yml:2"


def test_image_and_build_replace_each_other() -> None:
    """A base's build gives way to the file's image, whichever word it uses."""
    for word in ("image", "environment"):
        resolved = go(base="build: Dockerfile", session=f"extends: base.yml\n{word}: mine")
        assert (resolved.spec.image, resolved.spec.build) == ("mine", None)


@pytest.mark.parametrize(
    ("base", "key", "default"),
    [
        ("memory: 1g", "memory", None),
        ("gpus: 2", "gpus", 0),
        ("idle_timeout: 5m", "idle_timeout", 3600.0),
        ("image: theirs", "environment", "host"),
        ("inputs: [a]", "inputs", ()),
        ("home: true", "home", False),
        ("env: {A: x, B: y}", "env", {}),
    ],
)
def test_null_is_the_default_again(base: str, key: str, default: object) -> None:
    """A key without a value has its default, and tells which line said so."""
    for nothing in ("null", "", "~"):
        resolved = go(base=base, session=f"extends: base.yml\n{key}: {nothing}\n")
        found = "image" if key == "environment" else key
        assert getattr(resolved.spec, found) == default
        assert resolved.origins[found] == "file session.yml:2"
        assert not [name for name in resolved.origins if name.startswith("env.")]


def test_null_hides_no_wrong_key() -> None:
    """A key that there is not is an error without a value, too; so is a variable without one."""
    assert refusal(session="imagge: null").message == (
        "session.yml:1:1: imagge is not a key of a spec"
    )
    assert "env.A has no value" in refusal(session="env: {A: null}").message


def test_paths_start_from_the_file_they_stand_in() -> None:
    """A base's inputs, outputs, secrets and build are found from its own folder."""
    resolved = go(
        conf__base="inputs: [./in, {name: x, source: ../up}, /abs, ~/h]\noutputs: out\n"
        "secrets: {S: {file: key}, V: {env: V}}\nbuild: Dockerfile",
        session="extends: conf/base.yml",
    )
    conf = os.path.abspath("conf")
    sources = [(mount.name, mount.source) for mount in resolved.spec.inputs]
    assert sources == [("in", f"{conf}/in"), ("x", f"{conf}/../up"), ("abs", "/abs"), ("h", "~/h")]
    assert [mount.source for mount in resolved.spec.outputs] == [f"{conf}/out"]
    assert resolved.spec.secrets["S"].file == f"{conf}/key"
    assert resolved.spec.secrets["V"].env == "V"
    assert resolved.spec.build is not None
    assert resolved.spec.build.context.rstrip("/.") == conf
    assert resolved.spec.build.dockerfile == "Dockerfile"


def test_paths_of_a_base_beside_the_file_stay_as_they_are() -> None:
    """What stands in the project's own folder is not rewritten."""
    resolved = go(base="inputs: [./in]", session="extends: base.yml")
    assert resolved.spec.inputs[0].source == "./in"


VALUES = {
    "cpus": st.none() | st.integers(1, 9),
    "pull": st.none() | st.sampled_from(["always", "never"]),
    "home": st.none() | st.booleans(),
    "env": st.none() | st.dictionaries(st.sampled_from("ABC"), st.sampled_from("xyz")),
    "inputs": st.none() | st.lists(st.sampled_from("pqr"), unique=True),
}
FILES = st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=1, max_size=5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, st.booleans())
def test_any_files_merge_key_by_key(files: list[dict[str, Any]], chained: bool) -> None:
    """A chain, and a list, of any files is what laying their keys over each other gives."""
    folder = Path(tempfile.mkdtemp(dir="."))
    try:
        for number, keys in enumerate(files[:-1]):
            before = {"extends": f"{number - 1}.yml"} if chained and number else {}
            (folder / f"{number}.yml").write_text(yaml.safe_dump({**keys, **before, "shm": None}))
        bases = [f"{number}.yml" for number in range(len(files) - 1)]
        named = {"extends": bases[-1] if chained else bases} if bases else {}
        (folder / "session.yml").write_text(yaml.safe_dump({**files[-1], **named, "shm": None}))
        spec = go(f"{folder}/session.yml").spec
    finally:
        shutil.rmtree(folder)
    for key, default in {"cpus": None, "pull": "missing", "home": False}.items():
        given_ones = [keys[key] for keys in files if key in keys]
        last = given_ones[-1] if given_ones else None
        assert getattr(spec, key) == (default if last is None else last)
    expected: dict[str, str] = {}
    for keys in files:
        if "env" in keys:
            expected = {**expected, **keys["env"]} if keys["env"] is not None else {}
    assert spec.env == expected
    lists = [keys["inputs"] for keys in files if "inputs" in keys]
    assert [mount.source for mount in spec.inputs] == (lists[-1] or [] if lists else [])


# profiles


def test_a_plain_name_is_a_profile() -> None:
    """A word without a dot or a slash names a profile of the user's."""
    profile("small", "memory: 2g\n")
    resolved = go(session="extends: small\ncpus: 1")
    assert resolved.spec.memory == 2 << 30
    assert resolved.origins["memory"].endswith("user/profiles/small.yml:1")


def test_profile_between_configuration_and_file() -> None:
    """A profile that the user names wins over the configuration, and gives way to the file."""
    profile("small", "memory: 2g\ncpus: 2\nshm: 2g")
    write({"../user/config.yml": "memory: 1g\npull: never", "session.yml": "cpus: 3"})
    user = {"user_config": Path("../user/config.yml"), "file": Path("session.yml")}
    for resolved in (
        resolve(flags={"shm": "3g"}, environ={}, profile="small", **user),
        resolve(flags={"shm": "3g"}, environ={"MOORING_PROFILE": "small"}, **user),
        resolve(flags={"shm": "3g"}, environ={"MOORING_PROFILE": "none"}, profile="small", **user),
    ):
        spec = resolved.spec
        assert (spec.memory, spec.cpus, spec.shm, spec.pull) == (2 << 30, 3, 3 << 30, "never")
        assert resolved.origins["memory"].startswith("profile ")
        assert resolved.sha256 == go().sha256


def test_an_unknown_profile() -> None:
    """A profile that there is not is told with the nearest, or with all, and who named it."""
    write({"../user/x": ""})
    with pytest.raises(SpecError) as caught:
        resolve(flags={}, environ={}, user_config=Path("../user/config.yml"), profile="gpu")
    assert caught.value.message == "flag --profile: there is no profile gpu"
    assert "user/profiles/gpu.yml" in caught.value.hint
    profile("gpus", "")
    assert refusal(session="\nextends: gpu").message == (
        "session.yml:2:1: extends: there is no profile gpu"
    )
    assert refusal(session="extends: gpu").hint == "did you mean gpus?"
    assert refusal(session="extends: zebra").hint == "choose from: gpus"
    write({"zebra": ""})
    assert refusal(session="extends: zebra").hint == (
        "for the file of that name in this folder, write ./zebra"
    )
    environ = {"MOORING_PROFILE": "../x"}
    with pytest.raises(SpecError, match=r"environment MOORING_PROFILE: '../x' is not the name"):
        resolve(flags={}, environ=environ, user_config=Path("../user/config.yml"))


def test_the_configuration_may_build_on_a_profile() -> None:
    """The user's own files extend, too; what belongs to one session is refused in all of them."""
    profile("small", "memory: 2g")
    write({"../user/config.yml": "extends: small\ncpus: 1"})
    assert go(None).origins["memory"].startswith("user config ")
    profile("small", "\ninputs: [x]")
    assert "small.yml:2:1: inputs is specific to one session" in refusal(session="cpus: 1").message
    profile("small", "name: x")
    write({"../user/config.yml": ""})
    message = refusal(session="extends: small").message
    assert message.endswith("small.yml:1:1: name is specific to one session")


# what is refused


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("5", "must be a path"),
        ("{a: b}", "must be a path"),
        ("[]", "must be a path"),
        ("[a.yml, [b.yml]]", "must be a path"),
        ("''", "must be a path"),
        ('"a\\nb.yml"', "must be a path"),
        ("true", "must be a path"),
        ("https://example.invalid/s.yml", "reads files, not URLs"),
        ("s3://bucket/s.yml", "reads files, not URLs"),
        ("none.yml", "extends none.yml: No such file or directory"),
        (".", "not a regular file"),
        ("./fifo", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("/dev/stdin", "not a regular file"),
        ("/proc/self/environ", "not a regular file"),
        ("./link", "not a regular file"),
        ("~nobody-of-that-name/x.yml", "No such file or directory"),
    ],
)
def test_wrong_values(value: str, problem: str) -> None:
    """What is no file to read is one line that names the place; nothing is waited for."""
    os.mkfifo("fifo")
    Path("link").symlink_to("/proc/self/environ")
    write({"a.yml": "cpus: 1"})
    error = refusal(session=f"cpus: 1\nextends: {value}\n")
    assert error.message.startswith("session.yml:2:")
    assert problem in error.message


def test_circles() -> None:
    """A circle is told with its files, also where links hide it."""
    error = refusal(a="extends: b.yml", b="extends: a.yml", session="extends: a.yml")
    assert error.message == "b.yml:1:1: extends is circular: session.yml → a.yml → b.yml → a.yml"
    Path("again.yml").symlink_to("session.yml")
    assert "is circular" in refusal(session="extends: again.yml").message


def test_depth_and_number_are_bounded() -> None:
    """Neither a long chain nor a wide tree is followed for ever; a diamond is allowed."""
    chain = {f"c{n}": f"extends: c{n + 1}.yml" for n in range(MAX_DEPTH + 2)}
    assert "deeper than 8 files" in refusal("c0.yml", **chain).message
    go(a="extends: d.yml", b="extends: d.yml", d="cpus: 1", session="extends: [a.yml, b.yml]")
    wide = {f"w{n}": f"extends: [{', '.join([f'w{n + 1}.yml'] * 9)}]" for n in range(4)}
    message = refusal("w0.yml", **wide, w4="cpus: 1").message
    assert f"reads more than {MAX_FILES} files" in message


def test_errors_name_the_right_file() -> None:
    """A wrong value in a base is told with the base's file, line and column."""
    error = refusal(conf__base="\n  cpus: many", session="extends: conf/base.yml")
    assert error.message.startswith("conf/base.yml:2:3: cpus must be a number of cores")
    error = refusal(conf__base="cpus: 1\nhome: [1\ncpus: {", session="extends: conf/base.yml")
    assert error.message.startswith("conf/base.yml:3:")


def test_extends_is_a_key_of_files_alone() -> None:
    """As a flag's or the API's key it is refused, and a slip of the pen finds it."""
    with pytest.raises(SpecError, match="extends is only allowed in a file"):
        resolve(flags={"extends": "x"}, environ={}, user_config=Path("none"))
    assert refusal(session="extend: x").hint == "did you mean extends?"


SHADOW = "root:$6$planted:19000:0:99999:7:::\n"


@pytest.mark.parametrize(
    "text",
    [SHADOW, "planted: x", "env: {planted one: x}", "!planted x", "a: *planted", "cpus: planted",
     "planted: 1\nplanted: 2", "[planted]", "planted: '", "image: host\n---\nplanted: 1",
     "extends: planted_", "extends: planted/../x.yml", "env: {planted: null}", "name: Planted"],
)  # fmt: skip
def test_a_stranger_reads_no_word_of_other_files(text: str) -> None:
    """Whatever is wrong in a file outside the project, no error shows what stands in it."""
    write({"../outside": text})
    for named in ("../outside", "./link.yml"):
        Path("link.yml").unlink(missing_ok=True)
        Path("link.yml").symlink_to("../outside")
        error = refusal(session=f"extends: {named}")
        assert "planted" not in str(error).lower()
        assert "session.yml:1:1 extends it" in error.message
        assert "mooring config show -f" in error.hint


# consent


def test_a_base_outside_asks_when_a_session_could_read_it(service: Mooring) -> None:
    """Variables from beyond the folder need consent; a size or an image from there does not."""
    write({"../shared.yml": "cpus: 2\nimage: host"})
    resolved = go(session="extends: ../shared.yml\ncommand: x")
    assert list(service.sessions.plan(resolved, resolved.project).needs_trust) == []
    for keys in ("env: {TOKEN: x}", "command: x"):
        write({"../shared.yml": keys})
        resolved = go(session="extends: ../shared.yml\ncpus: 1")
        (grant,) = list(service.sessions.plan(resolved, resolved.project).needs_trust)
        assert str(grant) == f"extends: read {os.path.realpath('../shared.yml')}"
        with pytest.raises(TrustRequired) as caught:
            service.sessions.create(resolved)
        assert "and what it extends (../shared.yml)" in caught.value.hint
        service.sessions.plan(resolved, resolved.project).with_trust()
        assert list(service.sessions.plan(resolved, resolved.project).needs_trust) == []


def test_a_base_reaching_out_asks(service: Mooring) -> None:
    """What a base asks for counts as the file's own wish, wherever the base lies."""
    write({"../data/x": "", "../shared/base.yml": "inputs: [../data]", "conf/in.yml": "home: true"})
    resolved = go(session="extends: [../shared/base.yml, conf/in.yml]")
    keys = [
        grant.key for grant in list(service.sessions.plan(resolved, resolved.project).needs_trust)
    ]
    assert keys == ["home", "inputs"]


def test_a_base_inside_may_use_the_project(service: Mooring) -> None:
    """A base in a folder of the project reaches all of the project unasked."""
    write({"data/x": "", "conf/base.yml": "inputs: [../data]\nenv: {A: x}"})
    resolved = go(session="extends: conf/base.yml")
    assert list(service.sessions.plan(resolved, resolved.project).needs_trust) == []


def test_a_profile_is_the_users_word_only_where_the_user_says_it(service: Mooring) -> None:
    """What --profile brings needs no consent; the same profile, named by a file, does."""
    profile("mine", "home: true\nenv: {TOKEN: x}\nsecrets: {S: {env: S}}")
    write({"session.yml": "command: x"})
    user = {"user_config": Path("../user/config.yml"), "file": Path("session.yml")}
    resolved = resolve(flags={}, environ={}, profile="mine", **user)
    assert list(service.sessions.plan(resolved, resolved.project).needs_trust) == []
    resolved = go(session="extends: mine\ncommand: x")
    grants = list(service.sessions.plan(resolved, resolved.project).needs_trust)
    assert [grant.key for grant in grants] == ["extends", "home", "secrets.S"]
    assert "read your profile mine, " in str(grants[0])


def test_consent_is_to_all_files(service: Mooring) -> None:
    """A changed byte in any of the files asks again, and so does their order."""
    files = {"a": "cpus: 1", "b": "extends: deep.yml", "deep": "shm: 1g"}
    main = "extends: [a.yml, b.yml]\nhome: true"
    resolved = go(**files, session=main)
    service.sessions.plan(resolved, resolved.project).with_trust()
    assert list(service.sessions.plan(go(), Path.cwd()).needs_trust) == []
    for name in files:
        changed = go(**{name: files[name] + " # harmless\n"}, session=main)
        assert [
            grant.key for grant in list(service.sessions.plan(changed, Path.cwd()).needs_trust)
        ] == ["home"], name
        write({f"{name}.yml": files[name]})
    assert list(service.sessions.plan(go(), Path.cwd()).needs_trust) == []
    write({"session.yml": "extends: [b.yml, a.yml]\nhome: true"})
    assert [grant.key for grant in list(service.sessions.plan(go(), Path.cwd()).needs_trust)] == [
        "home"
    ]


def test_files_are_known_by_content_and_place() -> None:
    """Other bytes and other paths make another hash, whichever of the files has them."""
    texts = {"session": "extends: ./a.yml", "a": "cpus: 1"}
    first = go(**texts)
    hashes = {first.sha256, go(**texts | {"a": "cpus: 2"}).sha256}
    hashes.add(go(**texts | {"session": "extends: ./a.yml #"}).sha256)
    os.rename("a.yml", "b.yml")
    os.symlink("b.yml", "a.yml")
    again = resolve(flags={}, file=Path("session.yml"), environ={})
    hashes.add(again.sha256)
    assert len(hashes) == 4
    assert [path.name for path in first.files] == ["session.yml", "a.yml"]
    assert [path.name for path in again.files] == ["session.yml", "b.yml"]
    os.unlink("a.yml")
    assert go(**texts).sha256 == first.sha256
