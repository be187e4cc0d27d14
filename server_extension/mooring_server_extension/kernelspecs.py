"""The kernelspecs of a server: of its sessions, and of servers that have no others."""

from __future__ import annotations

import inspect
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from mooring import (
    PACKAGED_KERNELSPEC,
    PROVISIONER,
    Mooring,
    Session,
    installed_kernelspecs,
    kernelspec_document,
)

# Followed by the session's name
PREFIX = "mooring-session-"


class SessionKernelSpecManager(KernelSpecManager):
    """Knows the kernelspecs whose kernels run in sessions, and no others.

    The traits ``allowed_kernelspecs`` and ``ensure_native_kernel`` of the base class only hide
    kernelspecs: a client that names one of this machine starts its kernel all the same. Here it
    does not exist. For ``c.ServerApp.kernel_spec_manager_class``.
    """

    def find_kernel_specs(self) -> dict[str, str]:
        """Return the folders of the kernelspecs, by name."""
        return {
            name: folder
            for name, folder in super().find_kernel_specs().items()
            if self._runs_in_session(name)
        }

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return a kernelspec; raises NoSuchKernel for one whose kernels run on this machine."""
        spec = super().get_kernel_spec(kernel_name)
        allowed = self.allowed_kernelspecs
        if _provisioner(spec) != PROVISIONER or (allowed and kernel_name not in allowed):
            raise NoSuchKernel(kernel_name)
        return spec

    def _runs_in_session(self, name: str) -> bool:
        try:
            return _provisioner(super().get_kernel_spec(name)) == PROVISIONER
        except (NoSuchKernel, OSError, ValueError):
            return False


def _provisioner(spec: KernelSpec) -> object:
    provisioner = spec.metadata.get("kernel_provisioner")
    return provisioner.get("provisioner_name") if isinstance(provisioner, dict) else None


class SessionKernelspecs:
    """Adds to a server's kernelspecs one for each session that is there to be attached to.

    So a notebook can be attached to a session wherever a client offers kernelspecs, shows its
    session as its kernel, and comes back to that session when it is opened again. They exist in
    the server alone, and are known from the sessions' records: the engine is not contacted.

    Sessions that were created for a kernel have none, for they end with it, and neither have those
    that an installed kernelspec shares by their name.

    Args:
        manager: the server's kernelspec manager; without the packaged kernelspec there, as where
            its ``allowed_kernelspecs`` leaves that out, no session has one.
        mooring: the core.
    """

    def __init__(self, manager: Any, mooring: Mooring) -> None:
        self._manager, self._mooring = manager, mooring
        self._get_kernel_spec = manager.get_kernel_spec
        self._get_all_specs = manager.get_all_specs

    def offer(self) -> None:
        """Wrap the two methods of the manager that clients' requests and kernels' starts call.

        No effect on the manager of a server whose kernels run on a gateway, which is asynchronous.
        """
        if inspect.iscoroutinefunction(self._get_all_specs):
            return
        self._manager.get_kernel_spec = self.get_kernel_spec
        self._manager.get_all_specs = self.get_all_specs

    def get_all_specs(self) -> dict[str, Any]:
        """Return all kernelspecs, by name, with those of the sessions."""
        specs: dict[str, Any] = self._get_all_specs()
        folder = specs.get(PACKAGED_KERNELSPEC, {}).get("resource_dir")
        if folder is None:
            return specs
        shared = _sharing()
        for session in self._mooring.sessions.unknown():
            if _has_own(self._mooring, session) and len(shared.get(session.name, ())) != 1:
                spec = _kernelspec(session, folder).to_dict()
                specs[PREFIX + session.name] = {"resource_dir": folder, "spec": spec}
        return specs

    def get_kernel_spec(self, kernel_name: str, *args: Any, **kwargs: Any) -> Any:
        """Return a kernelspec; raises NoSuchKernel if neither the manager nor a session has it."""
        if not kernel_name.startswith(PREFIX):
            return self._get_kernel_spec(kernel_name, *args, **kwargs)
        folder = self._get_kernel_spec(PACKAGED_KERNELSPEC).resource_dir
        for session in self._mooring.sessions.unknown():
            if PREFIX + session.name == kernel_name:
                return _kernelspec(session, folder)
        raise NoSuchKernel(kernel_name)


def kernelspec_of(mooring: Mooring, session: Session) -> str:
    """Return the name of the kernelspec of new kernels in a session that can run kernels.

    It leads a notebook back to the session: the installed one that shares the session by its name,
    or the session's own. A session that ends with its kernels has the one of its first kernel.
    """
    if not _has_own(mooring, session):
        names = [record.kernel_name for record in mooring.kernels.owners.of(session.id)]
        return names[0] if names else PACKAGED_KERNELSPEC
    shared = _sharing().get(session.name, [])
    return shared[0] if len(shared) == 1 else PREFIX + session.name


def _has_own(mooring: Mooring, session: Session) -> bool:
    stays = not mooring.records.ends_with_kernels(session)
    return stays and mooring.kernels.can_run(session)


def _sharing() -> dict[str, list[str]]:
    """Return the names of the installed kernelspecs that share a session, by its name."""
    shared: dict[str, list[str]] = {}
    for spec in installed_kernelspecs():
        shared.setdefault(str(spec.config.get("session") or ""), []).append(spec.name)
    return shared


def _kernelspec(session: Session, folder: str) -> KernelSpec:
    """Return a session's own kernelspec; its display name is ``Session train (pytorch:2.4)``."""
    image = session.image.partition("@")[0].rpartition("/")[2]
    content = kernelspec_document(
        display_name=f"Session {session.name} ({'host image' if image == 'host' else image})",
        kernel=session.declared.get("kernel") or "python3",
        config={"session_id": session.id},
    )
    return KernelSpec(resource_dir=folder, **content)
