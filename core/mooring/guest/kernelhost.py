"""The parent of a session's kernels, inside its container.

It imports ipykernel once and forks each Python kernel from itself, so that a restart imports
nothing again; other kernels are looked up in the image and started by their own command. It does
not use mooring: it runs on the image's Python (3.8 or newer) with the image's ipykernel.

Files, below the folder that this script lies in:

    kernelhost.sock     requests, one JSON object a line, one answer a line
    kernelhost.lock     held while it lives: there is one in a session
    settings            read here: record_bytes, how much of a kernel's output is kept
    k/ID/c.json         the kernel's connection file (written by the caller, 0600)
    k/ID/pid            "PID START": the kernel's process and group, and when it began (proc(5))
    k/ID/log            what it wrote to its standard output and error; log.1 is the run before
    k/ID/busy           "busy N" or "idle N"; N requests of a person so far
    k/ID/watched        it is of another kind, and what it publishes is heard from now on
    k/ID/out.*          what it published, see recorder.py beside this file
    k/ID/exit           {"code": …, "oom": …}, once it has ended

Requests: {"op": "start", "id", "kernel", "cwd", "env", "arguments", "encrypted"},
{"op": "signal", "id", "signum"}, {"op": "ping"}. An answer has "error" where something went wrong.

A Python kernel finds the session's secrets in os.environ; a kernel of another kind reads them
from /run/secrets, because the environment of a new program can be read in /proc.
"""

import atexit
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
import threading
import time
import types

HERE = os.path.dirname(os.path.abspath(__file__))
SECRETS = "/run/secrets"
# What a client asks by itself, with nobody at the keyboard
MACHINE_TALK = {"kernel_info_request", "comm_info_request", "history_request", "connect_request"}
# What a Python kernel imports before its first answer, beyond what ipykernel.kernelapp does
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
# The interpreter and the loader look at these once, when a program begins
READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
LOCK_PATIENCE_S = 2.0
PR_SET_PDEATHSIG = 1


