# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say of every field of a request for a container what becomes of it under Proxmox LXC; plain data.

A field is mapped, passed over for a reason, or refused; a mapped one can have values that are
refused as well.  `checks` does what the last column says, the guide shows this table, and a test
holds it against the CRI definition, so that a field that is new there has to be decided here.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t


class Kind(enum.StrEnum):
    """What becomes of a field."""

    MAPPED = "mapped"
    #: Without effect, for the reason that is said.
    IGNORED = "no effect"
    REFUSED = "refused"


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field, or all below it where nothing below it is of its own kind."""

    path: str
    kind: Kind
    #: What it becomes, or why it has no effect.
    words: str
    #: When it is refused; empty: never.
    refused: str = ""


_M, _I, _R = Kind.MAPPED, Kind.IGNORED, Kind.REFUSED

_OF_THE_POD: t.Final = "the pod's own, made before the container"
_NOT_COUNTED: t.Final = "the control group of a guest is Proxmox VE's, not below the pod's"

CONFIG: t.Final = (
    Field("metadata", _M, "name and attempt: the record, and the guest's description"),
    Field("image.image", _M, "the template that the guest is made of"),
    Field("image.user_specified_image", _M, "the name that the policy looks at"),
    Field("image.annotations", _I, "none is defined for containers"),
    Field("image.runtime_handler", _I, "the pod's handler counts"),
    Field("image.image_ref", _I, "`image.image` says which image it is"),
    Field("command", _M, "the program, before the image's entrypoint"),
    Field("args", _M, "its arguments"),
    Field("working_dir", _M, "its working directory"),
    Field("envs", _M, "its environment; nothing of it is stored below `/etc/pve`"),
    Field(
        "mounts[].container_path",
        _M,
        "target of a mount; links in the image are followed",
        "`/dev`, `/dev/pts`, `/sys`, `/sys/fs/cgroup`, `/proc` and most of it, what is below `/dev/.pvecri`",
    ),
    Field(
        "mounts[].host_path",
        _M,
        "bind mount with the owners mapped: root's files are the container's root's",
        "unprivileged, and the file system cannot map owners (some kinds of NFS and FUSE)",
    ),
    Field("mounts[].readonly", _M, "read-only mount"),
    Field("mounts[].selinux_relabel", _I, "goes with `selinux_options`"),
    Field(
        "mounts[].propagation", _M, "private, or a slave of the host's mount", "`PROPAGATION_BIDIRECTIONAL`"
    ),
    Field("mounts[].uidMappings", _R, "", "always: the mapping is the guest's own"),
    Field("mounts[].gidMappings", _R, "", "always: the mapping is the guest's own"),
    Field("mounts[].recursive_read_only", _R, "", "when set; the runtime handler does not offer it"),
    Field("mounts[].image", _M, "read-only mount of the image, its owners mapped"),
    Field("mounts[].image_sub_path", _M, "the part of the image that is mounted"),
    Field(
        "mounts[].mount_options",
        _M,
        "options of the mount",
        "`nosymfollow`, `sync` and others that LXC does not know",
    ),
    Field("devices[].container_path", _M, "device node", "below `/dev/.pvecri`, `/proc` and `/sys`"),
    Field("devices[].host_path", _M, "the device that it stands for"),
    Field("devices[].permissions", _M, "device rule of the control group"),
    Field("labels", _M, "kept in the record"),
    Field("annotations", _M, "kept in the record; the policy looks at them"),
    Field("log_path", _M, "the log, by conmon in CRI format"),
    Field("stdin", _M, "input that clients attach to"),
    Field("stdin_once", _M, "input ends with the first client's"),
    Field("tty", _M, "a terminal, which is `/dev/console` as well"),
    Field("linux.resources.cpu_period", _M, "`cpulimit` and `cores`; exact in the control group"),
    Field("linux.resources.cpu_quota", _M, "`cpulimit` and `cores`; exact in the control group"),
    Field("linux.resources.cpu_shares", _M, "`cpuunits`"),
    Field(
        "linux.resources.memory_limit_in_bytes",
        _M,
        "`memory`, in MiB rounded up; exact in the control group",
        "less than 16 MiB",
    ),
    Field("linux.resources.memory_swap_limit_in_bytes", _M, "`swap`, what is above the memory"),
    Field("linux.resources.oom_score_adj", _M, "score of the first process and its children"),
    Field("linux.resources.cpuset_cpus", _M, "CPUs of the control group"),
    Field("linux.resources.cpuset_mems", _M, "memory nodes of the control group"),
    Field("linux.resources.hugepage_limits", _M, "huge pages of the control group"),
    Field("linux.resources.unified", _M, "files of the control group (cgroup v2)"),
    Field(
        "linux.security_context.capabilities.add_capabilities",
        _M,
        "bound of the capabilities",
        "unprivileged: `ALL`, and what has no effect there: `NET_ADMIN`, `NET_RAW`, `SYS_MODULE` …",
    ),
    Field("linux.security_context.capabilities.drop_capabilities", _M, "bound of the capabilities"),
    Field("linux.security_context.capabilities.add_ambient_capabilities", _R, "", "when set"),
    Field(
        "linux.security_context.privileged",
        _M,
        "a privileged guest with all capabilities and devices; Proxmox VE's AppArmor profile and filter stay",
        "image that is no template of Proxmox VE: of others it makes unprivileged guests alone",
    ),
    Field("linux.security_context.namespace_options.network", _M, "the pod's network namespace", "`NODE`"),
    Field(
        "linux.security_context.namespace_options.pid",
        _M,
        "a namespace of the guest's own",
        "`POD` in a pod that shares process ids, `TARGET`, `NODE`",
    ),
    Field("linux.security_context.namespace_options.ipc", _M, "the pod's IPC namespace", "`NODE`"),
    Field("linux.security_context.namespace_options.target_id", _R, "", "with `pid` `TARGET`"),
    Field(
        "linux.security_context.namespace_options.userns_options",
        _I,
        "`NODE` and none: the guest has a user namespace of its own anyway",
        "`POD`",
    ),
    Field(
        "linux.security_context.selinux_options",
        _I,
        "a host without SELinux has no labels",
        "host with SELinux",
    ),
    Field("linux.security_context.run_as_user", _M, "user of the program", "unprivileged, and above 65535"),
    Field("linux.security_context.run_as_group", _M, "group of the program", "unprivileged, and above 65535"),
    Field("linux.security_context.run_as_username", _M, "user of the program, by the image's `/etc/passwd`"),
    Field("linux.security_context.readonly_rootfs", _M, "root file system made read-only"),
    Field(
        "linux.security_context.supplemental_groups",
        _M,
        "further groups of the program",
        "unprivileged, and above 65535",
    ),
    Field("linux.security_context.supplemental_groups_policy", _M, "as for crun"),
    Field("linux.security_context.no_new_privs", _M, "no_new_privs of the program"),
    Field("linux.security_context.masked_paths", _M, "hidden by a mount over each"),
    Field("linux.security_context.readonly_paths", _M, "read-only by a mount over each"),
    Field(
        "linux.security_context.seccomp",
        _I,
        "Proxmox VE's own filter is in force, whatever of `RuntimeDefault` and `Unconfined` is said",
        "`Localhost`, unless privileged",
    ),
    Field(
        "linux.security_context.apparmor",
        _I,
        "`RuntimeDefault` and none: LXC's generated profile is in force",
        "`Unconfined`, `Localhost`, unless privileged",
    ),
    Field("linux.security_context.apparmor_profile", _I, "as `apparmor`", "as `apparmor`"),
    Field("linux.security_context.seccomp_profile_path", _I, "as `seccomp`", "as `seccomp`"),
    Field("windows", _R, "", "when set, by either runtime"),
    Field(
        "CDI_devices",
        _M,
        "variables, devices, mounts and groups of the vendor's description",
        "description with hooks, or with a shared mount",
    ),
    Field("stop_signal", _M, "signal of a stop"),
)

SANDBOX: t.Final = (
    Field("metadata", _M, "the guest's description"),
    Field("hostname", _M, "host name, by the pod's UTS namespace"),
    Field("log_directory", _M, "where the log is"),
    Field("dns_config", _M, "`/etc/resolv.conf`"),
    Field("port_mappings", _M, f"{_OF_THE_POD} (CNI)"),
    Field("labels", _M, "kept in the record; the policy looks at them"),
    Field("annotations", _M, "kept in the record; the policy looks at them"),
    Field("linux.cgroup_parent", _I, _NOT_COUNTED),
    Field("linux.overhead", _I, _NOT_COUNTED),
    Field("linux.resources", _I, _NOT_COUNTED),
    Field("linux.sysctls", _M, f"{_OF_THE_POD}: of its network, IPC and UTS namespaces"),
    Field("linux.security_context.namespace_options.network", _M, "the pod's network namespace", "`NODE`"),
    Field(
        "linux.security_context.namespace_options.pid",
        _M,
        "see the container's",
        "`NODE`; `POD` if the container says so, too",
    ),
    Field("linux.security_context.namespace_options.ipc", _M, "the pod's IPC namespace", "`NODE`"),
    Field("linux.security_context.namespace_options.target_id", _R, "", "when set, by either runtime"),
    Field("linux.security_context.namespace_options.userns_options", _I, "`NODE` and none", "`POD`"),
    Field("linux.security_context.privileged", _M, "allows privileged containers"),
    Field("linux.security_context.selinux_options", _I, "shape a pause process alone"),
    Field("linux.security_context.run_as_user", _I, "shapes a pause process alone"),
    Field("linux.security_context.run_as_group", _I, "shapes a pause process alone"),
    Field("linux.security_context.readonly_rootfs", _I, "shapes a pause process alone"),
    Field("linux.security_context.supplemental_groups", _I, "shape a pause process alone"),
    Field("linux.security_context.supplemental_groups_policy", _I, "shapes a pause process alone"),
    Field("linux.security_context.seccomp", _I, "shapes a pause process alone"),
    Field("linux.security_context.apparmor", _I, "shapes a pause process alone"),
    Field("linux.security_context.seccomp_profile_path", _I, "shapes a pause process alone"),
    Field("windows", _R, "", "when set, by either runtime"),
)
