"""The spec of a session as a strict, frozen Pydantic model."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from mooring.errors import Mistakes, NotSupported, SpecError
from mooring.host.text import one_line
from mooring.spec.fields import (
    HOST_IMAGE,
    MIB,
    RECORDED,
    Command,
    Cpus,
    Duration,
    EnvName,
    EnvValue,
    GpuCount,
    GpuModel,
    GpusOfAKind,
    GroupName,
    Image,
    KernelName,
    Memory,
    ModuleName,
    MountName,
    PathText,
    PidsLimit,
    Port,
    Priority,
    Record,
    SessionName,
    SmallMemory,
    Target,
    Truth,
    by_kind,
    scheme_of,
)

#: A key of spec files that is not in the model: the files it extends (`mooring.spec.extends`).
EXTENDS = "extends"
#: Environment variables that select a container's devices; mooring sets them according to `gpus`.
RESERVED_VARIABLES = frozenset({"NVIDIA_VISIBLE_DEVICES", "MOORING_GPU_UUIDS"})


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Mount(_Strict):
    """A folder or file of the user, mounted in the session under a name."""

    name: MountName = Field(
        description="Name under /mnt/inputs or /mnt/outputs: one path component, at most 100 "
        "characters. Default: the last component of the source."
    )
    source: PathText = Field(description="A path, relative to the project's folder, or a URL.")

    @model_validator(mode="before")
    @classmethod
    def _name_from_source(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"source": value}
        if isinstance(value, Mapping) and "name" not in value:
            source = value.get("source")
            if isinstance(source, str):
                if source and not source.strip("/"):
                    raise ValueError("would expose the host; give the folder with your data")
                name = source.rstrip("/").rpartition("/")[2]
                if name in ("", ".", "..", "~"):
                    raise ValueError(
                        "has no name of its own; write NAME=PATH, or {name: …, source: …}"
                    )
                value = {**value, "name": name}
        return value


Mounts = tuple[Mount, ...]


class GpuRequest(_Strict):
    """GPUs with at least some memory, or of a model."""

    count: GpusOfAKind = Field(
        default=1, description="The number of GPUs, or a share of one such as 0.5."
    )
    memory: SmallMemory | None = Field(
        default=None, description="Minimum memory of each GPU, in bytes or as 40GiB."
    )
    model: GpuModel | None = Field(
        default=None, description="Part of the model's name, such as A100."
    )


class BuildSpec(_Strict):
    """An image that is built first."""

    dockerfile: PathText = Field(
        default="Dockerfile", description="The Dockerfile, relative to the context."
    )
    context: PathText = Field(
        default=".", description="The build context, a folder relative to the project's folder."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"dockerfile": value} if isinstance(value, str) else value


class SecretSource(_Strict):
    """Where a secret comes from; both fields are None if only its name is known."""

    env: EnvName | None = Field(
        default=None, description="Your environment variable that holds the value."
    )
    file: PathText | None = Field(default=None, description="Your file that holds the value.")

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretSource:
        if (self.env is None) == (self.file is None):
            raise ValueError("must be {env: NAME} or {file: PATH}, exactly one of them")
        return self

    @classmethod
    def withheld(cls) -> SecretSource:
        """The source of a secret that was read from a label, which has names only."""
        return cls.model_construct(env=None, file=None)


Gpus = Annotated[
    Annotated[GpuCount, Tag("<number>")] | Annotated[GpuRequest, Tag("<mapping>")],
    by_kind("<mapping>", "<number>", (Mapping, GpuRequest)),
]


class SessionSpec(_Strict):
    """The declaration of a session."""

    name: SessionName | None = Field(
        default=None,
        description="The session's name: at most 40 lowercase letters, digits and dashes. "
        "Default: a generated name.",
    )
    image: Image = Field(
        default=HOST_IMAGE,
        description="host (this machine's own software, read-only), or an image such as "
        "python:3.12 or docker://quay.io/org/name:tag.",
    )
    build: BuildSpec | None = Field(
        default=None, description="Build the image from a Dockerfile instead of image."
    )
    pull: Literal["always", "missing", "never"] = Field(
        default="missing", description="When to pull the image."
    )
    kernel: KernelName | None = Field(
        default=None,
        description="The Jupyter kernel: python3, or the name of a kernel in the image. "
        "Default: none, a plain shell session.",
    )
    preload: tuple[ModuleName, ...] = Field(
        default=(),
        description="Installed Python modules that are imported once and are there in each "
        "python3 kernel, also after a restart: [torch, pandas].",
    )
    command: Command | None = Field(
        default=None,
        description="The main process: a command line for /bin/sh, or a list of arguments. The "
        "session ends when it exits.",
    )
    gpus: Gpus = Field(
        default=0,
        description="GPUs: a count, a share of one such as 0.5, or {count, memory, model}.",
    )
    cpus: Cpus | None = Field(
        default=None, description="CPU limit, in cores; 0.5 is half a core. Default: no limit."
    )
    memory: Memory | None = Field(
        default=None,
        description="Memory limit, in bytes or as 16GiB (512m is 512 MiB). Default: no limit.",
    )
    pids_limit: PidsLimit = Field(
        default=4096,
        description="Limit of processes and threads: at least 100; 0 or off for no limit.",
    )
    shm: SmallMemory | None = Field(
        default=None,
        description="Size of /dev/shm, in bytes or as 8GiB. Default: half of the memory.",
    )
    inputs: Mounts = Field(
        default=(), description="Read-only folders and files, under /mnt/inputs/NAME."
    )
    outputs: Mounts = Field(
        default=(), description="Read-write folders and files, under /mnt/outputs/NAME."
    )
    ports: tuple[Port, ...] = Field(
        default=(),
        description="Ports of the session, published on this machine's 127.0.0.1: 8080 on any "
        "free port, or 6006:6006 with this machine's port first.",
    )
    home: Truth = Field(default=False, description="Mount your home, writable.")
    groups: tuple[GroupName, ...] = Field(
        default=(),
        description="Further groups of yours that the session has. Default: your primary group, "
        "and those that own what is mounted.",
    )
    env: dict[EnvName, EnvValue] = Field(
        default_factory=dict, description="Environment variables: NAME: value."
    )
    secrets: dict[EnvName, SecretSource] = Field(
        default_factory=dict,
        description="Secrets by name, each from {env: NAME} or {file: PATH}; values are never "
        "stored.",
    )
    idle_timeout: Duration = Field(
        default=3600.0,
        json_schema_extra={"default": "1h"},
        description="Stop after this long without activity: 30m; 0 or off for never.",
    )
    max_duration: Duration = Field(
        default=0.0,
        json_schema_extra={"default": "off"},
        description="Stop after this long, active or not: 8h; 0 or off for never. Without it, a "
        "session that a kernelspec creates stops after 7d.",
    )
    priority: Priority = Field(
        default=0,
        description="Priority in the GPU queue, -100 to 100; higher goes first.",
    )
    target: Target = Field(
        default="local", description="Where the session runs; local is this machine's engine."
    )
    encrypt: Literal["auto", "always"] = Field(
        default="auto",
        description="Encrypt the kernel's sockets if bytes leave the machine (auto), or always.",
    )
    record: Record = Field(
        default=16 * MIB,
        description="How much output of each kernel to keep for clients that reconnect, in bytes "
        "or as 16MiB, at most 64MiB; the oldest is dropped first; 0 or off for none.",
    )
    distribution: dict[str, Any] | None = Field(
        default=None, description="Azure ML's key for a session on several nodes."
    )

    @model_validator(mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        return canonical(value) if isinstance(value, Mapping) else value

    @field_validator("inputs", "outputs", mode="before")
    @classmethod
    def _items(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [item.strip() for item in value.split(",")]
        return () if value is None else value

    @field_validator("env", "secrets", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("inputs", "outputs")
    @classmethod
    def _unique(cls, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
        seen: set[str] = set()
        for mount in mounts:
            if mount.name in seen:
                raise ValueError(f"has the name {mount.name} twice; rename one of them")
            seen.add(mount.name)
        return mounts

    @field_validator("ports")
    @classmethod
    def _one_each(cls, ports: tuple[str, ...]) -> tuple[str, ...]:
        numbers = [port.partition(":")[0] for port in ports]
        for number in numbers:
            if number != "0" and numbers.count(number) > 1:
                raise ValueError(f"has port {number} of this machine twice; use another one")
        return ports

    @field_validator("command")
    @classmethod
    def _not_empty(cls, value: str | list[str] | None) -> str | list[str] | None:
        if value is not None and not (value[0] if isinstance(value, list) and value else value):
            raise ValueError("must not be empty; omit it for the default")
        return value

    @model_validator(mode="after")
    def _together(self) -> SessionSpec:
        if self.build is not None and self.image != HOST_IMAGE:
            raise ValueError("image and build are both given; keep one")
        reserved = sorted(RESERVED_VARIABLES & (self.env.keys() | self.secrets.keys()))
        if reserved:
            raise ValueError(f"env: {reserved[0]} is reserved; use gpus to select devices")
        if self.preload and self.kernel not in (None, "python3"):
            raise ValueError(f"preload is for kernel: python3, not {self.kernel}; leave it out")
        both = sorted(self.env.keys() & self.secrets.keys())
        if both:
            raise ValueError(f"{both[0]} is both in env and in secrets; keep one")
        return self

    @property
    def argv(self) -> list[str] | None:
        """The main process's arguments; `/bin/sh -c LINE` for a line, None without a command."""
        if isinstance(self.command, str):
            return ["/bin/sh", "-c", self.command]
        return None if self.command is None else list(self.command)

    @property
    def only_kernels(self) -> bool:
        """Whether it has no main process to attach to: it is for kernels and has no command."""
        return self.kernel is not None and self.command is None

    @property
    def gpu_request(self) -> tuple[int | float, int, str]:
        """The requested GPUs.

        Returns:
            Their number, below 1 for a share of one; the minimum memory of each in bytes, 0 for
            any; a substring of the model's name, empty for any.
        """
        if isinstance(self.gpus, GpuRequest):
            return self.gpus.count, self.gpus.memory or 0, self.gpus.model or ""
        return self.gpus, 0, ""

    @property
    def uses_host_image(self) -> bool:
        """Whether the session runs this machine's own software."""
        return self.build is None and self.image == HOST_IMAGE

    def public_dict(self) -> dict[str, Any]:
        """The values that differ from the defaults, as JSON values, for a publicly readable label.

        Returns:
            The keys of a spec file. Durations are seconds, sizes are bytes; `secrets` is a sorted
            list of names, without their sources.
        """
        public = self.model_dump(mode="json", exclude_defaults=True, exclude={"secrets"})
        return {**public, "secrets": sorted(self.secrets)} if self.secrets else public

    @classmethod
    def from_public_dict(cls, public: Mapping[str, Any]) -> SessionSpec:
        """Create a spec from a `public_dict`; each secret becomes `SecretSource.withheld()`.

        Raises:
            SpecError: `public` is not the result of `public_dict`, as in a forged label.
        """
        try:
            names = public.get("secrets", [])
            placeholders = {name: {"env": "WITHHELD"} for name in names}
            recorded = {**public, "secrets": placeholders}
            spec = cls.model_validate(recorded, context=RECORDED)
        except (ValidationError, TypeError, AttributeError):
            raise SpecError(
                "the session's label does not hold a spec that this version can read",
                "another version of mooring may have created the session",
            ) from None
        return spec.model_copy(
            update={"secrets": {name: SecretSource.withheld() for name in spec.secrets}}
        )


