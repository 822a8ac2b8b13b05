# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the field of a request in errors that the core raises about its own description; pure.

The core names a field of its description, or, where only crun found out, one of config.json.
"""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2
from pvecri.checks import resource_field

_CONTEXT: t.Final = "config.linux.security_context"

_FIELDS: t.Final = {
    "command": "config.command",
    "cwd": "config.working_dir",
    "env": "config.envs",
    "image": "config.image.image",
    "annotations": "config.annotations",
    "oom_score_adj": "config.linux.resources.oom_score_adj",
    "supplementary_groups": f"{_CONTEXT}.supplemental_groups",
    "security.seccomp": f"{_CONTEXT}.seccomp",
    "security.apparmor": f"{_CONTEXT}.apparmor",
    "security.capabilities_exact": f"{_CONTEXT}.capabilities",
    "security.masked_paths": f"{_CONTEXT}.masked_paths",
    "security.read_only_paths": f"{_CONTEXT}.readonly_paths",
    "log_path": "config.log_path",
}

#: Paths in config.json, the longest first.
_OF_CONFIG_JSON: t.Final = (
    ("linux.resources.memory.limit", "config.linux.resources.memory_limit_in_bytes"),
    ("linux.resources.memory.swap", "config.linux.resources.memory_swap_limit_in_bytes"),
    ("linux.resources.cpu.cpus", "config.linux.resources.cpuset_cpus"),
    ("linux.resources.hugepageLimits", "config.linux.resources.hugepage_limits"),
    ("linux.resources.unified", "config.linux.resources.unified"),
    ("linux.resources", "config.linux.resources"),
    ("linux.seccomp", f"{_CONTEXT}.seccomp"),
    ("linux.namespaces", f"{_CONTEXT}.namespace_options"),
    ("linux.uidMappings", f"{_CONTEXT}.namespace_options.userns_options"),
    ("linux.gidMappings", f"{_CONTEXT}.namespace_options.userns_options"),
    ("process.user.uid", f"{_CONTEXT}.run_as_user"),
    ("process.user.gid", f"{_CONTEXT}.run_as_group"),
    ("process.user.additionalGids", f"{_CONTEXT}.supplemental_groups"),
    ("process.capabilities", f"{_CONTEXT}.capabilities"),
    ("process.noNewPrivileges", f"{_CONTEXT}.no_new_privs"),
    ("root.readonly", f"{_CONTEXT}.readonly_rootfs"),
    ("process.args", "config.command"),
    ("process.cwd", "config.working_dir"),
    ("process.oomScoreAdj", "config.linux.resources.oom_score_adj"),
    ("process.apparmorProfile", f"{_CONTEXT}.apparmor"),
    ("process.selinuxLabel", f"{_CONTEXT}.selinux_options"),
    ("mounts", "config.mounts"),
)

_OF_A_MOUNT: t.Final = {
    "source": "host_path",
    "destination": "container_path",
    "sub_path": "image_sub_path",
    "options": "mount_options",
    "uid_maps": "uidMappings",
    "gid_maps": "gidMappings",
    "recursive_read_only": "recursive_read_only",
    "propagation": "propagation",
}
_OF_A_DEVICE: t.Final = {
    "source": "host_path",
    "destination": "container_path",
    "permissions": "permissions",
}


def request_field(field: str, config: cri_pb2.ContainerConfig) -> str:
    """Return the path in the request of a field of the core's description; others stay as they are."""
    if field.startswith("resources."):
        return resource_field(field, "config.linux.resources")
    if field == "user":
        return _user_field(config.linux.security_context)
    return _of_a_list(field, config) or _in_config_json(field) or _renamed(field)


def _user_field(context: cri_pb2.LinuxContainerSecurityContext) -> str:
    if context.run_as_username:
        return f"{_CONTEXT}.run_as_username"
    # Without either it is the user that the image names.
    return f"{_CONTEXT}.run_as_user" if context.HasField("run_as_user") else "config.image.image"


def _of_a_list(field: str, config: cri_pb2.ContainerConfig) -> str:
    """Name a mount or device of the request: they come first in the description, in their order."""
    found = re.fullmatch(r"(mounts|devices)\[(\d+)\]\.(\w+)(.*)", field)
    if not found or int(found[2]) >= len(getattr(config, found[1])):
        return ""
    names = _OF_A_MOUNT if found[1] == "mounts" else _OF_A_DEVICE
    return f"config.{found[1]}[{found[2]}].{names.get(found[3], found[3])}{found[4]}"


def _in_config_json(field: str) -> str:
    for path, name in _OF_CONFIG_JSON:
        if field == path or field.startswith((f"{path}.", f"{path}[")):
            return name
    return ""


def _renamed(field: str) -> str:
    if field.startswith(("env.", "annotations.")):
        base, _dot, rest = field.partition(".")
        return f"{_FIELDS[base]}[{rest}]"
    base, bracket, rest = field.partition("[")
    return f"{_FIELDS[base]}{bracket}{rest}" if base in _FIELDS else field


@contextlib.contextmanager
def named(name: t.Callable[[str], str]) -> t.Iterator[None]:
    """Let an InvalidSpec of the core name the field that ``name`` makes of its own."""
    try:
        yield
    except InvalidSpec as exc:
        field = name(exc.field)
        if field == exc.field:
            raise
        raise InvalidSpec(field, exc.problem, hint=exc.hint) from exc


def update_field(field: str) -> str:
    """Return the path in a request for an update."""
    if field.startswith("resources."):
        return resource_field(field, "linux")
    named_ = request_field(field, cri_pb2.ContainerConfig())
    return named_.replace("config.linux.resources", "linux", 1)


def exec_field(field: str) -> str:
    """Return the path in a request to run a command."""
    return "cmd" if field in {"command", "process.args"} else field