class KernelHost:
    """Serves requests until it is killed. One thread: forking must find no other."""

    def __init__(self, lock):
        self.lock = lock
        self.oom_seen = oom_kills()
        self.kernels = {}  # id -> pid
        self.watchers = {}  # pid of a watcher -> id
        self.buffers = {}
        self.problem = ""
        self.selector = selectors.DefaultSelector()
        path = os.path.join(HERE, "kernelhost.sock")
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
        # An interrupt or a hang-up meant for others must not end the parent of all kernels
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.wake_in, selectors.EVENT_READ, self.reap)

    def preload(self):
        """Import what every Python kernel needs. No thread and no ZeroMQ context comes of it."""
        try:
            import ipykernel.ipkernel
            import ipykernel.kernelapp
            import ipykernel.zmqshell  # noqa: F401
        except Exception as error:
            self.problem = "ipykernel cannot be imported: %s: %s" % (type(error).__name__, error)
        # pydevd prints a warning where it is imported without this, debugging or not
        quiet = "PYDEVD_DISABLE_FILE_VALIDATION"
        asked = quiet in os.environ
        os.environ.setdefault(quiet, "1")
        for name in () if self.problem else FIRST_SECOND:
            # not in every version; the kernel imports what it needs by itself
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        if not asked:
            del os.environ[quiet]
        with contextlib.suppress(OSError):
            load_recorder()
        gc.freeze()

    def serve(self):
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
        if request["op"] == "ping":
            return {"kernels": self.kernels, "problem": self.problem}
        if request["op"] == "signal":
            return {"sent": self.send_signal(request["id"], request["signum"])}
        if request["op"] == "start":
            return self.start(request)
        return {"error": "unknown request"}

    def send_signal(self, kernel, signum):
        """Signal a kernel's whole process group; False when it is gone."""
        pid = self.kernels.get(kernel)
        if pid is None:
            return False
        if signum == signal.SIGKILL:
            self.oom_seen = oom_kills()  # what memory killed before is no reason for this end
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
        folder = os.path.join(HERE, "k", kernel)
        native = request["kernel"] == "python3"
        command, extra_env = ([], {}) if native else find_command(request["kernel"], folder)
        if native and any(name.startswith(READ_AT_START) for name in request["env"]):
            command = [sys.executable, os.path.abspath(__file__), "kernel", folder]
        if native and self.problem:
            return {"error": self.problem}
        if native and request["encrypted"] and not can_encrypt():
            return {"error": "encryption needs ipykernel 7 or newer in the image"}
        for name in ["exit", "told", "pid", "watched"] + [
            "s-%d" % number for number in range(1, 6)
        ]:
            remove(os.path.join(folder, name))
        if os.path.exists(os.path.join(folder, "log")):
            os.replace(os.path.join(folder, "log"), os.path.join(folder, "log.1"))
        write(os.path.join(folder, "busy"), "idle 0\n")
        if self.fork() == 0:
            raise Forked(lambda: become_kernel(folder, request, command, extra_env))
        self.kernels[kernel] = self.child
        if not native and self.fork() == 0:
            raise Forked(lambda: watch(folder))
        elif not native:
            self.watchers[self.child] = kernel
        return {"pid": self.kernels[kernel]}

    def fork(self):
        parent = os.getpid()
        self.child = pid = os.fork()
        if pid == 0:
            die_with(parent)
            os.close(self.lock)  # or the lock would outlive this process in its children
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
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                found, status = pid, 0
            if found == 0:
                continue
            if pid in self.watchers:
                del self.watchers[pid]
                continue
            kernel = next(key for key, value in self.kernels.items() if value == pid)
            del self.kernels[kernel]
            self.record_exit(kernel, pid, status)

    def record_exit(self, kernel, pid, status):
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        try:
            # what the kernel started in its own group ends with it, as it does locally
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
        for watcher, watched in self.watchers.items():
            if watched == kernel:
                os.kill(watcher, signal.SIGKILL)
        kills = oom_kills()
        oom = code == -9 and kills > self.oom_seen
        self.oom_seen = kills
        folder = os.path.join(HERE, "k", kernel)
        write(os.path.join(folder, "exit"), json.dumps({"code": code, "oom": oom}))


class Forked(BaseException):
    """Raised in a child, to leave the parent's loop; ``main`` calls what it carries."""

    def __init__(self, become):
        self.become = become


def become_kernel(folder, request, command, extra_env):
    """The rest of the child's life: ipykernel in this process, or the kernelspec's command."""
    os.setsid()
    prepare(folder, request, extra_env)
    arguments = request.get("arguments") or []
    if not command:
        run_ipykernel(folder, arguments)
        return
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that is inherited
    try:
        os.execvpe(command[0], command + arguments, os.environ)
    except OSError as error:
        sys.exit("%s: %s" % (command[0], error.strerror))


def prepare(folder, request, extra_env):
    """What any kernel's process needs before it becomes the kernel."""
    write(os.path.join(folder, "pid"), "%d %s\n" % (os.getpid(), started_at("self")))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(nothing)
    os.close(log)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # the kernel goes before the clock and this process
    except OSError:
        pass
    os.environ.update(extra_env)
    os.environ.update(request.get("env") or {})
    os.environ["JPY_PARENT_PID"] = str(os.getppid())  # ipykernel ends when this process does
    try:
        os.chdir(request.get("cwd") or ".")
    except OSError:
        pass


