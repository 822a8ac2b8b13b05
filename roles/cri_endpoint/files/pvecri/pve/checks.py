# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse by name what a request asks for and Proxmox LXC cannot do; pure.

What becomes of each field is said in `fields`; what only contradicts itself, `validate` has
refused before.  Everything here is an Unsupported, raised before anything is made.
"""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import include
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import INNER_DIR
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import ID_COUNT
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.resources import MIB, PVE_MEMORY_MIN_MIB
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Mount
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import (
    ALL,
    normalise_capability,
)
from pvecri.api import cri_pb2
from pvecri.containers.selection import second_guest
from pvecri.containers.spec.cdi import Edits, wanted_devices
from pvecri.containers.spec.namespaces import pid_mode
from pvecri.containers.validate_security import LOCALHOST
from pvecri.runtimes.protocol import Wish

_CONTEXT: t.Final = "config.linux.security_context"
_POD_OPTIONS: t.Final = "sandbox_config.linux.security_context.namespace_options"

#: Where nobody can make a node.
_NO_NODES: t.Final = ("/proc/", "/sys/")

#: Options of mounts that LXC has for mapped owners as well, with those that say how much is mounted.
MOUNT_OPTIONS: t.Final = include.MOUNT_FLAGS | {"bind", "rbind"}

#: Capabilities that mean something in a user namespace which owns neither network nor IPC nor
#: host (user_namespaces(7)).  NET_BIND_SERVICE does through the pod's lowest port, which is set to 0.
_USEFUL: t.Final = frozenset(
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"),
        *("SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "SYS_PTRACE", "SYS_ADMIN", "SYS_BOOT", "SETFCAP"),
        "CHECKPOINT_RESTORE",
    )
)

_USE_CRUN: t.Final = "or let the policy choose crun for this container"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PveFacts:
    """What decides besides the request itself."""

    #: Whether the image is a template of Proxmox VE, which is no OCI image.
    is_native: bool = False
    has_selinux: bool = False
    #: File systems of the sources of mounts that cannot show owners mapped, by the mount's number.
    unmapped: t.Mapping[int, str] = dataclasses.field(default_factory=dict)
    #: What the vendors of the devices that are asked for add.
    edits: Edits = dataclasses.field(default_factory=Edits)
    #: Name of the pod's other container that is a guest and has not ended; empty: there is none.
    other: str = ""


def check(wish: Wish, facts: PveFacts) -> None:
    """Raise Unsupported, naming field and remedy, for what the container cannot have under Proxmox LXC."""
    config, pod = wish.request.config, wish.request.pod
    context = config.linux.security_context
    if facts.other:
        raise second_guest(facts.other, wish.selection.reason)
    _privileged(context, facts)
    _namespaces(context.namespace_options, pod.linux.security_context.namespace_options)
    if not context.privileged:
        _profiles(context)
        _capabilities(context.capabilities)
        _ids(context)
    if context.capabilities.add_ambient_capabilities:
        raise _refused(
            f"{_CONTEXT}.capabilities.add_ambient_capabilities",
            "a guest's program cannot be given ambient capabilities",
        )
    _labels(context, facts)
    _mounts(config.mounts, facts, unprivileged=not context.privileged)
    for index, device in enumerate(config.devices):
        _node_place(device.container_path, f"config.devices[{index}].container_path")
    _vendors(config, facts, unprivileged=not context.privileged)
    check_memory(config.linux.resources.memory_limit_in_bytes, "config.linux.resources.memory_limit_in_bytes")


def check_memory(limit_bytes: int, field: str) -> None:
    """Raise Unsupported for a limit of memory below Proxmox VE's least; 0 and less are none."""
    if 0 < limit_bytes < PVE_MEMORY_MIN_MIB * MIB:
        raise _refused(
            field,
            f"{limit_bytes} bytes are less than Proxmox VE's least, {PVE_MEMORY_MIN_MIB} MiB",
            f"Ask for {PVE_MEMORY_MIN_MIB}Mi or more",
        )


