"""The parent of a session's kernels, inside its container.

It imports ipykernel once and forks each Python kernel, so that a restart imports nothing again. A
Python kernel is a new interpreter instead if it has variables that only a new one reads, or if
packages were installed since: they may add to sys.path, or replace what was imported. Other kernels
are started by the command of their kernelspec in the image. It does not use mooring:
it runs on the image's Python (3.8 or newer) with the image's ipykernel, and with
``kernelprocess.py``, ``debugger.py``, ``preload.py`` and ``recorder.py`` beside it.

It reads ``settings`` beside it (record_bytes: how much of a kernel's output is recorded). Files in
``run``, a link there to the session's run folder:

    kernelhost.sock     requests and responses, one JSON object per line
    kernelhost.lock     held while it runs: there is one per session
    preload             what the spec preloads and could not be imported, a line each
    k/ID/c.json         the kernel's connection file (written by the caller, 0600)
    k/ID/pid            "PID START": the kernel's process and group, and its start time (proc(5))
    k/ID/log            its standard output and error; log.1 is of the previous run
    k/ID/busy           "busy N" or "idle N", after N requests of a user; on a second line the id of
                        the execute_request that runs
    k/ID/elsewhere      why it does not run in the folder that its client named, and where it does
    k/ID/watched        exists once a non-Python kernel is watched
    k/ID/out.*          its recorded output, see recorder.py
    k/ID/exit           {"code": …, "oom": …, "shm": …}, once it has exited

Requests: {"op": "start", "id", "kernel", "cwd", "cwd_optional", "env", "given", "arguments",
"encrypted"}, {"op": "signal", "id", "signum"}, {"op": "ping"}. A failed request is answered with
"error".
"""

import contextlib
import fcntl
import gc
import importlib
import importlib.machinery
import json
import os
import selectors
import signal
import socket
import sys
import time
import types

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = os.path.realpath(os.path.join(HERE, "run"))
# Imported by a Python kernel before its first reply, beyond ipykernel.kernelapp
FIRST_SECOND = (
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "ipykernel.debugger",
    "sqlite3",
    "tornado.gen",
    "tornado.locks",
    "tornado.platform.asyncio",
    "tornado.queues",
)
# Variables that the interpreter and the loader read only at startup
READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
LOCK_TIMEOUT_S = 2.0


def load(name):
    """Load a module from this folder under a name that no user module has."""
    full_name = "_mooring_" + name
    if full_name not in sys.modules:
        path = os.path.join(HERE, name + ".py")
        module = types.ModuleType(full_name)
        module.__file__ = path
        importlib.machinery.SourceFileLoader(full_name, path).exec_module(module)
        sys.modules[full_name] = module
    return sys.modules[full_name]


process = load("kernelprocess")