def canonical(data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the aliases in a spec's keys: `environment`, and `image: {build: …}`.

    Args:
        data: keys as in a spec file.

    Raises:
        ValueError: a key and its alias are both given, or `environment` is a mapping.
    """
    result = dict(data)
    if "environment" in result:
        if "image" in result:
            raise ValueError("image and environment mean the same; keep one")
        if isinstance(result["environment"], Mapping):
            raise ValueError("environment is the name of an image; variables belong under env")
        result["image"] = result.pop("environment")
    image = result.get("image")
    if isinstance(image, Mapping) and set(image) == {"build"}:
        if "build" in result:
            raise ValueError("build is given twice; keep one")
        del result["image"]
        result["build"] = image["build"]
    return result


def refuse_unsupported(
    spec: SessionSpec, origins: Mapping[str, str] = types.MappingProxyType({})
) -> None:
    """Refuse keys and values that are valid but not supported by this version.

    Args:
        spec: the spec.
        origins: where its values came from, by key, for the message.

    Raises:
        NotSupported: the spec has `build`, an image or mount with a URL scheme, `distribution`, or
            a target other than `local`.
    """
    mistakes = Mistakes()
    for key, what, hint in _unsupported(spec):
        origin = origins.get(key, "default").removeprefix("file ")
        place = "" if origin == "default" else f"{origin}: "
        with mistakes:
            raise NotSupported(f"{place}{what} not supported by this version", hint)
    mistakes.report()


def _unsupported(spec: SessionSpec) -> Iterator[tuple[str, str, str]]:
    """Yields the key, what is not supported, and what to do instead."""
    if spec.build is not None:
        hint = "build the image with docker build, then name it under image"
        yield "build", "build is", hint
    if scheme := scheme_of(spec.image):
        hint = "use host, or an image of a registry such as python:3.12"
        yield "image", f"image: {scheme} images are", hint
    if spec.distribution is not None:
        yield "distribution", "distribution is", "leave it out to run on one node"
    if spec.target != "local":
        yield "target", f"target: {one_line(spec.target)} is", "leave it out, or use target: local"
    for key, mounts in (("inputs", spec.inputs), ("outputs", spec.outputs)):
        for mount in mounts:
            if scheme := scheme_of(mount.source):
                hint = "copy the data to a folder, and use that folder's path"
                yield key, f"{key}: {mount.name}: {scheme} sources are", hint