def check_spec(config: t.Mapping[str, t.Any], *, unprivileged: bool) -> None:
    """Raise Unsupported for what only request and image together say, by the config.json made of them."""
    if config.get("hooks"):
        raise _refused("config.CDI_devices", "hooks cannot be run for a guest")
    user = config["process"]["user"]
    if not unprivileged:
        return
    for key in ("uid", "gid"):
        if user[key] >= ID_COUNT:
            raise _refused(
                "config.image.image",
                f"it runs as {key} {user[key]}, and an unprivileged guest has the ids 0 to {ID_COUNT - 1}",
                f"Set runAsUser and runAsGroup, {_USE_CRUN}",
            )
    for group in user.get("additionalGids", ()):
        if group >= ID_COUNT:
            raise _refused("config.image.image", f"the image's user is in group {group}, which no guest has")


def _refused(field: str, problem: str, hint: str = "") -> Unsupported:
    return Unsupported(f"{field}: {problem}", hint=hint or f"Leave it out, {_USE_CRUN}")


def _privileged(context: cri_pb2.LinuxContainerSecurityContext, facts: PveFacts) -> None:
    if context.privileged and not facts.is_native:
        raise _refused(
            f"{_CONTEXT}.privileged",
            "Proxmox VE makes no privileged guests of OCI images",
            f"Use a template of Proxmox VE (lxc/…), leave it out, {_USE_CRUN}",
        )


def _namespaces(asked: cri_pb2.NamespaceOption, pod: cri_pb2.NamespaceOption) -> None:
    field = f"{_CONTEXT}.namespace_options"
    for name, of_host in (("network", "hostNetwork"), ("ipc", "hostIPC")):
        if getattr(pod, name) == cri_pb2.NODE:
            raise _refused(
                f"{_POD_OPTIONS}.{name}", "NODE: a guest cannot be in the host's", f"Leave {of_host} out"
            )
    mode = pid_mode(asked, pod)
    if mode == cri_pb2.NODE:
        raise _refused(f"{field}.pid", "NODE: a guest has process ids of its own", "Leave hostPID out")
    if mode == cri_pb2.TARGET:
        raise _refused(
            f"{field}.pid",
            "TARGET: a guest has process ids of its own",
            "Debug with an image that runs under crun",
        )
    if mode == cri_pb2.POD:
        raise _refused(
            f"{field}.pid",
            "POD: the pod's containers share process ids, and a guest has its own",
            'Leave shareProcessNamespace out; with crictl say "namespace_options": {"pid": 1}',
        )
    for options, where in ((asked, field), (pod, _POD_OPTIONS)):
        if options.HasField("userns_options") and options.userns_options.mode == cri_pb2.POD:
            raise _refused(
                f"{where}.userns_options.mode",
                "POD: an unprivileged guest has a user namespace of its own, which is not the pod's",
                "Leave hostUsers: false out; the guest is mapped all the same",
            )


def _profiles(context: cri_pb2.LinuxContainerSecurityContext) -> None:
    """Refuse profiles: those of guests are LXC's and Proxmox VE's; «no filter» gets their filter, too."""
    kinds = cri_pb2.SecurityProfile
    localhost = "the profile of a guest is Proxmox VE's own"
    if context.seccomp.profile_type == kinds.Localhost:
        raise _refused(f"{_CONTEXT}.seccomp", f"Localhost: {localhost}", "Use RuntimeDefault")
    if context.seccomp_profile_path.startswith(LOCALHOST):
        raise _refused(f"{_CONTEXT}.seccomp_profile_path", localhost, "Use runtime/default")
    if context.apparmor.profile_type != kinds.RuntimeDefault:
        name = kinds.ProfileType.Name(context.apparmor.profile_type)
        raise _refused(f"{_CONTEXT}.apparmor", f"{name}: {localhost}", "Use RuntimeDefault")
    if context.apparmor_profile == "unconfined" or context.apparmor_profile.startswith(LOCALHOST):
        raise _refused(f"{_CONTEXT}.apparmor_profile", localhost, "Use runtime/default")


def _capabilities(asked: cri_pb2.Capability) -> None:
    for index, text in enumerate(asked.add_capabilities):
        field = f"{_CONTEXT}.capabilities.add_capabilities[{index}]"
        name = normalise_capability(text, field)
        if name == ALL:
            raise _refused(field, "ALL: an unprivileged guest has no power over network and host")
        if name not in _USEFUL:
            raise _refused(
                field,
                f"{name.removeprefix('CAP_')} is without effect in an unprivileged guest, since network and "
                "host are not its own",
            )


