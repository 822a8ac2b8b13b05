# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check what a PodSandboxConfig says of Linux: namespaces, ids, sysctls, cgroup, limits; pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap, Namespaces
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.namespaces import check_id_maps
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.sysctls import (
    build_sysctls,
    dotted_name,
)
from pvecri.api import cri_pb2
from pvecri.checks import check_enum, check_id, check_profile, check_selinux, id_maps
from pvecri.sandboxes import resources
from pvecri.sandboxes.pod import NOBODY

_TOP = "config.linux"
_CONTEXT = f"{_TOP}.security_context"
_OPTIONS = f"{_CONTEXT}.namespace_options"

_SLICE = re.compile(r"[A-Za-z0-9:_.\\-]+\.slice")


def validate(config: cri_pb2.LinuxPodSandboxConfig, *, is_systemd: bool) -> dict[str, t.Any]:
    """Return the fields of `pod.Pod` that the Linux part shapes; raises InvalidSpec."""
    modes = _modes(config.security_context.namespace_options)
    uid_maps, gid_maps = _user_namespace(config.security_context.namespace_options, modes)
    return {
        "has_host_network": modes["network"] == cri_pb2.NODE,
        "has_host_ipc": modes["ipc"] == cri_pb2.NODE,
        "shares_pid": modes["pid"] == cri_pb2.POD,
        "uid_maps": uid_maps,
        "gid_maps": gid_maps,
        "sysctls": _sysctls(config.sysctls, modes),
        "cgroup_parent": cgroup_parent(config.cgroup_parent, is_systemd=is_systemd),
        "resources": resources.pod_resources(config.overhead, config.resources),
        **_security(config.security_context, uid_maps, gid_maps),
    }


def cgroup_parent(asked: str, *, is_systemd: bool) -> str:
    """Return the pod's cgroup as crun is to be told: an absolute path, or the name of a slice.

    kubelet gives either, by the driver that both use; a slice may come with the path that leads to it.
    """
    field = f"{_TOP}.cgroup_parent"
    if not asked:
        return ""
    parts = asked.strip("/").split("/")
    if re.search(r"[\x00-\x20\x7f]", asked) or not all(parts) or {".", ".."} & set(parts):
        raise InvalidSpec(field, "must not have '.', '..', empty parts or spaces")
    if is_systemd:
        if not _SLICE.fullmatch(parts[-1]) or parts[-1].startswith("-"):
            raise InvalidSpec(
                field,
                "is no slice, but systemd makes the cgroups",
                hint="Set kubelet's cgroupDriver: systemd",
            )
        return parts[-1]
    if not asked.startswith("/"):
        raise InvalidSpec(field, "is no absolute path", hint="A slice needs the cgroup driver 'systemd'")
    return "/" + "/".join(parts)


def _modes(options: cri_pb2.NamespaceOption) -> dict[str, int]:
    """Return the modes of the namespaces of a pod; TARGET names a container, and a pod has none yet."""
    modes: dict[str, int] = {"network": options.network, "pid": options.pid, "ipc": options.ipc}
    allowed = {
        "network": {cri_pb2.POD, cri_pb2.NODE},
        "pid": {cri_pb2.POD, cri_pb2.CONTAINER, cri_pb2.NODE},
        "ipc": {cri_pb2.POD, cri_pb2.NODE},
    }
    for kind, mode in modes.items():
        if mode not in allowed[kind]:
            names = " or ".join(cri_pb2.NamespaceMode.Name(each) for each in sorted(allowed[kind]))
            raise InvalidSpec(
                f"{_OPTIONS}.{kind}", f"{_mode_name(mode)} is no mode of a pod's", hint=f"{names}"
            )
    if options.target_id:
        raise InvalidSpec(f"{_OPTIONS}.target_id", "goes with the mode TARGET of a container")
    return modes


def _mode_name(mode: int) -> str:
    return cri_pb2.NamespaceMode.Name(mode) if mode in cri_pb2.NamespaceMode.values() else str(mode)


