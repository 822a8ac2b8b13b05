# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a container's processes may do, in the core's terms; pure.

A privileged container has every capability, no filter and no profile, and sees and writes
the kernel's files: what a request says of these things has no effect then (CRI definition,
LinuxContainerSecurityContext.privileged).
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.model import Security
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.capabilities import (
    DEFAULT_CAPABILITIES as PLAY_CAPABILITIES,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import (
    ALL,
    CAPABILITIES,
    normalise_capability,
)
from pvecri.api import cri_pb2
from pvecri.checks import clean_path
from pvecri.containers.validate_security import LOCALHOST

#: What a container of a pod has that names none: what images and Kubernetes's own
#: documentation take for granted beyond what a play's container gets.
DEFAULT_CAPABILITIES: t.Final = (
    *PLAY_CAPABILITIES,
    "CAP_AUDIT_WRITE",
    "CAP_MKNOD",
    "CAP_NET_RAW",
)

_FIELD: t.Final = "config.linux.security_context"


def security(context: cri_pb2.LinuxContainerSecurityContext, host: HostFacts, notes: list[str]) -> Security:
    """Return the core's `Security` of a checked request."""
    privileged = context.privileged
    exact, ambient = capabilities(context.capabilities, host, privileged=privileged)
    process_label, mount_label = _selinux(context, host, notes)
    return Security(
        privileged=privileged,
        capabilities_exact=exact,
        capabilities_ambient=ambient,
        no_new_privileges=context.no_new_privs,
        seccomp="unconfined" if privileged else _seccomp(context),
        apparmor="unconfined" if privileged else _apparmor(context),
        selinux_process_label=process_label,
        selinux_mount_label=mount_label,
        masked_paths=() if privileged else _paths(context.masked_paths, "masked_paths"),
        read_only_paths=() if privileged else _paths(context.readonly_paths, "readonly_paths"),
        read_only_rootfs=context.readonly_rootfs,
    )


def capabilities(
    asked: cri_pb2.Capability, host: HostFacts, *, privileged: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the whole set and the ambient ones, in the kernel's order.

    ALL comes before single names on either side; of a name on both sides the drop counts.
    """
    added, dropped, kept = (
        {normalise_capability(name, f"{_FIELD}.capabilities.{field}") for name in getattr(asked, field)}
        for field in ("add_capabilities", "drop_capabilities", "add_ambient_capabilities")
    )
    # What the host does not have is no promise that ALL makes.
    everything = {name for name in CAPABILITIES if host.has_capability(name)}
    if privileged:
        found = everything
    elif ALL in dropped:
        found = (added | kept) - dropped - {ALL}
    else:
        usual = everything if ALL in added | kept else set(DEFAULT_CAPABILITIES)
        found = (usual | added | kept) - dropped - {ALL}
    ambient = found if ALL in kept else found & kept
    return _ordered(found), _ordered(ambient)


def _ordered(names: t.Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in CAPABILITIES if name in names)


def _seccomp(context: cri_pb2.LinuxContainerSecurityContext) -> str:
    """Return the core's word for the filter; a request that says nothing gets none."""
    if context.HasField("seccomp"):
        kinds = cri_pb2.SecurityProfile
        if context.seccomp.profile_type == kinds.RuntimeDefault:
            return "default"
        if context.seccomp.profile_type == kinds.Unconfined:
            return "unconfined"
        return clean_path(context.seccomp.localhost_ref, f"{_FIELD}.seccomp.localhost_ref")
    old = context.seccomp_profile_path
    if old in ("runtime/default", "docker/default"):
        return "default"
    if old.startswith(LOCALHOST):
        return clean_path(old.removeprefix(LOCALHOST), f"{_FIELD}.seccomp_profile_path")
    return "unconfined"


def _apparmor(context: cri_pb2.LinuxContainerSecurityContext) -> str | None:
    if context.HasField("apparmor"):
        kinds = cri_pb2.SecurityProfile
        if context.apparmor.profile_type == kinds.Localhost:
            return context.apparmor.localhost_ref.removeprefix(LOCALHOST)
        return "unconfined" if context.apparmor.profile_type == kinds.Unconfined else None
    old = context.apparmor_profile
    if old == "unconfined":
        return old
    return old.removeprefix(LOCALHOST) if old.startswith(LOCALHOST) else None


def _selinux(
    context: cri_pb2.LinuxContainerSecurityContext, host: HostFacts, notes: list[str]
) -> tuple[str | None, str | None]:
    """Return the labels of processes and files; the parts that a request leaves out are the usual ones."""
    asked = context.selinux_options
    if context.privileged or not context.HasField("selinux_options"):
        return None, None
    if not host.has_selinux:
        # A cluster's nodes differ, and its pods name labels for those that have SELinux.
        notes.append("SELinux is not enabled on this host: labels that containers ask for have no effect")
        return None, None
    user, level = asked.user or "system_u", asked.level or "s0"
    process = f"{user}:{asked.role or 'system_r'}:{asked.type or 'container_t'}:{level}"
    return process, f"{user}:object_r:container_file_t:{level}"


def _paths(paths: t.Iterable[str], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(clean_path(path, f"{_FIELD}.{name}") for path in paths))
