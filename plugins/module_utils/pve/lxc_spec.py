# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe what is asked for of one LXC container on Proxmox VE, as plain data.

`lxc_parse.parse_spec` fills an `LxcSpec` from a module's options; the endpoint
fills one by itself.  Only what a spec names is managed: everything else of a
container stays as it is.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.files import canonical_json
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.props import Props

#: On every container that ours creates; nothing without it is touched unless adopted.
TAG = "pvecri"
#: Beside it on containers that kubelet asked for: plays leave those alone.
TAG_CRI = "pvecri-cri"
#: Prefix of the tag that remembers the intent last applied (see `LxcSpec.intent_tag`).
TAG_INTENT = "pvecri-spec-"

#: Where ids are chosen from when neither an id nor a range is named.
DEFAULT_VMIDS = (100, 9999)


class State(enum.StrEnum):
    """What a container is to be at the end."""

    PRESENT = "present"
    STARTED = "started"
    STOPPED = "stopped"
    RESTARTED = "restarted"
    ABSENT = "absent"
    TEMPLATE = "template"


class Comparison(enum.StrEnum):
    """How the entries of one collection (networks, tags, …) are compared."""

    #: Entries that are not named are removed.
    STRICT = "strict"
    #: Entries that are not named stay; the named ones are compared both ways.
    ALLOW_MORE = "allow_more_present"
    #: Used when the container is created, never compared afterwards.
    IGNORE = "ignore"


class SourceKind(enum.StrEnum):
    """What a new container is made from."""

    TEMPLATE = "ostemplate"
    IMAGE = "image"
    CLONE = "clone"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a new container is made from, and how."""

    kind: SourceKind
    #: Volume id of the template, image reference or path, or id or hostname of the original.
    name: str
    #: Storage that templates are kept on; only for images.
    image_storage: str = "local"
    image_authfile: str | None = None
    image_tls_verify: bool = True
    #: full, linked, or opportunistic: linked where the original is a template.
    clone_type: str = "opportunistic"
    snapshot: str | None = None

    @property
    def is_appliance(self) -> bool:
        """Say whether it is the name of a template of Proxmox's list, not of a file."""
        return self.kind is SourceKind.TEMPLATE and ":" not in self.name and "/" not in self.name

    @property
    def is_oci(self) -> bool:
        """Say whether Proxmox VE will take this for an OCI image (pve-container: a ``.tar`` name)."""
        return self.kind is SourceKind.IMAGE or (
            self.kind is SourceKind.TEMPLATE and self.name.lower().endswith(".tar")
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What can only be said when a container is created."""

    source: Source | None = None
    #: Storage of volumes that name none.
    storage: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    ssh_public_keys: tuple[str, ...] = ()
    #: None is unprivileged for new containers, and «whatever it is» for existing ones.
    unprivileged: bool | None = None
    ignore_unpack_errors: bool | None = None
    #: KiB/s; also for clones and migrations.
    bwlimit: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The rootfs or one mount point.

    ``storage`` with ``size_bytes`` is a volume that Proxmox VE makes; ``volume`` is
    one that exists: a volume id, a host directory (bind mount) or a device.
    """

    storage: str | None = None
    volume: str | None = None
    size_bytes: int | None = None
    #: The other keys, in particular ``mp``.
    props: Props = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ha:
    """Membership in high availability; None leaves a setting as it is."""

    managed: bool = True
    #: started, stopped, disabled, ignored; None follows the state of the container.
    state: str | None = None
    max_restart: int | None = None
    max_relocate: int | None = None
    group: str | None = None
    comment: str | None = None
    failback: bool | None = None

    def settings(self) -> dict[str, t.Any]:
        """Return the settings that are named, as the API names them."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if k != "managed" and v is not None}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """How changes are made, which is no part of what a container is."""

    #: Kill what does not stop by itself.
    force: bool = False
    shutdown_timeout_s: int = 60
    lock_timeout_s: int = 60
    #: Restart a running container when changes wait for its next start.
    apply_pending: bool = False
    #: Remove from backup and replication jobs and from HA, when destroyed.
    purge: bool = True
    destroy_unreferenced_disks: bool = False
    #: Move the container when it is on another node than ``node``.
    migrate: bool = True
    #: Take over a container that was not made by this collection.
    adopt: bool = False


#: Values of a raw ``lxc.*`` key in order; None removes the key.
RawLines: t.TypeAlias = "dict[str, tuple[str, ...] | None]"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LxcSpec:
    """Everything asked for of one container; None or empty is «not named»."""

    state: State = State.PRESENT
    vmid: int | None = None
    vmid_range: tuple[int, int] = DEFAULT_VMIDS
    hostname: str | None = None
    node: str | None = None

    creation: Creation = dataclasses.field(default_factory=Creation)
    conduct: Conduct = dataclasses.field(default_factory=Conduct)
    comparisons: t.Mapping[str, Comparison] = dataclasses.field(default_factory=dict)

    #: Single-valued config keys under Proxmox VE's names, with typed values.
    scalars: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    startup: Props | None = None
    features: Props | None = None
    rootfs: Disk | None = None
    #: ``mp0`` …; None removes the entry.
    mounts: t.Mapping[str, Disk | None] = dataclasses.field(default_factory=dict)
    networks: t.Mapping[str, Props | None] = dataclasses.field(default_factory=dict)
    devices: t.Mapping[str, Props | None] = dataclasses.field(default_factory=dict)
    #: None removes the variable.
    env: t.Mapping[str, str | None] | None = None
    tags: tuple[str, ...] | None = None
    lxc: RawLines = dataclasses.field(default_factory=dict)
    ha: Ha | None = None
    #: An empty string takes the container out of its pool.
    pool: str | None = None
    #: Config keys to reset to Proxmox VE's default.
    unset: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """Name the container in messages."""
        if self.vmid is not None and self.hostname:
            return f"container {self.vmid} ({self.hostname})"
        return f"container {self.vmid or self.hostname}"

    @property
    def wants_running(self) -> bool:
        """Say whether the container is to run at the end."""
        return self.state in (State.STARTED, State.RESTARTED)

    def comparison(self, name: str) -> Comparison:
        """Return how the collection ``name`` is compared."""
        return self.comparisons.get(name, Comparison.ALLOW_MORE)

    def intent(self) -> dict[str, t.Any]:
        """Return what the configuration is to be: no secrets, nothing on how to get there."""
        left_out = {"state", "vmid", "vmid_range", "node", "creation", "conduct"}
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in left_out
        }
        return t.cast("dict[str, t.Any]", _plain(values))

    def intent_tag(self) -> str:
        """Return the tag that stands for this intent: equal specs have equal tags."""
        return TAG_INTENT + hashlib.sha256(canonical_json(self.intent())).hexdigest()[:12]


def _plain(value: t.Any) -> t.Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, t.Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(v) for v in value)
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