class KernelHost:
    """Serves requests until killed. Single-threaded, because a fork copies only one thread.

    Args:
        lock: the file descriptor of its lock.
    """

    def __init__(self, lock):
        self.lock = lock
        self.oom_seen = oom_kills()
        self.kernels = {}  # id -> pid
        self.watchers = {}  # pid of a watcher -> id of its kernel
        self.buffers = {}  # connection -> incomplete request
        self.problem = ""  # why no Python kernel can start
        self.recorder = None  # the module
        self.preloader = None  # the module, if the spec preloads any
        self.preloaded: "frozenset[str]" = frozenset()  # top-level modules that the spec preloads
        self.installed = process.installed()
        path = os.path.join(RUN, "kernelhost.sock")
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, 0o600)
        self.listener.listen(64)
        self.listener.setblocking(False)
        self.wake_in, self.wake_out = os.pipe()
        os.set_blocking(self.wake_in, False)
        os.set_blocking(self.wake_out, False)
        signal.set_wakeup_fd(self.wake_out)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Signals meant for other processes must not end the parent of all kernels
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)

    def preload(self):
        """Import modules of every Python kernel, without starting threads or ZeroMQ contexts.

        With modules of the spec's it returns in a child of this process, see preload.py.
        """
        try:
            load("debugger").defer()
            import ipykernel.ipkernel
            import ipykernel.kernelapp
            import ipykernel.zmqshell  # noqa: F401
        except Exception as error:
            self.problem = "ipykernel cannot be imported: %s: %s" % (type(error).__name__, error)
        for name in () if self.problem else FIRST_SECOND:
            # optional: not every version has them
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        with contextlib.suppress(OSError):
            self.recorder = load("recorder")
        remove(os.path.join(RUN, "preload"))
        if not self.problem and os.path.exists(os.path.join(HERE, "preload")):
            self.preload_modules()
        gc.freeze()

    def preload_modules(self):
        self.preloader = load("preload")
        self.preloaded, problems = self.preloader.preload(self.preloader.names())
        self.installed = process.installed()  # imports may have made folders of bytecode there
        if problems:
            process.write(os.path.join(RUN, "preload"), "".join(text + "\n" for text in problems))

    def serve(self):
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.wake_in, selectors.EVENT_READ, self.reap)
        while True:
            for key, _ in self.selector.select():
                key.data(key.fileobj)

    def accept(self, listener):
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        self.buffers[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ, self.read)

    def read(self, connection):
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(connection)
            del self.buffers[connection]
            connection.close()
            return
        *lines, self.buffers[connection] = (self.buffers[connection] + data).split(b"\n")
        for line in lines:
            try:
                answer = self.answer(json.loads(line.decode()))
            except Exception as error:
                answer = {"error": "%s: %s" % (type(error).__name__, error)}
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError:
                return

    def answer(self, request):
        """The response to a request, see the module docstring."""
        if request["op"] == "ping":
            return {"kernels": self.kernels, "problem": self.problem}
        if request["op"] == "signal":
            return {"sent": self.send_signal(request["id"], request["signum"])}
        if request["op"] == "start":
            return self.start(request)
        return {"error": "unknown request"}

    def send_signal(self, kernel, signum):
        """Signal a kernel's process group; False if it has exited."""
        pid = self.kernels.get(kernel)
        if pid is None:
            return False
        if signum == signal.SIGKILL:
            self.oom_seen = oom_kills()  # ignore earlier OOM kills for this exit
        try:
            os.killpg(pid, signum)
        except ProcessLookupError:
            return False
        return True

    # starting

    def start(self, request):
        kernel = request["id"]
        if kernel in self.kernels:
            return {"error": "this kernel runs already"}
        folder = os.path.join(RUN, "k", kernel)
        native = request["kernel"] == "python3"
        if native and self.problem:
            return {"error": self.problem}
        if native and request["encrypted"] and not process.can_encrypt():
            return {"error": "encryption needs ipykernel 7 or newer in the image"}
        command, extra_env = [], {}
        given = request.get("given") or {}
        if not native:
            try:
                command, extra_env = process.find_command(request["kernel"], folder)
            except LookupError as error:
                return {"error": str(error)}
        elif (
            self.installed != process.installed()
            or any(name.startswith(READ_AT_START) for name in (*request["env"], *given))
            or (self.preloader and self.preloader.hidden(self.preloaded, request))
        ):
            command = [sys.executable, os.path.abspath(__file__), "kernel", folder]
        prepare_folder(folder)
        recorder = self.recorder
        if self.fork() == 0:
            raise Forked(
                lambda: process.become_kernel(folder, request, command, extra_env, recorder)
            )
        self.kernels[kernel] = self.child
        if not native and self.fork() == 0:
            raise Forked(lambda: process.watch(folder, recorder))
        elif not native:
            self.watchers[self.child] = kernel
        return {"pid": self.kernels[kernel]}

    def fork(self):
        """Fork; the child gets default signal handlers and closes inherited descriptors."""
        parent = os.getpid()
        self.child = pid = os.fork()
        if pid == 0:
            process.die_with(parent)
            os.close(self.lock)  # a child may outlive this process
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.selector.close()
            self.listener.close()
            for connection in self.buffers:
                connection.close()
            os.close(self.wake_in)
            os.close(self.wake_out)
        return pid

    # ending

    def reap(self, wake):
        try:
            os.read(wake, 4096)
        except BlockingIOError:
            pass
        for pid in [*self.kernels.values(), *self.watchers]:
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = pid, 0
            if ended == 0:
                continue
            if pid in self.watchers:
                del self.watchers[pid]
                continue
            kernel = next(key for key, value in self.kernels.items() if value == pid)
            del self.kernels[kernel]
            self.record_exit(kernel, pid, status)

    def record_exit(self, kernel, pid, status):
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        shm = shared_memory()  # before the kernel's children let go of theirs
        try:
            # child processes in the kernel's group end with it, as they do locally
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
        for watcher, watched in self.watchers.items():
            if watched == kernel:
                os.kill(watcher, signal.SIGKILL)
        kills = oom_kills()
        oom = code == -9 and kills > self.oom_seen
        self.oom_seen = kills
        ending = {"code": code, "oom": oom}
        if code == -signal.SIGBUS:
            ending["shm"] = shm
        process.write(os.path.join(RUN, "k", kernel, "exit"), json.dumps(ending))


