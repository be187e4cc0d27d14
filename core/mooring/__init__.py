"""mooring: containers declared once, opened as notebook kernels and as shells.

All public names are here; each is imported when it is first used, so that ``import mooring`` costs
nothing on the command line.
"""

from __future__ import annotations

from mooring._version import __version__

TYPE_CHECKING = False  # as type checkers have it; the terminals' keeper does without typing

# Where each name is defined; "name:public" where it has another name there
_DEFINED_IN = {
    "mooring.client.client": "Mooring",
    "mooring.client.doctor": "Finding examine",
    "mooring.client.files": "Files size_of",
    "mooring.client.gpus": "Gpus",
    "mooring.client.kernels": "Kernels",
    "mooring.client.leases": "Leases",
    "mooring.client.leftovers": "StateFiles",
    "mooring.client.port_forward": "Forwarder parse:parse_port",
    "mooring.client.ports": "Ports",
    "mooring.client.records": "Records",
    "mooring.client.sessions": "Sessions",
    "mooring.client.terminals": "Terminals",
    "mooring.engines.base": (
        "Bind Container ContainerConfig ContainerDetail DeviceRequest Engine EngineInfo "
        "PullProgress ResourceLimits Stream"
    ),
    "mooring.engines.capabilities": (
        "SupportsAttach SupportsBinds SupportsDetachedExec SupportsGpus SupportsImageNames "
        "SupportsImport "
        "SupportsLateNetwork SupportsLimits SupportsOomEvents SupportsPublishedPorts "
        "SupportsRecreate require"
    ),
    "mooring.engines.labels": "container_name",
    "mooring.errors": (
        "Cancelled CommandError EngineError EngineUnavailable ImageError KernelError "
        "MooringError NoCapacity NotSupported PolicyError PortTaken SessionExists "
        "SessionNotFound SessionStateError SessionTimeout SpecError TrustRequired"
    ),
    "mooring.files.copier": "Copier",
    "mooring.files.paths": "CopyError Place",
    "mooring.files.stopped": "StoppedCopier",
    "mooring.gpus.claims": "Claim Request",
    "mooring.gpus.inventory": "Gpu GpuProcess inventory",
    "mooring.gpus.queue": "Waiting",
    "mooring.gpus.usage": "GpuUse Holder",
    "mooring.guest.clock": "ClockStatus StopReason",
    "mooring.guest.fake_engine": "FakeEngine",
    "mooring.host.environment": "minimal_environment",
    "mooring.host.paths": "Installation current_dir",
    "mooring.host.peers": "is_our_own",
    "mooring.host.processes": "process_mark stat_fields",
    "mooring.host.text": "quoted",
    "mooring.host.users": "User caller",
    "mooring.images.mounts": "Grant MountPlan",
    "mooring.kernels.connection": "CHANNELS Connection",
    "mooring.kernels.kernel": "KernelHandle",
    "mooring.kernels.kernelspecs": (
        "PACKAGED:PACKAGED_KERNELSPEC PROVISIONER document:kernelspec_document "
        "install:install_kernelspec Installed:InstalledKernelspec "
        "installed:installed_kernelspecs remove:remove_kernelspec"
    ),
    "mooring.kernels.listing": "KernelEntry",
    "mooring.kernels.recording": "BUNDLES Message Reader Recording",
    "mooring.launch.create": "Created",
    "mooring.launch.options": "LaunchOptions",
    "mooring.launch.plan": "LaunchPlan",
    "mooring.launch.wait": "Wait",
    "mooring.policy.defaults": "for_kernelspec resolve",
    "mooring.policy.limits": "POLICY_FILE Policy load:load_policy",
    "mooring.sessions.history": "Event History PastSession",
    "mooring.sessions.home": "HomeFiles",
    "mooring.sessions.kernel_owners": "KernelOwners KernelRecord Ownership short_id",
    "mooring.sessions.kernels": "AdoptedKernel",
    "mooring.sessions.lease": "Lease",
    "mooring.sessions.model": "FIELDS LAUNCHING Session State from_history",
    "mooring.sessions.reconcile": "Repairs",
    "mooring.sessions.update": "parse:parse_limits",
    "mooring.sessions.waiting": "Ending",
    "mooring.launch.takeover": "RestartTimes Successor",
    "mooring.spec.profiles": "profile_files",
    "mooring.spec.model": "EXTENDS SessionSpec",
    "mooring.spec.resolve": "ResolvedSpec flag_of profiles_dir user_config_path",
    "mooring.spec.schema": "SCHEMA_FILE",
    "mooring.spec.units": (
        "duration_pattern format_duration format_size parse_duration parse_size"
    ),
    "mooring.spec.yamlfile": "SpecDocument load:load_spec_file",
    "mooring.ssh.config_file": "SshConfigFile",
    "mooring.ssh.host_key": "host_key:ssh_host_key",
    "mooring.ssh.server": "serve:serve_ssh",
    "mooring.terminals.attach": "Attachment",
    "mooring.terminals.listing": "TerminalEntry unattached",
    "mooring.terminals.pump": "connect exit_code in_background is_interactive key_codes raw "
    "terminal_size",
    "mooring.terminals.terminal": "PersistentTerminal",
}
_HOMES = {
    name.rpartition(":")[2]: (module, name.partition(":")[0])
    for module, names in _DEFINED_IN.items()
    for name in names.split()
}

