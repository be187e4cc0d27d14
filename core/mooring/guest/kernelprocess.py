"""Code of a process forked by the kernel host: it becomes a kernel or a kernel's watcher.

Like ``kernelhost.py``, which loads it and documents its files, it runs on the image's Python
(3.8 or newer) and does not use mooring.

A Python kernel has the session's secrets in os.environ; other kernels read them from
/run/secrets, because the environment of a new program is readable in /proc.
"""

import atexit
import gc
import json
import os
import re
import signal
import site
import sys
import sysconfig
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
SECRETS = "/run/secrets"
SITES = ("site-packages", "dist-packages")
# Requests that clients send automatically
MACHINE_TALK = {"kernel_info_request", "comm_info_request", "history_request", "connect_request"}
PR_SET_PDEATHSIG = 1


def become_kernel(folder, request, command, extra_env, recorder):
    """Run a kernel in this process until it exits.

    Args:
        folder: the kernel's.
        request: ``start``, see kernelhost.py.
        command: replaces this process; empty to run ipykernel in it.
        extra_env: the kernelspec's variables.
        recorder: the module ``recorder.py``; None not to record.
    """
    os.setsid()
    prepare(folder, request, extra_env)
    arguments = [fill(text, folder) for text in request.get("arguments") or []]
    if not command:
        run_ipykernel(folder, arguments, recorder)
        return
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it; exec keeps that
    try:
        os.execvpe(command[0], command + arguments, os.environ)
    except OSError as error:
        sys.exit("%s: %s" % (command[0], error.strerror))


def prepare(folder, request, extra_env):
    """Set up files, environment variables and the current folder of a kernel."""
    write(os.path.join(folder, "pid"), "%d %s\n" % (os.getpid(), started_at("self")))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # the OOM killer prefers the kernel to the clock
    except OSError:
        pass
    os.environ.update(request.get("given") or {})
    expand_into_environ(extra_env)
    expand_into_environ(request.get("env") or {})
    os.environ["JPY_PARENT_PID"] = str(os.getppid())  # ipykernel exits when its parent does
    enter(folder, request.get("cwd") or ".", request.get("cwd_optional"))


def enter(folder, path, optional):
    """Make a folder the current one; if that fails, write ``elsewhere``, see kernelhost.py."""
    try:
        os.chdir(path)
    except OSError as error:
        if not optional:
            what = "%s cannot be used in this session (%s)" % (path, error.strerror)
            write(os.path.join(folder, "elsewhere"), "%s: the kernel runs in %s" % (what, here()))


def here():
    """The current folder; a dot if it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return "."


def expand_into_environ(variables):
    """Set the variables of a kernelspec, in which ${NAME} is a variable's value, as in Jupyter."""
    expanded = {}
    for name, text in variables.items():
        if "$" in text:
            from string import Template

            text = Template(text).safe_substitute(os.environ)
        expanded[name] = text
    os.environ.update(expanded)


def fill(text, folder, resource_dir=None):
    """Fill in the placeholders of an argument, {connection_file} and the like, as Jupyter does."""
    known = {"connection_file": os.path.join(folder, "c.json"), "prefix": sys.prefix}
    if resource_dir is not None:
        known["resource_dir"] = resource_dir
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found.group(1), found.group()), text)


def die_with(parent):
    """Make the system kill this process when its parent dies."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except Exception:
        return  # ipykernel polls for its parent every second
    if os.getppid() != parent:
        os._exit(1)


def started_at(pid):
    """The start time of a process in clock ticks since boot; empty if it does not exist."""
    try:
        with open("/proc/%s/stat" % pid, "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def make_user_site():
    """Create the user's folder of packages, if pip installs there by default.

    Python does not look into one that did not exist when it started.
    """
    if not site.ENABLE_USER_SITE or os.access(sysconfig.get_path("purelib"), os.W_OK):
        return
    folder = site.getusersitepackages()
    try:
        os.makedirs(folder)
    except OSError:  # it exists, or pip cannot create it either
        return
    sites = [index for index, path in enumerate(sys.path) if path.endswith(SITES)]
    sys.path.insert(sites[0] if sites else len(sys.path), folder)


def installed():
    """The folders that packages are installed in, and when each was last changed."""
    folders = [path for path in sys.path if path.endswith(SITES)]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    changed = {}
    for folder in folders:
        try:
            changed[folder] = os.stat(folder).st_mtime_ns
        except OSError:  # it does not exist yet
            pass
    return changed


def read_secrets():
    """Read the session's secrets into os.environ, which /proc/PID/environ does not show."""
    try:
        for name in os.listdir(SECRETS):
            with open(os.path.join(SECRETS, name)) as file:
                os.environ[name] = file.read()
    except OSError:
        pass