def die_with(parent):
    """Have this process killed when its parent is: nobody else would answer for it."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except Exception:
        return  # ipykernel looks at its parent by itself, each second
    if os.getppid() != parent:
        os._exit(1)


def started_at(pid):
    """When a process began, in ticks since boot: tells it from a later one of the same number."""
    try:
        with open("/proc/%s/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def read_secrets():
    """Into os.environ: setenv in a process that runs does not show in its /proc/PID/environ."""
    try:
        for name in os.listdir(SECRETS):
            with open(os.path.join(SECRETS, name)) as file:
                os.environ[name] = file.read()
    except OSError:
        pass


def can_encrypt():
    import ipykernel

    return ipykernel.version_info >= (7,)  # type: ignore[attr-defined]


def run_ipykernel(folder, arguments):
    """Become ``python -m ipykernel_launcher -f c.json``."""
    from ipykernel import kernelapp

    read_secrets()
    record_state(folder)
    record_output(folder)
    if "numpy.random" in sys.modules:  # by a .pth file, say: its state must not be the twin's
        sys.modules["numpy.random"].seed()
    connection_file = os.path.join(folder, "c.json")
    launcher = os.path.join(os.path.dirname(os.path.dirname(kernelapp.__file__)), "")
    sys.argv = [launcher + "ipykernel_launcher.py", "-f", connection_file] + arguments
    gc.enable()
    kernelapp.launch_new_instance()


def record_state(folder):
    """Have the kernel write down whether it is busy, for the clock."""
    from ipykernel.kernelbase import Kernel

    descriptor = os.open(os.path.join(folder, "busy"), os.O_WRONLY | os.O_CREAT, 0o600)
    original = Kernel._publish_status
    requests = [0]

    def publish_status(self, status, *args, **kwargs):
        original(self, status, *args, **kwargs)
        # (channel, parent) since ipykernel 6, (parent) before
        given = list(args) + list(kwargs.values())
        channel = next((value for value in given if isinstance(value, str)), "shell")
        parent = next((value for value in given if isinstance(value, dict)), None)
        header = (self.get_parent(channel) if parent is None else parent).get("header") or {}
        if channel != "shell" or header.get("msg_type", "") in MACHINE_TALK | {""}:
            return
        if status == "busy":
            requests[0] += 1
        os.pwrite(descriptor, b"%s %-12d\n" % (status.encode(), requests[0]), 0)

    Kernel._publish_status = publish_status  # type: ignore[method-assign]


def record_output(folder):
    """Have the kernel record what it publishes, and of which cell of a notebook it is."""
    recorder = open_recorder(folder)
    if recorder is None:
        return
    from ipykernel.iostream import IOPubThread
    from ipykernel.kernelbase import Kernel

    really_send = IOPubThread._really_send
    publish_execute_input = Kernel._publish_execute_input

    def send_and_record(self, msg, *args, **kwargs):
        really_send(self, msg, *args, **kwargs)
        in_its_loop = threading.current_thread() is self.thread
        recorder.message(msg, self.io_loop.call_later if in_its_loop else None)

    def publish_and_note_cell(self, code, parent, execution_count):
        try:
            cell = parent["metadata"].get("cellId")
            if isinstance(cell, str) and len(recorder.cells) < 1000:
                recorder.cells[parent["header"]["msg_id"].encode()] = cell
        except (KeyError, TypeError, AttributeError):
            pass
        publish_execute_input(self, code, parent, execution_count)

    IOPubThread._really_send = send_and_record  # type: ignore[method-assign]
    atexit.register(recorder.flush)  # before ipykernel's own, and so called after them
    Kernel._publish_execute_input = publish_and_note_cell  # type: ignore[method-assign]


def open_recorder(folder):
    """What records a kernel's output, or None where none is to be kept."""
    limit = 0
    try:
        with open(os.path.join(HERE, "settings")) as file:
            for line in file:
                key, _, text = line.partition(" ")
                if key == "record_bytes":
                    limit = int(text)
        return load_recorder().Recorder(folder, limit) if limit else None
    except (OSError, ValueError):
        return None


def load_recorder():
    """The module beside this file; under a name that no user's module has."""
    name = "_mooring_recorder"
    if name not in sys.modules:
        loader = importlib.machinery.SourceFileLoader(name, os.path.join(HERE, "recorder.py"))
        module = types.ModuleType(name)
        loader.exec_module(module)
        sys.modules[name] = module
    return sys.modules[name]


