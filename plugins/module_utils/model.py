# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe what is asked for: one container, as plain data.

A module fills a `ContainerSpec` from its options and the endpoint from a CRI
request; every later stage reads it and none changes it.  ``None`` means «as the
image says, else the runtime's default».  Two requests that mean the same have
the same `spec_hash`, and that is what idempotence compares.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import canonical_json

#: An object of JSON.
Json = dict[str, t.Any]

STATE_DIR = "/var/lib/pvecri"
RUN_DIR = "/run/pvecri"

_NAME_MAX = 128
_NAME = re.compile(rf"[a-zA-Z0-9][a-zA-Z0-9_.-]{{0,{_NAME_MAX - 1}}}")


def is_container_name(name: str) -> bool:
    """Tell whether ``name`` can name a container, and so its files."""
    return _NAME.fullmatch(name) is not None


def check_container_name(name: str, field: str = "name") -> str:
    """Return ``name``; raises InvalidSpec for ``field`` when it cannot name a container."""
    if not is_container_name(name):
        raise InvalidSpec(
            field,
            f"'{name[:_NAME_MAX]}' is not a name of a container",
            hint=f"At most {_NAME_MAX} letters, digits, '_', '.' and '-', beginning with a letter or digit",
        )
    return name


class Owner(enum.StrEnum):
    """Who made an object; the two never see each other's objects."""

    PLAY = "play"
    CRI = "cri"


@dataclasses.dataclass(frozen=True, slots=True)
class Paths:
    """Where one owner keeps what on this host."""

    state_dir: str = STATE_DIR
    run_dir: str = RUN_DIR
    owner: Owner = Owner.PLAY

    @property
    def bundles(self) -> str:
        """Directory that holds one bundle directory per container."""
        return os.path.join(self.state_dir, "bundles", self.owner.value)

    @property
    def volumes(self) -> str:
        """Directory of named volumes."""
        return os.path.join(self.state_dir, "volumes", self.owner.value)

    @property
    def storage(self) -> str:
        """Graph root of the image store (containers-storage), shared by both owners."""
        return os.path.join(self.state_dir, "storage")

    @property
    def storage_run(self) -> str:
        """Run root of the image store."""
        return os.path.join(self.run_dir, "storage")

    @property
    def runtime_root(self) -> str:
        """Directory given to crun as ``--root``: its volatile state."""
        return os.path.join(self.run_dir, "crun", self.owner.value)

    @property
    def exits(self) -> str:
        """Directory into which conmon writes one exit file per container.

        A play asks for an exit code whenever it next runs, also after a reboot.  The endpoint
        notes each at once, and must learn it even when the state directory's disk is full.
        """
        parent = self.run_dir if self.owner is Owner.CRI else self.state_dir
        return os.path.join(parent, "exits", self.owner.value)

    @property
    def logs(self) -> str:
        """Directory of container logs that have no path of their own."""
        return os.path.join(self.state_dir, "logs", self.owner.value)

    @property
    def locks(self) -> str:
        """Directory of per-object lock files; volatile, since a lock dies with its holder."""
        return os.path.join(self.run_dir, "locks", self.owner.value)

    def host_wide(self, name: str) -> str:
        """Return what a container is called where one name space serves the whole host, as cgroups.

        Names are unique for one owner in one state directory only.
        """
        parts = []
        if os.path.normpath(self.state_dir) != STATE_DIR:
            parts.append(hashlib.sha256(os.path.realpath(self.state_dir).encode()).hexdigest()[:8])
        if self.owner is not Owner.PLAY:
            parts.append(self.owner.value)
        return "-".join([*parts, name])


#: ``private`` (a new one), ``host``, or the absolute path of a namespace file to join.
NamespaceMode = str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Namespaces:
    """The mode of each namespace."""

    pid: NamespaceMode = "private"
    network: NamespaceMode = "private"
    ipc: NamespaceMode = "private"
    uts: NamespaceMode = "private"
    mount: NamespaceMode = "private"
    cgroup: NamespaceMode = "private"
    #: A private user namespace needs ``uid_maps`` and ``gid_maps`` of the spec.
    user: NamespaceMode = "host"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IdMap:
    """One line of a user or group id map."""

    container_id: int
    host_id: int
    size: int