def can_encrypt():
    """Whether the image's ipykernel can encrypt its sockets."""
    import ipykernel

    return ipykernel.version_info >= (7,)  # type: ignore[attr-defined]


def run_ipykernel(folder, arguments, recorder):
    """Become ``python -m ipykernel_launcher -f c.json``."""
    from ipykernel import kernelapp

    read_secrets()
    record_state(folder)
    record_output(folder, recorder)
    warn_in_first_cell(folder)
    if "numpy.random" in sys.modules:  # kernels must not share its state
        sys.modules["numpy.random"].seed()
    connection_file = os.path.join(folder, "c.json")
    launcher = os.path.join(os.path.dirname(os.path.dirname(kernelapp.__file__)), "")
    sys.argv = [launcher + "ipykernel_launcher.py", "-f", connection_file] + arguments
    gc.enable()
    kernelapp.launch_new_instance()


def record_state(folder):
    """Make the kernel record whether it is busy, for the clock."""
    from ipykernel.kernelbase import Kernel

    descriptor = os.open(os.path.join(folder, "busy"), os.O_WRONLY | os.O_CREAT, 0o600)
    original = Kernel._publish_status
    requests = [0]

    def publish_status(self, status, *args, **kwargs):
        original(self, status, *args, **kwargs)
        # (channel, parent) since ipykernel 6, (parent) before
        values = list(args) + list(kwargs.values())
        channel = next((value for value in values if isinstance(value, str)), "shell")
        parent = next((value for value in values if isinstance(value, dict)), None)
        header = (self.get_parent(channel) if parent is None else parent).get("header") or {}
        if channel != "shell" or header.get("msg_type", "") in MACHINE_TALK | {""}:
            return
        if status == "busy":
            requests[0] += 1
        write_state(descriptor, status, requests[0], header)

    Kernel._publish_status = publish_status  # type: ignore[method-assign]


def write_state(descriptor, state, requests, header):
    """Write ``busy``, see kernelhost.py; it has the same length whenever it is written."""
    running = state == "busy" and header.get("msg_type") == "execute_request"
    request = str(header.get("msg_id", "")) if running else ""
    line = "%s %-12d\n%-100.100s\n" % (state, requests, request)
    os.pwrite(descriptor, line.encode("ascii", "replace"), 0)


def record_output(folder, recorder):
    """Make the kernel record its iopub messages, with the notebook's cell ids."""
    records = open_recorder(folder, recorder)
    if records is None:
        return
    from ipykernel.iostream import IOPubThread
    from ipykernel.kernelbase import Kernel

    really_send = IOPubThread._really_send
    publish_execute_input = Kernel._publish_execute_input

    def send_and_record(self, msg, *args, **kwargs):
        really_send(self, msg, *args, **kwargs)
        in_its_loop = threading.current_thread() is self.thread
        records.message(msg, self.io_loop.call_later if in_its_loop else None)

    def publish_and_note_cell(self, code, parent, execution_count):
        try:
            cell = parent["metadata"].get("cellId")
            if isinstance(cell, str) and len(records.cells) < 1000:
                records.cells[parent["header"]["msg_id"].encode()] = cell
        except (KeyError, TypeError, AttributeError):
            pass
        publish_execute_input(self, code, parent, execution_count)

    IOPubThread._really_send = send_and_record  # type: ignore[method-assign]
    atexit.register(records.flush)  # before ipykernel's own, so called after them
    Kernel._publish_execute_input = publish_and_note_cell  # type: ignore[method-assign]


