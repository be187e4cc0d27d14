"""Images: the host's own, the ones that are here, the ones that must be fetched."""

from __future__ import annotations

import hashlib
import io
import json
import os
import queue
import site
import sys
import sysconfig
import tarfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mooring.engines.base import Bind, ContainerConfig, Engine, PullProgress
from mooring.errors import EngineError, EngineUnavailable, ImageError
from mooring.host import paths
from mooring.host.users import User
from mooring.sessions.record import GUEST_RUN

HOST = "host"
PACKAGES = f"{GUEST_RUN}/packages"
PULL_POLL_S = 0.2

# What of /etc makes the host's own programs work, and is nobody's secret
_ETC = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "debian_version",
    "environment",
    "fonts",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "matplotlibrc",
    "mime.types",
    "nsswitch.conf",
    "OpenCL",
    "os-release",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "R",
    "services",
    "shells",
    "skel",
    "ssl",
    "terminfo",
    "timezone",
    "vim",
    "vulkan",
)
_TOP = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


@dataclass(frozen=True)
class ImageFacts:
    """What a session must know of an image before it can be made of it.

    Attributes:
        reference: what the engine is asked for.
        passwd, group: the image's own user databases.
        python: the interpreter that has ipykernel; empty when there is none.
        kernel_problem: why there is no Python kernel in it; empty when there is one.
        env: what the container must be given so that the image works.
        binds: what of this machine the image needs.
    """

    reference: str
    passwd: str
    group: str
    python: str
    kernel_problem: str = ""
    env: tuple[tuple[str, str], ...] = ()
    binds: tuple[Bind, ...] = ()


# The host image


def host_image(engine: Engine) -> ImageFacts:
    """This machine as an image: an almost empty root and read-only binds of the rest.

    Links of a merged /usr are in the image. ``/sbin`` there is a real folder of links, because
    the engine puts its init into it.

    Raises:
        EngineError: the image could not be imported.
    """
    layout = _root_layout()
    reference = f"mooring/host:{hashlib.sha256(repr(layout).encode()).hexdigest()[:12]}"
    if engine.image_id(reference) is None:
        engine.import_image(_root_tar(layout), reference)
    return ImageFacts(
        reference=reference,
        passwd=_read("/etc/passwd"),
        group=_read("/etc/group"),
        python=sys.executable,
        env=tuple(_host_env().items()),
        binds=tuple(_host_binds()),
    )