__all__ = [
    "BUNDLES",
    "CHANNELS",
    "EXTENDS",
    "FIELDS",
    "LAUNCHING",
    "PACKAGED_KERNELSPEC",
    "POLICY_FILE",
    "PROVISIONER",
    "SCHEMA_FILE",
    "AdoptedKernel",
    "Attachment",
    "Bind",
    "Cancelled",
    "Claim",
    "ClockStatus",
    "CommandError",
    "Connection",
    "Container",
    "ContainerConfig",
    "ContainerDetail",
    "Copier",
    "CopyError",
    "Created",
    "DeviceRequest",
    "Ending",
    "Engine",
    "EngineError",
    "EngineInfo",
    "EngineUnavailable",
    "Event",
    "FakeEngine",
    "Files",
    "Finding",
    "Forwarder",
    "Gpu",
    "GpuProcess",
    "GpuUse",
    "Gpus",
    "Grant",
    "History",
    "Holder",
    "HomeFiles",
    "ImageError",
    "Installation",
    "InstalledKernelspec",
    "KernelEntry",
    "KernelError",
    "KernelHandle",
    "KernelOwners",
    "KernelRecord",
    "Kernels",
    "LaunchOptions",
    "LaunchPlan",
    "Lease",
    "Leases",
    "Message",
    "Mooring",
    "MooringError",
    "MountPlan",
    "NoCapacity",
    "NotSupported",
    "Ownership",
    "PastSession",
    "PersistentTerminal",
    "Place",
    "Policy",
    "PolicyError",
    "PortTaken",
    "Ports",
    "PullProgress",
    "Reader",
    "Recording",
    "Records",
    "Repairs",
    "Request",
    "ResolvedSpec",
    "ResourceLimits",
    "RestartTimes",
    "Session",
    "SessionExists",
    "SessionNotFound",
    "SessionSpec",
    "SessionStateError",
    "SessionTimeout",
    "Sessions",
    "SpecDocument",
    "SpecError",
    "State",
    "StateFiles",
    "StopReason",
    "StoppedCopier",
    "Stream",
    "Successor",
    "SupportsAttach",
    "SupportsBinds",
    "SupportsDetachedExec",
    "SupportsGpus",
    "SupportsImageNames",
    "SupportsImport",
    "SupportsLateNetwork",
    "SupportsLimits",
    "SupportsOomEvents",
    "SupportsPublishedPorts",
    "SupportsRecreate",
    "TerminalEntry",
    "Terminals",
    "TrustRequired",
    "User",
    "Wait",
    "Waiting",
    "__version__",
    "caller",
    "connect",
    "container_name",
    "current_dir",
    "duration_pattern",
    "examine",
    "exit_code",
    "flag_of",
    "for_kernelspec",
    "format_duration",
    "format_size",
    "from_history",
    "in_background",
    "install_kernelspec",
    "installed_kernelspecs",
    "inventory",
    "is_interactive",
    "is_our_own",
    "kernelspec_document",
    "key_codes",
    "load_policy",
    "load_spec_file",
    "minimal_environment",
    "parse_duration",
    "parse_limits",
    "parse_port",
    "parse_size",
    "process_mark",
    "profile_files",
    "profiles_dir",
    "quoted",
    "raw",
    "remove_kernelspec",
    "require",
    "resolve",
    "short_id",
    "size_of",
    "stat_fields",
    "terminal_size",
    "unattached",
    "user_config_path",
]