def _user_namespace(
    options: cri_pb2.NamespaceOption, modes: t.Mapping[str, int]
) -> tuple[tuple[IdMap, ...], tuple[IdMap, ...]]:
    """Return the id maps of a pod with a user namespace of its own, else nothing."""
    field = f"{_OPTIONS}.userns_options"
    asked = options.userns_options
    if not options.HasField("userns_options") or asked.mode == cri_pb2.NODE:
        if asked.uids or asked.gids:
            raise InvalidSpec(field, "id maps need the mode POD")
        return (), ()
    if asked.mode != cri_pb2.POD:
        raise InvalidSpec(f"{field}.mode", f"{_mode_name(asked.mode)} is none of POD and NODE")
    for kind in ("pid", "ipc"):
        # The kernel mounts /proc and the message queues for the owner of those namespaces only.
        if modes[kind] == cri_pb2.NODE:
            raise InvalidSpec(f"{_OPTIONS}.{kind}", "NODE does not go with a user namespace of the pod's own")
    return _id_maps(asked.uids, f"{field}.uids"), _id_maps(asked.gids, f"{field}.gids")


def _id_maps(maps: t.Sequence[cri_pb2.IDMapping], field: str) -> tuple[IdMap, ...]:
    found = id_maps(maps)
    try:
        check_id_maps(found, field)
    except InvalidSpec as exc:
        raise InvalidSpec(exc.field.replace(".size", ".length"), exc.problem, hint=exc.hint) from exc
    return found


def _sysctls(asked: t.Mapping[str, str], modes: t.Mapping[str, int]) -> dict[str, str]:
    """Return sysctls of the pod's own namespaces, by dotted name."""
    shares_network = modes["network"] == cri_pb2.NODE
    namespaces = Namespaces(
        network="host" if shares_network else "private",
        ipc="host" if modes["ipc"] == cri_pb2.NODE else "private",
        # A pod in the host's network has the host's name, too.
        uts="host" if shares_network else "private",
    )
    found: dict[str, str] = {}
    for name, value in sorted(asked.items()):
        try:
            one = build_sysctls([(name, value)], namespaces)
        except InvalidSpec as exc:
            raise InvalidSpec(f"{_TOP}.sysctls[{name[:128]}]", exc.problem, hint=exc.hint) from exc
        if dotted_name(name) in found:
            raise InvalidSpec(f"{_TOP}.sysctls[{name}]", "is set twice")
        found.update(one)
    return found


def _security(
    context: cri_pb2.LinuxSandboxSecurityContext, uid_maps: t.Sequence[IdMap], gid_maps: t.Sequence[IdMap]
) -> dict[str, int]:
    """Check who a pause process would be; it has no privilege, whatever the pod's containers have."""
    if context.HasField("run_as_group") and not context.HasField("run_as_user"):
        raise InvalidSpec(f"{_CONTEXT}.run_as_group", "needs run_as_user as well")
    found = {}
    for key, name, maps in (("user", "run_as_user", uid_maps), ("group", "run_as_group", gid_maps)):
        value = NOBODY
        if context.HasField(name):
            value = _id(getattr(context, name).value, f"{_CONTEXT}.{name}", maps)
        elif maps and not _is_mapped(value, maps):
            value = 0
        found[key] = value
    for index, group in enumerate(context.supplemental_groups):
        _id(group, f"{_CONTEXT}.supplemental_groups[{index}]", gid_maps)
    check_enum(
        context.supplemental_groups_policy,
        cri_pb2.SupplementalGroupsPolicy,
        f"{_CONTEXT}.supplemental_groups_policy",
    )
    check_profile(context.seccomp, f"{_CONTEXT}.seccomp", is_path=True)
    check_profile(context.apparmor, f"{_CONTEXT}.apparmor", is_path=False)
    check_selinux(context.selinux_options, f"{_CONTEXT}.selinux_options")
    return found


def _id(value: int, field: str, maps: t.Sequence[IdMap]) -> int:
    check_id(value, field)
    if maps and not _is_mapped(value, maps):
        raise InvalidSpec(field, f"{value} is in no range of the pod's user namespace")
    return value


def _is_mapped(value: int, maps: t.Sequence[IdMap]) -> bool:
    return any(line.container_id <= value < line.container_id + line.size for line in maps)
