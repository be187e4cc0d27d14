"""The modules that a session's spec preloads: imported by the kernel host before it forks kernels.

What was imported cannot be unloaded, and an import may crash or never return. So a child process
imports, and takes the place of the kernel host that forked it, which ends. If a module makes forks
unsafe, crashes or takes too long, the child is killed, and another one tries without it.

A module is refused if it has a GPU, because CUDA does not work in a forked process; if it leaves
threads, which a fork does not copy; or if it was read from outside the folders of installed
packages, because a restart is expected to see what was changed there.

Like ``kernelhost.py``, which loads it, it runs on the image's Python (3.8 or newer) and does not
use mooring. It reads ``preload`` beside it: the modules, a line each.
"""

import importlib
import importlib.machinery
import json
import os
import signal
import site
import socket
import sys
import sysconfig
import time
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
# For all imports together; a client waits 30 s for the answer to its request
LIMIT_S = 20.0
# How long threads may take to end before a fork
ENDING_S = 0.2
SITES = ("site-packages", "dist-packages")
DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")
# What ipykernel sets MPLBACKEND to, which matplotlib reads when it is imported
INLINE = "module://matplotlib_inline.backend_inline"
# Beginnings of variables that clients give kernels, and that no module reads when it is imported
CLIENTS_OWN = ("JPY_", "PYDEVD_")
MOST_OF_A_PROBLEM = 300


def names():
    """The names of the modules to import. Raises OSError."""
    with open(os.path.join(HERE, "preload")) as file:
        return file.read().split()


def preload(modules):
    """Import modules; it returns in this process, or in a child that takes its place.

    The process must have one thread.

    Args:
        modules: their names; empty for none.

    Returns:
        The names of all top-level modules that were imported, and what could not be: lines.
    """
    problems: "list[str]" = []
    modules = list(modules)
    deadline = time.monotonic() + LIMIT_S
    while modules:
        link, childs = socket.socketpair()
        child = os.fork()
        if child == 0:
            link.close()
            return import_all(modules, problems, childs)
        childs.close()
        culprit, problem = watch(child, link, deadline)
        if culprit is None:
            os._exit(0)  # the child takes over when ``link`` is closed
        link.close()
        problems.append(line(culprit, problem))
        modules = [] if time.monotonic() > deadline else [m for m in modules if m != culprit]
    return frozenset(), problems


def import_all(modules, problems, link):
    """Import modules in the child; it returns when its parent has ended."""
    before = set(sys.modules)
    backend = os.environ.get("MPLBACKEND")
    os.environ["MPLBACKEND"] = backend or INLINE
    for name in modules:
        tell(link, [name, ""])
        try:
            importlib.import_module(name)
        except BaseException as error:
            text = "%s: %s" % (type(error).__name__, error)
            problems.append(line(name, "it cannot be imported (%s)" % text))
        reason = why_unsafe(before)
        if reason:
            tell(link, [name, reason])
            os._exit(1)
    if backend is None:
        os.environ.pop("MPLBACKEND", None)
    tell(link, [])
    link.recv(1)
    link.close()
    return frozenset(name.partition(".")[0] for name in set(sys.modules) - before), problems


def tell(link, message):
    link.sendall(json.dumps(message).encode() + b"\n")


def watch(child, link, deadline):
    """Wait until a child has imported everything; else kill it.

    Returns:
        The module that is to be left out, and why; None if there is none.
    """
    name, received = "", b""
    while True:
        try:
            link.settimeout(max(0.001, deadline - time.monotonic()))
            data = link.recv(65536)
        except socket.timeout:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return name, "it was not imported within %g s" % LIMIT_S
        if not data:
            _, status = os.waitpid(child, 0)
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            how = signal.Signals(number).name if number else os.WEXITSTATUS(status)
            return name, "its import ended the process (%s)" % how
        *lines, received = (received + data).split(b"\n")
        for text in lines:
            message = json.loads(text.decode())
            if not message:
                return None, ""
            name, problem = message
            if problem:
                os.waitpid(child, 0)
                return name, problem


def line(name, problem):
    text = " ".join(("preload: %s: %s" % (name, problem)).split())
    return text[:MOST_OF_A_PROBLEM]


def why_unsafe(before):
    """Why kernels cannot be forked from this process; empty if they can.

    Args:
        before: the names of the modules that were imported before.
    """
    device = open_device()
    if device:
        return "its import opened a GPU (%s), which a forked kernel cannot use" % device
    cuda = sys.modules.get("torch.cuda")
    initialized = getattr(cuda, "is_initialized", None)
    if initialized is not None and initialized():
        return "its import initialized CUDA, which a forked kernel cannot use"
    if not alone():
        return "its import left threads running, which a forked kernel does not have"
    for name in sorted(set(sys.modules) - before):
        file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
        if isinstance(file, str) and not installed(file):
            return "%s is not in a folder of installed packages" % file
    return ""


def open_device():
    """A GPU's device file that this process has open or mapped; empty if there is none."""
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink("/proc/self/fd/" + number)
        except OSError:
            continue
        if path.startswith(DEVICES):
            return path
    with open("/proc/self/maps") as file:
        for text in file:
            path = text.rstrip("\n").split(None, 5)[-1]
            if path.startswith(DEVICES):
                return path
    return ""


def alone():
    """Whether this process has one thread when it forks; threads of OpenBLAS end before a fork."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, since Python 3.12
        if threads() > 1:
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
    deadline = time.monotonic() + ENDING_S
    while threads() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    return threads() == 1


def threads():
    return len(os.listdir("/proc/self/task"))


def installed(file):
    """Whether a file lies in a folder of installed packages, or belongs to Python itself."""
    folders = [path for path in sys.path if path.endswith(SITES)]
    # HERE: multiprocessing has a second name for the main module
    folders += [site.getusersitepackages(), sys.prefix, sys.base_prefix, HERE]
    folders += [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    return any(os.path.abspath(file).startswith(folder.rstrip("/") + "/") for folder in folders)


def hidden(tops, request):
    """Whether a kernel must be a new interpreter, because it would import other modules or others'.

    Args:
        tops: the names of the top-level modules that were preloaded.
        request: ``start``, see kernelhost.py.
    """
    if not tops:
        return False
    variables = (*request["env"], *(request.get("given") or {}))
    if any(not name.startswith(CLIENTS_OWN) for name in variables):
        return True  # some are read when a module is imported
    folder = os.path.abspath(request.get("cwd") or ".")
    try:
        files = os.listdir(folder)
    except OSError:  # the kernel does not run there either
        folder, files = os.getcwd(), os.listdir(".")
    importlib.invalidate_caches()
    for name in {file.partition(".")[0] for file in files} & tops:
        spec = importlib.machinery.PathFinder.find_spec(name, [folder])
        if spec is not None and spec.loader is not None:
            return True
    return False