def find_command(name, folder):
    """The command and environment of a kernelspec of the image."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager()
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        known = ", ".join(sorted(manager.find_kernel_specs())) or "none"
        raise LookupError("no kernel %r in this image (it has: %s)" % (name, known)) from None
    values = {"connection_file": os.path.join(folder, "c.json"), "resource_dir": spec.resource_dir}
    command = [
        part.replace("{connection_file}", values["connection_file"]).replace(
            "{resource_dir}", values["resource_dir"]
        )
        for part in spec.argv
    ]
    if command[0] in ("python", "python3"):
        command[0] = sys.executable
    return command, dict(spec.env)


def watch(folder):
    """Write down whether a kernel of another kind is busy, and record what it publishes."""
    import zmq

    with open(os.path.join(folder, "c.json")) as file:
        info = json.load(file)
    subscriber = zmq.Context().socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.setsockopt(zmq.RCVHWM, 0)  # it may print faster than this process writes
    if info.get("curve_publickey"):
        subscriber.curve_serverkey = info["curve_publickey"].encode()
        subscriber.curve_publickey = info["curve_publickey"].encode()
        subscriber.curve_secretkey = info["curve_secretkey"].encode()
    subscriber.setsockopt(zmq.RECONNECT_IVL, 10)  # the kernel's socket is not there yet
    known = getattr(zmq, "EVENT_HANDSHAKE_SUCCEEDED", zmq.EVENT_CONNECTED)
    heard = subscriber.get_monitor_socket(known)
    subscriber.connect("ipc://%s-%d" % (info["ip"], info["iopub_port"]))
    heard.recv_multipart()
    subscriber.disable_monitor()
    write(os.path.join(folder, "watched"), "")
    descriptor = os.open(os.path.join(folder, "busy"), os.O_WRONLY | os.O_CREAT, 0o600)
    recorder = open_recorder(folder)
    requests = 0
    while True:
        frames = subscriber.recv_multipart()
        if recorder is not None:
            recorder.message(frames)
        try:
            start = frames.index(b"<IDS|MSG>") + 2
            if json.loads(frames[start].decode())["msg_type"] != "status":
                continue
            if json.loads(frames[start + 1].decode()).get("msg_type", "") in MACHINE_TALK | {""}:
                continue
            state = json.loads(frames[start + 3].decode())["execution_state"]
        except (ValueError, KeyError, IndexError):
            continue
        requests += state == "busy"
        os.pwrite(descriptor, b"%s %-12d\n" % (state.encode(), requests), 0)


def oom_kills():
    """How many processes the kernel of the machine has killed here for want of memory."""
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


def write(path, text):
    draft = "%s.%d" % (path, os.getpid())
    with open(draft, "w") as file:
        file.write(text)
    os.replace(draft, path)


def remove(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def end_leftovers():
    """Kernels of a kernel host that died have nobody to answer for them any more."""
    folder = os.path.join(HERE, "k")
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
            # a process that is gone may have left its group, whose number is not used again
            if started_at(pid) in ("", start):
                os.killpg(int(pid), signal.SIGKILL)
        except OSError:
            pass
        write(path, json.dumps({"code": -9, "oom": False}))


def take_lock():
    """The lock of the one kernel host of a session, or None where another holds it.

    Whoever asks whether it is held holds it for a moment.
    """
    lock = os.open(os.path.join(HERE, "kernelhost.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    os.set_inheritable(lock, False)
    deadline = time.monotonic() + LOCK_PATIENCE_S
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
        run_ipykernel(sys.argv[2], sys.argv[3:])
        return
    lock = take_lock()
    if lock is None:
        return
    gc.disable()
    end_leftovers()
    host = KernelHost(lock)
    try:
        host.preload()
        host.serve()
    except Forked as forked:
        become = forked.become
    del host  # the child's own world begins here, and ends as any program's does
    become()


if __name__ == "__main__":
    main()