class Forked(BaseException):
    """Raised in a child to exit the parent's loop; ``main`` calls ``become``."""

    def __init__(self, become):
        self.become = become


def prepare_folder(folder):
    """Remove files of an earlier run from a kernel's folder; its log becomes ``log.1``."""
    sockets = ["s-%d" % number for number in range(1, 6)]
    for name in ["exit", "told", "pid", "watched", "elsewhere"] + sockets:
        remove(os.path.join(folder, name))
    if os.path.exists(os.path.join(folder, "log")):
        os.replace(os.path.join(folder, "log"), os.path.join(folder, "log.1"))
    process.write(os.path.join(folder, "busy"), "idle 0\n")


def oom_kills():
    """The number of out-of-memory kills in this container."""
    for path, key in (
        ("/sys/fs/cgroup/memory.events", "oom_kill"),
        ("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill"),
    ):
        try:
            with open(path) as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == key:
                        return int(value)
        except (OSError, ValueError):
            continue
    return 0


def shared_memory():
    """The size of /dev/shm and what is used of it, in bytes; zeros if there is none."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return 0, 0
    size = found.f_blocks * found.f_frsize
    return size, size - found.f_bfree * found.f_frsize


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def end_leftovers():
    """Kill the kernels of a dead kernel host, and record their exit."""
    folder = os.path.join(RUN, "k")
    for kernel in os.listdir(folder):
        path = os.path.join(folder, kernel, "exit")
        if os.path.exists(path):
            continue
        try:
            with open(os.path.join(folder, kernel, "pid")) as file:
                pid, start = file.read().split()
        except (OSError, ValueError):
            continue
        try:
            # a process group may outlive its leader; its id is not reused until then
            if process.started_at(pid) in ("", start):
                os.killpg(int(pid), signal.SIGKILL)
        except OSError:
            pass
        process.write(path, json.dumps({"code": -9, "oom": False}))


def take_lock():
    """Acquire the lock of the session's only kernel host; None if another process holds it.

    Older versions of mooring acquire it briefly, to check whether it is held.
    """
    lock = os.open(os.path.join(RUN, "kernelhost.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    os.set_inheritable(lock, False)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            if time.monotonic() > deadline:
                return None
        time.sleep(0.02)


def main():
    sys.path[:] = [path for path in sys.path if path not in ("", HERE)]
    if sys.argv[1:2] == ["kernel"]:
        load("debugger").defer()
        process.run_ipykernel(sys.argv[2], sys.argv[3:], load("recorder"))
        return
    lock = take_lock()
    if lock is None:
        return
    gc.disable()
    process.make_user_site()
    end_leftovers()
    host = KernelHost(lock)
    try:
        host.preload()
        host.serve()
    except Forked as forked:
        become = forked.become
    del host  # in the forked child
    become()


if __name__ == "__main__":
    main()