def _root_layout() -> list[tuple[str, int, str]]:
    """The root filesystem as name, mode and, for a link, where it points."""
    layout = [
        (name, 0o755, "")
        for name in ("dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "sys", "usr", "var")
    ]
    layout += [("tmp", 0o1777, ""), ("var/tmp", 0o1777, "")]
    for name in _TOP:
        if name == "sbin":
            layout.append((name, 0o755, ""))
            entries = sorted(os.listdir("/sbin")) if os.path.islink("/sbin") else []
            layout += [
                (f"sbin/{entry}", 0o777, f"../usr/sbin/{entry}")
                for entry in entries
                if entry not in ("docker-init", "init")
            ]
        elif os.path.islink(f"/{name}"):
            layout.append((name, 0o777, os.readlink(f"/{name}").lstrip("/")))
        elif os.path.isdir(f"/{name}"):
            layout.append((name, 0o755, ""))
    return layout


def _root_tar(layout: list[tuple[str, int, str]]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, mode, target in layout:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.SYMTYPE if target else tarfile.DIRTYPE
            entry.mode, entry.linkname = mode, target
            tar.addfile(entry)
    return data.getvalue()


def _host_binds() -> list[Bind]:
    tops = [f"/{n}" for n in _TOP if n != "sbin" and os.path.isdir(f"/{n}")]
    sources = ["/usr", "/opt", *(top for top in tops if not os.path.islink(top))]
    sources += [f"/etc/{name}" for name in _ETC]
    binds = [Bind(path, path) for path in sources if os.path.exists(path)]
    covered = [bind.target for bind in binds]
    for path in _python_paths():
        if not any(path == top or path.startswith(top.rstrip("/") + "/") for top in covered):
            binds.append(Bind(path, path))
            covered.append(path)
    return binds


def _python_paths() -> list[str]:
    """The folders that the calling interpreter runs from, outermost first."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    found |= {os.path.realpath(path) for path in found}
    found.add(os.path.dirname(os.path.dirname(os.path.realpath(sys.executable))))
    found |= {path for path in sys.path if path and os.path.isdir(path)}
    if site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages()):
        found.add(site.getusersitepackages())
    own = {"/", os.getcwd(), os.path.expanduser("~"), os.path.dirname(os.path.abspath(sys.argv[0]))}
    return sorted((p for p in found - own if os.path.isdir(p)), key=lambda p: (p.count("/"), p))


def _host_env() -> dict[str, str]:
    folders = [os.path.join(sys.prefix, "bin")]
    folders += ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    env = {}
    if sys.prefix != sys.base_prefix:
        # pip cannot write into a virtual environment that is read-only, and has no user site
        # there: what it installs goes to the session's own folder, which every path names first
        scheme = sysconfig.get_preferred_scheme("prefix")
        own = {"base": PACKAGES, "platbase": PACKAGES}
        folders.insert(0, sysconfig.get_path("scripts", scheme, own))
        env["PYTHONPATH"] = sysconfig.get_path("purelib", scheme, own)
        env["PIP_PREFIX"] = PACKAGES
        env["VIRTUAL_ENV"] = sys.prefix
    env["PATH"] = ":".join(dict.fromkeys(folders))
    for name in ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "CONDA_PREFIX", "LD_LIBRARY_PATH"):
        if os.environ.get(name):
            env[name] = os.environ[name]
    env.setdefault("LANG", "C.UTF-8")
    return env


# Any other image

_PROBE = """
cat /etc/passwd 2>/dev/null; echo '--- group'; cat /etc/group 2>/dev/null; echo '--- python'
for p in python3 python; do
  if command -v $p >/dev/null 2>&1; then
    $p -c 'import sys, ipykernel.kernelapp; print(sys.executable)' 2>&1 | tail -n 1
    exit 0
  fi
done
echo 'no python3 on its PATH'
"""


def ensure_image(
    engine: Engine, reference: str, policy: str, progress: Callable[[PullProgress], None]
) -> str:
    """Have an image here, as its pull policy says.

    Args:
        reference: ``repository/name:tag``.
        policy: ``always``, ``missing`` or ``never``.
        progress: called while a pull goes on, several times a second also when nothing comes;
            what it raises ends the wait.

    Returns:
        The image's id.

    Raises:
        ImageError: it is not here and may not, or cannot, be pulled.
    """
    found = engine.image_id(reference)
    if policy == "never" and found is None:
        raise ImageError(
            f"No such image: {reference}",
            f"pull: never forbids fetching it; run docker pull {reference}, or use pull: missing",
        )
    if policy == "always" or found is None:
        _pull(engine, reference, progress)
        found = engine.image_id(reference)
    if found is None:
        raise ImageError(f"No such image: {reference}", "check its name and tag")
    return found


def _pull(engine: Engine, reference: str, progress: Callable[[PullProgress], None]) -> None:
    """Pull in a thread: a registry that says nothing for minutes must not keep anyone waiting."""
    steps: queue.Queue[PullProgress | BaseException | None] = queue.Queue()
    given_up = threading.Event()

    def work() -> None:
        try:
            for step in engine.pull(reference):
                if given_up.is_set():
                    return
                steps.put(step)
            steps.put(None)
        except BaseException as error:  # told to whoever waits
            steps.put(error)

    threading.Thread(target=work, name="mooring-pull", daemon=True).start()
    last = PullProgress("waiting for the registry", 0, 0)
    try:
        while True:
            progress(last)
            try:
                step = steps.get(timeout=PULL_POLL_S)
            except queue.Empty:
                continue
            if step is None:
                return
            if isinstance(step, BaseException):
                raise step
            last = step
    finally:
        given_up.set()


def facts_of(
    engine: Engine, reference: str, image_id: str, user: User, name: str, labels: dict[str, str]
) -> ImageFacts:
    """Look into an image once, and remember it by the image's id.

    Args:
        name, labels: those of the short-lived container that looks; the reconciler finds it by
            them should this process die meanwhile.

    Raises:
        ImageError: the image has no ``/bin/sh``.
    """
    store = paths.images_dir() / (image_id.rpartition(":")[2] + ".json")
    try:
        known = ImageFacts(**json.loads(store.read_text()))
        return replace(known, reference=reference)  # it may have been seen under another name
    except (OSError, ValueError, TypeError):
        pass
    config = ContainerConfig(
        name=name,
        image=reference,
        argv=("/bin/sh", "-c", _PROBE),
        user=f"{user.uid}:{user.gid}",
        env={"HOME": "/tmp"},
        labels=labels,
        network=False,
    )
    container = engine.create(config)
    try:
        try:
            engine.start(container)
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise _no_shell(reference, error.message) from error
        engine.wait(container, timeout_s=60.0)
        said = b"".join(engine.logs(container, tty=False, follow=False, tail=None))
    finally:
        engine.remove(container)
    if b"--- python\n" not in said:  # the engine's init started, and found no shell to become
        why = " ".join(said.decode(errors="replace").split())[:200]
        raise _no_shell(reference, why or "it does not start")
    passwd, _, rest = said.decode(errors="replace").partition("--- group\n")
    group, _, python = rest.partition("--- python\n")
    last = python.strip().splitlines()[-1] if python.strip() else "python3 did not start"
    has_kernel = last.startswith("/")
    facts = ImageFacts(
        reference=reference,
        passwd=passwd,
        group=group,
        python=last if has_kernel else "",
        kernel_problem="" if has_kernel else last,
    )
    draft = store.with_name(f".{store.name}.{os.getpid()}")
    draft.write_text(
        json.dumps({k: v for k, v in asdict(facts).items() if k not in ("env", "binds")})
    )
    draft.replace(store)
    return facts


def _no_shell(reference: str, why: str) -> ImageError:
    return ImageError(
        f"image {reference} has no /bin/sh that works: {why}",
        "mooring needs a shell in the image; use one that has it",
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