class MountKind(enum.StrEnum):
    """Where the content of a mount comes from."""

    BIND = "bind"
    TMPFS = "tmpfs"
    VOLUME = "volume"
    IMAGE = "image"
    SECRET = "secret"  # noqa: S105 - a kind of mount, no secret itself
    FILE = "file"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount of the container.

    ``source`` is an absolute host path (bind), a volume name (volume) or an image
    reference (image).  ``content`` is the text of a secret or file given in place.
    """

    kind: MountKind
    destination: str
    source: str | None = None
    content: bytes | None = dataclasses.field(default=None, repr=False)
    read_only: bool = False
    recursive_read_only: bool = False
    #: rprivate, private, rslave, slave, rshared, shared
    propagation: str = "rprivate"
    #: Further mount options as mount(8) names them: noexec, nosuid, nodev, …
    options: tuple[str, ...] = ()
    #: Path inside the volume or image that is mounted instead of its top.
    sub_path: str | None = None
    #: tmpfs size in bytes; None is the kernel's default.
    size_bytes: int | None = None
    #: Permission bits and owner of a tmpfs, a secret or a file.
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    #: Maps for an id-mapped mount; empty is none.
    uid_maps: tuple[IdMap, ...] = ()
    gid_maps: tuple[IdMap, ...] = ()
    #: Make a missing bind source a directory instead of refusing it.
    create_source: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A host device made available in the container."""

    source: str
    destination: str
    #: Some of r, w, m.
    permissions: str = "rwm"
    #: Permission bits and owner of the node in the container; None: as on the host.
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rlimit:
    """One POSIX resource limit."""

    #: Name as in the OCI runtime specification: RLIMIT_NOFILE, …
    kind: str
    soft: int
    hard: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IoLimit:
    """Throttles of one block device, in bytes or operations per second."""

    #: Path of the device node on the host.
    device: str
    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits of the container's cgroup; None leaves a value at the kernel's default."""

    #: cgroup v1 scale, 2 to 262144.
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    memory_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    #: Memory *and* swap together, as the OCI specification counts it; -1 is unlimited.
    memory_swap_bytes: int | None = None
    #: 0 and -1 are unlimited.
    pids_limit: int | None = None
    #: 10 to 1000.
    io_weight: int | None = None
    io_limits: tuple[IoLimit, ...] = ()
    #: Page size ("2MB", "1GB") to limit in bytes.
    hugepages: tuple[tuple[str, int], ...] = ()
    #: Raw cgroup v2 files.
    unified: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What the container's processes may do."""

    privileged: bool = False
    capabilities_add: tuple[str, ...] = ()
    capabilities_drop: tuple[str, ...] = ()
    #: The whole set by names as ``CAP_CHOWN``, instead of the usual one with what is added and dropped.
    capabilities_exact: tuple[str, ...] | None = None
    #: Beside an exact set: those that a user other than root keeps.
    capabilities_ambient: tuple[str, ...] = ()
    no_new_privileges: bool = False
    #: ``default``, ``unconfined`` or the absolute path of a profile.
    seccomp: str = "default"
    #: None: the host's default; ``unconfined``; or the name of a loaded profile.
    apparmor: str | None = None
    selinux_process_label: str | None = None
    selinux_mount_label: str | None = None
    #: None: the runtime's usual list; an empty tuple: none at all.
    masked_paths: tuple[str, ...] | None = None
    read_only_paths: tuple[str, ...] | None = None
    read_only_rootfs: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One OCI hook."""

    #: createRuntime, createContainer, startContainer, poststart, poststop (prestart is deprecated)
    stage: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout_s: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything that shapes ``config.json`` and the rootfs of one container."""

    #: Container id: ``[a-zA-Z0-9][a-zA-Z0-9_.-]*``, at most 128 characters; names every path.
    name: str
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    #: Added to and replacing the image's; order is kept.
    env: tuple[tuple[str, str], ...] = ()
    #: Names among ``env`` whose values are secret: hidden in every diff and record.
    secret_env: frozenset[str] = frozenset()
    cwd: str | None = None
    #: ``user[:group]``, names or numbers.
    user: str | None = None
    #: Names or numbers.
    supplementary_groups: tuple[str, ...] = ()
    #: False: only the groups asked for, not those of the image's /etc/group.
    merge_image_groups: bool = True
    #: Groups as Kubernetes has them: the first group is among the additional ones, and those of the
    #: image's /etc/group count also when ``user`` names a group.
    pod_groups: bool = False
    terminal: bool = False
    hostname: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    namespaces: Namespaces = Namespaces()
    #: Of a new user namespace, or those that the namespace to join has.
    uid_maps: tuple[IdMap, ...] = ()
    gid_maps: tuple[IdMap, ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    resources: Resources = Resources()
    security: Security = Security()
    rlimits: tuple[Rlimit, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    hooks: tuple[Hook, ...] = ()
    oom_score_adj: int | None = None
    #: Absolute cgroup path, or ``slice:prefix:name`` for the systemd driver; None: derived from the name.
    cgroups_path: str | None = None
    stop_signal: str | None = None
    #: None: /dev/shm of 64 MiB.
    shm_size_bytes: int | None = None


def to_plain(value: t.Any) -> t.Any:
    """Return a value of this module as JSON data, without what equals its default.

    Secret text is replaced by its SHA-256, so that a change is seen and the text is not.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest(), "size": len(value)}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        plain = {
            f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if _is_set(value, f)
        }
        if isinstance(value, ContainerSpec) and value.secret_env:
            plain["env"] = [[k, to_plain(v.encode()) if k in value.secret_env else v] for k, v in value.env]
        return plain
    return value


def _is_set(holder: t.Any, field: dataclasses.Field[t.Any]) -> bool:
    return field.default is dataclasses.MISSING or getattr(holder, field.name) != field.default


def spec_hash(plain: t.Any) -> str:
    """Return the hexadecimal SHA-256 of plain data, the same for the same meaning."""
    return hashlib.sha256(canonical_json(plain)).hexdigest()


# ---- what the image gives --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """A command that tells whether a container works; times in seconds."""

    #: An argument vector; a shell form is already expanded to ``/bin/sh -c``.
    command: tuple[str, ...]
    interval_s: float = 30.0
    timeout_s: float = 30.0
    start_period_s: float = 0.0
    retries: int = 3


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """The part of an image's configuration that shapes a container (OCI image spec, config.md)."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str | None = None
    health_check: HealthCheck | None = None
    architecture: str = ""
    os: str = "linux"
    variant: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image in the local store."""

    #: Digest of the image configuration without ``sha256:``, the store's id.
    id: str
    #: Digest of the manifest of this platform's image, with its algorithm.
    digest: str
    #: Every manifest digest that the image was fetched by: ``digest`` and those of indexes.
    digests: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    config: ImageConfig = ImageConfig()
    #: Absolute directories of the unpacked layers, the topmost first: overlay's ``lowerdir`` order.
    layer_dirs: tuple[str, ...] = ()
    size_bytes: int = 0