def _ids(context: cri_pb2.LinuxContainerSecurityContext) -> None:
    """Refuse ids that the range of an unprivileged guest does not have."""
    numbers = [("run_as_user", context.run_as_user.value), ("run_as_group", context.run_as_group.value)]
    numbers += [(f"supplemental_groups[{i}]", group) for i, group in enumerate(context.supplemental_groups)]
    for name, number in numbers:
        _id(number, f"{_CONTEXT}.{name}")


def _id(number: int, field: str) -> None:
    if number >= ID_COUNT:
        raise _refused(
            field,
            f"{number} is above {ID_COUNT - 1}, the highest id of an unprivileged guest",
            f"Choose a lower one, {_USE_CRUN}",
        )


def _labels(context: cri_pb2.LinuxContainerSecurityContext, facts: PveFacts) -> None:
    if facts.has_selinux and context.HasField("selinux_options") and not context.privileged:
        raise _refused(f"{_CONTEXT}.selinux_options", "a guest's processes have no SELinux label")


def _own_place(path: str, field: str) -> None:
    clean = "/" + posixpath.normpath(path).lstrip("/")
    if clean == INNER_DIR or clean.startswith(f"{INNER_DIR}/"):
        raise _refused(field, f"{INNER_DIR} is where the endpoint starts programs", "Choose another path")
    if clean in include.OWN_PLACES:
        raise _refused(field, f"{clean} of a guest is LXC's", "Mount what is needed below it")
    if include.is_taken(clean):
        raise _refused(field, f"{clean} of a guest is LXC's", "Choose another path")


def _node_place(path: str, field: str) -> None:
    _own_place(path, field)
    clean = "/" + posixpath.normpath(path).lstrip("/")
    if clean.startswith(_NO_NODES):
        raise _refused(field, f"{clean}: in /proc and /sys are no nodes of devices", "Choose a path in /dev")


def _mounts(mounts: t.Sequence[cri_pb2.Mount], facts: PveFacts, *, unprivileged: bool) -> None:
    for index, mount in enumerate(mounts):
        field = f"config.mounts[{index}]"
        _own_place(mount.container_path, f"{field}.container_path")
        if mount.propagation == cri_pb2.PROPAGATION_BIDIRECTIONAL:
            raise _refused(
                f"{field}.propagation",
                "PROPAGATION_BIDIRECTIONAL: what a guest mounts is not seen on the host",
                f"Use HostToContainer, {_USE_CRUN}",
            )
        if mount.recursive_read_only:
            raise _refused(
                f"{field}.recursive_read_only",
                "LXC makes only the mount itself read-only",
                "Leave recursiveReadOnly out or set it to IfPossible",
            )
        for name in ("uidMappings", "gidMappings"):
            if getattr(mount, name):
                raise _refused(f"{field}.{name}", "files of a guest's mounts are mapped as the guest is")
        for number, option in enumerate(mount.mount_options):
            if option not in MOUNT_OPTIONS:
                raise _refused(f"{field}.mount_options[{number}]", f"LXC does not know '{option[:64]}'")
        if unprivileged and index in facts.unmapped:
            raise _refused(
                f"{field}.host_path",
                f"the owners of files on {facts.unmapped[index]} ('{mount.host_path}') cannot be mapped to "
                "those of an unprivileged guest",
                f"Use a volume on ext4, XFS, Btrfs, ZFS 2.2 or tmpfs (Linux 6.3), {_USE_CRUN}",
            )


def _vendors(config: cri_pb2.ContainerConfig, facts: PveFacts, *, unprivileged: bool) -> None:
    """Refuse what the description of a device adds and a guest cannot have."""
    asked = wanted_devices(config)
    if not asked:
        return
    field = asked[0][0]
    if facts.edits.hooks:
        raise _refused(
            field, f"its vendor has '{facts.edits.hooks[0].path}' run, and there are no hooks for guests"
        )
    for mount in facts.edits.mounts:
        _vendors_mount(mount, field)
    for device in facts.edits.devices:
        _node_place(device.destination, field)
    if unprivileged:
        for group in facts.edits.groups:
            _id(int(group), field)


def _vendors_mount(mount: Mount, field: str) -> None:
    _own_place(mount.destination, field)
    if mount.propagation.endswith("shared"):
        raise _refused(field, f"its vendor's mount on {mount.destination} is shared with the host")
