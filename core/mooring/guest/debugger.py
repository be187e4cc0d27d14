"""ipykernel's debugger, for which debugpy is imported when it is first used.

debugpy takes a third of the time of a kernel's imports, and most kernels are never debugged. Of it,
ipykernel needs ``_pydevd_bundle`` to list variables, and ``debugpy`` itself to start the debugger.

Like ``kernelhost.py``, which loads it, it runs on the image's Python (3.8 or newer) and does not
use mooring.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
import types

# What ``ipykernel.debugger`` imports of debugpy: names by module
IMPORTED = {
    "debugpy": (),
    "debugpy.server": ("api",),
    "_pydevd_bundle": ("pydevd_frame_utils",),
    "_pydevd_bundle.pydevd_suspended_frames": ("SuspendedFramesManager", "_FramesTracker"),
}
QUIET = "PYDEVD_DISABLE_FILE_VALIDATION"


def defer():
    """Import ``ipykernel.debugger``, and debugpy only when a client debugs or lists variables.

    Call it before ipykernel is imported. Nothing is done without debugpy; and if the image's
    ipykernel is not one that is known, both are imported at once.
    """
    if {"debugpy", "pydevd", "ipykernel.debugger"} & set(sys.modules):
        return
    if importlib.util.find_spec("debugpy") is None:
        return
    import ipykernel

    empty = {name: types.ModuleType(name) for name in IMPORTED}
    for name, module in empty.items():
        module.__path__ = []
        for part in IMPORTED[name]:
            setattr(module, part, None)
    sys.modules.update(empty)
    try:
        debugger = importlib.import_module("ipykernel.debugger")
        explorer, start = debugger.VariableExplorer, debugger.Debugger.start
    except (ImportError, AttributeError):
        explorer = start = None
    finally:
        for name in empty:
            del sys.modules[name]
    if explorer is None:
        sys.modules.pop("ipykernel.debugger", None)
        vars(ipykernel).pop("debugger", None)
        with quiet(), contextlib.suppress(Exception):
            importlib.import_module("ipykernel.debugger")
        return
    debugger.VariableExplorer = deferred(debugger, explorer)  # type: ignore[attr-defined]

    def start_quietly(self):
        with quiet():
            return start(self)

    debugger.Debugger.start = start_quietly


def deferred(debugger, explorer):
    """The class of variable explorers until one is used.

    Args:
        debugger: the module ``ipykernel.debugger``.
        explorer: its own class.
    """

    class DeferredExplorer(explorer):  # type: ignore[misc, valid-type]
        def __init__(self):
            pass

        def __getattr__(self, name):  # called for what __init__ has not set
            if name.startswith("__"):
                raise AttributeError(name)
            complete(debugger)
            debugger.VariableExplorer = self.__class__ = explorer
            before = dict(self.__dict__)
            explorer.__init__(self)
            self.__dict__.update(before)
            return getattr(self, name)

    return DeferredExplorer


def complete(debugger):
    """Import debugpy, and give ``ipykernel.debugger`` what it imports of it."""
    with quiet():
        for name, parts in IMPORTED.items():  # debugpy.server puts _pydevd_bundle on sys.path
            module = __import__(name, fromlist=parts)
            for part in parts:
                setattr(debugger, part, getattr(module, part))


@contextlib.contextmanager
def quiet():
    """Context manager in which debugpy prints no warning when it is imported."""
    if QUIET in os.environ:
        yield
        return
    os.environ[QUIET] = "1"
    try:
        yield
    finally:
        del os.environ[QUIET]