if TYPE_CHECKING:
    from typing import Any

    from mooring.client.client import Mooring
    from mooring.client.doctor import Finding, examine
    from mooring.client.files import Files, size_of
    from mooring.client.gpus import Gpus
    from mooring.client.kernels import Kernels
    from mooring.client.leases import Leases
    from mooring.client.leftovers import StateFiles
    from mooring.client.port_forward import Forwarder
    from mooring.client.port_forward import parse as parse_port
    from mooring.client.ports import Ports
    from mooring.client.records import Records
    from mooring.client.sessions import Sessions
    from mooring.client.terminals import Terminals
    from mooring.engines.base import (
        Bind,
        Container,
        ContainerConfig,
        ContainerDetail,
        DeviceRequest,
        Engine,
        EngineInfo,
        PullProgress,
        ResourceLimits,
        Stream,
    )
    from mooring.engines.capabilities import (
        SupportsAttach,
        SupportsBinds,
        SupportsDetachedExec,
        SupportsGpus,
        SupportsImageNames,
        SupportsImport,
        SupportsLateNetwork,
        SupportsLimits,
        SupportsOomEvents,
        SupportsPublishedPorts,
        SupportsRecreate,
        require,
    )
    from mooring.engines.labels import container_name
    from mooring.errors import (
        Cancelled,
        CommandError,
        EngineError,
        EngineUnavailable,
        ImageError,
        KernelError,
        MooringError,
        NoCapacity,
        NotSupported,
        PolicyError,
        PortTaken,
        SessionExists,
        SessionNotFound,
        SessionStateError,
        SessionTimeout,
        SpecError,
        TrustRequired,
    )
    from mooring.files.copier import Copier
    from mooring.files.paths import CopyError, Place
    from mooring.files.stopped import StoppedCopier
    from mooring.gpus.claims import Claim, Request
    from mooring.gpus.inventory import Gpu, GpuProcess, inventory
    from mooring.gpus.queue import Waiting
    from mooring.gpus.usage import GpuUse, Holder
    from mooring.guest.clock import ClockStatus, StopReason
    from mooring.guest.fake_engine import FakeEngine
    from mooring.host.environment import minimal_environment
    from mooring.host.paths import Installation, current_dir
    from mooring.host.peers import is_our_own
    from mooring.host.processes import process_mark, stat_fields
    from mooring.host.text import quoted
    from mooring.host.users import User, caller
    from mooring.images.mounts import Grant, MountPlan
    from mooring.kernels.connection import CHANNELS, Connection
    from mooring.kernels.kernel import KernelHandle
    from mooring.kernels.kernelspecs import PACKAGED as PACKAGED_KERNELSPEC
    from mooring.kernels.kernelspecs import PROVISIONER
    from mooring.kernels.kernelspecs import Installed as InstalledKernelspec
    from mooring.kernels.kernelspecs import document as kernelspec_document
    from mooring.kernels.kernelspecs import install as install_kernelspec
    from mooring.kernels.kernelspecs import installed as installed_kernelspecs
    from mooring.kernels.kernelspecs import remove as remove_kernelspec
    from mooring.kernels.listing import KernelEntry
    from mooring.kernels.recording import BUNDLES, Message, Reader, Recording
    from mooring.launch.create import Created
    from mooring.launch.options import LaunchOptions
    from mooring.launch.plan import LaunchPlan
    from mooring.launch.takeover import RestartTimes, Successor
    from mooring.launch.wait import Wait
    from mooring.policy.defaults import for_kernelspec, resolve
    from mooring.policy.limits import POLICY_FILE, Policy
    from mooring.policy.limits import load as load_policy
    from mooring.sessions.history import Event, History, PastSession
    from mooring.sessions.home import HomeFiles
    from mooring.sessions.kernel_owners import KernelOwners, KernelRecord, Ownership, short_id
    from mooring.sessions.kernels import AdoptedKernel
    from mooring.sessions.lease import Lease
    from mooring.sessions.model import FIELDS, LAUNCHING, Session, State, from_history
    from mooring.sessions.reconcile import Repairs
    from mooring.sessions.update import parse as parse_limits
    from mooring.sessions.waiting import Ending
    from mooring.spec.model import EXTENDS, SessionSpec
    from mooring.spec.profiles import profile_files
    from mooring.spec.resolve import ResolvedSpec, flag_of, profiles_dir, user_config_path
    from mooring.spec.schema import SCHEMA_FILE
    from mooring.spec.units import (
        duration_pattern,
        format_duration,
        format_size,
        parse_duration,
        parse_size,
    )
    from mooring.spec.yamlfile import SpecDocument
    from mooring.spec.yamlfile import load as load_spec_file
    from mooring.terminals.attach import Attachment
    from mooring.terminals.listing import TerminalEntry, unattached
    from mooring.terminals.pump import (
        connect,
        exit_code,
        in_background,
        is_interactive,
        key_codes,
        raw,
        terminal_size,
    )
    from mooring.terminals.terminal import PersistentTerminal


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        module, attribute = _HOMES[name]
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mooring' has no attribute {name!r}")
