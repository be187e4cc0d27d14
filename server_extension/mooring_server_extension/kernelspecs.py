"""A kernelspec manager for servers whose kernels run in sessions only."""

from __future__ import annotations

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

from mooring import PROVISIONER


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