def warn_in_first_cell(folder):
    """Make the first cell say what is not as it was asked for, a line each.

    It says if the kernel does not run in the folder that its client named, and what could not be
    preloaded.
    """
    text = ""
    for path in (os.path.join(folder, "elsewhere"), os.path.join(folder, "../../preload")):
        try:
            with open(path) as file:
                text += "".join("mooring: %s\n" % line for line in file.read().splitlines())
        except OSError:
            continue
    if not text:
        return
    from ipykernel.kernelbase import Kernel

    publish_execute_input = Kernel._publish_execute_input

    def publish_and_warn(self, code, parent, execution_count):
        publish_execute_input(self, code, parent, execution_count)
        if execution_count == 1:
            content = {"name": "stderr", "text": text}
            self.session.send(
                self.iopub_socket, "stream", content, parent=parent, ident=self._topic("stream")
            )

    Kernel._publish_execute_input = publish_and_warn  # type: ignore[method-assign]


def open_recorder(folder, recorder):
    """A ``Recorder`` of a kernel's output; None if recording is off."""
    limit = 0
    try:
        with open(os.path.join(HERE, "settings")) as file:
            for line in file:
                key, _, text = line.partition(" ")
                if key == "record_bytes":
                    limit = int(text)
        return recorder.Recorder(folder, limit) if recorder and limit else None
    except (OSError, ValueError):
        return None


def find_command(name, folder):
    """The command and environment variables of a kernelspec. Raises LookupError."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager()
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        # without mooring's own, which would start another session
        names = ", ".join(
            other
            for other, found in sorted(manager.get_all_specs().items())
            if "kernel_provisioner" not in found["spec"].get("metadata", {})
        )
        raise LookupError(
            "no kernel %r in this image (it has: %s)" % (name, names or "none")
        ) from None
    command = [fill(part, folder, spec.resource_dir) for part in spec.argv]
    version = sys.version_info
    if command[0] in ("python", "python%d" % version[0], "python%d.%d" % version[:2]):
        command[0] = sys.executable
    return command, dict(spec.env)


def watch(folder, recorder):
    """Record whether a non-Python kernel is busy, and its output, until killed."""
    subscriber = subscribe(folder)
    write(os.path.join(folder, "watched"), "")
    descriptor = os.open(os.path.join(folder, "busy"), os.O_WRONLY | os.O_CREAT, 0o600)
    records = open_recorder(folder, recorder)
    requests = 0
    while True:
        frames = subscriber.recv_multipart()
        if records is not None:
            records.message(frames)
        try:
            start = frames.index(b"<IDS|MSG>") + 2
            if json.loads(frames[start].decode())["msg_type"] != "status":
                continue
            parent = json.loads(frames[start + 1].decode())
            if parent.get("msg_type", "") in MACHINE_TALK | {""}:
                continue
            state = json.loads(frames[start + 3].decode())["execution_state"]
        except (ValueError, KeyError, IndexError):
            continue
        requests += state == "busy"
        write_state(descriptor, state, requests, parent)


def subscribe(folder):
    """A socket connected to a kernel's iopub channel; blocks until the kernel is up."""
    import zmq

    with open(os.path.join(folder, "c.json")) as file:
        info = json.load(file)
    subscriber = zmq.Context().socket(zmq.SUB)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.setsockopt(zmq.RCVHWM, 0)  # the kernel may send faster than this writes
    if info.get("curve_publickey"):
        subscriber.curve_serverkey = info["curve_publickey"].encode()
        subscriber.curve_publickey = info["curve_publickey"].encode()
        subscriber.curve_secretkey = info["curve_secretkey"].encode()
    subscriber.setsockopt(zmq.RECONNECT_IVL, 10)  # the socket may not exist yet
    connected = getattr(zmq, "EVENT_HANDSHAKE_SUCCEEDED", zmq.EVENT_CONNECTED)
    monitor = subscriber.get_monitor_socket(connected)
    subscriber.connect("ipc://%s-%d" % (info["ip"], info["iopub_port"]))
    monitor.recv_multipart()
    subscriber.disable_monitor()
    return subscriber


def write(path, text):
    """Replace a file atomically."""
    draft = "%s.%d" % (path, os.getpid())
    with open(draft, "w") as file:
        file.write(text)
    os.replace(draft, path)
